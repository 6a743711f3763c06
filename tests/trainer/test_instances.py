"""Boundaries of documents and degenerate rows, against plain loops over the tokens."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from olmeval.trainer.instances import cu_seqlens, document_ids, repetitive

EOS = 0
batches = st.tuples(st.integers(1, 4), st.integers(2, 12)).flatmap(
    lambda shape: arrays(np.int64, shape, elements=st.integers(0, 3))
)


def test_boundaries_by_hand() -> None:
    #  inputs: 5 6 E | 7 E | 8         E | 9 4 4 4 4     the last token is a target alone
    tokens = np.array([[5, 6, EOS, 7, EOS, 8, EOS], [EOS, 9, 4, 4, 4, 4, 4]])
    assert document_ids(tokens, EOS).tolist() == [[0, 0, 0, 1, 1, 2], [0, 1, 1, 1, 1, 1]]
    assert cu_seqlens(tokens, EOS).tolist() == [0, 3, 5, 6, 7, 12]


@given(batches)
def test_boundaries_against_a_loop(tokens: np.ndarray) -> None:
    ids, starts = [], []
    for b, row in enumerate(tokens):
        document, numbers = 0, []
        for t in range(len(row) - 1):
            if t == 0 or row[t - 1] == EOS:
                starts.append(b * (len(row) - 1) + t)
                document += t > 0
            numbers.append(document)
        ids.append(numbers)
    assert document_ids(tokens, EOS).tolist() == ids
    assert cu_seqlens(tokens, EOS).tolist() == [*starts, tokens.shape[0] * (tokens.shape[1] - 1)]


def longest_repetition(row: list[int], max_period: int) -> int:
    """Most times that any n-gram follows itself."""
    best = 1
    for period in range(1, max_period + 1):
        for start in range(len(row)):
            times = 1
            unit = row[start : start + period]
            while len(unit) == period and unit == row[start + times * period :][:period]:
                times += 1
            best = max(best, times)
    return best


@given(
    batch=st.tuples(st.integers(1, 3), st.integers(2, 30)).flatmap(
        lambda shape: arrays(np.uint16, shape, elements=st.integers(0, 1))
    ),
    max_period=st.integers(1, 4),
    times=st.integers(2, 5),
)
def test_repetition_against_a_search(batch: np.ndarray, max_period: int, times: int) -> None:
    expected = [longest_repetition(row, max_period) >= times for row in batch.tolist()]
    assert repetitive(batch, max_period, times).tolist() == expected


@pytest.mark.parametrize("period", [1, 2, 13])
@pytest.mark.parametrize("offset", [0, 5])
def test_the_rule_of_32_repetitions_of_13_tokens(period: int, offset: int) -> None:
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 50_000, size=(4, 600))
    unit = rng.permutation(50_000)[:period]
    rows[1, offset : offset + 32 * period] = np.tile(unit, 32)
    rows[2, offset : offset + 31 * period] = np.tile(unit, 31)
    rows[3, 600 - 32 * period :] = np.tile(unit, 32)
    assert repetitive(rows).tolist() == [False, True, False, True]


def test_a_period_of_14_is_no_ngram() -> None:
    row = np.tile(np.arange(14), 40)[None]
    assert not repetitive(row).any()
    assert repetitive(row, max_period=14).all()
