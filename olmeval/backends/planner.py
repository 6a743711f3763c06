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
from itertools import pairwise

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
        lengths = self.lengths[index]
        ids = self.ids[np.repeat(self.offsets[index], lengths) + ranges(lengths)]
        return Sequences(ids, starts(lengths), self.context_len[index])


@dataclass(frozen=True)
class Step:
    """One forward pass over sequences ``lo:hi`` of the plan, below a cached path of ``cached``.

    With ``extend_to`` the path from ``cached`` to that depth joins the cache; without it the step
    is a row that finishes its sequences.
    """

    lo: int
    hi: int
    cached: int
    extend_to: int | None = None


@dataclass(frozen=True)
class Batch:
    """The arrays of one step: L new tokens, S scored positions.

    ``tokens``, ``depth`` [L]; ``mask`` [L, L] (query sees key) or None for a plain causal chain;
    ``node`` [S] which new token predicts; ``target`` [S] the token that it must predict; ``slot``
    [S] where the log-probability goes in the flat array of all scored tokens.
    """

    tokens: Tokens
    depth: Ints
    mask: NDArray[np.bool_] | None
    node: Ints
    target: Tokens
    slot: Ints


@dataclass(frozen=True)
class Plan:
    """Steps in depth-first order over U distinct sequences (sorted), and the token counts.

    ``unique_of`` [R] maps each request to its distinct sequence. ``slots`` [U+1] delimits each
    sequence's scored tokens in the flat array. ``tokens_naive``: every request alone, its last
    token never fed; ``tokens_planned``: what the steps compute; ``tokens_tree``: the limit.
    """

    sequences: Sequences
    unique_of: Ints
    shared: Ints
    steps: tuple[Step, ...]
    tokens_naive: int
    tokens_planned: int
    tokens_tree: int

    @cached_property
    def slots(self) -> Ints:
        """Bounds of each distinct sequence's scored tokens [U+1]."""
        return starts(self.sequences.lengths - self.sequences.context_len)

    def pending(self, done: NDArray[np.bool_]) -> Iterator[Step]:
        """The steps that still matter when the distinct sequences ``done`` [U] are answered."""
        left = starts((~done).astype(np.int64))
        return (step for step in self.steps if left[step.hi] > left[step.lo])

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
            return self._with_scores(lo, seq, position, tokens, depth, None, position - base)
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
        node = path[seq, position - base]
        mask = None
        if hi - lo > 1:
            mask = path[owner][:, depth - base] == np.arange(len(tokens))[None, :]
            mask &= depth[None, :] <= depth[:, None]
        return self._with_scores(lo, seq, position, tokens, depth, mask, node)

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
        mask: NDArray[np.bool_] | None,
        node: Ints,
    ) -> Batch:
        s = self.sequences
        row = seq + lo
        target = s.ids[s.offsets[row] + position + 1]
        slot = self.slots[row] + position + 1 - s.context_len[row]
        return Batch(tokens, depth, mask, node, target, slot)


def make_plan(sequences: Sequences, max_row_tokens: int, max_row_sequences: int = 0) -> Plan:
    """Plans the scoring of ``sequences``.

    A row holds at most ``max_row_tokens`` new tokens (a single longer sequence is a row of its
    own) and, unless 0, at most ``max_row_sequences`` sequences. O(T log R) for T tokens in R
    requests.
    """
    naive = int((sequences.lengths - 1).sum())
    order = _sorted(sequences)
    ordered = sequences.take(order)
    common = _common_prefixes(ordered)
    new = np.ones(len(order), np.bool_)
    new[1:] = ~(
        (common[1:] == ordered.lengths[1:])
        & (common[1:] == ordered.lengths[:-1])
        & (ordered.context_len[1:] == ordered.context_len[:-1])
    )
    unique_of = np.empty(len(order), np.int64)
    unique_of[order] = np.cumsum(new) - 1
    keep = np.flatnonzero(new)
    distinct = ordered.take(keep)
    # A dropped repeat shares everything with its twin, so the prefix shared with the previous
    # distinct sequence is the one that the first twin shares.
    fed = distinct.lengths - 1
    shared = common[keep]
    shared[1:] = np.minimum(shared[1:], np.minimum(fed[1:], fed[:-1]))
    walk = _Walk(fed, shared, max_row_tokens, max_row_sequences or len(order) + 1)
    if len(keep):
        walk.visit(0, len(keep), 0)
    return Plan(
        sequences=distinct,
        unique_of=unique_of,
        shared=shared,
        steps=tuple(walk.steps),
        tokens_naive=naive,
        tokens_planned=walk.tokens,
        tokens_tree=int((fed - shared).sum()),
    )


class _Walk:
    """Depth-first traversal of the prefix tree that emits steps."""

    def __init__(self, fed: Ints, shared: Ints, max_tokens: int, max_sequences: int):
        self.fed = fed
        self.shared = shared
        self.max_tokens = max_tokens
        self.max_sequences = max_sequences
        # own[i]: tokens that sequence i adds to a row in which sequence i-1 already is.
        self.own = starts(fed - shared)
        self.steps: list[Step] = []
        self.tokens = 0

    def weight(self, lo: int, hi: int, cached: int) -> int:
        """Distinct tokens below depth ``cached`` of sequences lo:hi."""
        return int(max(self.fed[lo] - cached, 0) + self.own[hi] - self.own[lo + 1])

    def fits(self, lo: int, hi: int, cached: int) -> bool:
        if hi - lo == 1:
            return True
        # Sequences that feed the same tokens (one-token answers) are one chain, however long.
        one_chain = self.own[hi] == self.own[lo + 1]
        small = one_chain or self.weight(lo, hi, cached) <= self.max_tokens
        return small and hi - lo <= self.max_sequences

    def row(self, lo: int, hi: int, cached: int) -> None:
        self.steps.append(Step(lo, hi, cached))
        self.tokens += self.weight(lo, hi, cached)

    def visit(self, lo: int, hi: int, cached: int) -> None:
        """Emits the steps for sequences lo:hi, all of which share the cached path."""
        if self.fits(lo, hi, cached):
            self.row(lo, hi, cached)
            return
        branch = int(self.shared[lo + 1 : hi].min())
        cuts = lo + 1 + np.flatnonzero(self.shared[lo + 1 : hi] == branch)
        # Without a segment every row repeats the way from the cached path to the branch.
        room = max(self.max_tokens - (branch - cached), 1)
        rows = max(
            min(-(-self.weight(lo, hi, branch) // room), len(cuts) + 1),
            -(-(hi - lo) // self.max_sequences),
        )
        if (branch - cached) * (rows - 1) >= MIN_SAVING:
            self.steps.append(Step(lo, hi, cached, extend_to=branch))
            self.tokens += branch - cached
            cached = branch
        bounds = np.concatenate([[lo], cuts, [hi]])
        # Tokens of children a..b in one row: the path once, then what each sequence adds.
        added = self.own[bounds]
        child = 0
        while child < len(bounds) - 1:
            first = int(bounds[child])
            budget = self.max_tokens - max(int(self.fed[first]) - cached, 0) + self.own[first + 1]
            end = int(np.searchsorted(added, budget, side="right")) - 1
            most = int(np.searchsorted(bounds, first + self.max_sequences, side="right")) - 1
            end = max(min(end, most, len(bounds) - 1), child + 1)
            last = int(bounds[end])
            if self.fits(first, last, cached):
                self.row(first, last, cached)
            else:
                self.visit(first, last, cached)
            child = end


def ranges(lengths: Ints) -> Ints:
    """0..n-1 for each n, concatenated."""
    begin = starts(lengths)
    return np.arange(begin[-1]) - np.repeat(begin[:-1], lengths)


def starts(lengths: Ints) -> Ints:
    """Exclusive prefix sum with the total at the end [len+1]."""
    out = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=out[1:])
    return out


def _sorted(sequences: Sequences) -> Ints:
    """Order by token ids, then by context length."""
    # Big-endian bytes compare as the numbers do, and bytes compare in C.
    data = sequences.ids.astype(">u4").tobytes()
    bounds = (sequences.offsets * 4).tolist()
    keys = [data[a:b] for a, b in pairwise(bounds)]
    context = sequences.context_len.tolist()
    by_context = sorted(range(len(keys)), key=context.__getitem__)
    return np.array(sorted(by_context, key=keys.__getitem__), np.int64)


def _common_prefixes(s: Sequences, chunk: int = 1 << 22) -> Ints:
    """Common prefix length of each sequence with the one before it [R]; 0 for the first."""
    common = np.zeros(len(s), np.int64)
    if len(s) < 2:
        return common
    limit = np.minimum(s.lengths[1:], s.lengths[:-1])
    edges = starts(limit)
    lo = 0
    while lo < len(limit):
        hi = max(int(np.searchsorted(edges, edges[lo] + chunk, side="right")) - 1, lo + 1)
        n = limit[lo:hi]
        inner = ranges(n)
        left = s.ids[np.repeat(s.offsets[lo:hi], n) + inner]
        right = s.ids[np.repeat(s.offsets[lo + 1 : hi + 1], n) + inner]
        first_difference = np.where(left != right, inner, np.iinfo(np.int64).max)
        # reduceat gives an empty group its neighbour's value; the limit corrects that.
        group = np.minimum(starts(n)[:-1], max(len(inner) - 1, 0))
        found = np.minimum.reduceat(first_difference, group) if len(inner) else n
        common[lo + 1 : hi + 1] = np.minimum(found, n)
        lo = hi
    return common
