"""SQuAD metrics against values worked out by hand from the published definitions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from olmeval.metrics import squad

TEXT = st.text(st.sampled_from("ab the.an,X é1"), max_size=20)


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The  Quick, brown\tfox!", "quick brown fox"),
        ("A man, a plan, an apple", "man plan apple"),
        ("U.S.A.", "usa"),
        ("the", ""),
        ("the-rapist", "therapist"),  # punctuation goes before articles are looked for
        ("Ångström’s", "ångström’s"),  # only ASCII punctuation is removed
        ("1,000", "1000"),
    ],
)
def test_normalize(text: str, normal: str) -> None:
    assert squad.normalize(text) == normal


@pytest.mark.parametrize(
    ("prediction", "golds", "em", "f1"),
    [
        ("the Denver Broncos.", ["Denver Broncos"], 1.0, 1.0),
        ("Denver", ["Denver Broncos"], 0.0, 2 / 3),  # P = 1, R = 1/2
        ("Denver Denver", ["Denver Broncos"], 0.0, 1 / 2),  # multiset: one of two counts
        ("in the city of Paris", ["Paris"], 0.0, 2 / 5),  # in city of paris: P = 1/4, R = 1
        ("gold", ["silver", "gold medal", "gold"], 1.0, 1.0),  # best gold
        ("x", ["y"], 0.0, 0.0),
        ("", ["the"], 1.0, 0.0),  # both empty after normalising: EM 1, F1 0
    ],
)
def test_values(prediction: str, golds: list[str], em: float, f1: float) -> None:
    assert squad.exact_match(prediction, golds) == em
    assert squad.f1(prediction, golds) == pytest.approx(f1, abs=1e-15)


def test_recall_is_a_raw_lower_case_substring() -> None:
    assert squad.recall("It was PARIS, France", ["paris, f"]) == 1.0
    assert squad.recall("It was Paris France", ["paris, france"]) == 0.0
    assert squad.recall("no", ["yes", "n"]) == 1.0


@given(TEXT, TEXT)
def test_f1_is_symmetric_and_within_one(a: str, b: str) -> None:
    assert squad.f1(a, [b]) == squad.f1(b, [a])
    assert 0.0 <= squad.f1(a, [b]) <= 1.0
    if squad.normalize(a):
        assert squad.f1(a, [a]) == 1.0


@given(TEXT, TEXT)
def test_an_exact_match_has_full_f1(a: str, b: str) -> None:
    if squad.exact_match(a, [b]) and squad.normalize(a):
        assert squad.f1(a, [b]) == 1.0


def test_no_gold_is_an_error() -> None:
    for metric in (squad.f1, squad.exact_match, squad.recall):
        with pytest.raises(ValueError, match="without a gold"):
            metric("x", [])
