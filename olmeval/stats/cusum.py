"""A drift chart that needs no known mean: the self-starting CUSUM."""

from math import exp, log1p

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def self_starting(values: ArrayLike) -> Array:
    """Scores [n] that are independent standard normal while ``values`` [n] do not change.

    Each value is standardised by the mean and deviation of those before it, and its t is turned
    into a normal score: Hawkins 1987, "Self-Starting CUSUM Charts for Location and Scale",
    equation 1. The first two are 0: nothing is known yet. A chart against one baseline instead
    would take the baseline's own error for a drift.
    """
    from scipy.stats import norm, t

    x = np.asarray(values, np.float64)
    scores = np.zeros(len(x))
    if len(x) < 3:
        return scores
    # Means and squared deviations of the first k values, k = 2 ... n-1, from their sums about the
    # first value, which keeps digits where the values are far from 0.
    gaps = x - x[0]
    k = np.arange(2, len(x))
    means = np.cumsum(gaps)[1:-1] / k
    squares = np.maximum(np.cumsum(gaps**2)[1:-1] - k * means**2, 0.0)
    squares[squares <= 1e-12 * np.cumsum(gaps**2)[1:-1]] = 0.0
    gap = gaps[2:] - means
    with np.errstate(divide="ignore", invalid="ignore"):
        statistic = np.where(
            squares > 0,
            np.sqrt(k / (k + 1)) * gap / np.sqrt(squares / (k - 1)),
            np.where(np.abs(gap) <= 1e-12 * np.abs(means), 0.0, np.sign(gap) * np.inf),
        )
    # From the nearer tail, so that far values keep their distance; 8 is as far as it matters.
    sizes = np.minimum(norm.isf(t.sf(np.abs(statistic), k - 1)), 8.0)
    scores[2:] = np.copysign(sizes, statistic)
    return scores


def cusum(scores: ArrayLike, shift: float = 1.0) -> Array:
    """Upper CUSUM [n]: S_k = max(0, S_{k-1} + score_k - shift / 2) (Page 1954).

    ``shift``, in standard deviations, is the change that is found soonest.
    """
    total, chart = 0.0, []
    for score in np.asarray(scores, np.float64).tolist():
        total = max(0.0, total + score - shift / 2)
        chart.append(total)
    return np.array(chart)


def threshold(false_alarm: float, checks: int, shift: float = 1.0) -> float:
    """Chart height that ``checks`` values without change pass with probability ``false_alarm``.

    Run lengths are near to exponential with the mean of Siegmund 1985, "Sequential Analysis",
    section 2.6: (e^{2kb} - 2kb - 1) / (2k^2), k = shift / 2, b = height + 1.166.
    """
    from scipy.optimize import brentq

    k = shift / 2
    wanted = -checks / log1p(-false_alarm)

    def gap(height: float) -> float:
        b = height + 1.166
        return (exp(2 * k * b) - 2 * k * b - 1) / (2 * k * k) - wanted

    return float(brentq(gap, 0.0, 300.0 / shift)) if gap(0.0) < 0 else 0.0
