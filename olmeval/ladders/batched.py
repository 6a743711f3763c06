"""Least squares for thousands of small fits at once: starts, tasks and resamples are one batch.

Levenberg-Marquardt with analytic gradients and box bounds. Every member of the batch has its own
damping and stops on its own; a member alone and in a batch takes the same steps. Box bounds by
projection: a parameter at its bound whose gradient points outwards is left out of the step
(Kanzow, Yamashita and Fukushima 2004, "Levenberg-Marquardt methods with strong local convergence
properties for solving nonlinear equations with convex constraints").
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from olmeval.ladders.laws import Array, Law

Index = NDArray[Any]
GRADIENT_TOLERANCE = 1e-8
STEP_TOLERANCE = 1e-10
MAX_DAMPING = 1e12
CHUNK = 1 << 17


@dataclass(frozen=True)
class BatchFit:
    """What became of every member: parameters [..., P], cost [...], converged [...], steps [...].

    ``cost`` is half the weighted mean of squared residuals (where ``delta`` was given, of twice
    their Huber loss), and the prior's share.
    """

    theta: Array
    cost: Array
    converged: NDArray[Any]
    steps: NDArray[Any]


def least_squares(
    law: Law,
    x: tuple[Array, ...],
    y: Array,
    starts: Array,
    *,
    weights: Array | None = None,
    lower: Array | None = None,
    upper: Array | None = None,
    log: bool = False,
    delta: float | None = None,
    prior: tuple[Array, Array] | None = None,
    max_steps: int = 100,
) -> BatchFit:
    """Fits ``law`` to ``y`` [..., n] at ``x`` (each [..., n]) from ``starts`` [..., P].

    All arrays broadcast over the batch. ``weights`` [..., n] say how much a point counts (they are
    divided by their sum). ``log``: residuals are of logarithms. ``delta``: Huber's, in units of the
    residual; reweighted at every step. ``prior`` (mean [P], sd [P]): a penalty of half the squared
    distance in sds, over the weighted mean; infinite sd: none. Bounds default to the law's.
    """
    low = np.asarray(law.lower if lower is None else lower, np.float64)
    high = np.asarray(law.upper if upper is None else upper, np.float64)
    batch = np.broadcast_shapes(
        starts.shape[:-1], y.shape[:-1], *(a.shape[:-1] for a in x),
        () if weights is None else weights.shape[:-1],
    )  # fmt: skip
    n, p = y.shape[-1], starts.shape[-1]

    def flat(a: Array, last: int) -> Array:
        return np.broadcast_to(a, (*batch, last)).reshape(-1, last)

    w = np.ones(n) if weights is None else weights
    w = flat(w / w.sum(axis=-1, keepdims=True), n)
    theta = np.clip(flat(np.asarray(starts, np.float64), p), low, high).copy()
    low, high = np.broadcast_to(low, theta.shape), np.broadcast_to(high, theta.shape)
    target = np.log(y) if log else y
    flat_x, flat_y = tuple(flat(a, n) for a in x), flat(target, n)
    parts = []
    # Working arrays that stay in the processor's cache are worth more than long vectors.
    for first in range(0, len(theta), max(1, CHUNK // (n * p))):
        at = slice(first, first + max(1, CHUNK // (n * p)))
        problem = _Problem(law, tuple(a[at] for a in flat_x), flat_y[at], w[at], log, delta, prior)
        parts.append(_solve(problem, theta[at], low[at], high[at], max_steps))
    return BatchFit(
        np.concatenate([part.theta for part in parts]).reshape(*batch, p),
        *(
            np.concatenate([getattr(part, name) for part in parts]).reshape(batch)
            for name in ("cost", "converged", "steps")
        ),
    )


@dataclass(frozen=True)
class _Problem:
    law: Law
    x: tuple[Array, ...]
    y: Array
    w: Array
    log: bool
    delta: float | None
    prior: tuple[Array, Array] | None

    def residuals(self, theta: Array, at: Index, slopes: bool) -> tuple[Array, Array | None]:
        value, gradient = self.law.evaluate(theta, *(a[at] for a in self.x))
        if not self.log:
            return value - self.y[at], gradient if slopes else None
        value = np.maximum(value, 1e-12)
        return np.log(value) - self.y[at], gradient / value[..., None] if slopes else None

    def cost(self, theta: Array, r: Array, at: Index) -> Array:
        size = np.abs(r)
        loss = r**2
        if self.delta is not None:
            loss = np.where(size < self.delta, loss, self.delta * (2 * size - self.delta))
        cost = 0.5 * (self.w[at] * loss).sum(axis=-1)
        if self.prior is not None:
            cost = cost + 0.5 * (((theta - self.prior[0]) / self.prior[1]) ** 2).sum(axis=-1)
        return np.asarray(np.where(np.isfinite(cost), cost, np.inf))

    def normal(self, theta: Array, r: Array, j: Array, at: Index) -> tuple[Array, Array]:
        """Gauss-Newton matrix [m, P, P] and gradient [m, P]."""
        w = self.w[at]
        if self.delta is not None:
            w = w * np.minimum(1.0, self.delta / np.maximum(np.abs(r), 1e-300))
        weighted = j * w[..., None]
        hessian = np.matmul(weighted.transpose(0, 2, 1), j)
        gradient = np.matmul(r[:, None, :], weighted)[:, 0]
        if self.prior is not None:
            mean, sd = self.prior
            hessian = hessian + np.diag(sd**-2.0)
            gradient = gradient + (theta - mean) / sd**2
        return hessian, gradient


def _solve(problem: _Problem, theta: Array, low: Array, high: Array, max_steps: int) -> BatchFit:
    members, p = theta.shape
    damping = np.full(members, 1e-2)
    converged = np.zeros(members, bool)
    steps = np.zeros(members, np.int64)
    r, j = problem.residuals(theta, np.arange(members), True)
    assert j is not None
    cost = problem.cost(theta, r, np.arange(members))
    active = np.arange(members)
    for _ in range(max_steps):
        if not len(active):
            break
        t, a_low, a_high = theta[active], low[active], high[active]
        hessian, gradient = problem.normal(t, r, j, active)
        fixed = ((t <= a_low) & (gradient > 0)) | ((t >= a_high) & (gradient < 0))
        free_gradient = np.where(fixed, 0.0, gradient)
        scale = np.einsum("mii->mi", hessian)
        scale = np.maximum(scale, 1e-12 * scale.max(axis=-1, keepdims=True) + 1e-30)
        # A fixed parameter's row and column become those of the identity: its step is zero.
        open_ = ~fixed
        matrix = hessian * (open_[:, :, None] & open_[:, None, :])
        diagonal = np.where(fixed, 1.0, scale * damping[active, None])
        matrix = matrix + np.eye(p) * diagonal[:, None, :]
        step = np.linalg.solve(matrix, -free_gradient[..., None])[..., 0]
        new = np.clip(t + step, a_low, a_high)
        new_r, new_j = problem.residuals(new, active, True)
        assert new_j is not None
        new_cost = problem.cost(new, new_r, active)
        better = new_cost <= cost[active]
        steps[active] += 1
        moved = np.abs(new - t).max(axis=-1) / (1.0 + np.abs(t).max(axis=-1))
        # The gradient in units of each parameter's own curvature, relative to the cost.
        flat = (free_gradient**2 / scale).max(axis=-1) <= GRADIENT_TOLERANCE**2 * (
            cost[active] + 1e-30
        )
        tiny = better & (cost[active] - new_cost <= STEP_TOLERANCE * cost[active]) & (moved < 1e-6)
        done = flat | tiny
        theta[active[better]] = new[better]
        cost[active[better]] = new_cost[better]
        damping[active] = np.where(better, damping[active] / 5.0, damping[active] * 4.0)
        damping[active] = np.clip(damping[active], 1e-12, 2 * MAX_DAMPING)
        # No step downhill is left at any length: a minimum to rounding.
        done |= ~better & (damping[active] > MAX_DAMPING)
        converged[active[done]] = True
        r = np.where(better[:, None], new_r, r)
        j = np.where(better[:, None, None], new_j, j)
        kept = ~done
        active, r, j = active[kept], r[kept], j[kept]
    return BatchFit(theta, cost, converged, steps)


def best_start(fit: BatchFit) -> BatchFit:
    """The cheapest of the starts, which are the last axis of the batch."""
    chosen = np.argmin(fit.cost, axis=-1)[..., None]

    def pick(a: Array) -> Array:
        return np.asarray(np.take_along_axis(a, chosen, axis=-1)[..., 0])

    theta = np.take_along_axis(fit.theta, chosen[..., None], axis=-2)[..., 0, :]
    return BatchFit(theta, pick(fit.cost), pick(fit.converged), pick(fit.steps))
