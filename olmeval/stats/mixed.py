"""Tails of a statistic whose error is made of variances known with different degrees of freedom.

Satterthwaite's single number of degrees of freedom holds in the middle of the distribution; far out
in its tail, where a test among twenty decides, it rejects up to twice too often when one part has
few degrees of freedom. The mixture of Cochran and Cox keeps the level there.
"""

from collections.abc import Sequence
from math import erfc, log10, sqrt

Part = tuple[float, float]  # a variance and its degrees of freedom


def critical_value(level: float, parts: Sequence[Part]) -> float:
    """One-sided critical value of difference / sqrt(sum of variances) at ``level``.

    sum_i v_i t_{1-level, df_i} / sum_i v_i (Cochran and Cox 1950, "Experimental Designs", section
    4.14). Raises ValueError where all variances are 0.
    """
    from scipy.special import stdtrit  # t's quantile, a hundred times faster than scipy.stats.t

    total = sum(variance for variance, _ in parts)
    if total <= 0:
        raise ValueError("no variance, no critical value")
    return float(sum(-v * stdtrit(df, level) for v, df in parts) / total)


def upper_tail(statistic: float, parts: Sequence[Part]) -> float:
    """One-sided p of ``statistic``: the level whose :func:`critical_value` it is."""
    from scipy.optimize import brentq
    from scipy.special import stdtr

    if statistic <= 0:  # symmetric about 0
        return 1.0 - upper_tail(-statistic, parts) if statistic < 0 else 0.5
    # The mixture lies between its parts' tails: the normal one below, the fewest degrees above.
    low = max(erfc(statistic / sqrt(2)) / 2, 1e-300)
    high = min(float(stdtr(min(df for _, df in parts), -statistic)), 0.5)
    if high <= low:
        return high

    def gap(log_level: float) -> float:
        return critical_value(10.0**log_level, parts) - statistic

    return float(10.0 ** brentq(gap, log10(low) - 1e-9, log10(high) + 1e-9, xtol=1e-10))
