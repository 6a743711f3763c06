"""Memory that runs out: recognised, freed, and answered with smaller pieces of work."""

import gc
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import torch

from olmeval.backends.planner import Plan, Step

# How torch's processor allocator, CUDA's driver and its libraries put it; a full GPU raises
# torch.OutOfMemoryError, or one of the last two.
MESSAGES = re.compile(
    r"(can't|cannot) allocate memory|not enough memory|out of memory|STATUS_ALLOC_FAILED", re.I
)
# Steps this short are not cut any more: what does not fit then is the path above them.
FLOOR = 16

Work = TypeVar("Work")


def out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that memory ran out."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and MESSAGES.search(str(error)) is not None


def attempt(run: Callable[[], None]) -> bool:
    """Runs it; False, with the memory given back, if there was not enough."""
    try:
        run()
        return True
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
    # Only here, outside the handler, has the traceback let go of the tensors.
    if torch.cuda.is_available():
        gc.collect()
        torch.cuda.empty_cache()
    return False


@dataclass(frozen=True)
class Task(Generic[Work]):
    """A kind of work that can be cut: how much a piece is, and what to do with it.

    ``halves`` cuts a piece in two, or not at all: then, if it does not fit, it is ``lost``.
    ``carries`` says whether what comes after a piece cannot do without it.
    """

    size: Callable[[Work], int]
    compute: Callable[[Work], None]
    halves: Callable[[Work], Sequence[Work]]
    lost: Callable[[Work], None]
    carries: Callable[[Work], bool] = lambda _: False


class Budget:
    """How much fits in one forward pass, as far as is known, in ``unit``."""

    def __init__(self, unit: str):
        self.unit = unit
        self.most: int | None = None
        self._told = False

    def fit(self, task: Task[Work], work: Work) -> bool:
        """Computes ``work``, in halves of halves where memory asks for it; False if some is lost.

        The size that fitted holds from then on. A piece too large for any size teaches nothing.
        """
        known = self.most
        done = self._fit(task, work)
        if not done:
            self.most = known
        return done

    def _fit(self, task: Task[Work], work: Work) -> bool:
        size = task.size(work)
        parts = () if self.most is None or size <= self.most else task.halves(work)
        if not parts:
            if attempt(lambda: task.compute(work)):
                return True
            self._shrink(size)
            parts = task.halves(work)
        if not parts:
            task.lost(work)
            return False
        done = True
        for part in parts:
            done &= self._fit(task, part)
            if not done and task.carries(part):
                break
        return done

    def _shrink(self, size: int) -> None:
        self.most = max(min(size, self.most or size) // 2, 1)
        if not self._told:
            warnings.warn(
                f"out of memory with {size:,} {self.unit} in a forward pass; going on with fewer",
                RuntimeWarning, stacklevel=2,
            )  # fmt: skip
            self._told = True


def cut_in_half(items: Sequence[Work]) -> tuple[Sequence[Work], ...]:
    """The first half and the rest; nothing if there is but one."""
    half = len(items) // 2
    return (items[:half], items[half:]) if half else ()


def tokens_of(plan: Plan, step: Step) -> int:
    """New tokens that ``step`` computes."""
    if step.extend_to is not None:
        return step.extend_to - step.cached
    fed = plan.sequences.lengths[step.lo : step.hi] - 1
    begin = np.maximum(plan.shared[step.lo : step.hi], step.cached)
    begin[0] = step.cached
    return int(np.maximum(fed - begin, 0).sum())


def step_halves(plan: Plan, step: Step) -> tuple[Step, ...]:
    """Two steps that do what ``step`` does with about half its tokens each; none if it is short.

    A chain, or a row that is mostly the stem that its sequences share, is cut in depth: the upper
    half joins the path, the rest hangs below. Other rows are cut between sequences.
    """
    lo, hi, cached, end, score_from = step
    size = tokens_of(plan, step)
    if size <= FLOOR:
        return ()
    middle = cached + size // 2
    if end is None:
        fed = plan.sequences.lengths[lo:hi] - 1
        shared = np.maximum(plan.shared[lo:hi], cached)
        shared[0] = cached
        if min(fed.min(), shared[1:].min(initial=fed[0])) < middle:
            done = np.maximum(fed - shared, 0).cumsum()
            cut = lo + int(np.clip(np.searchsorted(done, size // 2), 1, hi - lo - 1))
            return Step(lo, cut, cached), Step(cut, hi, cached)
        score_from = int(plan.sequences.context_len[lo:hi].min()) - 1
    upper = Step(lo, hi, cached, middle, int(np.clip(score_from, cached, middle)))
    return upper, Step(lo, hi, middle, end, 0 if end is None else max(score_from, middle))
