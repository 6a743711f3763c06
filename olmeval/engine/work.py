"""The plan phase: everything about a run that needs no model.

Tasks become instances, instances become requests, and equal requests become one, across all tasks
and formats of the run. What the score phase needs to find its way back is kept as flat arrays.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from olmeval.backends.planner import Ints, starts
from olmeval.backends.tokenization import Tokenizer
from olmeval.engine.grade import check_grader
from olmeval.engine.grade_code import Running, check_reference
from olmeval.engine.prepare import Prepared, prepare
from olmeval.errors import UserError
from olmeval.requests import Instance, Request
from olmeval.tasks.registry import Task, expand, load_task
from olmeval.tasks.suites import expand_suites, suites_in


@dataclass(frozen=True)
class TaskWork:
    """One task's instances and where their requests are.

    ``conditioned`` [R] indexes :attr:`Work.requests`, instance by instance as ``offsets`` [I+1]
    delimits; ``unconditional`` is parallel to it or None; ``gold`` [I] counts within an instance.
    ``chars`` and ``bytes`` [R] are the lengths of the continuations.
    """

    task: Task
    instances: list[Instance]
    conditioned: Ints
    unconditional: Ints | None
    offsets: Ints
    gold: Ints
    chars: Ints
    bytes: Ints

    @property
    def kind(self) -> str:
        """What the task asks: loglikelihood, generate or rolling."""
        return self.instances[0].requests[0].kind

    @property
    def clusters(self) -> list[object] | None:
        """Cluster labels [I], or None when every instance stands alone."""
        labels = [i.cluster for i in self.instances]
        if all(label is None for label in labels):
            return None
        return [k if label is None else label for k, label in enumerate(labels)]


@dataclass
class Work:
    """The tasks of a run, its distinct requests, and the suites that were asked for."""

    tasks: list[TaskWork]
    requests: list[Request]
    suites: dict[str, dict[str, Any]]
    _prepared: tuple[tuple[object, ...], Prepared] | None = field(default=None, repr=False)

    @cached_property
    def task_of_request(self) -> Ints:
        """Number of the first task that asks each request [N]."""
        first = np.full(len(self.requests), len(self.tasks))
        for number, task in enumerate(self.tasks):
            np.minimum.at(first, task.conditioned, number)
            if task.unconditional is not None:
                np.minimum.at(first, task.unconditional, number)
        return first

    def prepare(
        self,
        tokenizer: Tokenizer,
        max_length: int,
        row_tokens: int,
        row_sequences: int = 0,
        overlap: int = 0,
    ) -> Prepared:
        """Tokenizes and plans, once for all models in a row whose tokenizers agree."""
        key = (tokenizer.hash, tokenizer.add_bos, max_length, row_tokens, row_sequences, overlap)
        if self._prepared is None or self._prepared[0] != key:
            # Only the last is kept: memory must not grow with the number of models.
            self._prepared = None
            prepared = prepare(
                self.requests, self.task_of_request, len(self.tasks), tokenizer, max_length,
                row_tokens, row_sequences, overlap,
            )  # fmt: skip
            self._prepared = key, prepared
        return self._prepared[1]

    def request_table(self, prepared: Prepared) -> pa.Table:
        """The distinct requests, contexts stored once each, with key and places of use."""
        # A document's windows have keys of their own; its first one stands for it.
        keys: list[bytes | None] = [None] * len(self.requests)
        rows = prepared.request_of_row[prepared.fits].tolist()
        for request, unique in zip(rows[::-1], prepared.plan.unique_of.tolist()[::-1], strict=True):
            keys[request] = prepared.keys[unique]
        for request, key in zip(
            prepared.request_of_prompt.tolist(), prepared.prompt_keys, strict=True
        ):
            keys[request] = key
        uses: list[list[tuple[str, int, int, str]]] = [[] for _ in self.requests]
        for work in self.tasks:
            doc_of = np.repeat([i.doc_id for i in work.instances], np.diff(work.offsets)).tolist()
            number = (
                np.arange(work.offsets[-1]) - np.repeat(work.offsets[:-1], np.diff(work.offsets))
            ).tolist()
            roles = [("conditioned", work.conditioned), ("unconditional", work.unconditional)]
            for role, index in roles:
                if index is None:
                    continue
                for request, doc, choice in zip(index.tolist(), doc_of, number, strict=True):
                    uses[request].append((work.task.name, doc, choice, role))
        text = pa.dictionary(pa.int32(), pa.string())
        use = pa.struct(
            [("task", pa.string()), ("doc_id", pa.int64()), ("choice", pa.int32()),
             ("role", pa.string())]
        )  # fmt: skip
        n = len(self.requests)
        sequences = prepared.rows.sequences
        context_tokens = prepared.per_request(sequences.context_len, n)
        context_tokens[prepared.request_of_prompt] = [
            len(prepared.prompts[key].ids) for key in prepared.prompt_keys
        ]
        scored = prepared.per_request(sequences.lengths - sequences.context_len, n)
        sampling = [None if r.sampling is None else asdict(r.sampling) for r in self.requests]
        return pa.table(
            {
                "key": pa.array(keys, type=pa.binary(16)),
                "kind": pa.array([r.kind for r in self.requests]),
                "context": pa.array([r.context for r in self.requests]).cast(text),
                "continuation": pa.array([r.continuation for r in self.requests]),
                "sampling": pa.array([None if s is None else json.dumps(s) for s in sampling]),
                "context_tokens": pa.array(context_tokens),
                "continuation_tokens": pa.array(scored),
                "truncated": pa.array(prepared.truncated(n)),
                "seam": pa.array(prepared.per_request(prepared.rows.seam, n) > 0),
                "uses": pa.array(
                    [[dict(zip(use.names, u, strict=True)) for u in us] for us in uses],
                    type=pa.list_(use),
                ),
            }
        )


def load_work(
    specs: Sequence[str],
    limit: int | float | None = None,
    task_paths: Sequence[Path] = (),
    max_new_tokens: int | None = None,
    running: Running | None = None,
) -> Work:
    """Loads tasks and suites and collects their distinct requests. Raises :class:`UserError`.

    ``max_new_tokens`` lowers every generation's own limit to itself. ``running``: how answers that
    are programs will be run, which must be possible here; None where nothing will be graded.
    """
    names = expand(expand_suites(specs, task_paths), task_paths)
    if not names:
        raise UserError("no task is named; pass --tasks SPEC, see `olmeval tasks list`")
    index: dict[Request, int] = {}
    works = []
    for name in names:
        task = load_task(name, limit, task_paths)
        if task.grader is not None:
            try:
                check_grader(task.grader, running)
            except UserError as error:
                raise UserError(f"task '{name}': {error}") from None
        works.append(_task_work(task, index, max_new_tokens))
        if (task.grader or "").partition(":")[0] == "code":
            _check_references(works[-1])
    return Work(works, list(index), suites_in(specs, task_paths))


def _check_references(work: TaskWork) -> None:
    """No model is asked for programs whose tests are not there."""
    for instance in work.instances:
        try:
            check_reference(instance.references)
        except UserError as error:
            where = f"task '{work.task.name}': document '{instance.native_id}'"
            raise UserError(f"{where}: {error}") from None


def _shorter(instance: Instance, most: int) -> Instance:
    """``instance`` with generations of at most ``most`` tokens."""
    requests = tuple(
        r
        if r.sampling is None
        else replace(r, sampling=replace(r.sampling, max_tokens=min(r.sampling.max_tokens, most)))
        for r in instance.requests
    )
    return replace(instance, requests=requests)


def _task_work(task: Task, index: dict[Request, int], max_new_tokens: int | None) -> TaskWork:
    instances = task.instances()
    if max_new_tokens is not None:
        instances = [_shorter(i, max_new_tokens) for i in instances]
    if not instances:
        raise UserError(f"task '{task.name}' has no documents; check its data and --limit")
    requests = [r for i in instances for r in i.requests]
    if len({r.kind for r in requests}) > 1:
        raise UserError(f"task '{task.name}' mixes kinds of requests; give it one")
    paired = [r for i in instances for r in i.unconditional]
    if paired and len(paired) != len(requests):
        raise UserError(f"task '{task.name}': unconditional requests do not pair with its choices")

    def number(items: list[Request]) -> Ints:
        return np.array([index.setdefault(r, len(index)) for r in items], np.int64)

    return TaskWork(
        task=task,
        instances=instances,
        conditioned=number(requests),
        unconditional=number(paired) if paired else None,
        offsets=starts(np.array([len(i.requests) for i in instances], np.int64)),
        gold=np.array([0 if i.gold is None else i.gold for i in instances], np.int64),
        chars=np.array([len(r.continuation) for r in requests], np.int64),
        bytes=np.array([len(r.continuation.encode()) for r in requests], np.int64),
    )
