"""How errors fall with the number of runs, and what more runs would gain."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from olmeval.mixing.regressors.base import Regressor, replicate_groups
from olmeval.mixing.scores import rank_correlation, rmse

Array = NDArray[np.float64]
HELD_OUT = 0.2
DRAWS = 3
SIZES = 4
MORE = 32


@dataclass(frozen=True)
class Point:
    """Mean over targets and draws at ``rows`` runs; ``error`` is the root mean squared error in
    units of each target's standard deviation over the swarm."""

    rows: int
    rank_correlation: float
    error: float


@dataclass(frozen=True)
class LearningCurve:
    """Measured points, and the error at ``rows`` and at ``rows + more`` runs that they point to."""

    points: tuple[Point, ...]
    rows: int
    more: int
    error_now: float
    error_then: float

    @property
    def gain(self) -> float:
        """By which fraction ``more`` runs would lower the error."""
        return 1 - self.error_then / self.error_now if self.error_now > 0 else 0.0


def learning_curve(
    model: Regressor, X: Array, Y: Array, *, more: int = MORE, seed: int = 0
) -> LearningCurve | None:
    """Refits ``model`` on growing random subsets and scores the rest; None below 10 mixtures.

    Squared errors are taken to fall as a + b / rows with a, b >= 0 (the variance of an estimate
    falls with 1 / rows, the misfit of the family stays), by least squares through the points.
    """
    groups = replicate_groups(X)
    count = int(groups.max()) + 1
    if count < 10:
        return None
    rng = np.random.default_rng(seed)
    most = int(count * (1 - HELD_OUT))
    # Below one row a parameter errors are of another kind.
    least = max(5, min(3 * (X.shape[1] + 1) // 2, most // 2))
    sizes = sorted({round(s) for s in np.geomspace(least, most, SIZES)})
    scale = np.where(Y.std(axis=0) > 0, Y.std(axis=0), 1.0)
    ranks, errors = np.zeros((DRAWS, len(sizes))), np.zeros((DRAWS, len(sizes)))
    for draw in range(DRAWS):
        order = rng.permutation(count)
        held = np.isin(groups, order[most:])
        for k, size in enumerate(sizes):
            seen = np.isin(groups, order[:size])
            predicted = model.refit(X[seen], Y[seen]).predict(X[held])
            ranks[draw, k] = rank_correlation(predicted, Y[held]).mean()
            errors[draw, k] = (rmse(predicted, Y[held]) / scale).mean()
    points = tuple(
        Point(size, float(r), float(e))
        for size, r, e in zip(sizes, ranks.mean(axis=0), errors.mean(axis=0), strict=True)
    )
    now, then = _extrapolate(points, [count, count + more])
    return LearningCurve(points, count, more, now, then)


def _extrapolate(points: tuple[Point, ...], rows: list[int]) -> list[float]:
    from scipy.optimize import nnls

    # The later points are nearer to what is asked; relative errors weigh all alike.
    rows_seen = np.array([p.rows for p in points], np.float64)
    squared = np.array([p.error for p in points]) ** 2
    design = np.stack([np.ones_like(rows_seen), 1 / rows_seen], axis=1)
    weight = rows_seen / squared.clip(1e-300)
    (a, b), _ = nnls(design * weight[:, None], squared * weight)
    return [float(np.sqrt(a + b / n)) for n in rows]
