"""Optima of convex objectives under constraints: one problem, or many at once."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from olmeval.mixing.interior import Oracle, minimise, with_kl
from olmeval.mixing.problem import Constraints

Array = NDArray[np.float64]
PINNED = 1e-10
"""Ends closer than this leave a share no choice."""


@dataclass(frozen=True)
class Optimum:
    """``x`` (m,), the objective there with its penalty, and what the ends cost.

    ``price_lower``, ``price_upper`` (m,), ``price_groups`` (2 g,): by how much the objective would
    fall per unit of share that the end is moved outwards. Pinned shares have no price (nan).
    """

    x: Array
    value: float
    price_lower: Array
    price_upper: Array
    price_groups: Array
    gap: float
    converged: bool


def optima(
    oracle: Oracle,
    constraints: Sequence[Constraints],
    prior: Array | None = None,
    kl: Array | float = 0.0,
) -> list[Optimum]:
    """Minimises ``oracle`` + kl KL(x || prior), problem b under ``constraints[b]``.

    All constraints have the same domains and groups. Domains that the prior gives nothing have no
    share where ``kl`` > 0. Raises :class:`InfeasibleError` when a problem has no solution.
    """
    batch = len(constraints)
    strength = np.broadcast_to(np.asarray(kl, np.float64), (batch,))
    lower = np.stack([c.minimum for c in constraints])
    upper = np.stack([c.upper for c in constraints])
    for one in constraints:
        one.check()
    upper = np.maximum(upper, lower)
    if prior is not None:
        none = (prior <= 0) & (strength > 0)[:, None] & (lower <= 0)
        upper = np.where(none, 0.0, upper)
        prior = np.where(prior > 0, prior, 1e-12)
    # Where the lower ends fill the mixture, nothing has a choice.
    upper = np.where(lower.sum(axis=1, keepdims=True) >= 1 - 1e-9, lower, upper)
    pinned = upper - lower < PINNED
    results: list[Optimum | None] = [None] * batch
    # Problems that leave the same shares free are one batch.
    _, pattern = np.unique(pinned, axis=0, return_inverse=True)
    rows, low, high = (np.stack(part) for part in zip(*_groups(constraints), strict=True))
    for number in range(int(pattern.max()) + 1):
        places = np.flatnonzero(pattern.reshape(-1) == number)
        full = oracle if prior is None else with_kl(oracle, prior, strength)
        _solve(full, places, pinned[places[0]], lower, upper, (rows[0], low, high), results)
    return [result for result in results if result is not None]


def _groups(constraints: Sequence[Constraints]) -> list[tuple[Array, Array, Array]]:
    return [one.membership() for one in constraints]


def _solve(
    oracle: Oracle,
    places: NDArray[np.int64],
    pinned: NDArray[np.bool_],
    lower: Array,
    upper: Array,
    groups: tuple[Array, Array, Array],
    results: list[Optimum | None],
) -> None:
    """Solves the problems at ``places``, which have the same free shares."""
    m = lower.shape[1]
    free = np.flatnonzero(~pinned)
    whole = np.clip(lower, 0, 1).copy()
    rows, low, high = groups

    def embed(part: Array) -> Array:
        x = whole.copy()
        x[np.ix_(places, free)] = part
        return x

    def restricted(part: Array) -> tuple[Array, Array, Array]:
        f, g, H = oracle(embed(part))
        return f[places], g[np.ix_(places, free)], H[np.ix_(places, free, free)]

    fixed = whole[np.ix_(places, np.flatnonzero(pinned))].sum(axis=1)
    ends = lower[np.ix_(places, free)], upper[np.ix_(places, free)]
    prices = np.full((len(places), m), np.nan), np.full((len(places), m), np.nan)
    group_prices = np.full((len(places), 2 * len(rows)), np.nan)
    slack = ends[1].sum(axis=1) - (1 - fixed)
    gap, converged = np.zeros(len(places)), np.ones(len(places), np.bool_)
    if len(free) and (slack > 1e-9).all() and np.ptp(fixed) < 1e-12:
        taken = whole[places] * pinned
        solution = minimise(
            restricted,
            *ends,
            groups=rows[:, free],
            # Ends that meet leave no inside; a hair's breadth does.
            group_ends=(low[places] - taken @ rows.T - 1e-9, high[places] - taken @ rows.T + 1e-9),
            total=float(1 - fixed[0]),
        )
        x = embed(solution.x)
        prices[0][:, free], prices[1][:, free] = solution.price_lower, solution.price_upper
        group_prices, gap, converged = solution.price_groups, solution.gap, solution.converged
    elif len(places) > 1:
        for place in places:
            _solve(oracle, np.array([place]), pinned, lower, upper, groups, results)
        return
    else:
        # The upper ends add up to what is left: there is one mixture only.
        x = embed(ends[1])
    values = oracle(x)[0]
    for k, place in enumerate(places):
        results[place] = Optimum(
            x=x[place] / x[place].sum(),
            value=float(values[place]),
            price_lower=prices[0][k],
            price_upper=prices[1][k],
            price_groups=group_prices[k],
            gap=float(gap[k]),
            converged=bool(converged[k]),
        )
