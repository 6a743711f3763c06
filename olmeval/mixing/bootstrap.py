"""Refits on resampled swarms: how much a law, and what follows from it, owes to chance.

Whole mixtures are drawn with replacement, with all their runs (Efron and Tibshirani 1993, "An
Introduction to the Bootstrap", chapter 9, bootstrapping pairs), so that the misfit of a law counts
as well as noise.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from olmeval.mixing.convex import Optimum, optima
from olmeval.mixing.interior import Oracle
from olmeval.mixing.problem import Constraints
from olmeval.mixing.regressors.base import Regressor, replicate_groups
from olmeval.mixing.regressors.loglinear import LogLinear, truncated, weighted_exponentials

Array = NDArray[np.float64]
DEFAULT_REFITS = {
    "log-linear": 200, "linear": 200, "nearest": 100, "power-law": 40, "bimix": 40, "gp": 8,
    "autoscale": 10, "lightgbm": 5, "blend": 5, "auto": 10,
}  # fmt: skip
"""As many as take seconds."""


@dataclass(frozen=True)
class Refits:
    """Laws fitted to resampled swarms: ``theta`` (B, n, m + 1), or ``models`` of other families.

    ``seen`` (K, n): the swarm's losses.
    """

    theta: Array | None
    seen: Array
    models: tuple[Regressor, ...] = ()

    def __len__(self) -> int:
        return len(self.models) if self.theta is None else len(self.theta)

    def objective(self, X: Array, weights: Array) -> Array:
        """Weighted losses (B, k) of mixtures (k, m) under every refit; ``weights`` (n,)."""
        weighted: Array = self.losses(X) @ weights
        return weighted

    def losses(self, X: Array) -> Array:
        """Losses (B, k, n) of mixtures (k, m) under every refit."""
        if self.theta is None:
            return np.stack([model.predict(X) for model in self.models])
        exponents = np.einsum("bnm,km->bkn", self.theta[:, :, 1:], X)
        losses = np.exp(self.theta[:, None, :, 0]) + np.exp(np.minimum(exponents, 60.0))
        return truncated(losses, self.seen)

    def optima(
        self, weights: Array, constraints: Constraints, prior: Array, kl: float
    ) -> list[Optimum]:
        """The optimum of every refit's weighted losses + kl KL(x || prior); convex families."""
        if self.theta is None:
            found = []
            for model in self.models:
                oracle = oracle_of(model, weights[None])
                found += optima(oracle, [constraints], prior, kl)
            return found
        theta, count = self.theta, len(self.theta)
        rows = np.broadcast_to(weights, (count, len(weights)))
        return optima(
            lambda x: weighted_exponentials(theta[:, :, 0], theta[:, :, 1:], x, rows),
            [constraints] * count,
            prior,
            kl,
        )


def oracle_of(model: Regressor, weights: Array) -> Oracle:
    """The weighted losses of a convex model as a function to minimise; ``weights`` (B, n)."""

    def oracle(x: Array) -> tuple[Array, Array, Array]:
        return model.weighted(x, weights)

    return oracle


def refit_on_samples(model: Regressor, count: int, seed: int = 0) -> Refits:
    """``count`` refits of a fitted model on resampled mixtures."""
    samples = resample_rows(model.X_, count, seed)
    if isinstance(model, LogLinear):
        return Refits(model.resample(samples), model.Y_)
    models = []
    for weights in samples:
        rows = np.repeat(np.arange(len(weights)), weights.astype(np.int64))
        models.append(model.refit(model.X_[rows], model.Y_[rows]))
    return Refits(None, model.Y_, tuple(models))


def resample_rows(X: Array, count: int, seed: int = 0) -> Array:
    """How often (count, K) each row is drawn when mixtures are drawn with replacement.

    Every sample holds at least three different mixtures, the fewest that can be fitted.
    """
    groups = replicate_groups(X)
    number = int(groups.max()) + 1
    rng = np.random.default_rng(seed)
    drawn: list[Array] = []
    while len(drawn) < count:
        counts = rng.multinomial(number, np.full(number, 1 / number))
        if (counts > 0).sum() >= min(3, number):
            drawn.append(counts[groups].astype(np.float64))
    return np.stack(drawn)
