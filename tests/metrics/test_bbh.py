"""BIG-Bench Hard extraction: published behaviour with its defects, and the corrected variant."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from olmeval.metrics import bbh

LETTER, NUMBER, WORD = "hyperbaton", "multistep_arithmetic_two", "navigate"


def test_there_are_27_subtasks() -> None:
    assert len(bbh.SUBTASKS) == 27


@pytest.mark.parametrize(
    ("subtask", "text", "standard", "fixed"),
    [
        (LETTER, "So the answer is (B).", "(B)", "(B)"),
        (LETTER, "(A) is wrong. So the answer is (C). Then (D)", "(C)", "(C)"),
        (LETTER, "So the answer is B.", "", "(B)"),  # defect: the bare letter is never found
        (LETTER, "Answer: **D**", "", "(D)"),
        (LETTER, "I think it is A problem", "", ""),
        (LETTER, "the options (A), (B)", "(B)", "(B)"),
        (NUMBER, "So the answer is 1,234.", "1", "1234"),  # defect: cut at the comma
        (NUMBER, "So the answer is -12.", "-12", "-12"),
        (NUMBER, "(3 - 5) = -2", "2", "-2"),  # defect: no sign at a word boundary
        ("object_counting", "So the answer is 7.", "7", "7"),
        (WORD, "So the answer is No.", "No", "No"),
        (WORD, "I know not", "no", ""),  # defect: "no" inside a word
        ("boolean_expressions", "not True is False. So the answer is False.", "False", "False"),
        ("formal_fallacies", "So the answer is invalid.", "invalid", "invalid"),
        (
            "word_sorting",
            "So the answer is aren't bee co-op.",
            "aren",  # defect: cut at the apostrophe
            "aren't bee co-op",
        ),
        ("word_sorting", "So the answer is ant, bee, cat", "ant", "ant bee cat"),
        ("dyck_languages", "So the answer is ] } ).", "] } )", "] } )"),
    ],
)
def test_extraction(subtask: str, text: str, standard: str, fixed: str) -> None:
    assert bbh.extract(text, subtask) == standard
    assert bbh.extract_fixed(text, subtask).rstrip(".") == fixed


def test_exact_match() -> None:
    assert bbh.exact_match("(b)", "(B)", LETTER) == 1.0
    assert bbh.exact_match("5", "-5", NUMBER) == 1.0  # the minus counts as punctuation
    assert bbh.exact_match_fixed("5", "-5", NUMBER) == 0.0
    assert bbh.exact_match("] )", "] }", "dyck_languages") == 0.0
    assert bbh.exact_match("])", "] )", "dyck_languages") == 0.0
    assert bbh.exact_match_fixed("])", "] )", "dyck_languages") == 1.0
    assert bbh.exact_match("", "()", LETTER) == 1.0
    assert bbh.exact_match_fixed("", "()", LETTER) == 0.0


@given(st.sampled_from(bbh.SUBTASKS), st.text(max_size=80))
def test_any_text_is_read(subtask: str, text: str) -> None:
    assert isinstance(bbh.extract(text, subtask), str)
    assert isinstance(bbh.extract_fixed(text, subtask), str)


def test_unknown_subtask() -> None:
    with pytest.raises(ValueError, match="unknown BIG-Bench Hard sub-task 'x'"):
        bbh.extract("", "x")
    with pytest.raises(ValueError, match="sub-task 'x'"):
        bbh.exact_match("", "", "x")
