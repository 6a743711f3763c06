"""Agreement of two rankings of the same models, and its bootstrap over models."""

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


def model_weights(models: int, random: np.random.Generator, samples: int) -> Array:
    """How often each model is in each of the bootstrap samples [samples, models]."""
    even = np.full(models, 1 / models)
    return random.multinomial(models, even, size=samples).astype(np.float64)


def weighted_accuracy(agreed: Array, weights: Array) -> Array:
    """Decision accuracy in each bootstrap sample [B]; ``agreed`` [M, M], ``weights`` [B, M].

    A model drawn twice makes no pair with itself: those would all be ties.
    """
    pairs = weights.sum(axis=1) ** 2 - (weights**2).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(((weights @ agreed) * weights).sum(axis=1) / pairs)


def accuracy_interval(
    estimate: float, samples: Array, models: int, level: float = 0.95
) -> tuple[float, float]:
    """Percentile interval of a decision accuracy from its bootstrap ``samples``.

    Where all pairs agree (or none) every sample says the same; then the far end is the exact
    binomial bound (Clopper and Pearson 1934) of models // 2 pairs without a common model.
    """
    if models < 3:
        return float("nan"), float("nan")
    tail = (1 - level) / 2
    bound = tail ** (1 / (models // 2))
    if estimate == 1:
        return bound, 1.0
    if estimate == 0:
        return 0.0, 1 - bound
    low, high = np.nanquantile(samples, [tail, 1 - tail])
    return float(low), float(high)
