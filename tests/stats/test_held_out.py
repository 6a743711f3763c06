"""Held-out gains: nothing is gained by choosing among equals, and a real gain is found."""

import numpy as np
import pytest

from olmeval.stats.held_out import halves, held_out_gain, masked_accuracy
from olmeval.stats.ranking import agreement, decision_accuracy


def stack(random: np.random.Generator, models: int, noises: list[float], tasks: int) -> np.ndarray:
    found = []
    for _ in range(tasks):
        quality = random.standard_normal(models)
        found.append(
            [agreement(quality + s * random.standard_normal(models), quality) for s in noises]
        )
    return np.array(found)


def test_halves_are_halves_and_serve_both_ways() -> None:
    masks = halves(11, 6, np.random.default_rng(0))
    assert masks.shape == (12, 11)
    assert set(masks.sum(axis=1)) == {5, 6}
    np.testing.assert_array_equal(masks[:6] + masks[6:], 1)


def test_masked_accuracy_is_that_of_the_models_in_the_mask() -> None:
    random = np.random.default_rng(1)
    x, y = random.integers(0, 9, (2, 12))
    masks = halves(12, 3, random)
    expected = [decision_accuracy(x[m > 0], y[m > 0]) for m in masks]
    np.testing.assert_allclose(masked_accuracy(agreement(x, y), masks), expected)


def test_choosing_among_equals_gains_nothing() -> None:
    random = np.random.default_rng(2)
    gains = [held_out_gain(stack(random, 24, [1.0] * 4, 3), 0, random, 10) for _ in range(80)]
    assert abs(np.mean([g.value for g in gains])) < 0.01
    assert np.mean([g.naive for g in gains]) > 0.04  # what judging the choosers would claim
    assert np.mean([g.low <= 0 <= g.high for g in gains]) > 0.88


def test_a_better_candidate_is_found_with_its_gain() -> None:
    random = np.random.default_rng(3)
    agreed = stack(random, 40, [1.0, 0.2, 1.0], 4)
    gain = held_out_gain(agreed, 0, random, 30)
    models = np.ones((1, 40))
    true = float(
        (masked_accuracy(agreed[:, 1], models) - masked_accuracy(agreed[:, 0], models)).mean()
    )
    assert gain.low > 0 and gain.stable > 0.95
    assert gain.value == pytest.approx(true, abs=0.02)


def test_missing_candidates_are_not_chosen() -> None:
    random = np.random.default_rng(4)
    agreed = stack(random, 20, [1.0, 0.1], 2)
    agreed[1, 1] = np.nan
    gain = held_out_gain(agreed, 0, random, 10)
    alone = held_out_gain(agreed[:1], 0, np.random.default_rng(4), 10)
    assert 0 < gain.value < alone.value
