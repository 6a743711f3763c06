"""Scores plans with a torch model: through the prefix tree, or in plain batches."""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from olmeval.backends.planner import Ints, Plan, Step, ranges
from olmeval.backends.torch_memory import Budget, Task, cut_in_half, step_halves, tokens_of
from olmeval.backends.torch_model import Path, TorchModel

# Logits are normalised this many at a time: on a processor as many as stay in its cache.
LOGITS_AT_ONCE = {"cpu": 1 << 20, "cuda": 1 << 26}
# Tokens of a plain batch. It repeats contexts that a row of the tree has once.
PLAIN_TOKENS = {"cpu": 2048, "cuda": 16384}


@dataclass(frozen=True)
class Scored:
    """Log-probability [S] and greediness [S] of every scored token of a plan; nan: not known."""

    logprobs: NDArray[np.float32]
    greedy: NDArray[np.bool_]

    @classmethod
    def nothing(cls, plan: Plan) -> "Scored":
        """Nothing known yet."""
        n = int(plan.slots[-1])
        return cls(np.full(n, np.nan, np.float32), np.zeros(n, np.bool_))


@dataclass(frozen=True)
class Piece:
    """What one forward pass found for the scored tokens ``slot`` [S], still on its device."""

    slot: Ints
    logprobs: Tensor
    greedy: Tensor

    def put(self, scored: Scored) -> None:
        """Waits for the device and writes the results where they belong."""
        scored.logprobs[self.slot] = self.logprobs.cpu().numpy()
        scored.greedy[self.slot] = self.greedy.cpu().numpy()


def gather(logits: Tensor, row: Ints, target: NDArray[np.integer], slot: Ints) -> Piece:
    """Log-probability of ``target`` [S] under ``logits`` [N, V] at ``row`` [S], in float32."""
    device = logits.device
    at, wanted = to_device(row, device), to_device(target, device)
    normaliser = torch.empty(len(logits), dtype=torch.float32, device=device)
    best = torch.empty(len(logits), dtype=torch.int64, device=device)
    at_once = LOGITS_AT_ONCE.get(device.type, LOGITS_AT_ONCE["cuda"])
    chunk = max(at_once // logits.shape[1], 1)
    for lo in range(0, len(logits), chunk):
        part = logits[lo : lo + chunk].float()
        top, best[lo : lo + chunk] = part.max(-1)
        normaliser[lo : lo + chunk] = (part - top[:, None]).exp_().sum(-1).log_() + top
    return Piece(slot, logits[at, wanted].float() - normaliser[at], best[at] == wanted)


def to_device(numbers: NDArray[np.integer], device: torch.device) -> Tensor:
    """As int64 on ``device``."""
    return torch.from_numpy(numbers).to(device, torch.int64)


class TreeScorer:
    """Walks the steps of plans on one growing and shrinking path of keys and values."""

    def __init__(self, model: TorchModel):
        self.model = model
        self.budget = Budget("tokens")

    def run(self, plan: Plan, steps: Iterable[Step], scored: Scored) -> Iterator[Step]:
        """Yields each row step once its sequences are complete."""
        path = self.model.new_path()
        # Sequences before this one hang below a path that did not fit.
        lost = 0
        waiting: tuple[Step, list[Piece]] | None = None
        for step in steps:
            pieces: list[Piece] = []
            if step.lo >= lost:
                fits = self.budget.fit(self._task(plan, path, pieces), step)
                if not fits and step.extend_to is not None:
                    lost = step.hi
            # A GPU works on this step while the results of the one before are fetched.
            if waiting is not None:
                yield from _complete(*waiting, scored)
            waiting = step, pieces
        if waiting is not None:
            yield from _complete(*waiting, scored)

    def _task(self, plan: Plan, path: Path, pieces: list[Piece]) -> Task[Step]:
        def lost(step: Step) -> None:
            longest = int(plan.sequences.lengths[step.lo : step.hi].max())
            warnings.warn(
                f"no memory for sequences of up to {longest:,} tokens: {step.hi - step.lo} count "
                "as errors",
                RuntimeWarning, stacklevel=2,
            )  # fmt: skip

        return Task(
            size=lambda step: tokens_of(plan, step),
            compute=lambda step: self._compute(plan, step, path, pieces),
            halves=lambda step: step_halves(plan, step),
            lost=lost,
            carries=lambda step: step.extend_to is not None,
        )

    @torch.inference_mode()  # type: ignore[untyped-decorator]
    def _compute(self, plan: Plan, step: Step, path: Path, pieces: list[Piece]) -> None:
        path.crop(step.cached)
        batch = plan.batch(step)
        if not len(batch.tokens):
            return
        device = self.model.device
        logits = self.model.extend(
            path,
            to_device(batch.tokens, device),
            to_device(batch.depth, device),
            None if batch.end is None else _seen(to_device(batch.end, device)),
            to_device(batch.nodes, device),
        )
        if len(batch.slot):
            pieces.append(gather(logits, batch.row, batch.target, batch.slot))


def _seen(end: Tensor) -> Tensor:
    """Which new tokens [L, L] each sees, if token ``j`` is seen by ``j:end[j]``."""
    at = torch.arange(len(end), device=end.device)
    return (at[:, None] >= at) & (at[:, None] < end)


def _complete(step: Step, pieces: list[Piece], scored: Scored) -> Iterator[Step]:
    for piece in pieces:
        piece.put(scored)
    if step.extend_to is None:
        yield step


# Distinct sequences lo:hi that feed the same tokens, or fewer of them.
Row = tuple[int, int]


class PlainScorer:
    """Scores right-padded batches without a cache, for models that honour no tree mask.

    Continuations of one token share their context's row.
    """

    def __init__(self, model: TorchModel):
        self.model = model
        self.most = PLAIN_TOKENS.get(model.device.type, PLAIN_TOKENS["cuda"])
        self.budget = Budget("padded tokens")

    def run(self, plan: Plan, steps: Iterable[Step], scored: Scored) -> Iterator[Step]:
        """Yields each row step once its sequences are complete."""
        for step in steps:
            if step.extend_to is None:
                rows = _rows(plan, step)
                while rows:
                    # The first is the longest.
                    count = max(self.most // _padded(plan, rows[:1]), 1)
                    self.fit(plan, rows[:count], scored)
                    rows = rows[count:]
                yield step

    def fit(self, plan: Plan, rows: Sequence[Row], scored: Scored) -> bool:
        """Scores ``rows``, in one batch if memory allows; False if it does not fit at all."""

        def lost(part: Sequence[Row]) -> None:
            warnings.warn(
                f"no memory for a sequence of {_padded(plan, part) + 1:,} tokens: it counts as an "
                "error",
                RuntimeWarning, stacklevel=2,
            )  # fmt: skip

        task = Task[Sequence[Row]](
            size=lambda part: _padded(plan, part),
            compute=lambda part: self._compute(plan, part).put(scored),
            halves=cut_in_half,
            lost=lost,
        )
        return self.budget.fit(task, rows)

    @torch.inference_mode()  # type: ignore[untyped-decorator]
    def _compute(self, plan: Plan, rows: Sequence[Row]) -> Piece:
        s = plan.sequences
        first, end = np.array(rows).T
        fed = s.lengths[first] - 1
        tokens = np.zeros((len(rows), int(fed.max())), np.int64)
        valid = np.arange(tokens.shape[1]) < fed[:, None]
        tokens[valid] = s.ids[np.repeat(s.offsets[first], fed) + ranges(fed)]

        members = np.repeat(first, end - first) + ranges(end - first)
        count = s.lengths[members] - s.context_len[members]
        position = np.repeat(s.context_len[members] - 1, count) + ranges(count)
        target = s.ids[np.repeat(s.offsets[members], count) + position + 1]
        slot = np.repeat(plan.slots[members], count) + ranges(count)
        row = np.repeat(np.repeat(np.arange(len(rows)), end - first), count)

        keep, column = np.unique(position, return_inverse=True)
        wanted, at = np.unique(row * len(keep) + column, return_inverse=True)
        device = self.model.device
        logits = self.model.plain(
            to_device(tokens, device), to_device(valid, device), to_device(keep, device)
        )
        return gather(logits.flatten(0, 1)[to_device(wanted, device)], at, target, slot)


def _rows(plan: Plan, step: Step) -> list[Row]:
    """The rows that a step's sequences need, longest first."""
    fed = plan.sequences.lengths[step.lo : step.hi] - 1
    # A sequence that feeds no more than the one before it finds all it needs in that one's row.
    new = plan.shared[step.lo : step.hi] < fed
    new[0] = True
    first = np.flatnonzero(new)
    end = np.append(first[1:], len(fed))
    order = np.argsort(-fed[first], kind="stable")
    return [(step.lo + int(first[k]), step.lo + int(end[k])) for k in order]


def _padded(plan: Plan, rows: Sequence[Row]) -> int:
    return len(rows) * max(int(plan.sequences.lengths[lo]) - 1 for lo, _ in rows)
