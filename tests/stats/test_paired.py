"""Paired tests against exact enumeration, statsmodels' definitions by hand and simulation."""

from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from olmeval.stats.paired import (
    bootstrap_means,
    cluster_sums,
    groups_alike,
    holm,
    mcnemar,
    sign_flip,
)


@settings(deadline=None)
@given(st.integers(0, 30), st.integers(0, 30))
def test_mcnemar_is_a_fair_coin(wins: int, losses: int) -> None:
    n, least = wins + losses, min(wins, losses)
    tail = stats.binom.cdf(least, n, 0.5)
    assert mcnemar(wins, losses) == pytest.approx(min(1.0, 2 * tail))


def test_sign_flips_agree_with_all_of_them() -> None:
    random = np.random.default_rng(0)
    sums = random.standard_normal(10) + 0.5
    totals = [np.dot(signs, sums) for signs in product((-1, 1), repeat=10)]
    exact = np.mean([abs(t) >= abs(sums.sum()) - 1e-9 for t in totals])
    assert sign_flip(sums, random, 40_000) == pytest.approx(exact, abs=0.01)
    assert sign_flip(np.zeros(5), random) == 1.0
    assert 0 < sign_flip(np.ones(60), random, 500) <= 2 / 501


def test_sign_flip_p_values_are_uniform_without_a_difference() -> None:
    random = np.random.default_rng(1)
    p = [sign_flip(random.standard_normal(30), random, 200) for _ in range(400)]
    assert stats.kstest(p, "uniform").pvalue > 0.001


@pytest.mark.parametrize("n", [1, 2, 3, 90, 850, 999, 4001, 900_001])
def test_sign_flips_are_of_the_plain_definition(n: int) -> None:
    """The draws that generator.integers makes, multiplied out: the same p, and the same state."""
    sums = np.random.default_rng(n).standard_normal(n) + 1 / np.sqrt(n)
    mine, plain = np.random.default_rng(7), np.random.default_rng(7)
    samples = 10_000 if n < 5000 else 20
    block, extreme = max(1, 4_000_000 // n), 0
    for start in range(0, samples, block):
        size = (min(block, samples - start), n)
        signs = plain.integers(0, 2, size=size, dtype=np.int8)
        totals = 2 * (signs @ sums) - sums.sum()
        extreme += int((np.abs(totals) >= abs(sums.sum()) - 1e-9 * np.abs(sums).sum()).sum())
    assert sign_flip(sums, mine, samples) == (1 + extreme) / (1 + samples)
    assert mine.integers(2**62) == plain.integers(2**62)


def test_bootstrap_of_means() -> None:
    random = np.random.default_rng(2)
    for values in (random.integers(-1, 2, 500).astype(float), random.standard_normal(1500)):
        means = bootstrap_means(*cluster_sums(values), random, 4000)
        assert means.mean() == pytest.approx(values.mean(), abs=0.01)
        assert means.std() == pytest.approx(values.std() / np.sqrt(len(values)), rel=0.05)


def test_clusters_are_drawn_whole() -> None:
    random = np.random.default_rng(3)
    groups = np.repeat(np.arange(40), 5)
    values = random.standard_normal(40)[groups]
    sums, sizes = cluster_sums(values, groups.tolist())
    assert sizes.tolist() == [5] * 40
    means = bootstrap_means(sums, sizes, random, 4000)
    assert means.std() == pytest.approx(values[::5].std() / np.sqrt(40), rel=0.05)


def test_holm_by_hand() -> None:
    np.testing.assert_allclose(
        holm([0.01, 0.04, 0.03, 0.005, np.nan]), [0.03, 0.06, 0.06, 0.02, np.nan]
    )
    assert holm([]).size == 0


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_the_smallest_level_that_rejects(p: list[float]) -> None:
    order = np.argsort(p, kind="stable")
    expected, worst = np.empty(len(p)), 0.0
    for rank, k in enumerate(order):
        worst = max(worst, (len(p) - rank) * p[k])
        expected[k] = min(1.0, worst)
    np.testing.assert_allclose(holm(p), expected)


@settings(deadline=None)
@given(st.integers(1, 7), st.data())
def test_groups_are_the_maximal_sets_without_a_difference(n: int, data: st.DataObject) -> None:
    pairs = list(combinations(range(n), 2))
    different = data.draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else []
    alike = [
        frozenset(s)
        for size in range(1, n + 1)
        for s in combinations(range(n), size)
        if not any(i in s and j in s for i, j in different)
    ]
    maximal = {s for s in alike if not any(s < other for other in alike)}
    assert set(groups_alike(n, different)) == maximal
