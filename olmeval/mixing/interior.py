"""Convex minimisation over mixtures, exactly and many problems at once.

A primal-dual interior-point method (Boyd and Vandenberghe 2004, "Convex Optimization", section
11.7) with Mehrotra's slacks, for a smooth convex function on the simplex with a lower and an upper
end for every share and for sums over groups of shares. Problems of a batch share domains and
groups; functions and ends differ. Duals come with the solution: what each end costs.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Oracle = Callable[[Array], tuple[Array, Array, Array]]
"""Mixtures (B, m), one of each problem -> values (B,), gradients (B, m), Hessians (B, m, m)."""
TOLERANCE = 1e-8
MAX_ITERATIONS = 100
STARTS = ((0.01, 1e-4), (0.01, 0.0), (0.1, 0.0), (1e-3, 1e-6))
"""Products of slacks and prices to begin with, in units of the gradient, and the slack below which
prices rise no further. The later ones are for the few problems that the first does not solve."""


@dataclass(frozen=True)
class Solution:
    """Optima of a batch.

    ``x`` (B, m). ``value`` (B,). ``price_lower``, ``price_upper`` (B, m): by how much the value
    would fall for each unit that the end of a share is moved outwards, to first order;
    ``price_groups`` (B, 2 g) the same of groups' lower, then upper ends. ``gap`` (B,): bound on how
    far the value is from the least.
    """

    x: Array
    value: Array
    price_lower: Array
    price_upper: Array
    price_groups: Array
    gap: Array
    converged: NDArray[np.bool_]


def minimise(
    oracle: Oracle,
    lower: Array,
    upper: Array,
    groups: Array | None = None,
    group_ends: tuple[Array, Array] | None = None,
    total: float = 1.0,
) -> Solution:
    """Minimises over shares x >= 0 with sum ``total`` and ``lower`` <= x <= ``upper``, (B, m).

    ``groups`` (g, m) of zeros and ones with ``group_ends``, two of (B, g), bound sums of shares.
    The problem must be feasible: see :mod:`olmeval.mixing.problem`.
    """
    m = lower.shape[1]
    groups = np.zeros((0, m)) if groups is None else groups
    batch = len(lower)
    low, high = group_ends if group_ends else (np.zeros((batch, 0)), np.zeros((batch, 0)))
    # Rows of C x <= d: lower ends, upper ends, groups' lower ends, groups' upper ends.
    C = np.concatenate([-np.eye(m), np.eye(m), -groups, groups])
    d = np.concatenate([-lower, upper, -low, high], axis=1)
    x = _inside(lower, upper, total)
    best = _solved(_State(oracle, C, d, total, x, STARTS[0]))
    for start in STARTS[1:]:
        if best.done.all():
            break
        again = _solved(_State(oracle, C, d, total, x, start))
        best.take(again, ~best.done & (again.done | (again.merit() < best.merit())))
    z = best.z
    return Solution(
        x=np.clip(best.x, lower, upper),
        value=best.f,
        price_lower=z[:, :m],
        price_upper=z[:, m : 2 * m],
        price_groups=z[:, 2 * m :],
        gap=(z * best.s).sum(axis=1),
        converged=best.done,
    )


def _solved(state: "_State") -> "_State":
    for _ in range(MAX_ITERATIONS):
        if state.done.all():
            break
        state.step()
    return state


def _inside(lower: Array, upper: Array, total: float) -> Array:
    """Points strictly between the ends that add up to ``total``."""
    room = (upper - lower).sum(axis=1, keepdims=True)
    inside: Array = lower + (upper - lower) * (total - lower.sum(axis=1, keepdims=True)) / room
    return inside


class _State:
    """The iterate of every problem: shares x, slacks s, prices z, price of the sum nu."""

    def __init__(
        self, oracle: Oracle, C: Array, d: Array, total: float, x: Array, start: tuple[float, float]
    ):
        self.oracle, self.C, self.d, self.total, self.x = oracle, C, d, total, x
        # Shares begin between their ends, and their slacks say so exactly: with larger ones a share
        # next to its end reaches 0 long before its slack does, and every step from there is 0.
        self.s = d - x @ C.T
        sums = slice(2 * x.shape[1], None)
        self.s[:, sums] = np.maximum(self.s[:, sums], 1e-2)
        self.f, self.g, self.H = oracle(x)
        scale = np.abs(self.g).max(axis=1, keepdims=True) + 1e-3
        product, least = start
        self.z = scale * product / np.maximum(self.s, least)
        self.nu = -self.g.mean(axis=1)
        self.scale = scale[:, 0]
        self.done = np.zeros(len(x), np.bool_)

    def take(self, other: "_State", which: NDArray[np.bool_]) -> None:
        """The other's iterates of some problems."""
        for name in ("x", "s", "z", "nu", "f", "g", "H", "done"):
            getattr(self, name)[which] = getattr(other, name)[which]

    def residuals(self) -> tuple[Array, Array, Array]:
        dual = self.g + self.z @ self.C + self.nu[:, None]
        return dual, self.x.sum(axis=1) - self.total, self.x @ self.C.T + self.s - self.d

    def step(self) -> None:
        dual, total, bound = self.residuals()
        gap = (self.s * self.z).mean(axis=1)
        worst = np.maximum(np.abs(total), np.abs(bound).max(axis=1))
        self.done |= (
            (np.abs(dual).max(axis=1) < 10 * TOLERANCE * self.scale)
            & (worst < TOLERANCE)
            & (gap * self.s.shape[1] < TOLERANCE * self.scale)
        )
        if self.done.all():
            return
        m = self.x.shape[1]
        ratio = self.z / self.s
        K = np.zeros((len(self.x), m + 1, m + 1))
        K[:, :m, :m] = self.H + self.C.T @ (ratio[:, :, None] * self.C)
        K[:, :m, m] = K[:, m, :m] = 1
        # A direction along which nothing bends, as with a line: any step will do, take none.
        K[:, np.arange(m), np.arange(m)] += 1e-13 * (1 + np.trace(K, axis1=1, axis2=2))[:, None]
        inverse = np.linalg.inv(K)

        def direction(complement: Array) -> tuple[Array, Array, Array, Array]:
            side = dual + ((self.z * bound - complement) / self.s) @ self.C
            right = -np.concatenate([side, total[:, None]], axis=1)
            solved = (inverse @ right[:, :, None])[:, :, 0]
            # One refinement: K is ill-conditioned close to the end.
            solved += (inverse @ (right[:, :, None] - K @ solved[:, :, None]))[:, :, 0]
            dx, dnu = solved[:, :m], solved[:, m]
            ds = -bound - dx @ self.C.T
            return dx, dnu, ds, -(complement + self.z * ds) / self.s

        # Predictor: how much of the gap can go. Corrector: aim there, second order included.
        _, _, ds, dz = direction(self.s * self.z)
        reach = np.minimum(_reach(self.s, ds), _reach(self.z, dz))[:, None]
        left = ((self.s + reach * ds) * (self.z + reach * dz)).mean(axis=1)
        # Products far below the tolerance gain nothing and spoil the arithmetic.
        least = 0.01 * TOLERANCE * self.scale / self.s.shape[1]
        aim = np.maximum((left / gap) ** 3 * gap, least)
        dx, dnu, ds, dz = direction(self.s * self.z + ds * dz - aim[:, None])
        size = 0.995 * np.minimum(_reach(self.s, ds), _reach(self.z, dz))
        self._move(dx, dnu, ds, dz, np.where(self.done, 0.0, size))

    def _move(self, dx: Array, dnu: Array, ds: Array, dz: Array, size: Array) -> None:
        """Goes as far as shares stay positive, and halves where the residual would explode."""
        size = np.minimum(size, 0.995 * _reach(self.x, dx))
        before = self.merit()
        old = self.x, self.s, self.z, self.nu
        for _ in range(25):
            step = size[:, None]
            self.x, self.s = old[0] + step * dx, old[1] + step * ds
            self.z, self.nu = old[2] + step * dz, old[3] + size * dnu
            self.f, self.g, self.H = self.oracle(self.x)
            worse = ~(self.merit() <= 2.0 * before + TOLERANCE) & (size > 0)
            if not worse.any():
                return
            size = np.where(worse, size / 2, size)

    def merit(self) -> Array:
        """How far (B,) each iterate is from an optimum: sum of residuals and gap."""
        dual, total, bound = self.residuals()
        gap = (self.s * self.z).sum(axis=1)
        merit: Array = (
            np.abs(dual).max(axis=1) / self.scale
            + np.abs(total)
            + np.abs(bound).max(axis=1)
            + gap / self.scale
        )
        return merit


def _reach(value: Array, change: Array) -> Array:
    """Largest step (B,), at most 1, that keeps ``value`` from turning negative."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(change < 0, -value / change, np.inf)
    reach: Array = np.minimum(1.0, ratio.min(axis=1))
    return reach


def with_kl(oracle: Oracle, prior: Array, strength: Array) -> Oracle:
    """Adds strength (B,) times KL(x || prior) = sum x log(x / prior), in nats."""
    log_prior, diagonal = np.log(prior), np.arange(prior.shape[-1])

    def penalised(x: Array) -> tuple[Array, Array, Array]:
        f, g, H = oracle(x)
        with np.errstate(divide="ignore", invalid="ignore"):
            log_ratio = np.log(x) - log_prior
            bend = strength[:, None] / x
            slope = np.where(strength[:, None] > 0, strength[:, None] * (log_ratio + 1), 0.0)
        H = H.copy()
        H[:, diagonal, diagonal] += np.where(strength[:, None] > 0, bend, 0.0)
        divergence = np.where(x > 0, x * np.where(x > 0, log_ratio, 0.0), 0.0).sum(axis=1)
        return f + strength * divergence, g + slope, H

    return penalised
