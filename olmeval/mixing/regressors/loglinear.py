"""The log-linear law: f(x) = c + exp(t . x), the default family.

Ye et al. 2024, "Data Mixing Laws" (arXiv:2403.16952), section 3, with the factor k folded into t,
since shares add up to 1. Convex in x, m + 1 parameters for m domains.

What is fitted is the maximum of the posterior with a heavy-tailed prior on how far each t_i lies
from their common level: a few domains matter much for a target, most hardly differ. The variance of
the residuals is not given but estimated along. With rows to spare the prior does not show; near
one row a parameter, where least squares is worthless, it makes the law usable.

Predictions are truncated to the range of the losses seen, widened by its own width at either end: a
domain that the rows hardly have leaves its t open, and an exponential of it knows no bounds. That
is what makes least squares over unbounded classes consistent (Gyoerfi, Kohler, Krzyzak and Walk
2002, "A Distribution-Free Theory of Nonparametric Regression", section 10.1).

All targets, starts, folds and bootstrap samples are one batch of Levenberg-Marquardt problems, so
that the time goes into matrix products.
"""

from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from olmeval.mixing.regressors.base import Array, Regressor

STARTS = (0.5, 0.9, 1.0, 1.08)
"""First guesses of c, as fractions of the smallest loss seen."""
PRIOR_SCALE, PRIOR_FREEDOM = 1.0, 0.1
"""Of the Student prior on t_i - level: heavy tails, as t_i of 0.1 and of 30 both occur."""
NOISE_ROWS, NOISE_SHARE = 5.0, 0.05
"""The prior on the residual variance: worth five rows, at 5 % of the variance of the losses."""
MAX_ITERATIONS = 150
TOLERANCE = 1e-7
LAST, SETTLED = 50, 0.05
"""A problem that gained less than this in its last steps is as good as solved: the valley between c
and the level of t can be flat for ever, and 0.05 in -2 log posterior tells no two laws apart."""
CHUNK = 2048
"""Problems solved at once; more do not fit the processor's cache."""


class LogLinear(Regressor):
    """f(x) = c + exp(t . x) for every target.

    Learned: ``log_c_`` (n,), ``t_`` (n, m), ``converged_`` (n,) whether iterations ended by
    themselves, ``starts_agree_`` (n,) how many of the starts ended within 1e-3 of the best.
    """

    family: ClassVar[str] = "log-linear"
    convex: ClassVar[bool] = True

    def _fit(self, X: Array, Y: Array) -> None:
        start = np.stack([_start(X, Y, fraction) for fraction in STARTS])
        weights = np.ones((1, len(X)))
        every = [solve(X, Y, weights, guess[None]) for guess in start]
        objective = np.stack([fit.objective[0] for fit in every])  # (starts, n)
        best = objective.argmin(axis=0)
        theta = np.stack([fit.theta[0] for fit in every])[best, np.arange(Y.shape[1])]
        self.log_c_, self.t_ = theta[:, 0], theta[:, 1:]
        converged = np.stack([fit.converged[0] for fit in every])
        self.converged_ = converged[best, np.arange(Y.shape[1])]
        self.starts_agree_ = (objective - objective.min(axis=0) < 1e-3).sum(axis=0)

    def _predict(self, X: Array) -> Array:
        return truncated(np.exp(self.log_c_) + np.exp(X @ self.t_.T), self.Y_)

    def _cross_predict(self, X: Array, Y: Array, folds: NDArray[np.int64]) -> Array:
        names = np.unique(folds)
        held_out = np.empty_like(Y)
        weights = (folds != names[:, None]).astype(np.float64)
        fits = [
            solve(X, Y, weights, np.stack([_start(X[w > 0], Y[w > 0], f) for w in weights]))
            for f in STARTS
        ]
        best = np.stack([fit.objective for fit in fits]).argmin(axis=0)  # (folds, n)
        for k, name in enumerate(names):
            theta = np.stack([fit.theta[k] for fit in fits])[best[k], np.arange(Y.shape[1])]
            unseen = folds == name
            predicted = np.exp(theta[:, 0]) + np.exp(X[unseen] @ theta[:, 1:].T)
            held_out[unseen] = truncated(predicted, Y[~unseen])
        return held_out

    def weighted(self, X: Array, weights: Array) -> tuple[Array, Array, Array]:
        return weighted_exponentials(self.log_c_[None], self.t_[None], X, weights)

    def resample(self, weights: Array) -> Array:
        """Parameters (B, n, m + 1) [log c, t] of refits with row weights (B, K).

        Started from the fit, so a refit takes a few iterations.
        """
        theta = np.concatenate([self.log_c_[:, None], self.t_], axis=1)
        start = np.broadcast_to(theta, (len(weights), *theta.shape))
        return solve(self.X_, self.Y_, weights, start).theta

    def state(self) -> dict[str, Any]:
        return {
            "log_c": self.log_c_.tolist(),
            "t": self.t_.tolist(),
            "converged": self.converged_.tolist(),
            "starts_agree": self.starts_agree_.tolist(),
        }

    def restore(self, X: Array, Y: Array, state: dict[str, Any]) -> Self:
        self.X_, self.Y_, self.single_ = X, Y, False
        self.n_features_in_, self._held_out = X.shape[1], None
        self.log_c_, self.t_ = np.asarray(state["log_c"]), np.asarray(state["t"])
        self.converged_ = np.asarray(state["converged"])
        self.starts_agree_ = np.asarray(state["starts_agree"])
        return self


def truncated(predicted: Array, seen: Array) -> Array:
    """Losses (..., n) within the range of ``seen`` (K, n) widened by its width at either end."""
    low, high = seen.min(axis=0), seen.max(axis=0)
    clipped: Array = np.clip(predicted, 2 * low - high, 2 * high - low)
    return clipped


def weighted_exponentials(
    log_c: Array, t: Array, X: Array, weights: Array
) -> tuple[Array, Array, Array]:
    """sum_n w (c + exp(t . x)) at mixtures (k, m): value, gradient, Hessian.

    ``log_c`` (k, n) and ``t`` (k, n, m) give every mixture a law of its own, or one to all with a
    first axis of 1. ``weights`` (k, n).
    """
    e = weights * np.exp(np.minimum((t @ X[:, :, None])[:, :, 0], 60.0))
    value = (weights * np.exp(log_c)).sum(axis=1) + e.sum(axis=1)
    gradient = (e[:, None, :] @ t)[:, 0]
    return value, gradient, t.transpose(0, 2, 1) @ (e[:, :, None] * t)


class Solved:
    """Parameters (B, n, m + 1), objective and convergence (B, n) of a batch."""

    def __init__(self, theta: Array, objective: Array, converged: NDArray[np.bool_]):
        self.theta, self.objective, self.converged = theta, objective, converged


def _start(X: Array, Y: Array, fraction: float) -> Array:
    """First guesses (n, m + 1): c a fraction of the smallest loss, t by regression of log(y - c).

    Weighted by (y - c)^2, which makes errors of the logarithm count as errors of y.
    """
    low = Y.min(axis=0)
    c = fraction * low
    floor = 0.1 * (np.median(Y, axis=0) - low) + 1e-9 * np.abs(low) + 1e-12
    z = np.maximum(Y - c, floor)
    w = (z**2).T  # (n, K)
    m = X.shape[1]
    gram = (w @ _products(X)).reshape(-1, m, m)
    gram[:, np.arange(m), np.arange(m)] += 1e-3 * w.mean(axis=1)[:, None]
    t = np.linalg.solve(gram, ((w * np.log(z).T) @ X)[:, :, None])[:, :, 0]
    return np.concatenate([np.log(np.maximum(c, 1e-12))[:, None], t], axis=1)


def _products(X: Array) -> Array:
    """Outer products of rows with themselves, flattened: (K, m * m)."""
    return (X[:, :, None] * X[:, None, :]).reshape(len(X), -1)


def solve(X: Array, Y: Array, weights: Array, start: Array) -> Solved:
    """Fits every target under every row of ``weights`` (B, K) from ``start`` (B, n, m + 1)."""
    batch, targets = len(weights), Y.shape[1]
    theta = np.array(start, np.float64).reshape(batch * targets, -1)
    objective = np.empty(batch * targets)
    converged = np.zeros(batch * targets, np.bool_)
    products = _products(X)
    for first in range(0, len(theta), CHUNK):
        part = np.arange(first, min(first + CHUNK, len(theta)))
        problem = _Problem(X, products, Y.T[part % targets], weights[part // targets])
        theta[part], objective[part], converged[part] = problem.solve(theta[part])
    shape = (batch, targets)
    return Solved(theta.reshape(*shape, -1), objective.reshape(shape), converged.reshape(shape))


class _Problem:
    """A batch of fits: losses and row weights (P, K) on the same mixtures."""

    def __init__(self, X: Array, products: Array, y: Array, weights: Array):
        self.X, self.products, self.y, self.w = X, products, y, weights
        self.rows = weights.sum(axis=1) + NOISE_ROWS
        mean = (weights * y).sum(axis=1) / weights.sum(axis=1)
        variance = (weights * (y - mean[:, None]) ** 2).sum(axis=1) / weights.sum(axis=1)
        # A constant target has no variance; what is left then is the arithmetic's.
        self.prior_rss = NOISE_ROWS * NOISE_SHARE * np.maximum(variance, 1e-20 + 1e-24 * mean**2)

    def take(self, keep: NDArray[np.bool_]) -> None:
        """Forgets the problems that are solved."""
        self.y, self.w = self.y[keep], self.w[keep]
        self.rows, self.prior_rss = self.rows[keep], self.prior_rss[keep]

    def residuals(self, theta: Array) -> tuple[Array, Array]:
        e = np.exp(np.minimum(theta[:, 1:] @ self.X.T, 60.0))
        return np.exp(theta[:, :1]) + e - self.y, e

    def objective(self, theta: Array, r: Array) -> Array:
        """-2 log posterior, the variance profiled out."""
        d = _deviations(theta[:, 1:])
        prior = np.log1p(d**2 / (PRIOR_FREEDOM * PRIOR_SCALE**2)).sum(axis=1)
        rss = (self.w * r * r).sum(axis=1) + self.prior_rss
        value: Array = self.rows * np.log(rss) + (PRIOR_FREEDOM + 1) * prior
        return value

    def solve(self, theta: Array) -> tuple[Array, Array, NDArray[np.bool_]]:
        """Levenberg-Marquardt with Marquardt's scaling; solved problems leave the batch."""
        final, ends = theta.copy(), np.empty(len(theta))
        done = np.zeros(len(theta), np.bool_)
        left = np.arange(len(theta))
        damping = np.full(len(theta), 1e-3)
        calm = np.zeros(len(theta), np.int64)
        late = np.full(len(theta), np.inf)
        theta = theta.copy()
        r, e = self.residuals(theta)
        f = self.objective(theta, r)
        for iteration in range(MAX_ITERATIONS):
            if iteration == MAX_ITERATIONS - LAST:
                late = f.copy()
            step = self._step(theta, r, e, damping)
            tried = theta + step
            r2, e2 = self.residuals(tried)
            f2 = self.objective(tried, r2)
            better = f2 < f  # False for nan
            # One short step may be a crawl: only a second one in a row ends a problem.
            small = (np.where(better, f - f2, 0) < TOLERANCE * (1 + np.abs(f))) & (
                better | (damping > 1)
            )
            calm = np.where(small, calm + 1, 0)
            theta[better], f[better] = tried[better], f2[better]
            r[better], e[better] = r2[better], e2[better]
            damping = np.where(better, damping * 0.2, damping * 5).clip(1e-12, 1e12)
            finished = (calm >= 2) | (damping > 1e9)
            final[left], ends[left] = theta, f
            if finished.any():
                done[left[finished]] = True
                keep = ~finished
                if not keep.any():
                    break
                left, theta, f, r, e = left[keep], theta[keep], f[keep], r[keep], e[keep]
                damping, calm, late = damping[keep], calm[keep], late[keep]
                self.take(keep)
        else:
            done[left] = late - f < SETTLED
        return final, ends, done

    def _step(self, theta: Array, r: Array, e: Array, damping: Array) -> Array:
        m = self.X.shape[1]
        c, we = np.exp(theta[:, 0]), self.w * e
        A = np.empty((len(theta), m + 1, m + 1))
        A[:, 0, 0] = c**2 * self.w.sum(axis=1)
        A[:, 0, 1:] = A[:, 1:, 0] = c[:, None] * (we @ self.X)
        A[:, 1:, 1:] = ((we * e) @ self.products).reshape(-1, m, m)
        g = np.concatenate([(c * (self.w * r).sum(axis=1))[:, None], (we * r) @ self.X], axis=1)
        variance = ((self.w * r * r).sum(axis=1) + self.prior_rss) / self.rows
        d = _deviations(theta[:, 1:])
        spread = PRIOR_FREEDOM * PRIOR_SCALE**2
        pull = (variance * (PRIOR_FREEDOM + 1))[:, None] / (spread + d**2)
        diagonal = np.arange(1, m + 1)
        A[:, diagonal, diagonal] += pull
        g[:, 1:] += pull * d
        diagonal = np.arange(m + 1)
        own = A[:, diagonal, diagonal]
        A[:, diagonal, diagonal] += damping[:, None] * own + 1e-14 * own.max(axis=1)[:, None]
        step: Array = np.linalg.solve(A, -g[:, :, None])[:, :, 0]
        return np.clip(step, -10, 10)


def _deviations(t: Array) -> Array:
    """t less its level: the centre of least penalty, by reweighting from the median."""
    level = np.median(t, axis=1, keepdims=True)
    spread = PRIOR_FREEDOM * PRIOR_SCALE**2
    for _ in range(3):
        w = 1 / (spread + (t - level) ** 2)
        level = (w * t).sum(axis=1, keepdims=True) / w.sum(axis=1, keepdims=True)
    return t - level
