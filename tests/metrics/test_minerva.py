"""Minerva extraction and normalisation, Hendrycks equality: values by the published rules."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from olmeval.metrics import hendrycks, minerva


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("x = 5", "5"),
        ("5\\text{ cm}", "5"),
        ("\\frac12", "\\frac{1}{2}"),
        ("\\frac1{72}", "\\frac{1}{{}72}"),  # the published oddity
        ("\\sqrt3", "\\sqrt{3}"),
        ("\\$18.90", "18.90"),
        ("1,000,000", "1000000"),
        ("(1,000)", "(1,000)"),
        ("90^\\circ", "90"),
        ("the answer $7$ here", "7"),
        ("12 square inches", "12"),
        ("an apple", "apple"),
        ("\\text{Monday}", "Monday"),
        ("\\infty", "\\iny"),  # "ft" is a unit, wherever it stands
        ("\\boxed{9}", "9"),
    ],
)
def test_normalize(text: str, normal: str) -> None:
    assert minerva.normalize_final_answer(text) == normal


def test_phrase() -> None:
    shot = "so 7.\nFinal Answer: The final answer is $7$. I hope it is correct."
    assert minerva.phrase_answer(shot) == "$7$"
    assert minerva.phrase_answer(shot + "\n" + shot.replace("7", "8")) == "$7$"  # the first
    assert minerva.phrase_answer("Final Answer: The final answer is $7$. ") == "$7$"
    assert minerva.phrase_answer("Final Answer: The final answer is $7$.") is None
    assert minerva.phrase_answer("The final answer is 7. I hope it is correct.") is None


@pytest.mark.parametrize(
    ("text", "boxed"),
    [
        (r"\boxed{1} and \boxed{2}", "2"),
        (r"\boxed{\frac{1}{\sqrt{2}}}.", r"\frac{1}{\sqrt{2}}"),
        (r"\boxed{1", None),
        (r"\boxed 7$ and so on", "7"),
        (r"\boxed 7$ then \boxed{8}", "7"),  # the form without braces takes precedence
        (r"\fbox{3}", None),
        ("none", None),
        (r"\boxed", None),
    ],
)
def test_last_boxed(text: str, boxed: str | None) -> None:
    assert minerva.last_boxed(text) == boxed


def test_candidates() -> None:
    both = r"\boxed{3} Final Answer: The final answer is $4$. I hope it is correct."
    assert minerva.candidates(both) == ("4", "3")
    assert minerva.candidates("we get $5$ or $6$ or so") == ("6",)
    assert minerva.candidates("plain 9") == ("plain9",)
    assert minerva.candidates("one $ only") == ("oneonly",)


def test_gold_without_box() -> None:
    assert minerva.gold_answer(r"so $\boxed{x = 7}$") == "7"
    with pytest.raises(ValueError, match=r"no .*boxed"):
        minerva.gold_answer("so 7")


@pytest.mark.parametrize(
    ("first", "second", "equal"),
    [
        (r"\frac12", r"\dfrac{1}{2}", True),
        ("0.5", r"\frac{1}{2}", True),
        ("1/2", r"\frac{1}{2}", True),
        ("-3/4", r"\frac{-3}{4}", True),
        (r"10\%", "10", True),
        (r"5\text{ cm}", "5", True),
        (r"90^\circ", "90", True),
        ("k = 7", "7", True),
        ("abc = 7", "7", False),
        (r"\sqrt2", r"\sqrt{2}", True),
        (".5", "0.5", True),
        ("(2, 4)", "(2,4)", True),
        (r"\left(2,4\right)", "(2,4)", True),
        ("x^2+2x+1", "(x+1)^2", False),
        ("01/2", r"\frac{1}{2}", False),
        (r"\sqrt", r"\sqrt", True),  # malformed: compared as it is
        (r"\sqrt ", r"\sqrt", False),
        (r"2\text{ a}\text{ b}", "2", False),
        (r"\frac", r"\frac", True),
        (r"\frac1", r"\frac1", True),
        ("", "", True),
    ],
)
def test_string_equal(first: str, second: str, equal: bool) -> None:
    assert hendrycks.string_equal(first, second) is equal
    assert hendrycks.string_equal(second, first) is equal


COMMANDS = [r"\frac", r"\sqrt", r"\text{", r"\boxed{", r"\boxed", r"\%", r"\left"]
PIECES = st.lists(st.sampled_from([*COMMANDS, *"{}$=5x/. "])).map("".join)


@given(PIECES)
def test_equality_is_reflexive_and_total(text: str) -> None:
    assert hendrycks.string_equal(text, text)
    assert minerva.candidates(text)
