"""Agreement of two rankings of the same models, and its error over a population of models."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def agreement(small: ArrayLike, target: ArrayLike) -> Array:
    """How each pair of M models is ordered by two scores [M, M]; the diagonal is 0.

    1 where both order the pair alike, 0 where they differ, one half where either of them ties.
    Larger is better in both: negate a loss first.
    """
    x, y = np.asarray(small, np.float64), np.asarray(target, np.float64)
    if x.shape != y.shape or x.ndim != 1:
        raise ValueError(f"scores of different models: {x.shape} and {y.shape}")
    alike = np.sign(x[:, None] - x) * np.sign(y[:, None] - y)
    agreed = (1 + alike) / 2
    np.fill_diagonal(agreed, 0)
    return agreed


def decision_accuracy(small: ArrayLike, target: ArrayLike) -> float:
    """Share of the M(M-1)/2 pairs of models that two scores order alike, ties one half.

    Magnusson et al. 2025, "DataDecide" (arXiv 2504.11393), section 2, whose ties count as wrong.
    It is (1 + Kendall's tau-a) / 2. nan for fewer than two models.
    """
    agreed = agreement(small, target)
    n = len(agreed)
    return float(agreed.sum() / (n * (n - 1))) if n > 1 else float("nan")


def leave_one_out(agreed: Array) -> Array:
    """Decision accuracy without each model in turn [M], from the agreement of pairs [M, M]."""
    n = len(agreed)
    if n < 3:
        return np.full(n, np.nan)
    return np.asarray((agreed.sum() - 2 * agreed.sum(axis=1)) / ((n - 1) * (n - 2)))


def jackknife_interval(
    estimate: float, without: ArrayLike, level: float = 0.95
) -> tuple[float, float]:
    """Interval of a decision accuracy, or of a difference of two, over a population of models.

    estimate +- t_{M-1} * sqrt((M-1)/M * sum_i (without_i - mean)^2), ``without`` [M] being the
    estimate without each model: Arvesen 1969, "Jackknifing U-Statistics". A model is left out with
    all its seeds, so their uncertainty is in it. A percentile bootstrap covers too much near 1.
    """
    from scipy.stats import t

    x = np.asarray(without, np.float64)
    n = len(x)
    if n < 3:
        return float("nan"), float("nan")
    half = float(t.ppf((1 + level) / 2, n - 1) * np.sqrt((n - 1) / n * ((x - x.mean()) ** 2).sum()))
    return estimate - half, estimate + half


def accuracy_interval(
    estimate: float, without: ArrayLike, level: float = 0.95
) -> tuple[float, float]:
    """:func:`jackknife_interval` of a decision accuracy, within [0, 1].

    Where all pairs agree (or none) nothing varies; then the far end is the exact binomial bound
    (Clopper and Pearson 1934) of M // 2 pairs without a common model.
    """
    models = len(np.asarray(without))
    if models < 3:
        return float("nan"), float("nan")
    bound = ((1 - level) / 2) ** (1 / (models // 2))
    if estimate == 1:
        return bound, 1.0
    if estimate == 0:
        return 0.0, 1 - bound
    low, high = jackknife_interval(estimate, without, level)
    return max(low, 0.0), min(high, 1.0)
