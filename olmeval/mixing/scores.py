"""How well predictions agree with outcomes, target by target."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def rank_correlation(predicted: Array, actual: Array) -> Array:
    """Spearman's rho (n,) of columns (k, n), ties at their mean rank; 0 where a column is constant.

    A constant prediction orders nothing, which is what 0 says.
    """
    from scipy.stats import rankdata

    return correlation(rankdata(predicted, axis=0), rankdata(actual, axis=0))


def correlation(predicted: Array, actual: Array) -> Array:
    """Pearson's r (n,) of columns (k, n); 0 where a column is constant."""
    a, b = predicted, actual
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    scale = np.sqrt((a * a).sum(axis=0) * (b * b).sum(axis=0))
    found: Array = np.divide((a * b).sum(axis=0), scale, out=np.zeros_like(scale), where=scale > 0)
    return found


def r_squared(predicted: Array, actual: Array) -> Array:
    """1 - squared errors over squared deviations from the mean (n,); nan for a constant column."""
    rest = ((predicted - actual) ** 2).sum(axis=0)
    total = ((actual - actual.mean(axis=0)) ** 2).sum(axis=0)
    share: Array = np.divide(rest, total, out=np.full_like(rest, np.nan), where=total > 0)
    return 1 - share


def rmse(predicted: Array, actual: Array) -> Array:
    """Root mean squared error (n,), in the unit of the targets."""
    error: Array = np.sqrt(((predicted - actual) ** 2).mean(axis=0))
    return error


def mae(predicted: Array, actual: Array) -> Array:
    """Mean absolute error (n,), in the unit of the targets."""
    error: Array = np.abs(predicted - actual).mean(axis=0)
    return error
