"""Laws that add up one falling power of each domain's share.

All three are convex in the mixture and have positive parameters, which are fitted as logarithms by
least squares in a trust region, with a wide normal prior around the first guess: a domain that does
not matter for a target has no finite best parameters.
"""

from typing import Any, ClassVar, Self

import numpy as np

from olmeval.mixing.regressors.base import Array, Regressor

PRIOR_SPREAD = 3.0
PRIOR_NOISE = 0.05
"""Variance of the residuals that the prior is weighed against, as a share of the losses'."""


class Separable(Regressor):
    """c + sum over domains i of g_i(x_i), each g_i falling and convex.

    Learned: ``theta_`` (n, p), logarithms of the parameters; ``converged_`` (n,).
    """

    convex: ClassVar[bool] = True

    def _fit(self, X: Array, Y: Array) -> None:
        self._prepare(X)
        found = [self._solve(X, y, self._first_guess(X, y)) for y in Y.T]
        self.theta_ = np.stack([theta for theta, _ in found])
        self.converged_ = np.array([converged for _, converged in found])

    def _predict(self, X: Array) -> Array:
        return self._evaluate(self.theta_, X)[0].T

    def _prepare(self, X: Array) -> None:
        """Settles what is not fitted."""

    def _first_guess(self, X: Array, y: Array) -> Array:
        raise NotImplementedError

    def _evaluate(self, theta: Array, X: Array) -> tuple[Array, Array]:
        """Losses (P, K) and their derivatives (P, K, p) by the logarithms of parameters."""
        raise NotImplementedError

    def slopes(self, X: Array) -> tuple[Array, Array]:
        """First and second derivatives (n, k, m) of losses by the shares of mixtures (k, m)."""
        raise NotImplementedError

    def weighted(self, X: Array, weights: Array) -> tuple[Array, Array, Array]:
        slope, bend = self.slopes(X)
        gradient = np.einsum("bn,nbm->bm", weights, slope)
        curvature = np.einsum("bn,nbm->bm", weights, bend)
        value = (weights * self._predict(X)).sum(axis=1)
        return value, gradient, curvature[:, :, None] * np.eye(X.shape[1])

    def _solve(self, X: Array, y: Array, start: Array) -> tuple[Array, bool]:
        """Least squares of one target with the prior as further residuals."""
        from scipy.optimize import least_squares

        weight = np.sqrt(PRIOR_NOISE * max(y.var(), 1e-20)) / PRIOR_SPREAD

        def residuals(theta: Array) -> Array:
            return np.concatenate(
                [self._evaluate(theta[None], X)[0][0] - y, weight * (theta - start)]
            )

        def jacobian(theta: Array) -> Array:
            return np.concatenate(
                [self._evaluate(theta[None], X)[1][0], weight * np.eye(len(theta))]
            )

        # Steps too long overflow; the trust region takes them back.
        with np.errstate(over="ignore", invalid="ignore"):
            found = least_squares(
                residuals, start, jacobian, method="trf", max_nfev=1000, ftol=1e-7, xtol=1e-7
            )
        return found.x, found.status > 0

    def state(self) -> dict[str, Any]:
        return {"theta": self.theta_.tolist(), "converged": self.converged_.tolist()}

    def restore(self, X: Array, Y: Array, state: dict[str, Any]) -> Self:
        self.X_, self.Y_, self.single_ = X, Y, False
        self.n_features_in_, self._held_out = X.shape[1], None
        self._prepare(X)
        self.theta_ = np.asarray(state["theta"])
        self.converged_ = np.asarray(state["converged"])
        return self


class PowerLaw(Separable):
    """f(x) = c + sum_i k_i (x_i + a)^(-b): offset and exponent are shared, amplitudes are not."""

    family: ClassVar[str] = "power-law"

    def _first_guess(self, X: Array, y: Array) -> Array:
        a, b = 0.05, 0.5
        floor = (1 + a) ** -b + (X.shape[1] - 1) * a**-b
        k = np.full(X.shape[1], 0.3 * max(np.abs(y).mean(), 1e-9) / floor)
        return np.concatenate([np.log([0.6 * max(y.min(), 1e-9), a, b]), np.log(k)])

    def _parts(self, theta: Array, X: Array) -> tuple[Array, Array, Array, Array, Array]:
        c, a, b = np.exp(theta[:, :3]).T
        base = X[None] + a[:, None, None]
        terms = np.exp(theta[:, None, 3:] - b[:, None, None] * np.log(base))  # (P, K, m)
        return c, a, b, base, terms

    def _evaluate(self, theta: Array, X: Array) -> tuple[Array, Array]:
        c, a, b, base, terms = self._parts(theta, X)
        by_a = -(b * a)[:, None] * (terms / base).sum(axis=2)
        by_b = -b[:, None] * (terms * np.log(base)).sum(axis=2)
        by_c = np.broadcast_to(c[:, None], by_a.shape)
        J = np.concatenate([np.stack([by_c, by_a, by_b], axis=2), terms], axis=2)
        return c[:, None] + terms.sum(axis=2), J

    def slopes(self, X: Array) -> tuple[Array, Array]:
        _, _, b, base, terms = self._parts(self.theta_, X)
        slope = -b[:, None, None] * terms / base
        return slope, -slope * (b[:, None, None] + 1) / base


class BiMix(Separable):
    """f(x) = sum_i F_i (x_i + e)^(-alpha_i), e half of the smallest share that the swarm has.

    After Ge et al. 2024, "BiMix" (arXiv:2405.14908), equation 2 at a fixed number of steps, summed
    over domains. Their law is infinite at a share of zero, which swarms do hold; hence e.
    """

    family: ClassVar[str] = "bimix"

    def _prepare(self, X: Array) -> None:
        self.offset_ = float(X[X > 0].min()) / 2

    def _first_guess(self, X: Array, y: Array) -> Array:
        m = X.shape[1]
        return np.concatenate(
            [np.full(m, np.log(max(abs(y.mean()), 1e-9) / m)), np.full(m, np.log(0.05))]
        )

    def _parts(self, theta: Array, X: Array) -> tuple[Array, Array, Array]:
        m = X.shape[1]
        alpha = np.exp(theta[:, m:])
        base = X + self.offset_
        return alpha, base, np.exp(theta[:, None, :m] - alpha[:, None] * np.log(base))

    def _evaluate(self, theta: Array, X: Array) -> tuple[Array, Array]:
        alpha, base, terms = self._parts(theta, X)
        by_alpha = -alpha[:, None] * terms * np.log(base)
        return terms.sum(axis=2), np.concatenate([terms, by_alpha], axis=2)

    def slopes(self, X: Array) -> tuple[Array, Array]:
        alpha, base, terms = self._parts(self.theta_, X)
        slope = -alpha[:, None] * terms / base
        return slope, -slope * (alpha[:, None] + 1) / base


class AutoScale(Separable):
    """f(x) = c + sum_i (N (x_i + a_i))^(-g_i), N the tokens of a run.

    Kang et al. 2024, "AutoScale" (arXiv:2407.20177), section 3: each domain's power law counts the
    tokens of its own and an equivalent from elsewhere.
    """

    family: ClassVar[str] = "autoscale"

    def __init__(self, tokens: float = 1e9):
        self.tokens = tokens

    def _first_guess(self, X: Array, y: Array) -> Array:
        m = X.shape[1]
        share = 0.3 * max(abs(y.mean()), 1e-9) / m
        g = np.clip(-np.log(share) / np.log(self.tokens / m), 0.02, 2)
        return np.concatenate(
            [[np.log(0.7 * max(y.min(), 1e-9))], np.full(m, -np.log(m)), np.full(m, np.log(g))]
        )

    def _parts(self, theta: Array, X: Array) -> tuple[Array, Array, Array, Array]:
        m = X.shape[1]
        a, g = np.exp(theta[:, None, 1 : m + 1]), np.exp(theta[:, None, m + 1 :])
        base = X[None] + a
        return a, g, base, np.exp(-g * np.log(self.tokens * base))

    def _evaluate(self, theta: Array, X: Array) -> tuple[Array, Array]:
        a, g, base, terms = self._parts(theta, X)
        c = np.exp(theta[:, :1])
        by_c = np.broadcast_to(c[:, :, None], (*terms.shape[:2], 1))
        by_a, by_g = -g * a * terms / base, -g * terms * np.log(self.tokens * base)
        return c + terms.sum(axis=2), np.concatenate([by_c, by_a, by_g], axis=2)

    def slopes(self, X: Array) -> tuple[Array, Array]:
        _, g, base, terms = self._parts(self.theta_, X)
        slope = -g * terms / base
        return slope, -slope * (g + 1) / base
