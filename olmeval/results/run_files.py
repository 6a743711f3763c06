"""What a finished run folder holds, as its exporters read it: instances with their answers."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from olmeval.results.answers import Response, read_answers
from olmeval.results.run import Run

# A file's name and its content: an object, or the lines of a JSONL file.
Files = Iterator[tuple[str, dict[str, Any] | list[dict[str, Any]]]]


@dataclass(frozen=True)
class Asked:
    """One request of an instance and its answer (None when there is none)."""

    kind: str
    context: str
    continuation: str
    context_tokens: int
    continuation_tokens: int
    sampling: dict[str, Any] | None
    response: Response | None

    @property
    def logprob(self) -> float | None:
        return None if self.response is None else self.response.logprob

    @property
    def bytes(self) -> int:
        return len(self.continuation.encode())


@dataclass
class Instance:
    """One document of one task: its requests by choice, and its values."""

    doc_id: int
    native_id: str
    status: str
    values: dict[str, float | None] = field(default_factory=dict)
    conditioned: dict[int, Asked] = field(default_factory=dict)
    unconditional: dict[int, Asked] = field(default_factory=dict)

    @property
    def requests(self) -> list[Asked]:
        """The conditioned requests in order of choice."""
        return [self.conditioned[k] for k in sorted(self.conditioned)]

    @cached_property
    def gold(self) -> int | None:
        """The right choice: the one whose bits per byte are the instance's own.

        None when nothing has choices, or when several choices fit.
        """
        bits = self.values.get("bits_per_byte")
        if bits is None:
            return None
        fits = [
            k
            for k, asked in sorted(self.conditioned.items())
            if asked.kind == "loglikelihood"
            and asked.logprob is not None
            and math.isclose(-asked.logprob / math.log(2) / max(asked.bytes, 1), bits, rel_tol=1e-9)
        ]
        return fits[0] if len(fits) == 1 else None


class RunFiles:
    """What a finished run folder holds, by task."""

    def __init__(self, run: Run):
        self.info, self.metrics = run.info, run.metrics
        self.name = run.path.resolve().name
        self.instances = _instances(run)

    @property
    def model(self) -> dict[str, Any]:
        model: dict[str, Any] = self.info["model"]
        return model

    @property
    def tasks(self) -> Iterator[tuple[str, dict[str, Any], dict[str, Any], list[Instance]]]:
        """Name, result, provenance and instances of every task."""
        for name, result in self.metrics["tasks"].items():
            yield name, result, self.info["tasks"][name], self.instances.get(name, [])

    @property
    def suites(self) -> dict[str, dict[str, Any]]:
        """The suites that have a value."""
        suites = self.metrics.get("suites", {})
        return {name: suite for name, suite in suites.items() if suite["value"] is not None}

    @property
    def time(self) -> datetime:
        """When the run ended, in UTC."""
        return datetime.fromisoformat(self.info["finished"]).astimezone(UTC)


def _instances(run: Run) -> dict[str, list[Instance]]:
    import pyarrow.parquet as pq

    found: dict[str, dict[int, Instance]] = {}
    table = run.instances()
    columns = [table[c] for c in ("task", "doc_id", "native_id", "status", "metric", "value")]
    for task, doc, native, status, metric, value in zip(*columns, strict=True):
        instance = found.setdefault(task, {}).setdefault(doc, Instance(doc, native, status))
        instance.values[metric] = None if math.isnan(value) else value
    answers = read_answers(run.path / "responses.parquet")
    requests = pq.read_table(run.path / "requests.parquet").to_pylist()
    # A request without a key was not asked: its continuation exceeds the window.
    keys = [row["key"] for row in requests if row["key"] is not None]
    found_at = dict(zip(keys, answers.find(keys).tolist(), strict=True))
    for row in requests:
        at = found_at.get(row["key"], -1)
        sampling = row.get("sampling")
        asked = Asked(
            row["kind"],
            row["context"],
            row["continuation"],
            row["context_tokens"],
            row["continuation_tokens"],
            json.loads(sampling) if sampling else None,
            None if at < 0 else answers.response(at),
        )
        for use in row["uses"]:
            instance = found[use["task"]][use["doc_id"]]
            of_role = (
                instance.conditioned if use["role"] == "conditioned" else instance.unconditional
            )
            of_role[use["choice"]] = asked
    return {task: list(by_doc.values()) for task, by_doc in found.items()}


def generation_kwargs(sampling: dict[str, Any]) -> dict[str, Any]:
    """A sampling under the names that both tools use."""
    return {
        "max_gen_toks": sampling["max_tokens"],
        "do_sample": sampling["temperature"] > 0,
        "temperature": sampling["temperature"],
        "top_p": sampling["top_p"],
    }


def file_name(task: str) -> str:
    """A task's name without what some file systems refuse."""
    return task.replace(":", "_")
