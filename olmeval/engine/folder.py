"""A run's folder while the run is made: what was asked, how far it is, what came of it."""

import platform
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from olmeval import __version__
from olmeval.backends.base import ModelInfo
from olmeval.engine.collect import collect
from olmeval.engine.grade_code import Running, environment_of
from olmeval.engine.place import Place, find_place
from olmeval.engine.prepare import Prepared
from olmeval.engine.score import TaskScore, instance_table, score_task
from olmeval.engine.work import Work
from olmeval.files import atomic_path, json_text, make_dir, write_json, write_new, write_text
from olmeval.results.answers import ROW_GROUP, Answers, write_answers
from olmeval.results.suites import answered, score_suites

if TYPE_CHECKING:
    import pyarrow as pa

GRADES, VERDICTS = "grades.parquet", "verdicts.parquet"
FILES = ("metrics.json", "responses.parquet", "requests.parquet", "instances.parquet")
VERSIONS = ("torch", "transformers", "tokenizers", "vllm", "ray", "numpy", "pyarrow")


@dataclass
class RunFolder:
    """The folder of one model's run.

    ``info`` is what is known of the model, more once it has been loaded.
    """

    place: Place
    info: ModelInfo
    asked: dict[str, Any]
    started: str
    complete: bool

    @property
    def path(self) -> Path:
        return self.place.path

    @classmethod
    def open(
        cls, output: Path, info: ModelInfo, asked: dict[str, Any], beside: bool = True
    ) -> "RunFolder":
        """The folder in ``output`` where ``asked`` was begun, or can be; see :func:`find_place`."""
        make_dir(output)
        run = str(info.metadata.get("run", info.name))
        place = find_place(output, info.name, run, asked, beside)
        earlier = place.earlier
        return cls(
            place=place,
            info=info,
            asked=asked,
            started=earlier["started"] if earlier else _now(),
            # A file that was deleted is written again.
            complete=earlier is not None
            and earlier["status"] == "complete"
            and all((place.path / name).exists() for name in FILES),
        )

    def begin(self, work: Work, tokenizer: str) -> bool:
        """Makes the folder this question's; False when another process was faster."""
        make_dir(self.path)
        text = json_text(self._content("running", work, tokenizer))
        if self.place.earlier is None:
            return write_new(self.path / "run.json", text)
        write_text(self.path / "run.json", text)
        return True

    def write_status(self, status: str, work: Work, tokenizer: str, **more: Any) -> None:
        """Writes ``run.json``."""
        write_json(self.path / "run.json", self._content(status, work, tokenizer, **more))

    def _content(self, status: str, work: Work, tokenizer: str, **more: Any) -> dict[str, Any]:
        tasks = {
            w.task.name: {
                "hash": w.task.hash, "primary_metric": w.task.primary_metric, **w.task.provenance
            }
            for w in work.tasks
        }  # fmt: skip
        numbered = self.place.run and {"folder": self.path.name, "run": self.place.run}
        return {
            "status": status,
            **({"beside": numbered} if numbered else {}),
            "asked": self.asked,
            "tasks": tasks,
            "model": asdict(self.info),
            "tokenizer": tokenizer,
            "versions": _versions(),
            "started": self.started,
            **more,
        }

    def finish(
        self,
        work: Work,
        prepared: Prepared,
        tokenizer: str,
        answers: Answers,
        running: Running | None = None,
    ) -> None:
        """Scores ``answers`` and writes every file, ``run.json`` last.

        ``running``: how answers that are programs are run; what became of them is in
        ``verdicts.parquet``, one row a sample.
        """
        scores = collect(len(work.requests), prepared, answers)
        scored = [score_task(w, scores, prepared, running) for w in work.tasks]
        rows = answers.find(prepared.keys + prepared.prompt_keys)
        write_answers(self.path / "responses.parquet", answers.take(rows[rows >= 0]))
        with atomic_path(self.path / "requests.parquet") as tmp:
            _write_requests(tmp, work.request_table(prepared))
        instances = instance_table(work.tasks, scored)
        with atomic_path(self.path / "instances.parquet") as tmp:
            instances.to_parquet(tmp, index=False, compression="zstd")
        self._write_grades(scored)
        sandbox = self._write_verdicts(work, scored, running or Running())
        by_name = sorted(zip(work.tasks, scored, strict=True), key=lambda pair: pair[0].task.name)
        results = {w.task.name: s.summary for w, s in by_name}
        errors = sum(s.summary["errors"] for s in scored)
        plan = prepared.plan
        write_json(
            self.path / "metrics.json",
            {
                "tasks": results,
                "suites": score_suites(work.suites, results, answered(instances, results)),
                "errors": errors,
                "requests": len(work.requests),
                "tokens": {
                    "naive": plan.tokens_naive,
                    "planned": plan.tokens_planned,
                    "prefix_tree": plan.tokens_tree,
                },
            },
        )
        status = "errors" if errors else "complete"
        self.write_status(status, work, tokenizer, finished=_now(), **sandbox)

    def _write_grades(self, scored: list[TaskScore]) -> None:
        """Writes what the graders made of every sample, where there are samples."""
        import pandas as pd

        tables = [s.grades for s in scored if s.grades is not None]
        if not tables:
            return
        with atomic_path(self.path / GRADES) as tmp:
            pd.concat(tables, ignore_index=True).to_parquet(
                tmp, index=False, compression="zstd", row_group_size=ROW_GROUP
            )

    def _write_verdicts(
        self, work: Work, scored: list[TaskScore], running: Running
    ) -> dict[str, Any]:
        """Writes what became of programs; returns what ``run.json`` says of the sandbox."""
        import pandas as pd

        tables = [s.programs for s in scored if s.programs is not None]
        if not tables:
            return {}
        table = pd.concat(tables, ignore_index=True)
        with atomic_path(self.path / VERDICTS) as tmp:
            table.to_parquet(tmp, index=False, compression="zstd", row_group_size=ROW_GROUP)
        modes: dict[str, dict[str, int]] = {}
        for task, of_task in table.groupby("task"):
            counts = of_task["mode"].value_counts().sort_index()
            modes[str(task)] = {str(mode): int(n) for mode, n in counts.items()}
        about = {w.task.name: environment_of(w.task.grader or "", running) for w in work.tasks}
        return {
            "sandbox": {
                "tier": sorted(set(table["tier"]) - {""}),
                "modes": modes,
                "environments": {name: found for name, found in about.items() if found},
            }
        }


def _write_requests(path: Path, table: "pa.Table") -> None:
    """In small row groups, each with its own contexts, so that one document's are quickly read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    column = table.schema.get_field_index("context")
    text = table.schema.field(column)
    with pq.ParquetWriter(path, table.schema, compression="zstd") as writer:
        for at in range(0, len(table), ROW_GROUP):
            part = table.slice(at, ROW_GROUP)
            contexts = part["context"].cast(pa.string()).combine_chunks().dictionary_encode()
            writer.write_table(part.set_column(column, text, contexts))


def _versions() -> dict[str, str]:
    found = {"olmeval": __version__, "python": platform.python_version()}
    for name in VERSIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
