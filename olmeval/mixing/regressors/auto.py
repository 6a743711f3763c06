"""The family of each target, chosen by errors on rows that the fits have not seen."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import clone

from olmeval.errors import UserError, nearest
from olmeval.mixing.regressors.base import Array, Regressor
from olmeval.mixing.regressors.blend import Blend
from olmeval.mixing.regressors.gp import GaussianProcess
from olmeval.mixing.regressors.loglinear import LogLinear
from olmeval.mixing.regressors.powerlaws import AutoScale, BiMix, PowerLaw
from olmeval.mixing.regressors.simple import Linear, Nearest
from olmeval.mixing.regressors.trees import Trees
from olmeval.mixing.scores import rank_correlation, rmse

FAMILIES: dict[str, Callable[..., Regressor]] = {
    "log-linear": LogLinear,
    "power-law": PowerLaw,
    "bimix": BiMix,
    "autoscale": AutoScale,
    "gp": GaussianProcess,
    "lightgbm": Trees,
    "linear": Linear,
    "nearest": Nearest,
}


class Auto(Regressor):
    """For every target the family with the highest cross-validated rank correlation.

    Rank correlation first, as the order of mixtures is what a proposal rests on; root mean squared
    error decides between equals. Learned: ``choice_`` (the family of each target), ``parts_``
    (fitted regressors and the targets that each serves), ``compared_`` {family: (rank correlations,
    root mean squared errors)}, each of (n,), out of fold.
    """

    family: ClassVar[str] = "auto"

    def __init__(self, families: Sequence[str] = tuple(FAMILIES)):
        self.families = families

    @property
    def convex(self) -> bool:  # type: ignore[override]
        """Whether all chosen families are."""
        return all(part.convex for part, _ in self.parts_)

    def _fit(self, X: Array, Y: Array) -> None:
        fitted = {name: make_regressor(name).fit(X, Y) for name in self.families}
        held_out = {name: model.out_of_fold() for name, model in fitted.items()}
        self.compared_ = {
            name: (rank_correlation(p, Y), rmse(p, Y)) for name, p in held_out.items()
        }
        ranks = np.stack([self.compared_[name][0] for name in self.families])
        errors = np.stack([self.compared_[name][1] for name in self.families])
        # The last key sorts first.
        best = np.lexsort((errors, -ranks.round(6)), axis=0)[0]
        self.choice_ = [self.families[i] for i in best]
        self._keep(X, Y, {name: fitted[name] for name in set(self.choice_)})
        self._held_out = np.stack(
            [held_out[name][:, j] for j, name in enumerate(self.choice_)], axis=1
        )

    def refit(self, X: Array, Y: Array) -> Self:
        """Every target's chosen family fitted to other rows; nothing is chosen anew."""
        model: Self = clone(self)
        model.X_, model.Y_, model.single_ = X, Y, False
        model.n_features_in_, model._held_out = X.shape[1], None
        model.choice_, model.compared_ = self.choice_, self.compared_
        model.parts_ = [(part.refit(X, Y[:, targets]), targets) for part, targets in self.parts_]
        return model

    def _keep(self, X: Array, Y: Array, fitted: dict[str, Regressor]) -> None:
        """Of every family the targets that it is chosen for."""
        self.parts_: list[tuple[Regressor, list[int]]] = []
        for name in sorted(fitted):
            targets = [j for j, chosen in enumerate(self.choice_) if chosen == name]
            state = fitted[name].state()
            chosen = {k: [v[j] for j in targets] for k, v in state.items()}
            part = clone(fitted[name]).restore(X, Y[:, targets], chosen)
            self.parts_.append((part, targets))

    def _predict(self, X: Array) -> Array:
        predicted = np.empty((len(X), self.Y_.shape[1]))
        for part, targets in self.parts_:
            predicted[:, targets] = part.predict(X)
        return predicted

    def weighted(self, X: Array, weights: Array) -> tuple[Array, Array, Array]:
        parts = [part.weighted(X, weights[:, targets]) for part, targets in self.parts_]
        value, gradient, hessian = (sum(terms) for terms in zip(*parts, strict=True))
        return np.asarray(value), np.asarray(gradient), np.asarray(hessian)

    def _cross_predict(self, X: Array, Y: Array, folds: Any) -> Array:
        held_out = np.empty_like(Y)
        for part, targets in self.parts_:
            held_out[:, targets] = part._cross_predict(X, Y[:, targets], folds)
        return held_out

    def state(self) -> dict[str, Any]:
        return {
            "choice": self.choice_,
            "compared": {
                name: [values.tolist() for values in pair] for name, pair in self.compared_.items()
            },
            "parts": [
                {"family": part.family, "targets": targets, "state": part.state()}
                for part, targets in self.parts_
            ],
        }

    def restore(self, X: Array, Y: Array, state: dict[str, Any]) -> Self:
        self.X_, self.Y_, self.single_ = X, Y, False
        self.n_features_in_, self._held_out = X.shape[1], None
        self.choice_ = list(state["choice"])
        self.compared_ = {
            name: (np.asarray(pair[0]), np.asarray(pair[1]))
            for name, pair in state["compared"].items()
        }
        self.parts_ = [
            (
                make_regressor(part["family"]).restore(X, Y[:, part["targets"]], part["state"]),
                list(part["targets"]),
            )
            for part in state["parts"]
        ]
        return self


def make_regressor(family: str, **parameters: Any) -> Regressor:
    """An unfitted regressor of a family, "blend" or "auto". Raises :class:`UserError` on others."""
    known: dict[str, Callable[..., Regressor]] = {**FAMILIES, "blend": Blend, "auto": Auto}
    if family not in known:
        hint = nearest(family, known) or f"; there are {', '.join(known)}"
        raise UserError(f"there is no family '{family}'{hint}")
    return known[family](**parameters)
