"""Keyed permutations are bijections, differ by key, and look shuffled."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from olmeval.trainer.permutation import Permutation, keys


@given(n=st.integers(1, 3000), seed=st.integers(0, 2**31))
def test_bijection(n: int, seed: int) -> None:
    image = Permutation(n, keys(seed))(np.arange(n))
    assert np.array_equal(np.sort(image), np.arange(n))


@given(n=st.integers(1, 2**62), seed=st.integers(0, 2**31), data=st.data())
def test_huge_ranges_stay_inside_and_injective(n: int, seed: int, data: st.DataObject) -> None:
    index = data.draw(st.lists(st.integers(0, n - 1), max_size=50, unique=True))
    image = Permutation(n, keys(seed))(np.array(index, dtype=np.uint64))
    assert len(set(image.tolist())) == len(index)
    assert all(0 <= i < n for i in image.tolist())


def test_each_index_alone_is_as_in_a_batch() -> None:
    permutation = Permutation(1000, keys("a"))
    assert [int(permutation(i)) for i in range(1000)] == permutation(np.arange(1000)).tolist()


@pytest.mark.parametrize("n", [10, 101, 4096])
def test_places_are_uniform_over_keys(n: int) -> None:
    """Over many keys, the image of an index falls into ten bins alike; neighbours part."""
    first, second = np.array([Permutation(n, keys(k))([0, 1]) for k in range(3000)]).T
    for image in (first, (second - first) % n):
        values = image * 10 // n if image is first else (image - 1) * 10 // (n - 1)
        size = n if image is first else n - 1
        bins = np.bincount(values, minlength=10)
        expected = np.bincount(np.arange(size) * 10 // size, minlength=10) / size * 3000
        seen = expected > 0
        assert chisquare(bins[seen], expected[seen]).pvalue > 1e-3


def test_no_fixed_order() -> None:
    image = Permutation(10_000, keys("x"))(np.arange(10_000))
    assert abs(np.corrcoef(image, np.arange(10_000))[0, 1]) < 0.04
    assert not np.array_equal(image, Permutation(10_000, keys("y"))(np.arange(10_000)))
