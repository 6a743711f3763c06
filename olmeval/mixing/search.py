"""Optima of families that are not convex, by a search that stays where the swarm has been.

A flexible family can promise anything beyond its rows, and an optimum is where its errors are most
in its favour. So candidates keep a distance to the nearest row that rows themselves have, and
what is minimised is the upper end of the interval, which widens with that distance.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from olmeval.mixing.problem import Constraints
from olmeval.mixing.regressors.base import hellinger, replicate_groups

Array = NDArray[np.float64]
ROUNDS = 12
CANDIDATES = 1500
ELITE = 24
REACH = 0.9
"""A candidate is at most as far from a row as this quantile of rows from their nearest."""


def search(
    score: Callable[[Array], Array],
    rows: Array,
    constraints: Constraints,
    starts: Array,
    seed: int = 0,
) -> Array:
    """The mixture (m,) of least ``score`` (k,) that obeys and lies amid the ``rows`` (K, m).

    Evolution with shrinking steps: Dirichlet draws and crossings around the best so far, from the
    rows and ``starts`` (s, m), each moved to the nearest mixture that obeys. Reproducible by seed.
    """
    constraints.check()
    rng = np.random.default_rng(seed)
    reach = _reach(rows)
    pool = obey(np.concatenate([starts, rows, _crossings(rows, 4 * len(rows), rng)]), constraints)
    # What obeys may all lie far out: then the nearest there is must do.
    reach = max(reach, float(hellinger(pool, rows).min(axis=1).min()) + 1e-9)
    best, value = pool[:0], np.empty(0)
    for round_ in range(ROUNDS):
        near = hellinger(pool, rows).min(axis=1) <= reach
        pool = pool[near]
        best = np.concatenate([best, pool])
        value = np.concatenate([value, score(pool)]) if len(pool) else value
        order = np.argsort(value, kind="stable")[:ELITE]
        best, value = best[order], value[order]
        pool = obey(_offspring(best, 20.0 * 2.0**round_, rng), constraints)
    found: Array = best[0]
    return found


def _reach(rows: Array) -> float:
    among = hellinger(rows, rows)
    groups = replicate_groups(rows)
    among[groups[:, None] == groups] = np.inf
    return float(np.quantile(among.min(axis=1), REACH))


def _crossings(rows: Array, count: int, rng: np.random.Generator) -> Array:
    a, b = rng.integers(0, len(rows), (2, count))
    t = rng.uniform(0, 1, (count, 1))
    crossed: Array = t * rows[a] + (1 - t) * rows[b]
    return crossed


def _offspring(parents: Array, strength: float, rng: np.random.Generator) -> Array:
    chosen = parents[rng.integers(0, len(parents), CANDIDATES // 2)]
    drawn = rng.standard_gamma(strength * chosen + 1e-3)
    drawn /= drawn.sum(axis=1, keepdims=True)
    return np.concatenate([drawn, _crossings(parents, CANDIDATES // 2, rng)])


def obey(X: Array, constraints: Constraints, rounds: int = 50) -> Array:
    """Mixtures near ``X`` (k, m) that obey, without those for which none is found.

    Between the ends of shares: x -> clip(c x), c by bisection so that they add up to 1, which is
    the nearest in relative entropy (Cover and Thomas, section 11.6). Groups' sums are scaled into
    their ends in turn with it.
    """
    lower, upper = constraints.minimum, constraints.upper
    rows, low, high = constraints.membership()
    X = _clip_to_sum(X, lower, upper)
    if len(rows):
        for _ in range(rounds):
            for row, least, most in zip(rows, low, high, strict=True):
                total = X @ row
                wanted = np.clip(total, least, most)
                inside = np.divide(wanted, total, out=np.ones_like(total), where=total > 0)
                outside = np.divide(1 - wanted, 1 - total, out=np.ones_like(total), where=total < 1)
                X = X * np.where(row > 0, inside[:, None], outside[:, None])
            X = _clip_to_sum(X, lower, upper)
        sums = X @ rows.T
        X = X[((sums >= low - 1e-9) & (sums <= high + 1e-9)).all(axis=1)]
    return X


def _clip_to_sum(X: Array, lower: Array, upper: Array) -> Array:
    """Shares of 0 stay 0, unless the others cannot fill the mixture."""
    most = np.where(X > 0, upper, lower).sum(axis=1, keepdims=True)
    X = np.where(most < 1, np.maximum(X, 1e-12), X)
    small, large = np.full(len(X), -60.0), np.full(len(X), 60.0)
    for _ in range(100):
        middle = (small + large) / 2
        too_much = np.clip(np.exp(middle)[:, None] * X, lower, upper).sum(axis=1) > 1
        large, small = np.where(too_much, middle, large), np.where(too_much, small, middle)
    clipped = np.clip(np.exp(small)[:, None] * X, lower, upper)
    scaled: Array = clipped / clipped.sum(axis=1, keepdims=True)
    return scaled
