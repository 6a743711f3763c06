"""The plan phase: everything about a run that needs no model.

Tasks become instances, instances become requests, and equal requests become one, across all tasks
and formats of the run. What the score phase needs to find its way back is kept as flat arrays.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from olmeval.backends.planner import Ints, Plan, make_plan, starts
from olmeval.backends.tokenization import Tokenized, Tokenizer
from olmeval.errors import UserError
from olmeval.requests import Instance, Request
from olmeval.tasks.registry import Task, expand, load_task


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
    def clusters(self) -> list[object] | None:
        """Cluster labels [I], or None when every instance stands alone."""
        labels = [i.cluster for i in self.instances]
        if all(label is None for label in labels):
            return None
        return [k if label is None else label for k, label in enumerate(labels)]


@dataclass(frozen=True)
class Prepared:
    """The requests of a run as one tokenizer sees them: ids and the plan over them.

    ``scored`` [P] are the requests that fit the window; the plan's requests are these, in order.
    """

    tokenized: Tokenized
    scored: Ints
    plan: Plan


@dataclass
class Work:
    """The tasks of a run and its distinct requests."""

    tasks: list[TaskWork]
    requests: list[Request]
    _prepared: dict[tuple[object, ...], Prepared] = field(default_factory=dict, repr=False)

    def prepare(
        self, tokenizer: Tokenizer, max_length: int, row_tokens: int, row_sequences: int
    ) -> Prepared:
        """Tokenizes and plans, once for all models whose tokenizers agree."""
        key = (tokenizer.hash, tokenizer.add_bos, max_length, row_tokens, row_sequences)
        if key not in self._prepared:
            tokenized = tokenizer.pairs(self.requests, max_length)
            scored = np.flatnonzero(~tokenized.too_long)
            plan = make_plan(tokenized.sequences.take(scored), row_tokens, row_sequences)
            self._prepared[key] = Prepared(tokenized, scored, plan)
        return self._prepared[key]

    def request_table(self, prepared: Prepared) -> pa.Table:
        """The distinct requests, contexts stored once each, with the places that use them."""
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
        tokenized = prepared.tokenized
        context = tokenized.sequences.context_len
        return pa.table(
            {
                "kind": pa.array([r.kind for r in self.requests]),
                "context": pa.array([r.context for r in self.requests]).cast(text),
                "continuation": pa.array([r.continuation for r in self.requests]),
                "context_tokens": pa.array(context),
                "continuation_tokens": pa.array(tokenized.sequences.lengths - context),
                "truncated": pa.array(tokenized.truncated),
                "seam": pa.array(tokenized.seam),
                "uses": pa.array(
                    [[dict(zip(use.names, u, strict=True)) for u in us] for us in uses],
                    type=pa.list_(use),
                ),
            }
        )


def load_work(
    specs: Sequence[str], limit: int | float | None = None, task_paths: Sequence[Path] = ()
) -> Work:
    """Loads tasks and collects their distinct requests. Raises :class:`UserError`."""
    names = expand(specs, task_paths)
    if not names:
        raise UserError("no task is named; pass --tasks SPEC, see `olmeval tasks list`")
    index: dict[Request, int] = {}
    works = []
    for name in names:
        task = load_task(name, limit, task_paths)
        works.append(_task_work(task, index))
    return Work(works, list(index))


def _task_work(task: Task, index: dict[Request, int]) -> TaskWork:
    instances = task.instances()
    if not instances:
        raise UserError(f"task '{task.name}' has no documents; check its data and --limit")
    requests = [r for i in instances for r in i.requests]
    kinds = {r.kind for r in requests}
    if kinds != {"loglikelihood"}:
        raise UserError(
            f"task '{task.name}' asks for {', '.join(sorted(kinds))}, which the engine cannot "
            "score yet; use its bpb, rc or mc format"
        )
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
