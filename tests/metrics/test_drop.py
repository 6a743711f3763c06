"""DROP metrics against values worked out by hand from the published definitions."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from olmeval.metrics import drop

SPAN = st.text(st.sampled_from("ab the-12.x"), min_size=1, max_size=12)
WORDS = st.lists(st.sampled_from(["ab", "cd", "ef", "gh"]), min_size=1, max_size=4).map(" ".join)
ANSWER = st.lists(WORDS, min_size=1, max_size=4)


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The 3-yard Pass", "3.0 yard pass"),
        ("10", "10.0"),
        ("10.00", "10.0"),
        ("$5", "5.0"),  # bare of punctuation it is a number
        ("1,500", "1500.0"),
        ("50%", "50.0"),
        ("an apple", "apple"),
        (" -- ", ""),
    ],
)
def test_normalize(text: str, normal: str) -> None:
    assert drop.normalize(text) == normal


@pytest.mark.parametrize(
    ("prediction", "golds", "em", "f1"),
    [
        ("3 yards", ["3"], 0.0, 0.67),  # P = 1/2, R = 1
        ("4 yards", ["3 yards"], 0.0, 0.0),  # the gold number is absent
        ("yards", ["3 yards"], 0.0, 0.0),
        ("3 yards", ["yards"], 0.0, 0.67),  # a number in the prediction alone does not matter
        (["a b", "c"], [["c", "b"]], 1.0, 1.0),  # 'a' is an article; order of spans is free
        (["x"], [["x", "y"]], 0.0, 0.5),  # one of two gold spans
        (["x", "y"], [["x"]], 0.0, 0.5),  # one span too many
        (["x", "x"], [["x"]], 0.0, 0.5),  # the same set, another number of spans
        (["x", "x", "y"], [["x", "y", "y"]], 1.0, 0.67),  # EM compares sets and counts only
        ("tom brady", ["brady", "tom brady"], 1.0, 1.0),
        ("w x y", ["w z"], 0.0, 0.4),  # P = 1/3, R = 1/2
        # Greedy pairing would give x y ~ x y (1.0) and leave x ~ z (0.0); so does the best one.
        (["x y", "x"], [["x y", "z"]], 0.0, 0.5),
        # Best alignment: x~x y (2/3) + x y z~x z... 4/5; not x y z~x y (4/5) + x~x z (2/3): a tie.
        (["x", "x y z"], [["x y", "x z"]], 0.0, 0.73),
        ("", ["x"], 0.0, 0.0),
        ("the", ["an"], 1.0, 1.0),  # two empty bags: P = R = 1
    ],
)
def test_values(
    prediction: str | list[str], golds: Sequence[str | list[str]], em: float, f1: float
) -> None:
    assert drop.score(prediction, golds) == (em, f1)


def test_alignment_is_optimal_not_greedy() -> None:
    # Pairs: (u v w, u v): 4/5; (u v w, v w): 4/5; (v, u v): 2/3; (v, v w): 2/3; (u, u v): 2/3;
    # (u, v w): 0. With predictions [u v w, u] only u v w ~ v w leaves u ~ u v: (4/5 + 2/3) / 2.
    assert drop.score(["u v w", "u"], [["u v", "v w"]])[1] == round((4 / 5 + 2 / 3) / 2, 2)


def test_rounding_is_numpys() -> None:
    # 7 of 33 words: P = 1, R = 7/33, F1 = 14/40; the other pair shares nothing: 0.175 -> 0.18,
    # where Python's round(), exact on the binary value below 0.175, gives 0.17.
    gold, prediction = (" ".join(f"w{i}" for i in range(n)) for n in (33, 7))
    assert drop.score([prediction, "z"], [[gold, "y"]])[1] == 0.18


def test_a_blank_gold_is_skipped_and_none_is_an_error() -> None:
    assert drop.score("x", ["", "x"]) == (1.0, 1.0)
    with pytest.raises(ValueError, match="without a gold"):
        drop.score("x", ["  "])


@given(ANSWER, ANSWER)
def test_f1_is_symmetric_without_numbers(a: list[str], b: list[str]) -> None:
    # Half a cent may round either way: the sum runs in another order.
    assert drop.score(a, [b])[1] == pytest.approx(drop.score(b, [a])[1], abs=0.0101)


@given(st.lists(SPAN, min_size=1, max_size=3), st.lists(SPAN, min_size=1, max_size=3))
def test_within_one_and_full_for_itself(a: list[str], b: list[str]) -> None:
    if b[0].strip():
        em, f1 = drop.score(a, [b])
        assert em in (0.0, 1.0) and 0.0 <= f1 <= 1.0
    if a[0].strip():
        assert drop.score(a, [a]) == (1.0, 1.0)
