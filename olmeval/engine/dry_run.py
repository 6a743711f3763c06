"""What a run would ask, before it does: requests, tokens, warnings, and how long it would take.

Tokens are counted three ways. *Naive* is every request of every task by itself, repeats and all,
as tools feed them that plan nothing; *planned* is what our forward passes compute; *tree* is the
limit, each distinct token of the prefix tree once. A task's own counts are those of a run of this
task alone; the run's are those of one plan over everything, so they are less than the sum.
"""

from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from olmeval.backends.base import Backend, Prompt
from olmeval.backends.planner import Ints, Plan, make_plan, ranges, starts
from olmeval.backends.tokenization import Tokenizer
from olmeval.engine.prepare import Prepared
from olmeval.engine.probe import Estimate, Speed, measure
from olmeval.engine.work import TaskWork, Work


@dataclass(frozen=True)
class Generation:
    """Prompts to continue: their tokens, once a sample, and the new tokens at most."""

    prompts: int = 0
    samples: int = 0
    prompt_tokens: int = 0
    new_tokens: int = 0


@dataclass(frozen=True)
class Cautions:
    """What a reader of the scores should know.

    ``truncated`` and ``too_long`` count instances: of the first a prompt loses its beginning, the
    second cannot be scored in this window. The others count requests, as ``metrics.json`` does.
    """

    truncated: int
    too_long: int
    seams: int
    moved_spaces: int
    double_spaces: int
    missing_bos: int


@dataclass(frozen=True)
class Asked:
    """What a task, or the whole run, asks.

    ``requests`` counts all, ``distinct`` the different ones. ``estimate`` is the time that all
    takes, in seconds, where a model was there to be measured.
    """

    name: str
    kind: str
    instances: int
    requests: int
    distinct: int
    tokens_naive: int
    tokens_planned: int
    tokens_tree: int
    generation: Generation
    cautions: Cautions
    estimate: Estimate | None = None


@dataclass(frozen=True)
class DryRun:
    """Every task by itself, the run as one plan, and what was measured of the model."""

    tasks: tuple[Asked, ...]
    total: Asked
    speed: Speed | None = None

    def to_json(self) -> dict[str, Any]:
        """All of it in plain dictionaries and lists."""
        return asdict(self)


def dry_run(
    work: Work,
    tokenizer: Tokenizer,
    max_length: int,
    row_tokens: int,
    row_sequences: int = 0,
    overlap: int = 0,
    backend: Backend | None = None,
) -> DryRun:
    """Counts what a run of ``work`` would do; with ``backend`` a probe of some seconds tells how
    long that would take.

    The arguments are those of :meth:`Work.prepare`, so that a run that follows finds its plan made.
    """
    prepared = work.prepare(tokenizer, max_length, row_tokens, row_sequences, overlap)
    speed = None if backend is None else measure(backend, prepared)

    def estimate(plan: Plan, generation: Generation) -> Estimate | None:
        if speed is None:
            return None
        writing = speed.generating(generation.prompt_tokens, generation.new_tokens)
        return speed.scoring(plan) + writing

    index = _Index(prepared)
    tasks = []
    for task in work.tasks:
        requests = _requests(task)
        rows = index.rows(requests)
        fits = rows[~prepared.rows.too_long[rows]]
        plan = make_plan(prepared.rows.sequences.take(fits), row_tokens, row_sequences)
        generation = _generation(index.prompts(requests))
        tasks.append(
            Asked(
                name=task.task.name,
                kind=task.kind,
                instances=len(task.instances),
                requests=len(requests),
                distinct=len(np.unique(requests)),
                tokens_naive=plan.tokens_naive,
                tokens_planned=plan.tokens_planned,
                tokens_tree=plan.tokens_tree,
                generation=generation,
                cautions=_cautions(task, prepared, index),
                estimate=estimate(plan, generation),
            )
        )
    total = _total(work, prepared, tasks)
    total = replace(total, estimate=estimate(prepared.plan, total.generation))
    return DryRun(tuple(tasks), total, speed)


class _Index:
    """From requests to what was made of them: rows (a document has several), and prompts."""

    def __init__(self, prepared: Prepared):
        self._order = np.argsort(prepared.request_of_row, kind="stable")
        n = len(prepared.task_of_request)
        self._counts = np.bincount(prepared.request_of_row, minlength=n)
        self._begin = starts(self._counts)
        of_prompt = prepared.request_of_prompt.tolist()
        self._key = dict(zip(of_prompt, prepared.prompt_keys, strict=True))
        self._prompts = prepared.prompts

    def rows(self, requests: Ints) -> Ints:
        """The rows of ``requests``, one after the other."""
        counts = self._counts[requests]
        rows: Ints = self._order[np.repeat(self._begin[requests], counts) + ranges(counts)]
        return rows

    def prompts(self, requests: Ints) -> list[Prompt]:
        """The distinct prompts of ``requests``."""
        keys = {self._key[r] for r in requests.tolist() if r in self._key}
        return [self._prompts[key] for key in keys]


def _requests(task: TaskWork) -> Ints:
    if task.unconditional is None:
        return task.conditioned
    return np.concatenate([task.conditioned, task.unconditional])


def _generation(prompts: Collection[Prompt]) -> Generation:
    return Generation(
        prompts=len(prompts),
        samples=sum(p.sampling.n for p in prompts),
        prompt_tokens=sum(len(p.ids) * p.sampling.n for p in prompts),
        new_tokens=sum(p.sampling.max_tokens * p.sampling.n for p in prompts),
    )


def _cautions(task: TaskWork, prepared: Prepared, index: _Index) -> Cautions:
    n = len(prepared.task_of_request)
    seen = prepared.rows
    rows = index.rows(task.conditioned)
    too_long = prepared.per_request(seen.too_long, n) > 0
    unanswered = too_long[task.conditioned]
    if task.unconditional is not None:
        unanswered = unanswered | too_long[task.unconditional]

    def instances(flags: NDArray[np.bool_]) -> int:
        return int(np.logical_or.reduceat(flags, task.offsets[:-1]).sum())

    return Cautions(
        truncated=instances(prepared.truncated(n)[task.conditioned]),
        too_long=instances(unanswered),
        seams=int(seen.seam[rows].sum()),
        moved_spaces=int(seen.moved_space[rows].sum()),
        double_spaces=int(seen.double_space[rows].sum()),
        missing_bos=int(seen.missing_bos[rows].sum()),
    )


def _total(work: Work, prepared: Prepared, tasks: list[Asked]) -> Asked:
    sums = [asdict(task.cautions) for task in tasks]
    kinds = {task.kind for task in tasks}
    return Asked(
        name="total",
        kind=kinds.pop() if len(kinds) == 1 else "mixed",
        instances=sum(task.instances for task in tasks),
        requests=sum(task.requests for task in tasks),
        distinct=len(work.requests),
        tokens_naive=sum(task.tokens_naive for task in tasks),
        tokens_planned=prepared.plan.tokens_planned,
        tokens_tree=prepared.plan.tokens_tree,
        generation=_generation(prepared.prompts.values()),
        cautions=Cautions(**{name: sum(s[name] for s in sums) for name in sums[0]}),
    )
