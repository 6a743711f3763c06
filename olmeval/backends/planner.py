"""Plans scoring as a walk over the prefix tree of all requests.

Sequences that share a beginning (a few-shot prompt, a question, a passage) share its computation:
sorted token sequences and the lengths of their common prefixes describe the tree without building
it. The walk keeps one key-value cache that is a path from the root. A *segment* step extends the
path; a *row* step packs many small branches below the path into one sequence, in which every token
attends to the path and to its own ancestors only. The physical limit is each distinct token of the
tree computed once; :class:`Plan` counts both. Everything is numpy on flat arrays.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Tokens = NDArray[np.int32]

# A segment is worth a forward pass of its own when it saves at least this many tokens.
MIN_SAVING = 64


@dataclass(frozen=True)
class Sequences:
    """R token sequences in one flat array; each is scored from ``context_len`` on.

    ``ids`` [T]; ``offsets`` [R+1]; ``context_len`` [R], at least 1 (the first token is given).
    """

    ids: Tokens
    offsets: Ints
    context_len: Ints

    def __len__(self) -> int:
        return len(self.context_len)

    @cached_property
    def lengths(self) -> Ints:
        """Tokens of each sequence [R]."""
        return np.diff(self.offsets)

    def take(self, index: Ints) -> "Sequences":
        """The sequences at ``index``, in that order."""
        # Whole slices are copied: an index of every token would take twice the tokens' memory.
        bounds = zip(self.offsets[index].tolist(), self.offsets[index + 1].tolist(), strict=True)
        ids = np.concatenate([self.ids[:0], *(self.ids[a:b] for a, b in bounds)])
        return Sequences(ids, starts(self.lengths[index]), self.context_len[index])


class Step(NamedTuple):
    """One forward pass over sequences ``lo:hi`` of the plan, below a cached path of ``cached``.

    With ``extend_to`` the path from ``cached`` to that depth joins the cache, and its tokens from
    depth ``score_from`` on predict something; without it the step is a row that finishes its
    sequences.
    """

    lo: int
    hi: int
    cached: int
    extend_to: int | None = None
    score_from: int = 0


@dataclass(frozen=True)
class Batch:
    """The arrays of one step: L new tokens, N that predict, S scored positions.

    ``tokens``, ``depth`` [L]; ``end`` [L]: ``j:end[j]`` are the new tokens that see token ``j``,
    itself the first of them (None: a plain chain, all that follow see it); ``nodes`` [N] the new
    tokens whose logits are needed, ascending; ``row`` [S] which of them predicts; ``target`` [S]
    the token that it must predict; ``slot`` [S] where the log-probability goes in the flat array
    of all scored tokens.
    """

    tokens: Tokens
    depth: Ints
    end: Ints | None
    nodes: Ints
    row: Ints
    target: Tokens
    slot: Ints

    @property
    def node(self) -> Ints:
        """The new token that predicts, of each scored position [S]."""
        return self.nodes[self.row]


@dataclass(frozen=True)
class Plan:
    """Steps in depth-first order over U distinct sequences, sorted by ids, then context length.

    ``unique_of`` [R] maps each request to its distinct sequence; ``shared`` [U] is how many fed
    tokens a sequence shares with the one before it. ``tokens_naive``: every request alone, its
    last token never fed.
    """

    sequences: Sequences
    unique_of: Ints
    shared: Ints
    steps: tuple[Step, ...]
    tokens_naive: int

    @cached_property
    def slots(self) -> Ints:
        """Bounds of each distinct sequence's scored tokens in the flat array of all [U+1]."""
        return starts(self.sequences.lengths - self.sequences.context_len)

    @cached_property
    def step_tokens(self) -> Ints:
        """New tokens that each step computes [len(steps)]."""
        fed = self.sequences.lengths - 1
        added = starts(fed - self.shared)
        table = [(s.lo, s.hi, s.cached, s.extend_to or 0) for s in self.steps]
        lo, hi, cached, end = np.array(table, np.int64).reshape(-1, 4).T
        rows = np.maximum(fed[lo] - cached, 0) + added[hi] - added[lo + 1]
        return np.where(end > 0, end - cached, rows)

    @property
    def tokens_planned(self) -> int:
        """What the steps compute."""
        return int(self.step_tokens.sum())

    @property
    def tokens_tree(self) -> int:
        """The limit: each distinct token of the prefix tree once."""
        return int((self.sequences.lengths - 1 - self.shared).sum())

    def pending(self, done: NDArray[np.bool_]) -> Iterator[Step]:
        """The steps that still matter when the distinct sequences ``done`` [U] are answered."""
        left = starts((~done).astype(np.int64))
        return (step for step in self.steps if left[step.hi] > left[step.lo])

    def bounds(self, parts: int) -> list[int]:
        """``parts`` + 1 places to cut the distinct sequences, for parts of about equal tokens.

        A cut never goes through a row, so with fewer rows than parts some parts are empty.
        """
        rows = [k for k, step in enumerate(self.steps) if step.extend_to is None]
        done = starts(self.step_tokens)[[0, *(k + 1 for k in rows)]]
        ends = np.array([0, *(self.steps[k].hi for k in rows)])
        goals = self.tokens_planned * np.arange(parts + 1)
        return [0, *ends[np.searchsorted(done * parts, goals)].tolist()[1:-1], len(self.sequences)]

    def part(self, lo: int, hi: int) -> "Plan":
        """The plan over distinct sequences ``lo:hi`` alone, which are its requests.

        Its steps compute exactly what the whole plan's steps compute of these sequences, so that
        shares of a plan give the numbers of the whole. ``lo`` and ``hi`` must not cut a row (see
        :meth:`bounds`; ValueError).
        """
        s = self.sequences
        steps = []
        for step in self.steps:
            begin, end = max(step.lo, lo), min(step.hi, hi)
            if begin >= end:
                continue
            if step.extend_to is None and (begin, end) != (step.lo, step.hi):
                raise ValueError(f"a part {lo}:{hi} would cut the row {step.lo}:{step.hi}")
            steps.append(step._replace(lo=begin - lo, hi=end - lo))
        offsets = s.offsets[lo : hi + 1]
        ids = s.ids[offsets[0] : offsets[-1]]
        sequences = Sequences(ids, offsets - offsets[0], s.context_len[lo:hi])
        shared = self.shared[lo:hi].copy()
        shared[:1] = 0
        return Plan(sequences, np.arange(hi - lo), shared, tuple(steps), len(ids) - (hi - lo))

    def batch(self, step: Step) -> Batch:
        """Materialises one step."""
        s = self.sequences
        lo, hi, base = step.lo, step.hi, step.cached
        fed = s.lengths[lo:hi] - 1
        if step.extend_to is not None:
            first = s.offsets[lo]
            tokens = s.ids[first + base : first + step.extend_to]
            depth = np.arange(base, step.extend_to)
            seq, position = self._scored(lo, hi, base, step.extend_to)
            # All of them, even when the sequence that asks for the first is in another part:
            # how many rows a matrix product has can change its last bits.
            nodes = np.arange(step.score_from, step.extend_to) - base
            row = position - step.score_from
            return self._with_scores(lo, seq, position, tokens, depth, None, nodes, row)
        begin = np.maximum(self.shared[lo:hi], base)
        begin[0] = base
        own = np.maximum(fed - begin, 0)
        node_of = starts(own)
        owner = np.repeat(np.arange(hi - lo), own)
        depth = ranges(own) + begin[owner]
        tokens = s.ids[s.offsets[lo:hi][owner] + depth]
        # The token at depth d on the path of sequence i belongs to the last sequence up to i that
        # starts at or above d: sequences are sorted, so a branch once left is never re-entered.
        width = int(fed.max(initial=base)) - base
        index = np.arange(hi - lo)[:, None]
        starts_above = begin[:, None] - base <= np.arange(width)[None, :]
        last = np.maximum.accumulate(np.where(starts_above, index, -1), axis=0)
        path = node_of[last] + np.arange(width)[None, :] + base - begin[last]
        seq, position = self._scored(lo, hi, base, None)
        nodes, row = np.unique(path[seq, position - base], return_inverse=True)
        end = None
        # Sequences that feed the same tokens are one chain.
        if own[1:].any():
            # A token is seen until the next sequence starts at or above it.
            above = np.where(starts_above, index, hi - lo)
            following = np.minimum.accumulate(np.append(above, [[hi - lo] * width], 0)[::-1])[::-1]
            end = node_of[following[owner + 1, depth - base]]
        return self._with_scores(lo, seq, position, tokens, depth, end, nodes, row)

    def _scored(self, lo: int, hi: int, begin: int, end: int | None) -> tuple[Ints, Ints]:
        """(sequence - lo, depth) of every predicting token with begin <= depth (< end)."""
        s = self.sequences
        first = np.maximum(s.context_len[lo:hi] - 1, begin)
        stop = s.lengths[lo:hi] - 1
        if end is not None:
            stop = np.minimum(stop, end)
        count = np.maximum(stop - first, 0)
        seq = np.repeat(np.arange(hi - lo), count)
        return seq, first[seq] + ranges(count)

    def _with_scores(
        self,
        lo: int,
        seq: Ints,
        position: Ints,
        tokens: Tokens,
        depth: Ints,
        end: Ints | None,
        nodes: Ints,
        row: Ints,
    ) -> Batch:
        s = self.sequences
        owner = seq + lo
        target = s.ids[s.offsets[owner] + position + 1]
        slot = self.slots[owner] + position + 1 - s.context_len[owner]
        return Batch(tokens, depth, end, nodes, row, target, slot)


def make_plan(sequences: Sequences, max_row_tokens: int, max_row_sequences: int = 0) -> Plan:
    """Plans the scoring of ``sequences``.

    A row holds at most ``max_row_tokens`` new tokens (a single longer sequence is a row of its
    own) and, unless 0, at most ``max_row_sequences`` sequences. O(T + U log U) for T tokens in
    R requests, U of them distinct.
    """
    distinct, unique_of = _distinct(sequences)
    shared = _shared(distinct)
    steps = _walk(distinct, shared, max_row_tokens, max_row_sequences or len(distinct))
    naive = int((sequences.lengths - 1).sum())
    return Plan(distinct, unique_of, shared, steps, naive)


def _walk(s: Sequences, shared: Ints, max_tokens: int, max_sequences: int) -> tuple[Step, ...]:
    """Depth-first traversal of the prefix tree of sorted sequences, as steps."""
    fed = s.lengths - 1
    # own[i]: tokens that sequence i adds to a row in which sequence i-1 already is.
    own = starts(fed - shared)

    def weight(lo: int, hi: int, cached: int) -> int:
        """Distinct tokens below depth ``cached`` of sequences lo:hi."""
        return int(max(fed[lo] - cached, 0) + own[hi] - own[lo + 1])

    def fits(lo: int, hi: int, cached: int) -> bool:
        if hi - lo == 1:
            return True
        # Sequences that feed the same tokens (one-token answers) are one chain, however long.
        one_chain = own[hi] == own[lo + 1]
        small = one_chain or weight(lo, hi, cached) <= max_tokens
        return bool(small) and hi - lo <= max_sequences

    steps: list[Step] = []
    # A stack of its own: the tree can be deeper than Python's.
    waiting = [(0, len(s), 0)] if len(s) else []
    while waiting:
        lo, hi, cached = waiting.pop()
        if fits(lo, hi, cached):
            steps.append(Step(lo, hi, cached))
            continue
        branch = int(shared[lo + 1 : hi].min())
        cuts = lo + 1 + np.flatnonzero(shared[lo + 1 : hi] == branch)
        # Without a segment every row repeats the way from the cached path to the branch.
        room = max(max_tokens - (branch - cached), 1)
        rows = max(
            min(-(-weight(lo, hi, branch) // room), len(cuts) + 1), -(-(hi - lo) // max_sequences)
        )
        if (branch - cached) * (rows - 1) >= MIN_SAVING:
            first = int(np.clip(s.context_len[lo:hi].min() - 1, cached, branch))
            steps.append(Step(lo, hi, cached, branch, first))
            cached = branch
        bounds = np.concatenate([[lo], cuts, [hi]])
        # Tokens of children a..b in one row: the path once, then what each sequence adds.
        added = own[bounds]
        child = 0
        groups = []
        while child < len(bounds) - 1:
            first = int(bounds[child])
            budget = max_tokens - max(int(fed[first]) - cached, 0) + own[first + 1]
            end = int(np.searchsorted(added, budget, side="right")) - 1
            most = int(np.searchsorted(bounds, first + max_sequences, side="right")) - 1
            end = max(min(end, most, len(bounds) - 1), child + 1)
            groups.append((first, int(bounds[end]), cached))
            child = end
        waiting += reversed(groups)
    return tuple(steps)


def _distinct(sequences: Sequences) -> tuple[Sequences, Ints]:
    """The distinct sequences, sorted by ids, then by context length; and whose is whose [R]."""
    ids, bounds = sequences.ids, sequences.offsets.tolist()
    number: dict[tuple[bytes, int], int] = {}
    first: list[int] = []
    seen = np.empty(len(sequences), np.int64)
    for k, context in enumerate(sequences.context_len.tolist()):
        # Big-endian bytes compare as the numbers do, and bytes compare in C.
        key = ids[bounds[k] : bounds[k + 1]].astype(">u4").tobytes(), context
        seen[k] = number.setdefault(key, len(first))
        if seen[k] == len(first):
            first.append(k)
    keys = list(number)
    order = np.array(sorted(range(len(keys)), key=keys.__getitem__), np.int64)
    del number, keys
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return sequences.take(np.array(first, np.int64)[order]), place[seen]


def _shared(s: Sequences) -> Ints:
    """Fed tokens that each of the sorted sequences shares with the one before it [U]."""
    shared = np.zeros(len(s), np.int64)
    bounds = s.offsets.tolist()
    for k in range(1, len(s)):
        before, begin, end = bounds[k - 1 : k + 2]
        fed = min(begin - before, end - begin) - 1
        differs = s.ids[before : before + fed] != s.ids[begin : begin + fed]
        at = int(differs.argmax()) if fed else 0
        shared[k] = at if fed and differs[at] else fed
    return shared


def ranges(lengths: Ints) -> Ints:
    """0..n-1 for each n, concatenated."""
    begin = starts(lengths)
    return np.arange(begin[-1]) - np.repeat(begin[:-1], lengths)


def starts(lengths: Ints) -> Ints:
    """Exclusive prefix sum with the total at the end [len+1]."""
    out = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=out[1:])
    return out
