"""What a run sees, and in which order: a mixture of domains, sampled without replacement.

A training instance is a window of T + 1 tokens; windows start every T tokens, so each token of a
shard (but the tail) is predicted once an epoch. The mixture fixes how many instances each domain
gives. Two keyed permutations do the rest: one spreads the domains over the run's slots, one orders
each domain's windows. The latter depends on the seed, the domain and the epoch alone. So

* ``batch(step)`` is a pure function: resuming needs the step, and any number of readers agree;
* runs with one seed and different mixtures draw nested sets from each domain, and differ by the
  mixture instead of by luck (common random numbers);
* a domain's share is a random sample of it, not its first shards.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from olmeval.errors import UserError, nearest
from olmeval.trainer.permutation import Ints, Permutation, keys


@dataclass(frozen=True)
class Share:
    """One domain's part in a run, in instances. ``weight`` is what was asked for."""

    domain: str
    weight: float
    available: int
    drawn: int

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
                f"domain '{name}' has no shard as long as one training window; lower train.seq_len "
                "or take the domain out of the mixture"
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
        Share(name, float(weights[name]), available[name], int(n))
        for name, n in zip(names, drawn, strict=True)
    )


@dataclass(frozen=True)
class Windows:
    """The training windows of one domain's shards (flat token arrays)."""

    shards: Sequence[npt.NDArray[Any]]
    seq_len: int
    ends: Ints = field(init=False)

    def __post_init__(self) -> None:
        counts = [max(0, (len(shard) - 1) // self.seq_len) for shard in self.shards]
        object.__setattr__(self, "ends", np.cumsum(counts, dtype=np.int64))

    def __len__(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    def read(self, windows: Ints, out: npt.NDArray[np.int64], rows: Ints) -> None:
        """Copies windows into ``out[rows]`` [., T + 1]: one gather for each shard touched."""
        shard_of = np.searchsorted(self.ends, windows, side="right")
        offsets = np.arange(self.seq_len + 1)
        for shard in np.unique(shard_of):
            chosen = shard_of == shard
            before = self.ends[shard - 1] if shard else 0
            starts = (windows[chosen] - before) * self.seq_len
            out[rows[chosen]] = self.shards[shard][starts[:, None] + offsets]


@dataclass(frozen=True)
class Mixture:
    """The sequence of batches of a run. ``seed`` orders the data and nothing else."""

    windows: Mapping[str, Windows]
    shares: tuple[Share, ...]
    seq_len: int
    batch_size: int
    seed: int

    @property
    def instances(self) -> int:
        """Number of instances of the whole run."""
        return sum(share.drawn for share in self.shares)

    def weights(self) -> dict[str, float]:
        """The realised weight of each domain."""
        return {share.domain: share.drawn / self.instances for share in self.shares}

    def draws(self, step: int) -> tuple[Ints, Ints, Ints]:
        """(share, epoch, window) of each row of batch ``step``, [batch_size] each."""
        slots = np.arange(step * self.batch_size, (step + 1) * self.batch_size)
        place = Permutation(self.instances, keys("slots", self.seed, self.instances))(slots)
        ends = np.cumsum([share.drawn for share in self.shares])
        share = np.searchsorted(ends, place, side="right")
        draw = place - np.concatenate([[0], ends])[share]
        epoch, window = np.empty_like(draw), np.empty_like(draw)
        for i in np.unique(share):
            domain, size = self.shares[i].domain, self.shares[i].available
            rows = share == i
            epoch[rows], position = np.divmod(draw[rows], size)
            for e in np.unique(epoch[rows]):
                order = Permutation(size, keys("windows", self.seed, domain, int(e)))
                within = np.flatnonzero(rows)[epoch[rows] == e]
                window[within] = order(position[epoch[rows] == e])
        return share, epoch, window

    def batch(self, step: int) -> npt.NDArray[np.int64]:
        """Tokens [batch_size, T + 1] of step ``step`` (from 0): inputs and, shifted, targets."""
        share, _, window = self.draws(step)
        out = np.empty((self.batch_size, self.seq_len + 1), dtype=np.int64)
        for i in np.unique(share):
            rows = np.flatnonzero(share == i)
            self.windows[self.shares[i].domain].read(window[rows], out, rows)
        return out
