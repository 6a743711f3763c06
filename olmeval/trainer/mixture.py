"""What a run sees, and in which order: a mixture of domains, sampled without replacement.

A training instance is a window of T + 1 tokens; windows start every T tokens, so each token of a
domain (but the tail) is predicted once an epoch. The mixture fixes how many instances each domain
gives. A keyed permutation of the seed, the domain and the epoch alone puts a domain's windows into
an order, and every run draws them in that order; the j-th of n draws falls at a random time between
j/n and (j+1)/n of the run, which interleaves the domains. So

* ``batch(step)`` is a pure function: resuming needs the step, and any number of ranks agree;
* runs with one seed and different mixtures, or lengths, see the same windows of each domain in the
  same order, one further than the other (common random numbers): they differ by the mixture
  instead of by luck;
* after any part of a run each domain has given that part of its draws, within one, and an epoch of
  a domain ends before its next begins;
* a domain's share is a random sample of it, not its first shards.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from olmeval.errors import UserError, nearest
from olmeval.trainer.permutation import Ints, Permutation, Words, keys, uniform


@dataclass(frozen=True)
class Share:
    """One domain's part in a run, in instances. ``weight`` is what was asked for.

    ``clipped`` if the domain gives less than that, because it was seen ``max_epochs`` times.
    """

    domain: str
    weight: float
    available: int
    drawn: int
    clipped: bool = False

    @property
    def epochs(self) -> float:
        """How often the run goes through the domain."""
        return self.drawn / self.available


def check_weights(weights: Mapping[str, float], domains: Sequence[str]) -> None:
    """:class:`UserError` unless ``weights`` names known domains and sums to 1."""
    for domain, weight in weights.items():
        if domain not in domains:
            raise UserError(
                f"the mixture names '{domain}', which is not a domain of the data"
                f"{nearest(domain, domains) or '; it has ' + ', '.join(sorted(domains))}"
            )
        if not 0 <= weight <= 1:
            raise UserError(f"the mixture gives '{domain}' {weight}; a weight is between 0 and 1")
    total = sum(weights.values())
    if abs(total - 1) > 1e-6:
        raise UserError(
            f"the mixture sums to {total:.6g}, not 1; divide each weight by that or add a domain"
        )


def largest_remainder(weights: npt.NDArray[np.float64], total: int) -> Ints:
    """Counts that sum to ``total``, each within one of ``weights / sum * total`` (Hamilton)."""
    exact = weights / weights.sum() * total
    counts: Ints = np.floor(exact).astype(np.int64)
    order = np.argsort(-(exact - counts), kind="stable")
    counts[order[: total - int(counts.sum())]] += 1
    return counts


def plan_shares(
    weights: Mapping[str, float],
    available: Mapping[str, int],
    total: int,
    *,
    max_epochs: float,
    repeat: Literal["error", "clip"],
) -> tuple[Share, ...]:
    """Splits ``total`` instances over domains; domains with weight 0 are left out.

    A domain that would be seen more than ``max_epochs`` times is an error, or with ``clip`` gives
    that much and leaves the rest to the others, in proportion. Raises :class:`UserError`.
    """
    check_weights(weights, list(available))
    names = sorted(domain for domain, weight in weights.items() if weight > 0)
    for name in names:
        if not available[name]:
            raise UserError(
                f"domain '{name}' is shorter than one training window; lower train.seq_len or take "
                "the domain out of the mixture"
            )
    wanted = np.array([weights[name] for name in names])
    limits = np.array([int(max_epochs * available[name]) for name in names])
    drawn = largest_remainder(wanted, total)
    clipped = np.zeros(len(names), dtype=bool)
    while (over := (drawn > limits) & ~clipped).any():
        first = int(np.flatnonzero(over)[0])
        if repeat == "error":
            epochs = drawn[first] / available[names[first]]
            raise UserError(
                f"domain '{names[first]}' would be seen {epochs:.2f} times, more than "
                f"data.max_epochs {max_epochs:g}; raise that, lower the domain's weight, train on "
                "fewer tokens, or set data.repeat to clip"
            )
        clipped |= over
        rest = total - int(limits[clipped].sum())
        if clipped.all() and rest > 0:
            raise UserError(
                f"the mixture's domains hold {limits.sum():,} windows within data.max_epochs "
                f"{max_epochs:g}, fewer than the {total:,} of the run; raise data.max_epochs or "
                "train on fewer tokens"
            )
        drawn = limits.copy()
        drawn[~clipped] = largest_remainder(wanted[~clipped], rest)
    return tuple(
        Share(name, float(weights[name]), available[name], int(n), bool(cut))
        for name, n, cut in zip(names, drawn, clipped, strict=True)
    )


def describe_clipping(shares: Sequence[Share]) -> list[str]:
    """A sentence for each domain that gives less than was asked of it."""
    total = sum(share.drawn for share in shares)
    return [
        f"domain '{share.domain}' is {share.drawn / total:.2%} of the run instead of "
        f"{share.weight:.2%}: it is seen {share.epochs:.3g} times, and data.repeat is clip"
        for share in shares
        if share.clipped
    ]


@dataclass(frozen=True)
class Windows:
    """The training windows of one domain: its shards (flat token arrays), read as one."""

    shards: Sequence[npt.NDArray[Any]]
    seq_len: int
    ends: list[int] = field(init=False)

    def __post_init__(self) -> None:
        ends = np.cumsum([len(shard) for shard in self.shards], dtype=np.int64)
        object.__setattr__(self, "ends", ends.tolist())

    def __len__(self) -> int:
        return max(0, (self.ends[-1] - 1) // self.seq_len) if self.ends else 0

    def read(self, windows: Ints, out: npt.NDArray[np.int64], rows: Ints) -> None:
        """Copies windows into ``out[rows]`` [., T + 1]."""
        length = self.seq_len + 1
        for row, window in zip(rows.tolist(), windows.tolist(), strict=True):
            start = window * self.seq_len
            shard, filled = bisect_right(self.ends, start), 0
            while filled < length:  # once, but for a window that goes on in the next shard
                tokens = self.shards[shard]
                begin = start + filled - (self.ends[shard] - len(tokens))
                part = tokens[begin : begin + length - filled]
                out[row, filled : filled + len(part)] = part
                filled += len(part)
                shard += 1


@dataclass(frozen=True)
class Mixture:
    """The sequence of batches of a run. ``seed`` orders the data and nothing else."""

    windows: Mapping[str, Windows]
    shares: tuple[Share, ...]
    seq_len: int
    batch_size: int
    seed: int
    _times: Words = field(init=False, repr=False)
    """The key of each domain's times in the run."""

    def __post_init__(self) -> None:
        times = [keys("times", self.seed, share.domain)[0] for share in self.shares]
        object.__setattr__(self, "_times", np.array(times, dtype=np.uint64))

    @property
    def instances(self) -> int:
        """Number of instances of the whole run."""
        return sum(share.drawn for share in self.shares)

    def weights(self) -> dict[str, float]:
        """The realised weight of each domain."""
        return {share.domain: share.drawn / self.instances for share in self.shares}

    def draws(self, step: int, rank: int = 0, world: int = 1) -> tuple[Ints, Ints, Ints]:
        """(share, epoch, window) of each row of batch ``step``, or of the rank's part of it."""
        rows, rest = divmod(self.batch_size, world)
        if rest:
            raise UserError(
                f"train.batch_size {self.batch_size} cannot be split over {world} ranks; make it "
                f"a multiple of {world}"
            )
        first = step * self.batch_size + rank * rows
        if not 0 <= first <= self.instances - rows:
            raise ValueError(f"step {step} is outside the run of {self.instances} instances")
        share, draw = self._slots(first, first + rows)
        available = np.array([share.available for share in self.shares])
        epoch, position = np.divmod(draw, available[share])
        window = np.empty_like(draw)
        for i, e in set(zip(share.tolist(), epoch.tolist(), strict=True)):
            order = keys("windows", self.seed, self.shares[i].domain, e)
            chosen = (share == i) & (epoch == e)
            window[chosen] = Permutation(self.shares[i].available, order)(position[chosen])
        return share, epoch, window

    def _slots(self, first: int, last: int) -> tuple[Ints, Ints]:
        """(share, draw) of the instances ``first`` to ``last`` of the run, in order of time.

        The j-th of a domain's n draws falls at time (j + u) / n, with u in [0, 1) a function of
        seed, domain and j. Before time t, a domain has given n t draws within one; all D domains
        have given N t within D. So the draws that can be among the instances asked for are known
        without going through the run: those from D before to D after.
        """
        drawn = np.array([share.drawn for share in self.shares])
        total, margin = drawn.sum(), len(drawn) + 2  # 2 more than needed, for rounding
        start = np.floor(drawn * ((first - margin) / total)).clip(0, drawn).astype(np.int64)
        stop = np.ceil(drawn * ((last + margin) / total) + 1).clip(0, drawn).astype(np.int64)
        counts = stop - start
        share = np.repeat(np.arange(len(drawn)), counts)
        draw = np.arange(counts.sum()) + np.repeat(start - np.cumsum(counts) + counts, counts)
        times = (draw + uniform(draw, self._times[share])) / drawn[share]
        # All draws before `start` are earlier, so the k-th in order is instance sum(start) + k.
        chosen = np.argsort(times, kind="stable")[first - start.sum() : last - start.sum()]
        return share[chosen], draw[chosen]

    def batch(self, step: int, rank: int = 0, world: int = 1) -> npt.NDArray[np.int64]:
        """Tokens [batch_size / world, T + 1] of step ``step`` (from 0): inputs and, shifted,
        targets. The ranks' parts, one after the other, are the batch of one rank alone.
        """
        share, _, window = self.draws(step, rank, world)
        out = np.empty((len(share), self.seq_len + 1), dtype=np.int64)
        for i in np.unique(share):
            rows = np.flatnonzero(share == i)
            self.windows[self.shares[i].domain].read(window[rows], out, rows)
        return out
