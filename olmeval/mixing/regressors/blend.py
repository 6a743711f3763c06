"""A weighted mean of families, for swarms too small to tell which of them is best.

To choose one family for a target takes runs: on a few dozen the one with the smallest error out of
fold is often not the best, and errors of different laws partly cancel. So every family counts by
its squared error out of fold, inverted and squared, target by target: combination by inverse errors
is that of Bates and Granger 1969, "The Combination of Forecasts"; to a power above 1, which favours
the better ones, of Stock and Watson 1999, "A Comparison of Linear and Nonlinear Univariate Models
for Forecasting Macroeconomic Time Series". On the RegMix swarm powers of 1 and 2 do alike.
"""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from olmeval.errors import UserError, nearest
from olmeval.mixing.regressors.base import Array, Regressor, folds_of
from olmeval.mixing.regressors.gp import GaussianProcess
from olmeval.mixing.regressors.loglinear import LogLinear
from olmeval.mixing.regressors.powerlaws import PowerLaw
from olmeval.mixing.regressors.trees import Trees

MEMBERS: dict[str, Callable[..., Regressor]] = {
    "log-linear": LogLinear, "power-law": PowerLaw, "gp": GaussianProcess, "lightgbm": Trees,
}  # fmt: skip
POWER = 2.0


class Blend(Regressor):
    """Mean of families, weighted by mean squared errors out of fold to the power of -2.

    Learned: ``weights_`` (families, n), adding up to 1 for every target, and ``parts_``, the fitted
    families in the order of ``families``.
    """

    family: ClassVar[str] = "blend"

    def __init__(self, families: Sequence[str] = tuple(MEMBERS)):
        self.families = families

    def _fit(self, X: Array, Y: Array) -> None:
        self.parts_ = [_member(name).fit(X, Y) for name in self.families]
        held_out = np.stack([part.out_of_fold() for part in self.parts_])
        squared = (held_out - Y) ** 2
        self.weights_ = _weights(squared, Y)
        self._held_out = _mean(held_out, self._weights_elsewhere(squared, X, Y))

    def _weights_elsewhere(self, squared: Array, X: Array, Y: Array) -> Array:
        """Weights (families, K, n) for each row from errors of other folds alone."""
        folds = folds_of(X)
        weights = np.empty_like(squared)
        for fold in np.unique(folds):
            own = folds == fold
            weights[:, own] = _weights(squared[:, ~own], Y)[:, None]
        return weights

    def _predict(self, X: Array) -> Array:
        return _mean(np.stack([part._predict(X) for part in self.parts_]), self.weights_[:, None])

    def refit(self, X: Array, Y: Array) -> Self:
        """Families fitted to other rows; their weights stay."""
        return self._assembled(X, Y, [part.refit(X, Y) for part in self.parts_], self.weights_)

    def _cross_predict(self, X: Array, Y: Array, folds: NDArray[np.int64]) -> Array:
        every = np.stack([part._cross_predict(X, Y, folds) for part in self.parts_])
        return _mean(every, self.weights_[:, None])

    def _assembled(self, X: Array, Y: Array, parts: list[Regressor], weights: Array) -> Self:
        model: Self = clone(self)
        model.X_, model.Y_, model.single_ = X, Y, False
        model.n_features_in_, model._held_out = X.shape[1], None
        model.parts_, model.weights_ = parts, weights
        return model

    def state(self) -> dict[str, Any]:
        return {"weights": self.weights_.tolist(), "parts": [part.state() for part in self.parts_]}

    def restore(self, X: Array, Y: Array, state: dict[str, Any]) -> Self:
        parts = [
            _member(name).restore(X, Y, part)
            for name, part in zip(self.families, state["parts"], strict=True)
        ]
        self.__dict__.update(vars(self._assembled(X, Y, parts, np.asarray(state["weights"]))))
        return self


def _member(name: str) -> Regressor:
    if name not in MEMBERS:
        hint = nearest(name, MEMBERS) or f"; there are {', '.join(MEMBERS)}"
        raise UserError(f"'{name}' is no family of a blend{hint}")
    return MEMBERS[name]()


def _weights(squared: Array, Y: Array) -> Array:
    """Weights (families, n) from squared errors (families, K, n)."""
    # Families that are all exact, as for a constant target, count alike.
    error = squared.mean(axis=1) + 1e-12 * Y.var(axis=0) + 1e-200
    relative = (error.min(axis=0) / error) ** POWER
    weights: Array = relative / relative.sum(axis=0)
    return weights


def _mean(predicted: Array, weights: Array) -> Array:
    mean: Array = (predicted * weights).sum(axis=0)
    return mean
