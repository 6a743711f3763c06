"""Gradient-boosted trees, as RegMix fits them: LightGBM, 1,000 rounds, learning rate 0.01.

Liu et al. 2024, "RegMix" (arXiv:2407.01492), section 3 and its public code. Without their early
stop, which looks at the test rows. With few rows leaves must be small or no tree can split.
"""

from typing import Any, ClassVar, Self

import numpy as np

from olmeval.mixing.regressors.base import Array, Regressor


class Trees(Regressor):
    """One LightGBM ensemble for every target. Learned: ``boosters_``."""

    family: ClassVar[str] = "lightgbm"

    def __init__(self, rounds: int = 1000, learning_rate: float = 0.01, seed: int = 42):
        self.rounds = rounds
        self.learning_rate = learning_rate
        self.seed = seed

    def _fit(self, X: Array, Y: Array) -> None:
        import lightgbm

        # Twenty rows a leaf, LightGBM's own number, from 200 rows on.
        settings = {
            "objective": "regression", "learning_rate": self.learning_rate, "seed": self.seed,
            "min_data_in_leaf": max(2, min(20, len(X) // 10)), "num_threads": 1,
            "deterministic": True, "force_row_wise": True, "verbose": -1,
        }  # fmt: skip
        self.boosters_ = [
            lightgbm.train(
                settings,
                lightgbm.Dataset(X, y, params={"verbose": -1, "min_data_in_bin": 1}),
                self.rounds,
            )
            for y in Y.T
        ]

    def _predict(self, X: Array) -> Array:
        return np.stack([booster.predict(X) for booster in self.boosters_], axis=1)

    def state(self) -> dict[str, Any]:
        return {"models": [booster.model_to_string() for booster in self.boosters_]}

    def restore(self, X: Array, Y: Array, state: dict[str, Any]) -> Self:
        import lightgbm

        self.X_, self.Y_, self.single_ = X, Y, False
        self.n_features_in_, self._held_out = X.shape[1], None
        self.boosters_ = [lightgbm.Booster(model_str=text) for text in state["models"]]
        return self
