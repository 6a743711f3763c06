"""Noise, smoothed bootstrap and power against closed forms and simulation."""

import numpy as np
import pytest
from scipy import stats

from olmeval.stats.bootstrap import block_index, scale_interval, smoothed
from olmeval.stats.noise import (
    ENOUGH_RUNS,
    noise,
    noise_samples,
    normal_theory_interval,
    relative_variances,
    resolvable,
)


def test_noise_is_the_n_minus_1_deviation_over_the_mean() -> None:
    x = np.array([0.4, 0.42, 0.38, 0.41, 0.44])
    assert noise(x[None]) == pytest.approx(np.std(x, ddof=1) / x.mean())


def test_what_separates_runs_is_not_noise() -> None:
    random = np.random.default_rng(0)
    levels = np.linspace(0.2, 0.8, 25)[:, None]
    x = levels * (1 + 0.01 * random.standard_normal((25, 5)))
    assert noise(x) == pytest.approx(0.01, rel=0.15)
    assert noise(x.reshape(1, -1)) > 0.3  # all scores in one heap: the signal itself


def test_short_runs_count_with_what_they_have() -> None:
    x = np.array([[np.nan, 1.0, 1.2], [2.0, 2.2, 2.1], [np.nan, np.nan, 5.0]])
    expected = [(np.std([1, 1.2], ddof=1) / 1.1) ** 2, (np.std([2, 2.2, 2.1], ddof=1) / 2.1) ** 2]
    np.testing.assert_allclose(relative_variances(x)[:2], expected)
    assert np.isnan(relative_variances(x)[2])
    assert noise(x) == pytest.approx(np.sqrt(np.mean(expected)))
    assert np.isnan(noise(x[2:]))


@pytest.mark.parametrize("runs", [1, ENOUGH_RUNS - 1, ENOUGH_RUNS, 25])
def test_samples_lie_about_the_noise(runs: int) -> None:
    random = np.random.default_rng(1)
    x = 5 + 0.1 * random.standard_normal((runs, 10))
    samples = noise_samples(x, random, 4000)
    assert samples.shape == (4000,)
    # Blocks of ten checkpoints vary less than checkpoints one by one; no more than a tenth less.
    assert np.median(samples) == pytest.approx(noise(x), rel=0.1)
    assert 0.3 / np.sqrt(9 * runs) < samples.std() / noise(x) < 1.2 / np.sqrt(9 * runs)


def test_no_repeats_no_noise() -> None:
    one = np.full((3, 1), 2.0)
    assert np.isnan(noise(one))
    assert np.isnan(noise_samples(one, np.random.default_rng(0), 5)).all()


def test_smoothed_samples_keep_mean_and_variance_and_pass_the_extremes() -> None:
    random = np.random.default_rng(2)
    x = random.standard_normal(12) + 3
    drawn = smoothed(x, random, 200_000)
    assert drawn.mean() == pytest.approx(x.mean(), abs=0.01)
    assert drawn.var() == pytest.approx(x.var(ddof=1), rel=0.02)
    assert drawn.max() > x.max() and drawn.min() < x.min()
    assert (smoothed(np.array([1.5]), random, 4) == 1.5).all()
    assert (smoothed(np.full(5, 0.1), random, 4) == 0.1).all()


def test_blocks_are_neighbours() -> None:
    index = block_index(27, np.random.default_rng(0), 100)
    assert index.shape == (100, 27)
    steps = np.diff(index, axis=1)
    inside = np.ones(26, bool)
    inside[2::3] = False  # blocks of three
    assert (steps[:, inside] == 1).all()
    assert index.min() == 0 and index.max() == 26


def test_scale_interval_of_a_known_distribution() -> None:
    # A chi-square pivot: the interval must be the textbook one for a standard deviation.
    df, sd = 19, 2.0
    quantiles = (np.arange(100_000) + 0.5) / 100_000
    samples = sd * np.sqrt(stats.chi2.ppf(quantiles, df) / df)
    low, high = scale_interval(sd, samples, sd)
    expected = normal_theory_interval(sd, df)
    assert (low, high) == pytest.approx(expected, rel=1e-3)
    assert expected[0] == pytest.approx(sd * np.sqrt(df / stats.chi2.ppf(0.975, df)))


def test_resolvable_difference_is_found_in_four_of_five() -> None:
    assert resolvable(1.0, np.inf) == pytest.approx((1.959964 + 0.841621) * np.sqrt(2), rel=1e-6)
    assert resolvable(1.0, 9) > resolvable(1.0, np.inf)
    assert np.isnan(resolvable(1.0, 0))
    random = np.random.default_rng(3)
    true = resolvable(0.01, np.inf)
    seen = true + 0.01 * (random.standard_normal(50_000) - random.standard_normal(50_000))
    found = np.abs(seen) > 1.959964 * 0.01 * np.sqrt(2)
    assert found.mean() == pytest.approx(0.8, abs=0.01)
