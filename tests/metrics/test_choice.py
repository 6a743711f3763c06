"""Choice metrics against a straight-line loop, and their invariances."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from olmeval.metrics.choice import Choices, choice_metric

ACCURACIES = ["acc_raw", "acc_per_token", "acc_per_char", "acc_per_byte", "acc_uncond"]


def make(instances: list[list[tuple[float, int, int, int, float]]], gold: list[int]) -> Choices:
    flat = [choice for instance in instances for choice in instance]
    column = lambda k, dtype: np.array([c[k] for c in flat], dtype=dtype)  # noqa: E731
    return Choices(
        logprob=column(0, np.float64),
        tokens=column(1, np.int64),
        chars=column(2, np.int64),
        bytes=column(3, np.int64),
        greedy=np.array([c[0] > -1 for c in flat]),
        offsets=np.cumsum([0] + [len(i) for i in instances]),
        gold=np.array(gold),
        unconditional=column(4, np.float64),
    )


def brute(name: str, instance: list[tuple[float, int, int, int, float]], gold: int) -> float:
    def score(c: tuple[float, int, int, int, float]) -> float:
        divisor = {"acc_per_token": c[1], "acc_per_char": c[2], "acc_per_byte": c[3]}.get(name, 1)
        return (c[0] - (c[4] if name == "acc_uncond" else 0)) / max(divisor, 1)

    scores = [score(c) for c in instance]
    return (scores[gold] == max(scores)) / scores.count(max(scores))


choice = st.tuples(
    st.sampled_from([-8.0, -4.0, -2.0, -1.0, -0.5]),
    st.integers(0, 4), st.integers(0, 9), st.integers(0, 12),
    st.sampled_from([-4.0, -2.0]),
)  # fmt: skip
cases = st.lists(
    st.lists(choice, min_size=1, max_size=5).flatmap(
        lambda c: st.tuples(st.just(c), st.integers(0, len(c) - 1))
    ),
    min_size=1,
    max_size=6,
)


@pytest.mark.parametrize("name", ACCURACIES)
@given(case=cases)
def test_accuracy_equals_the_loop(name: str, case) -> None:
    instances, gold = [c[0] for c in case], [c[1] for c in case]
    values, ties = choice_metric(name, make(instances, gold))
    assert values.tolist() == [brute(name, i, g) for i, g in zip(instances, gold, strict=True)]
    assert 0 <= ties <= len(case)


@given(case=cases, seed=st.integers(0, 99))
def test_order_of_choices_does_not_matter(case, seed: int) -> None:
    rng = np.random.default_rng(seed)
    shuffled, moved = [], []
    for choices, gold in case:
        order = rng.permutation(len(choices))
        shuffled.append([choices[k] for k in order])
        moved.append(int(np.flatnonzero(order == gold)[0]))
    for name in ACCURACIES:
        before, _ = choice_metric(name, make([c for c, _ in case], [g for _, g in case]))
        after, _ = choice_metric(name, make(shuffled, moved))
        assert before.tolist() == after.tolist()


def test_two_way_tie_counts_one_half_and_is_counted() -> None:
    tied = make([[(-1.0, 1, 1, 1, 0.0), (-1.0, 1, 1, 1, 0.0)], [(-1.0, 1, 1, 1, 0.0)]], [1, 0])
    values, ties = choice_metric("acc_raw", tied)
    assert values.tolist() == [0.5, 1.0]
    assert ties == 1


def test_bits_per_byte_closed_form() -> None:
    # A uniform model over 256 byte-tokens spends exactly 8 bits on each byte.
    n = 5
    value, _ = choice_metric("bits_per_byte", make([[(-n * math.log(256), n, n, n, 0.0)]], [0]))
    assert value[0] == pytest.approx(8.0, rel=1e-12)


def test_unknown_metric_is_named() -> None:
    with pytest.raises(ValueError, match="acc_rwa"):
        choice_metric("acc_rwa", make([[(-1.0, 1, 1, 1, 0.0)]], [0]))
