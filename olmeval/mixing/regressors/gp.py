"""Gaussian process on square-root shares, a length for every domain.

Distances between square roots of shares are Hellinger distances: they resolve small shares, where
a percent more of a domain matters most. Lengths for every domain (automatic relevance
determination; Rasmussen and Williams 2006, "Gaussian Processes for Machine Learning", section 5.1)
are what lets a few dozen rows do: most domains hardly matter for a target. Lengths, signal and
noise maximise the marginal likelihood (ibid., equations 5.8 and 5.9) times a log-normal prior,
which holds lengths that the rows say nothing about.
"""

from typing import Any, ClassVar, Self

import numpy as np

from olmeval.mixing.regressors.base import Array, Regressor

ROWS_FOR_LENGTHS = 192
"""Lengths are found on so many random rows, then improved on all of them."""
STEPS_ON_ALL = 8
LOG_LENGTH, LOG_LENGTH_SPREAD = 0.5, 1.5
"""Prior on the logarithms of lengths, in units of square-root shares."""
BOUNDS = {"signal": (-7.0, 7.0), "noise": (-12.0, 2.0), "length": (-4.0, 6.0)}


class GaussianProcess(Regressor):
    """Zero-mean process on standardised losses with a squared-exponential kernel.

    Learned: ``theta_`` (n, m + 2), logarithms of signal and noise variance and of lengths.
    """

    family: ClassVar[str] = "gp"

    def __init__(self, seed: int = 0):
        self.seed = seed

    def _fit(self, X: Array, Y: Array) -> None:
        rows = np.arange(len(X))
        if len(X) > 2 * ROWS_FOR_LENGTHS:
            rng = np.random.default_rng(self.seed)
            rows = rng.choice(len(X), ROWS_FOR_LENGTHS, replace=False)
        self._standardise(Y)
        H, Z = np.sqrt(X), (Y - self.mean_) / self.scale_
        theta = []
        for z in Z.T:
            found = _maximise(H[rows], z[rows], _first_guess(X.shape[1]), 100)
            if len(rows) < len(X):
                found = _maximise(H, z, found, STEPS_ON_ALL)
            theta.append(found)
        self.theta_ = np.stack(theta)
        self._condition(H, Z)

    def _standardise(self, Y: Array) -> None:
        self.mean_ = Y.mean(axis=0)
        scale = Y.std(axis=0)
        self.scale_ = np.where(scale > 0, scale, 1.0)

    def _condition(self, H: Array, Z: Array) -> None:
        from scipy.linalg import cho_factor, cho_solve

        self._factors = [
            cho_factor(_kernel(H, H, p) + np.exp(p[1]) * np.eye(len(H)), lower=True)
            for p in self.theta_
        ]
        self._alpha = [cho_solve(factor, z) for factor, z in zip(self._factors, Z.T, strict=True)]

    def _predict(self, X: Array) -> Array:
        H, rows = np.sqrt(X), np.sqrt(self.X_)
        columns = [
            _kernel(H, rows, p) @ alpha for p, alpha in zip(self.theta_, self._alpha, strict=True)
        ]
        predicted: Array = self.mean_ + self.scale_ * np.stack(columns, axis=1)
        return predicted

    def spread(self, X: Array) -> Array:
        """Posterior standard deviation (k, n) of the noiseless loss."""
        from scipy.linalg import cho_solve

        H, rows = np.sqrt(X), np.sqrt(self.X_)
        columns = []
        for p, factor in zip(self.theta_, self._factors, strict=True):
            k = _kernel(H, rows, p)
            explained = (k * cho_solve(factor, k.T).T).sum(axis=1)
            columns.append(np.sqrt(np.maximum(np.exp(p[0]) - explained, 0)))
        spread: Array = self.scale_ * np.stack(columns, axis=1)
        return spread

    def state(self) -> dict[str, Any]:
        return {"theta": self.theta_.tolist()}

    def restore(self, X: Array, Y: Array, state: dict[str, Any]) -> Self:
        self.X_, self.Y_, self.single_ = X, Y, False
        self.n_features_in_, self._held_out = X.shape[1], None
        self.theta_ = np.asarray(state["theta"])
        self._standardise(Y)
        self._condition(np.sqrt(X), (Y - self.mean_) / self.scale_)
        return self


def _first_guess(domains: int) -> Array:
    return np.concatenate([[0.0, np.log(0.05)], np.zeros(domains)])


def _squared_distances(A: Array, B: Array) -> Array:
    squared: Array = (A * A).sum(axis=1)[:, None] + (B * B).sum(axis=1) - 2 * A @ B.T
    return np.maximum(squared, 0, out=squared)


def _kernel(A: Array, B: Array, p: Array) -> Array:
    lengths = np.exp(p[2:])
    kernel: Array = np.exp(p[0] - 0.5 * _squared_distances(A / lengths, B / lengths))
    return kernel


def _maximise(H: Array, z: Array, start: Array, steps: int) -> Array:
    """Parameters of the largest posterior, by L-BFGS with the exact gradient."""
    from scipy.optimize import minimize

    limits = [BOUNDS["signal"], BOUNDS["noise"], *[BOUNDS["length"]] * H.shape[1]]
    found = minimize(
        _negative_posterior, start, args=(H, z), jac=True, method="L-BFGS-B", bounds=limits,
        options={"maxiter": steps},
    )  # fmt: skip
    theta: Array = found.x
    return theta


def _negative_posterior(p: Array, H: Array, z: Array) -> tuple[float, Array]:
    from scipy.linalg.lapack import dpotrf, dpotri

    A = H / np.exp(p[2:])
    signal, noise = np.exp(p[0]), np.exp(p[1])
    K = signal * np.exp(-0.5 * _squared_distances(A, A))
    C = K.copy()
    C[np.diag_indices_from(C)] += noise + 1e-9
    factor, failed = dpotrf(C, lower=True, clean=True)
    if failed:
        return 1e12, np.zeros_like(p)
    inverse, _ = dpotri(factor, lower=True)
    inverse = np.tril(inverse) + np.tril(inverse, -1).T
    alpha = inverse @ z
    value = 0.5 * z @ alpha + np.log(np.diag(factor)).sum()
    W = inverse - np.outer(alpha, alpha)
    trace = np.trace(W)
    W *= K
    lengths = W.sum(axis=1) @ (A * A) - ((W @ A) * A).sum(axis=0)
    gradient = np.concatenate([[0.5 * W.sum(), 0.5 * noise * trace], lengths])
    off = (p[2:] - LOG_LENGTH) / LOG_LENGTH_SPREAD
    gradient[2:] += off / LOG_LENGTH_SPREAD
    return float(value + 0.5 * off @ off), gradient
