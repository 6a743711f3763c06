"""Standard errors against scipy, a simulation and brute force."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from olmeval.stats.mean import mean, paired_difference, ratio

values = st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=30)


@given(values)
def test_unclustered_equals_scipy_sem(x: list[float]) -> None:
    estimate = mean(x)
    assert estimate.value == pytest.approx(np.mean(x), abs=1e-9)
    assert estimate.stderr == pytest.approx(stats.sem(x), rel=1e-9, abs=1e-9)


@given(values)
def test_one_question_a_cluster_changes_nothing(x: list[float]) -> None:
    assert mean(x, list(range(len(x)))).stderr == pytest.approx(mean(x).stderr, abs=1e-9)


def test_identical_clusters_count_once() -> None:
    # Every question repeated four times carries the information of one.
    x = np.random.default_rng(0).normal(size=50)
    repeated = mean(np.repeat(x, 4), np.repeat(np.arange(50), 4).tolist())
    assert repeated.stderr == pytest.approx(mean(x).stderr, rel=1e-12)


def test_clustered_error_covers_in_simulation() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(1000):
        passage = rng.normal(size=60)
        x = np.repeat(passage, 5) + rng.normal(size=300)
        e = mean(x, np.repeat(np.arange(60), 5).tolist())
        covered += abs(e.value) < 1.96 * e.stderr
    assert 920 <= covered <= 975


def test_paired_difference_is_the_one_sample_test_of_the_differences() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.normal(0.03, 1, 5000), rng.normal(0, 1, 5000)
    d = paired_difference(a, b)
    # At 5,000 questions the t test of scipy and the normal one agree to three digits.
    assert d.p == pytest.approx(stats.ttest_rel(a, b).pvalue, rel=2e-3)
    assert d.interval[0] < d.value < d.interval[1]


def test_degenerate_cases_are_nan_or_refused() -> None:
    assert math.isnan(mean([1.0]).stderr)
    assert paired_difference([1, 1, 0], [1, 1, 0]).p == 1.0
    with pytest.raises(ValueError, match="no values"):
        mean([])
    with pytest.raises(ValueError, match="cluster labels"):
        mean([1.0, 2.0], ["a"])


def test_ratio_error_equals_a_bootstrap() -> None:
    rng = np.random.default_rng(3)
    size = rng.integers(50, 3000, 400)
    bits = size * rng.normal(1.2, 0.3, 400)
    estimate = ratio(bits, size)
    assert estimate.value == pytest.approx(bits.sum() / size.sum())
    picks = rng.integers(0, 400, (4000, 400))
    spread = (bits[picks].sum(1) / size[picks].sum(1)).std()
    assert estimate.stderr == pytest.approx(spread, rel=0.05)


def test_ratio_of_equal_sizes_is_the_mean() -> None:
    x = [1.0, 2.0, 4.0]
    assert ratio(x, [1, 1, 1]).stderr == pytest.approx(mean(x).stderr)
