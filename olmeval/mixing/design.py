"""What a set of mixtures can tell: rank, condition, domains never sampled, rows to parameters."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from olmeval.mixing.regressors.base import hellinger, replicate_groups

Array = NDArray[np.float64]
ROWS_PER_PARAMETER = 3
"""Errors fall to a knee at three mixtures a parameter (Olmix, arXiv:2602.12237, research question
2; the RegMix swarm shows the same)."""


@dataclass(frozen=True)
class Design:
    """The rows of a swarm as a design for m domains.

    ``distinct``: different mixtures. ``rank``, ``condition``: of the shares, m at best; a condition
    number over 1,000 means that some domains' effects cannot be told apart. ``never``: domains with
    no share anywhere. ``advised``: rows that a law with m + 1 parameters should have. ``effect``:
    for every domain the standard error of its linear effect in units of the noise of one run;
    infinite where nothing is known.
    """

    rows: int
    distinct: int
    domains: int
    rank: int
    condition: float
    never: tuple[str, ...]
    advised: int
    effect: tuple[float, ...]
    largest: tuple[float, ...]

    def warnings(self) -> list[str]:
        """What a reader must know, one sentence each."""
        found = []
        if self.never:
            found.append(
                f"never sampled: {', '.join(self.never)}; nothing is known of their effects"
            )
        if self.rank < self.domains - len(self.never):
            found.append(
                f"the mixtures span {self.rank} of {self.domains} dimensions; effects of some "
                "domains cannot be told apart"
            )
        if self.distinct <= self.domains:
            found.append(
                f"{self.distinct} different mixtures cannot determine {self.domains + 1} "
                f"parameters a target; run at least {self.advised}"
            )
        elif self.distinct < self.advised:
            found.append(
                f"{self.distinct} different mixtures for {self.domains} domains are fewer than "
                f"the {self.advised} advised, three a parameter"
            )
        return found


def assess(X: Array, domains: tuple[str, ...]) -> Design:
    """Describes mixtures (K, m) as a design."""
    m = X.shape[1]
    values = np.linalg.svd(X, compute_uv=False)
    tolerance = values[0] * max(X.shape) * np.finfo(np.float64).eps
    rank = int((values > tolerance).sum())
    condition = float(values[0] / values[-1]) if rank == m and len(values) == m else float("inf")
    return Design(
        rows=len(X),
        distinct=int(replicate_groups(X).max()) + 1,
        domains=m,
        rank=rank,
        condition=condition,
        never=tuple(d for d, top in zip(domains, X.max(axis=0), strict=True) if top <= 0),
        advised=ROWS_PER_PARAMETER * (m + 1),
        effect=tuple(_effect_errors(X)),
        largest=tuple(X.max(axis=0).tolist()),
    )


def _effect_errors(X: Array) -> list[float]:
    """Standard error of each domain's coefficient in y = sum b_i x_i, for noise of variance 1."""
    _, s, Vt = np.linalg.svd(X, full_matrices=False)
    known = s > s[0] * max(X.shape) * np.finfo(np.float64).eps
    variance = (Vt[known] ** 2 / s[known, None] ** 2).sum(axis=0)
    # A domain with a part in directions without data has no estimate.
    lost = 1 - (Vt[known] ** 2).sum(axis=0)
    errors: list[float] = np.where(lost > 1e-9, np.inf, np.sqrt(variance)).tolist()
    return errors


def noise_floor(X: Array, Y: Array) -> tuple[Array, int]:
    """Standard deviation (n,) of repeated runs of one mixture, pooled, and its degrees of freedom.

    nan, 0 without replicates.
    """
    groups = replicate_groups(X)
    counts = np.bincount(groups)
    freedom = int((counts - 1).sum())
    if freedom == 0:
        return np.full(Y.shape[1], np.nan), 0
    means = np.stack([np.bincount(groups, y) / counts for y in Y.T], axis=1)
    floor: Array = np.sqrt(((Y - means[groups]) ** 2).sum(axis=0) / freedom)
    return floor, freedom


def nearest_distance(X: Array, rows: Array) -> Array:
    """Hellinger distance (k,) of each mixture to the nearest row."""
    distance: Array = hellinger(X, rows).min(axis=1)
    return distance


def extrapolation(x: Array, rows: Array, domains: tuple[str, ...]) -> list[str]:
    """Where a mixture (m,) leaves the rows (K, m) behind, one sentence each."""
    found = []
    among = hellinger(rows, rows)
    among[np.eye(len(rows), dtype=bool)] = np.inf
    usual = float(np.quantile(among.min(axis=1), 0.95))
    distance = float(nearest_distance(x[None], rows)[0])
    if distance > usual:
        found.append(
            f"the mixture lies {distance:.2f} from the nearest run, farther than 95 % of runs from "
            f"theirs ({usual:.2f}): the prediction is an extrapolation"
        )
    largest = rows.max(axis=0)
    for domain, share, top in zip(domains, x, largest, strict=True):
        if top <= 0 < share:
            found.append(
                f"'{domain}' has {share:.3f} by the prior alone; no run of the swarm has any"
            )
        elif share > top + 1e-6:
            found.append(f"'{domain}' has {share:.3f}, more than in any run ({top:.3f})")
    return found
