"""How fast a model answers, from a few seconds of answering.

A sample of a plan's rows is scored: blocks of neighbouring rows, spread over the plan, in rounds of
doubling size until the time is up. The longer a block, the more its mix of shared prefixes and
branches, and what an engine has to do at once, is that of the whole run. Prompts are continued by
one token and by some more, which tells reading from writing.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from olmeval.backends.base import Backend, Prompt
from olmeval.backends.planner import Plan, Sequences, make_plan
from olmeval.engine.prepare import Prepared
from olmeval.errors import UserError

# Tokens that a model warms up with.
WARM_UP = 8
# Blocks a round, fewer where they would have less than so many rows to choose from.
BLOCKS, ROWS = 8, 16
# Tokens that prompts are continued by, beyond the first; how batches of prompts grow.
MORE, GROWTH = 32, 4
# A range is never narrower than this factor: no machine is steadier from one minute to the next.
# Where there are too few blocks to take a range from, it is the second.
STEADY, UNKNOWN = 1.2, 2.0


@dataclass(frozen=True)
class Estimate:
    """Seconds, with a range."""

    seconds: float
    low: float
    high: float

    def __add__(self, other: "Estimate") -> "Estimate":
        return Estimate(self.seconds + other.seconds, self.low + other.low, self.high + other.high)


@dataclass(frozen=True)
class Speed:
    """Seconds a token: scored in a row, put on the path to rows, read in a prompt, and written.

    Each may be smaller or larger by the factors ``scoring_range`` and ``generating_range``.
    """

    row: float = 0.0
    path: float = 0.0
    scoring_range: float = 1.0
    read: float = 0.0
    write: float = 0.0
    generating_range: float = 1.0

    def scoring(self, plan: Plan) -> Estimate:
        """Time for all of ``plan``."""
        rows, path = _tokens(plan)
        seconds = rows * self.row + path * self.path
        return Estimate(seconds, seconds / self.scoring_range, seconds * self.scoring_range)

    def generating(self, prompt_tokens: int, new_tokens: int) -> Estimate:
        """Time for generations, at most; the range begins where all answers end at once."""
        least = prompt_tokens * self.read
        seconds = least + new_tokens * self.write
        return Estimate(seconds, least / self.generating_range, seconds * self.generating_range)


def measure(backend: Backend, prepared: Prepared, seconds: float = 2.5) -> Speed:
    """Times ``backend`` on a sample of what ``prepared`` asks, warm-up excluded.

    Takes at most about ``seconds``, and longer only where a single block does. Raises
    :class:`UserError` when the model does not answer.
    """
    prompts = sorted(prepared.prompts.values(), key=lambda p: len(p.ids))
    if prompts and prepared.plan.steps:
        seconds /= 2
    speed = Speed()
    if prepared.plan.steps:
        row, path, factor = _scoring(backend, prepared.plan, seconds)
        speed = replace(speed, row=row, path=path, scoring_range=factor)
    if prompts:
        read, write = _generation(backend, prompts, seconds)
        speed = replace(speed, read=read, write=write, generating_range=UNKNOWN)
    return speed


# Of a block: its number, tokens of rows, tokens of paths, seconds.
Timed = tuple[int, int, int, float]


def _scoring(backend: Backend, plan: Plan, seconds: float) -> tuple[float, float, float]:
    """Seconds a token of rows, and of paths; the factor of their range."""
    n = min(int(plan.sequences.lengths[0]), WARM_UP)
    few = Sequences(plan.sequences.ids[:n], np.array([0, n]), np.array([1]))
    _score(backend, make_plan(few, backend.max_row_tokens))
    rows = [k for k, step in enumerate(plan.steps) if step.extend_to is None]
    n = max(min(len(rows) // ROWS, BLOCKS), 1)
    goals = plan.tokens_planned * np.arange(n) // n
    begins = np.unique(np.searchsorted(np.cumsum(plan.step_tokens)[rows], goals)).tolist()
    most = (min(b - a for a, b in pairwise([*begins, len(rows)])) + 1) // 2
    # Time may be up after a few, which should be far apart, too.
    order = sorted(range(len(begins)), key=lambda k: f"{k:03b}"[::-1])
    rounds: list[list[Timed]] = []
    size, begun = 1, time.perf_counter()
    while True:
        started = time.perf_counter()
        rounds.append([])
        for k in order:
            # The rounds before took size - 1 rows.
            first, last = begins[k] + size - 1, begins[k] + 2 * size - 2
            part = plan.part(plan.steps[rows[first]].lo, plan.steps[rows[last]].hi)
            rounds[-1].append((k, *_tokens(part), _score(backend, part)))
            if size == 1 and time.perf_counter() - begun > seconds:
                break
        size *= 2
        if size > most or _out_of_time(begun, started, seconds):
            break
    # Two rounds, because blocks of one length have much the same share of path.
    return _fit([timed for found in rounds[-2:] for timed in found], _tokens(plan))


def _score(backend: Backend, plan: Plan) -> float:
    """Seconds of scoring all of ``plan``."""
    begun = time.perf_counter()
    for _ in backend.score(plan, plan.steps):
        pass
    return time.perf_counter() - begun


def _tokens(plan: Plan) -> tuple[int, int]:
    """Tokens of a plan's rows, and of the paths to them."""
    rows = np.array([step.extend_to is None for step in plan.steps], np.bool_)
    return int(plan.step_tokens[rows].sum()), int(plan.step_tokens[~rows].sum())


def _out_of_time(begun: float, started: float, seconds: float, growth: int = 2) -> bool:
    """Whether a round ``growth`` times the one that began at ``started`` would take too long."""
    now = time.perf_counter()
    return now - begun + growth * (now - started) > seconds


def _fit(seen: Sequence[Timed], whole: tuple[int, int]) -> tuple[float, float, float]:
    """Seconds a token of rows, and of paths; the factor of their range.

    The range is two standard errors of the time for the ``whole`` plan's tokens, by the jackknife
    over blocks (Efron and Tibshirani 1993, chapter 11). Too few blocks tell neither the range nor
    the one kind of token from the other.
    """
    block, amounts, seconds = np.split(np.array(seen), [1, 3], axis=1)
    n = len(blocks := np.unique(block))
    if n < 3:
        each = float(seconds.sum() / amounts.sum())
        return each, each, UNKNOWN
    row, path = _costs(amounts, seconds).tolist()
    others = [block[:, 0] != k for k in blocks]
    times = np.array([_costs(amounts[kept], seconds[kept]) @ whole for kept in others])
    error = np.sqrt((n - 1) / n * ((times - times.mean()) ** 2).sum())
    factor = float(np.exp(2 * error / (row * whole[0] + path * whole[1])))
    return row, path, max(factor, STEADY)


def _costs(amounts: NDArray[np.float64], seconds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Seconds that one of each kind [K] costs, where ``amounts`` [N, K] took ``seconds`` [N, 1].

    Relative least squares without negative costs: some engines have no use for a kind of work.
    """
    from scipy.optimize import nnls

    found: NDArray[np.float64] = nnls(amounts / seconds, np.ones(len(seconds)))[0]
    return found


def _generation(backend: Backend, prompts: Sequence[Prompt], seconds: float) -> tuple[float, float]:
    """Seconds a token that is read, and one that is written in a batch as full as the run's.

    ``prompts`` come in order of length; those of middle length are taken. A step of a batch costs
    something for the batch and something for each of its samples: batches of growing size, as many
    as there is time for, tell which is which.
    """
    _continue(backend, [replace(prompts[0], ids=prompts[0].ids[:WARM_UP])], 1)
    n = max(p.sampling.n for p in prompts)
    most = max(min(len(prompts), backend.samples_at_once // n), 1)
    batches: list[tuple[int, int]] = []
    step_seconds: list[list[float]] = []
    size, begun = 1, time.perf_counter()
    while True:
        started = time.perf_counter()
        some = prompts[(len(prompts) - size) // 2 :][:size]
        read, _, reading = _continue(backend, some, 1)
        # Once more, because some engines remember what they have read.
        again = min(_continue(backend, some, 1)[2], reading)
        _, written, longer = _continue(backend, some, 1 + MORE)
        samples = sum(p.sampling.n for p in some)
        # Samples that end early leave fewer tokens; a clock that stumbles, no time.
        steps = max(written / samples - 1, 1)
        batches.append((1, samples))
        step_seconds.append([max(longer - again, longer / 100) / steps])
        size *= GROWTH
        if size > most or _out_of_time(begun, started, seconds, GROWTH):
            break
    shared, own = _costs(np.array(batches, np.float64), np.array(step_seconds))
    full = min(backend.samples_at_once, sum(p.sampling.n for p in prompts))
    return reading / read, float(shared / full + own)


def _continue(backend: Backend, prompts: Sequence[Prompt], new: int) -> tuple[int, int, float]:
    """Continues ``prompts`` by ``new`` tokens at most: tokens read, tokens written, seconds."""
    # Not by more than the prompt left room for.
    limits = [min(new, p.sampling.max_tokens) for p in prompts]
    asked = [
        replace(p, sampling=replace(p.sampling, stop=(), max_tokens=most))
        for p, most in zip(prompts, limits, strict=True)
    ]
    begun = time.perf_counter()
    samples = [s for _, of_one in backend.generate(asked) for s in of_one]
    took = time.perf_counter() - begun
    if not samples:
        raise UserError(
            "the model continued none of the prompts that were to time it; a run with --limit 1 "
            "says why"
        )
    read = sum(len(p.ids) * p.sampling.n for p in prompts)
    return read, sum(s.n_tokens for s in samples), took
