"""pass@k and maj@k against enumeration."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from olmeval.metrics.sampling import maj_at_k, pass_at_k


@given(st.integers(1, 9), st.data())
def test_pass_at_k_is_the_mean_over_all_subsets(n: int, data: st.DataObject) -> None:
    c, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    subsets = list(combinations([True] * c + [False] * (n - c), k))
    assert pass_at_k(n, c, k) == pytest.approx(sum(map(any, subsets)) / len(subsets), abs=1e-12)


def test_pass_at_k_closed_forms() -> None:
    assert pass_at_k(200, 13, 1) == pytest.approx(13 / 200)  # k = 1: the plain mean
    assert pass_at_k(4, 2, 2) == pytest.approx(1 - 1 / 6)
    assert pass_at_k(10, 6, 5) == 1.0  # fewer wrong ones than k
    assert pass_at_k(5, 0, 5) == 0.0
    # The product form of the paper's appendix, on the sizes of HumanEval (n = 200, k = 100).
    product = 1.0
    for i in range(200 - 3 + 1, 201):
        product *= 1 - 100 / i
    assert pass_at_k(200, 3, 100) == pytest.approx(1 - product, abs=1e-12)


@pytest.mark.parametrize(("n", "c", "k"), [(1, 0, 10), (5, 6, 1), (5, -1, 1), (5, 1, 0), (0, 0, 1)])
def test_impossible_counts_are_errors(n: int, c: int, k: int) -> None:
    with pytest.raises(ValueError, match="pass@"):
        pass_at_k(n, c, k)


def test_majority() -> None:
    answers, scores = ["7", "5", "5", "7", "7"], [0.0, 1.0, 1.0, 0.0, 0.0]
    assert [maj_at_k(answers, scores, k) for k in range(1, 6)] == [0.0, 0.0, 1.0, 0.0, 0.0]
    #                                             7    tie: 7 first   5   tie: 7    7


def test_majority_errors() -> None:
    with pytest.raises(ValueError, match="maj@4 needs at least 4"):
        maj_at_k(["a"] * 3, [1.0] * 3, 4)
    with pytest.raises(ValueError, match="2 answers but 1 scores"):
        maj_at_k(["a", "b"], [1.0], 1)
