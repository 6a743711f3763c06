"""Decision accuracy against counting pairs, scipy's tau and closed forms."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from olmeval.stats.ranking import (
    accuracy_interval,
    agreement,
    decision_accuracy,
    jackknife_interval,
    leave_one_out,
)

scores = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=2, max_size=25)


def count(x: list[int], y: list[int]) -> float:
    total = 0.0
    for i, j in combinations(range(len(x)), 2):
        if x[i] == x[j] or y[i] == y[j]:
            total += 0.5
        else:
            total += (x[i] > x[j]) == (y[i] > y[j])
    return total / (len(x) * (len(x) - 1) / 2)


@settings(deadline=None)
@given(scores)
def test_equals_counting_pairs(pairs: list[tuple[int, int]]) -> None:
    x, y = [a for a, _ in pairs], [b for _, b in pairs]
    assert decision_accuracy(x, y) == pytest.approx(count(x, y))


@settings(deadline=None)
@given(scores, st.randoms(use_true_random=False))
def test_order_units_and_sides_do_not_matter(pairs: list[tuple[int, int]], random: object) -> None:
    x, y = np.array(pairs).T
    value = decision_accuracy(x, y)
    assert decision_accuracy(y, x) == pytest.approx(value)
    assert decision_accuracy(3.5 * x - 2, np.exp(y)) == pytest.approx(value)
    assert decision_accuracy(-x, y) == pytest.approx(1 - value)
    random.shuffle(pairs)  # type: ignore[attr-defined]
    assert decision_accuracy(*np.array(pairs).T) == pytest.approx(value)


def test_without_ties_it_is_kendalls_tau() -> None:
    random = np.random.default_rng(0)
    x, y = random.standard_normal((2, 60))
    y += x
    assert decision_accuracy(x, y) == pytest.approx((1 + stats.kendalltau(x, y).statistic) / 2)


def test_all_tied_is_a_coin() -> None:
    assert decision_accuracy(np.zeros(7), np.arange(7)) == 0.5


def test_leaving_models_out_by_hand() -> None:
    random = np.random.default_rng(1)
    x, y = random.integers(0, 6, (2, 9))
    expected = [decision_accuracy(np.delete(x, k), np.delete(y, k)) for k in range(9)]
    without = leave_one_out(agreement(x, y))
    np.testing.assert_allclose(without, expected)
    low, high = jackknife_interval(0.6, without)
    half = stats.t.ppf(0.975, 8) * np.sqrt(8 / 9 * np.sum((expected - np.mean(expected)) ** 2))
    assert (low, high) == pytest.approx((0.6 - half, 0.6 + half))
    assert np.isnan(leave_one_out(np.zeros((2, 2)))).all()


def test_interval_when_every_pair_agrees() -> None:
    low, high = accuracy_interval(1.0, np.ones(21))
    # Ten independent pairs, all alike: Clopper and Pearson.
    assert low == pytest.approx(stats.binomtest(10, 10).proportion_ci(method="exact").low)
    assert high == 1.0
    assert accuracy_interval(0.0, np.zeros(21)) == (0.0, pytest.approx(1 - low))
    assert np.isnan(accuracy_interval(1.0, np.ones(2))).all()
    assert accuracy_interval(0.95, [0.7, 0.95, 1.0])[1] == 1.0


def test_scores_of_different_models_are_refused() -> None:
    with pytest.raises(ValueError, match="different models"):
        agreement([1, 2], [1, 2, 3])


def test_interval_covers_the_closed_form() -> None:
    """For bivariate normal scores the expected accuracy is 1/2 + arcsin(rho) / pi."""
    random = np.random.default_rng(5)
    rho, models, hits = 0.7, 25, 0
    truth = 0.5 + np.arcsin(rho) / np.pi
    for _ in range(300):
        x, noise = random.standard_normal((2, models))
        y = rho * x + np.sqrt(1 - rho**2) * noise
        low, high = accuracy_interval(decision_accuracy(x, y), leave_one_out(agreement(x, y)))
        hits += low <= truth <= high
    assert 0.92 - 0.025 < hits / 300 < 0.98 + 0.025  # within two errors of 300 draws
