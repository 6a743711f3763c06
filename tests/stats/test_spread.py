"""Measures of spread against plain loops over pairs, and their invariances."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from olmeval.stats.spread import SPREADS, spread

populations = arrays(np.float64, st.integers(2, 30), elements=st.floats(0.01, 10.0))


def by_hand(x: np.ndarray) -> dict[str, float]:
    pairs = np.array([abs(a - b) for a, b in combinations(x, 2)])
    q1, q3 = np.percentile(x, [25, 75])
    low, high = np.percentile(x, [5, 95])
    return {
        "range": x.max() - x.min(),
        "sd": np.sqrt(((x - x.mean()) ** 2).sum() / (len(x) - 1)),
        "rms_deviation": np.sqrt(((x - x.mean()) ** 2).mean()),
        "mean_deviation": np.abs(x - x.mean()).mean(),
        "median_deviation": stats.median_abs_deviation(x),
        "iqr": stats.iqr(x),
        "quartile_deviation": (q3 - q1) / 2,
        "range_5_95": high - low,
        "pairwise_mean": pairs.mean(),
        "pairwise_rms": np.sqrt((pairs**2).mean()),
        "pairwise_sd": pairs.std(),
        "gini": pairs.mean() / 2,
    }


@settings(deadline=None)
@given(populations)
def test_equals_loops_over_pairs(x: np.ndarray) -> None:
    expected = by_hand(x)
    assert set(expected) == set(SPREADS)
    for name, value in expected.items():
        # The difference of two squares that are nearly the same loses half of the digits.
        tolerance = 1e-6 if name == "pairwise_sd" else 1e-9
        assert float(spread(name, x)) == pytest.approx(value / x.mean(), abs=tolerance), name


@settings(deadline=None)
@given(populations, st.floats(0.01, 100), st.randoms(use_true_random=False))
def test_units_and_order_do_not_matter(x: np.ndarray, unit: float, random: object) -> None:
    shuffled = x.copy()
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    for name in SPREADS:
        assert float(spread(name, unit * shuffled)) == pytest.approx(
            float(spread(name, x)), rel=1e-6, abs=1e-6
        ), name


def test_leading_axes_are_samples() -> None:
    x = np.random.default_rng(0).random((3, 4, 9))
    for name in SPREADS:
        whole = spread(name, x)
        assert whole.shape == (3, 4)
        assert whole[1, 2] == pytest.approx(float(spread(name, x[1, 2])))


def test_a_mean_of_zero_has_no_relative_spread() -> None:
    assert np.isnan(spread("range", np.array([-1.0, 1.0])))
