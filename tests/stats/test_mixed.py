"""Cochran and Cox's mixture against t itself, its definition, and its level by simulation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from olmeval.stats.mixed import critical_value, upper_tail

PARTS = st.lists(st.tuples(st.floats(0.01, 10), st.integers(1, 500)), min_size=1, max_size=3)


@settings(deadline=None)
@given(st.floats(-9, 9), st.floats(0.01, 10), st.integers(1, 200))
def test_one_part_is_students_t(statistic: float, variance: float, df: int) -> None:
    p = upper_tail(statistic, [(variance, df)])
    assert p == pytest.approx(stats.t.sf(statistic, df), rel=1e-6)


@settings(deadline=None)
@given(st.floats(1e-4, 0.4), PARTS)
def test_the_two_are_inverse(level: float, parts: list[tuple[float, int]]) -> None:
    value = critical_value(level, parts)
    total = sum(v for v, _ in parts)
    assert value == pytest.approx(sum(v * stats.t.isf(level, df) for v, df in parts) / total)
    assert upper_tail(value, parts) == pytest.approx(level, rel=1e-5)


def test_the_level_is_kept_far_out() -> None:
    random = np.random.default_rng(0)
    n, level, noise, question = 200_000, 0.0025, 2e-4, 1.25e-4
    drops = np.sqrt(noise + question) * random.standard_normal(n)
    seen = noise * random.chisquare(4, n) / 4
    total = seen + question
    bar = (seen * stats.t.isf(level, 4) + question * stats.t.isf(level, 1999)) / total
    assert bar[0] == pytest.approx(critical_value(level, [(question, 1999), (seen[0], 4)]))
    assert (drops / np.sqrt(total) > bar).mean() <= level
    df = total**2 / (seen**2 / 4 + question**2 / 1999)
    satterthwaite = (drops / np.sqrt(total) > stats.t.isf(level, df)).mean()
    assert satterthwaite > 1.5 * level  # why it is not used


def test_no_variance_is_refused() -> None:
    with pytest.raises(ValueError, match="no variance"):
        critical_value(0.05, [(0.0, 3)])
