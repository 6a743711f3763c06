"""Measures of spread over a population of models: the numerator of a signal-to-noise ratio.

Every measure is *relative* (divided by the magnitude of the mean), because it is divided by a
relative noise: Heineman et al. 2025, "Signal and Noise", section 3, whose signal is ``range``. The
paper's appendix compares variants; those that measure spread are here by name. Its variants that do
not (shifted dispersion, which is always 1, and the discrepancies and depths, which have no unit in
common with a noise) are left out; its squared distances are here as their root, in the unit of the
scores.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def _range(x: Array) -> Array:
    return np.asarray(np.ptp(x, axis=-1))


def _sd(x: Array) -> Array:
    return np.asarray(x.std(axis=-1, ddof=1))


def _rms(x: Array) -> Array:
    return np.asarray(x.std(axis=-1))


def _aad(x: Array) -> Array:
    return np.asarray(np.abs(x - x.mean(axis=-1, keepdims=True)).mean(axis=-1))


def _mad(x: Array) -> Array:
    middle = np.median(x, axis=-1, keepdims=True)
    return np.asarray(np.median(np.abs(x - middle), axis=-1))


def _between(low: float, high: float) -> Callable[[Array], Array]:
    def measure(x: Array) -> Array:
        first, last = np.quantile(x, [low, high], axis=-1)
        return np.asarray(last - first)

    return measure


def _pairwise(x: Array) -> Array:
    # The sum over pairs of |x_i - x_j| by ranks: each value is above k others and below n-1-k.
    n = x.shape[-1]
    weights = 2.0 * np.arange(n) - (n - 1)
    return np.asarray(np.sort(x, axis=-1) @ weights * 2 / (n * (n - 1)))


def _pairwise_rms(x: Array) -> Array:
    return np.asarray(
        np.sqrt(2.0) * _sd(x)
    )  # the mean of (x_i - x_j)^2 over pairs is twice the variance


def _pairwise_sd(x: Array) -> Array:
    return np.sqrt(np.maximum(_pairwise_rms(x) ** 2 - _pairwise(x) ** 2, 0.0))


def _half_iqr(x: Array) -> Array:
    return _between(0.25, 0.75)(x) / 2


def _half_pairwise(x: Array) -> Array:
    return _pairwise(x) / 2


_ABSOLUTE: dict[str, Callable[[Array], Array]] = {
    "range": _range,
    "sd": _sd,
    "rms_deviation": _rms,
    "mean_deviation": _aad,
    "median_deviation": _mad,
    "iqr": _between(0.25, 0.75),
    "quartile_deviation": _half_iqr,
    "range_5_95": _between(0.05, 0.95),
    "pairwise_mean": _pairwise,
    "pairwise_rms": _pairwise_rms,
    "pairwise_sd": _pairwise_sd,
    "gini": _half_pairwise,
}

SPREADS = tuple(_ABSOLUTE)


def spread(measure: str, x: Array) -> Array:
    """Relative spread of ``x`` [..., models] over its last axis; nan where the mean is 0.

    ``range`` is max minus min; ``sd`` has the divisor n-1, ``rms_deviation`` n; ``mean_`` and
    ``median_deviation`` are about the mean and the median; ``quartile_deviation`` is half the
    interquartile range; the ``pairwise_`` ones are over all pairs' distances; ``gini`` is half
    their mean (Gini coefficient, as everything is divided by the mean). Raises KeyError for
    another name.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = _ABSOLUTE[measure](x) / np.abs(x.mean(axis=-1))
    return np.where(np.isfinite(relative), relative, np.nan)
