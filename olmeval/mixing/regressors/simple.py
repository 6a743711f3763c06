"""Baselines: a line, and the nearest rows. What a law does not beat is not worth its parameters."""

from typing import Any, ClassVar, Self

import numpy as np

from olmeval.mixing.regressors.base import Array, Regressor, hellinger, replicate_groups

PENALTIES = np.logspace(-8, 2, 31)
NEIGHBOURS = (1, 2, 3, 5, 8, 13)


class Linear(Regressor):
    """Ridge regression on shares; the penalty of each target by generalised cross-validation.

    Golub, Heath and Wahba 1979, "Generalized Cross-Validation", equation 1.4. RegMix's linear
    baseline. Learned: ``mean_`` (n,), ``centre_`` (m,), ``coef_`` (n, m), ``penalty_`` (n,).
    """

    family: ClassVar[str] = "linear"
    convex: ClassVar[bool] = True

    def _fit(self, X: Array, Y: Array) -> None:
        self.centre_, self.mean_ = X.mean(axis=0), Y.mean(axis=0)
        U, s, Vt = np.linalg.svd(X - self.centre_, full_matrices=False)
        projected = U.T @ (Y - self.mean_)
        rest = ((Y - self.mean_) ** 2).sum(axis=0) - (projected**2).sum(axis=0)
        shrunk = s**2 / (s**2 + len(X) * PENALTIES[:, None])  # (penalties, r)
        error = ((1 - shrunk)[:, :, None] * projected) ** 2
        score = (error.sum(axis=1) + rest) / (len(X) - 1 - shrunk.sum(axis=1))[:, None] ** 2
        # With fewer rows than domains a tiny penalty leaves no degrees of freedom to judge by.
        score[len(X) - 1 - shrunk.sum(axis=1) < 0.5] = np.inf
        best = score.argmin(axis=0)
        self.penalty_ = PENALTIES[best]
        kept = s[:, None] / (s[:, None] ** 2 + len(X) * self.penalty_)
        self.coef_ = (kept * projected).T @ Vt

    def _predict(self, X: Array) -> Array:
        predicted: Array = self.mean_ + (X - self.centre_) @ self.coef_.T
        return predicted

    def weighted(self, X: Array, weights: Array) -> tuple[Array, Array, Array]:
        value = (weights * self._predict(X)).sum(axis=1)
        m = X.shape[1]
        return value, weights @ self.coef_, np.zeros((len(X), m, m))

    def state(self) -> dict[str, Any]:
        return {"coef": self.coef_.tolist(), "penalty": self.penalty_.tolist()}

    def restore(self, X: Array, Y: Array, state: dict[str, Any]) -> Self:
        self.X_, self.Y_, self.single_ = X, Y, False
        self.n_features_in_, self._held_out = X.shape[1], None
        self.centre_, self.mean_ = X.mean(axis=0), Y.mean(axis=0)
        self.coef_, self.penalty_ = np.asarray(state["coef"]), np.asarray(state["penalty"])
        return self


class Nearest(Regressor):
    """Mean of the nearest rows by Hellinger distance, weighted by its inverse.

    How many is chosen for each target by leaving one mixture out. Learned: ``neighbours_`` (n,).
    """

    family: ClassVar[str] = "nearest"

    def _fit(self, X: Array, Y: Array) -> None:
        distance = hellinger(X, X)
        groups = replicate_groups(X)
        distance[groups[:, None] == groups] = np.inf
        counts = [k for k in NEIGHBOURS if k < groups.max() + 1]
        errors = [((_average(distance, Y, k) - Y) ** 2).sum(axis=0) for k in counts]
        self.neighbours_ = np.asarray(counts)[np.argmin(errors, axis=0)]

    def _predict(self, X: Array) -> Array:
        distance = hellinger(X, self.X_)
        columns = [
            _average(distance, self.Y_[:, [j]], int(k))[:, 0]
            for j, k in enumerate(self.neighbours_)
        ]
        return np.stack(columns, axis=1)


def _average(distance: Array, Y: Array, k: int) -> Array:
    nearest = np.argsort(distance, axis=1, kind="stable")[:, :k]
    weight = 1 / (np.take_along_axis(distance, nearest, axis=1) + 1e-9)
    average: Array = (weight[:, :, None] * Y[nearest]).sum(axis=1) / weight.sum(axis=1)[:, None]
    return average
