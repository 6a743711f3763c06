"""Means with standard errors, independent or clustered, and paired differences."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import erfc, nan, sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray

Z95 = 1.959963984540054


@dataclass(frozen=True)
class Estimate:
    """A mean over ``n`` questions and its standard error (nan when n or the clusters are < 2)."""

    value: float
    stderr: float
    n: int


def mean(values: ArrayLike, clusters: Sequence[object] | None = None) -> Estimate:
    """Sample mean with the central-limit standard error.

    Without ``clusters``: s / sqrt(n), s with the n-1 divisor. With them: the cluster-robust error
    sqrt(G/(G-1) * sum_c (sum_{i in c} (x_i - mean))^2) / n over G clusters (Miller 2024, "Adding
    Error Bars to Evals", sections 2.1 and 2.2, with the finite-cluster factor of Liang and Zeger);
    with one question a cluster both are the same number. Raises ValueError on empty input.
    """
    x = np.asarray(values, dtype=np.float64)
    if x.size == 0:
        raise ValueError("the mean of no values is not defined")
    center = float(x.mean())
    sums = x - center if clusters is None else _cluster_sums(x - center, clusters)
    groups = len(sums)
    if groups < 2:
        return Estimate(center, nan, x.size)
    stderr = sqrt(groups / (groups - 1) * float(sums @ sums)) / x.size
    return Estimate(center, stderr, x.size)


def ratio(
    numerators: ArrayLike, denominators: ArrayLike, clusters: Sequence[object] | None = None
) -> Estimate:
    """Ratio of sums (bits over bytes of a corpus) with its linearised standard error.

    The error is that of the mean of (y_i - R x_i) / mean(x), R = sum y / sum x (Cochran, Sampling
    Techniques, 3rd ed., section 6.4), clustered as in :func:`mean`.
    """
    y, x = np.asarray(numerators, np.float64), np.asarray(denominators, np.float64)
    if x.sum() <= 0:
        raise ValueError("the denominators add up to nothing")
    value = float(y.sum() / x.sum())
    residual = mean((y - value * x) / x.mean(), clusters)
    return Estimate(value, residual.stderr, residual.n)


def _cluster_sums(
    residuals: NDArray[np.float64], clusters: Sequence[object]
) -> NDArray[np.float64]:
    codes: dict[object, int] = {}
    index = np.fromiter((codes.setdefault(c, len(codes)) for c in clusters), np.int64)
    if len(index) != len(residuals):
        raise ValueError(f"{len(residuals)} values but {len(index)} cluster labels")
    return np.bincount(index, residuals, len(codes)).astype(np.float64)


@dataclass(frozen=True)
class Difference:
    """Paired difference a - b: estimate and two-sided p of the normal test."""

    value: float
    stderr: float
    n: int
    p: float

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval."""
        return self.value - Z95 * self.stderr, self.value + Z95 * self.stderr


def paired_difference(
    a: ArrayLike, b: ArrayLike, clusters: Sequence[object] | None = None
) -> Difference:
    """Mean of a - b over common questions (Miller 2024, section 4.2).

    The test is the normal one, p = erfc(|z| / sqrt 2); equal inputs give p = 1.
    """
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if x.shape != y.shape:
        raise ValueError(f"paired values of different length: {x.size} and {y.size}")
    estimate = mean(x - y, clusters)
    if estimate.stderr > 0:
        p = erfc(abs(estimate.value) / estimate.stderr / sqrt(2))
    else:
        p = nan if np.isnan(estimate.stderr) else float(estimate.value == 0)
    return Difference(estimate.value, estimate.stderr, estimate.n, p)
