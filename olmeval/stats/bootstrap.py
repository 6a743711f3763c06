"""Bootstrap samples as whole arrays, and the intervals read off them."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Index = NDArray[np.int64]


def smoothed(
    x: Array, random: np.random.Generator, samples: int, index: Index | None = None
) -> Array:
    """Samples [samples, n] of the shrunk smoothed bootstrap of ``x`` [n].

    Resampled values get Gaussian noise of width 1.6 s n^(-1/5) and are drawn
    towards their mean so that the variance stays s^2, n-1 divisor (Silverman and Young 1987, "The
    Bootstrap: To Smooth or Not to Smooth?"; Efron and Tibshirani 1993, section 16.5). Without the
    noise a resample never exceeds the observed extremes, and the interval of a range is far too
    short; half again Silverman's width 1.06 is what covers best in ``benchmarks/coverage.py``.
    ``index`` [samples, n] fixes which values are drawn.
    """
    n = len(x)
    if index is None:
        index = random.integers(n, size=(samples, n))
    variance = x.var(ddof=1) if n > 1 else 0.0
    if not variance > 0:
        return x[index]
    width = 1.6 * np.sqrt(variance) * n**-0.2
    shrink = np.sqrt(variance / (variance * (n - 1) / n + width**2))
    center = x.mean()
    noise = width * random.standard_normal(index.shape)
    return np.asarray(center + shrink * (x[index] - center + noise))


def block_index(n: int, random: np.random.Generator, samples: int) -> Index:
    """Indices [samples, n] of the moving-block bootstrap of a series of ``n``.

    Blocks of n^(1/3) neighbours, rounded, keep the short-range correlation of checkpoints
    (Kuensch 1989; the rate is Hall, Horowitz and Jing's 1995 for a variance).
    """
    length = max(1, round(n ** (1 / 3)))
    blocks = -(-n // length)
    starts = random.integers(n - length + 1, size=(samples, blocks, 1))
    index = (starts + np.arange(length)).reshape(samples, -1)[:, :n]
    return np.asarray(index, np.int64)


def scale_interval(
    estimate: float, samples: Array, center: float, level: float = 0.95
) -> tuple[float, float]:
    """Interval of a positive scale parameter from ``samples`` [B] of its estimator.

    The ratio of estimate to parameter is the pivot: the interval is the basic bootstrap's (Davison
    and Hinkley 1997, section 5.2) on the scale of logarithms. ``center`` is the parameter's value
    in the world that the samples come from.
    """
    tail = (1 - level) / 2
    low, high = np.nanquantile(samples, [tail, 1 - tail])
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(estimate * center / high), float(estimate * center / low)
