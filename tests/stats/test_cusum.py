"""The drift chart against its definition and by simulation."""

import numpy as np
import pytest
from scipy import stats

from olmeval.stats.cusum import cusum, self_starting, threshold


def test_scores_without_change_are_standard_normal() -> None:
    random = np.random.default_rng(0)
    scores = np.array([self_starting(5 + 0.1 * random.standard_normal(12)) for _ in range(1500)])
    assert (scores[:, :2] == 0).all()
    for k in (2, 5, 11):
        assert stats.kstest(scores[:, k], "norm").pvalue > 0.001
    assert abs(np.corrcoef(scores[:, 6], scores[:, 7])[0, 1]) < 0.08


def test_every_score_by_hand() -> None:
    x = 1e4 + np.random.default_rng(3).standard_normal(9)
    scores = self_starting(x)
    for k in range(2, 9):
        past = x[:k]
        statistic = np.sqrt(k / (k + 1)) * (x[k] - past.mean()) / past.std(ddof=1)
        assert scores[k] == pytest.approx(stats.norm.ppf(stats.t.cdf(statistic, k - 1)), abs=1e-6)


def test_units_and_direction() -> None:
    x = np.random.default_rng(1).standard_normal(20)
    np.testing.assert_allclose(self_starting(3 * x + 7), self_starting(x), atol=1e-9)
    np.testing.assert_allclose(self_starting(-x), -self_starting(x), atol=1e-12)
    assert self_starting([1.0, 1.0, 1.0, 0.5])[-1] == -8.0
    assert self_starting([1.0] * 5).tolist() == [0.0] * 5


def test_chart_by_hand() -> None:
    assert cusum([1.0, -2.0, 0.7, 0.8], shift=1.0) == pytest.approx([0.5, 0.0, 0.2, 0.5])


def test_height_keeps_the_rate_of_false_alarms() -> None:
    random = np.random.default_rng(2)
    height = threshold(0.1, checks=100)
    alarms = sum(cusum(random.standard_normal(100)).max() > height for _ in range(1000))
    assert 0.05 < alarms / 1000 < 0.125
    assert threshold(0.1, 1000) > height > threshold(0.2, 100)


def test_siegmunds_run_length() -> None:
    # k = 1/2, h = 5: 930 in Hawkins and Olwell 1998 (one-sided); Siegmund's formula gives 938.
    height = threshold(1 - np.exp(-100 / 938.2), checks=100, shift=1.0)
    assert height == pytest.approx(5.0, abs=0.01)
