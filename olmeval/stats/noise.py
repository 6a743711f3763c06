"""Noise of repeated scores: the denominator of a signal-to-noise ratio, and what it can resolve.

Noise is the *relative* standard deviation, divisor n-1, of the last n checkpoints of one run
(Heineman et al. 2025, "Signal and Noise", section 3). Of several runs it is the root mean square of
theirs: each run's spread is about its own mean, so that what separates the runs, which is signal,
is not in it.
"""

from math import sqrt

import numpy as np
from numpy.typing import NDArray

from olmeval.stats.bootstrap import Index, block_index, smoothed

Array = NDArray[np.float64]
# From so many runs on, a run with all its checkpoints is what is resampled: the spread of the
# runs' variances then holds all uncertainty. Fewer runs are too few to resample.
ENOUGH_RUNS = 8


def relative_variances(x: Array) -> Array:
    """(s / mean)^2 of each row of ``x`` [..., runs, n], nan entries left out, divisor n-1."""
    with np.errstate(divide="ignore", invalid="ignore"):
        n = np.isfinite(x).sum(axis=-1)
        mean = np.nansum(x, axis=-1) / n
        squares = np.nansum((x - mean[..., None]) ** 2, axis=-1)
        return np.asarray(np.where(n > 1, squares / (n - 1) / mean**2, np.nan))


def noise(x: Array) -> float:
    """Root mean square over runs of their relative standard deviations; ``x`` is [runs, n]."""
    variances = relative_variances(x)
    variances = variances[np.isfinite(variances)]
    return sqrt(float(variances.mean())) if len(variances) else np.nan


def noise_samples(
    x: Array, random: np.random.Generator, samples: int, index: Index | None = None
) -> Array:
    """Bootstrap samples [samples] of :func:`noise` of ``x`` [runs, n].

    From :data:`ENOUGH_RUNS` on whole runs are drawn (``index`` [samples, runs] says which, where
    the same draw chose the models of the signal); with fewer, blocks of neighbouring checkpoints
    within each run.
    """
    kept = np.isfinite(x).sum(axis=-1) > 1
    if kept.sum() >= ENOUGH_RUNS:
        variances = relative_variances(x)
        if index is None:
            index = random.integers(len(x), size=(samples, len(x)))
        drawn = variances[index]
        return np.asarray(np.sqrt(np.nanmean(drawn, axis=-1)))
    drawn_variances = []
    for run in x[kept]:
        values = run[np.isfinite(run)]
        drawn = smoothed(values, random, samples, block_index(len(values), random, samples))
        drawn_variances.append(relative_variances(drawn))
    if not drawn_variances:
        return np.full(samples, np.nan)
    return np.asarray(np.sqrt(np.mean(drawn_variances, axis=0)))


def normal_theory_interval(sd: float, df: int, level: float = 0.95) -> tuple[float, float]:
    """Interval of a standard deviation estimated with ``df`` degrees of freedom, normal scores.

    sd * sqrt(df / chi2 quantile); for variances of very few repeats, where no bootstrap works.
    """
    from scipy.stats import chi2

    if df < 1:
        return np.nan, np.nan
    low, high = chi2.ppf([(1 + level) / 2, (1 - level) / 2], df)
    return sd * sqrt(df / low), sd * sqrt(df / high)


def resolvable(sd: float, df: float, power: float = 0.8, level: float = 0.95) -> float:
    """Smallest true difference of two scores, each with error ``sd``, found with ``power``.

    (t_{1-a/2} + t_power) * sqrt(2) * sd with ``df`` degrees of freedom behind ``sd`` (inf: normal
    quantiles; 1.960 + 0.842); Cohen 1988, section 2.4, with t in place of z as in Bloom 1995,
    "Minimum Detectable Effects".
    """
    from scipy.stats import t

    if df < 1:
        return float("nan")
    return float((t.ppf((1 + level) / 2, df) + t.ppf(power, df)) * sqrt(2) * sd)
