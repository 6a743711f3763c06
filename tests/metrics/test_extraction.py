"""Extraction rules: the published behaviour with its defects, and the corrected variants."""

import gzip
import json
import re
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from olmeval.metrics.extraction import (
    Cascade,
    Extracted,
    deepmind_answer,
    extract,
    gsm8k_answer,
    gsm8k_answer_fixed,
    mmlu_pro_letter,
)


@pytest.mark.parametrize(
    ("text", "standard", "fixed"),
    [
        ("He has 3 + 4 = 7 left. So the answer is 7.", "7", "7"),
        ("The answer is -5.", "5", "-5"),  # defect: the sign of an integer is lost
        ("It is -2.50 dollars", "-2.50", "-5/2"),
        ("So the answer is $1,234,567.", "1234567", "1234567"),
        ("#### 1,234", "1234", "1234"),
        ("So the answer is 18.00.", "18.00", "18"),  # defect: not "18"
        ("The answer is 5/8.", "8", "5/8"),  # defect: the denominator
        ("The answer is 12. There were 3 apples.", "3", "12"),
        ("10 - 4 = 6", "6", "6"),
        ("left over: 10-4", "4", "4"),  # a subtraction, not minus four
        ("he owes -$5", "5", "-5"),
        ("he owes $-5", "5", "-5"),
        ("The answer is \u22127", "7", "-7"),
        ("no number here", "no number here", ""),
        ("\\boxed{42} is 6 times 7", "7", "42"),
        ("1,2,3", "3", "3"),
        (".5", ".5", "1/2"),
        ("the answer is 3. 5 apples", "5", "3"),
        ("7/0", "0", "7"),
    ],
)
def test_gsm8k(text: str, standard: str, fixed: str) -> None:
    assert gsm8k_answer(text) == standard
    assert gsm8k_answer_fixed(text) == fixed


@given(
    st.fractions(max_denominator=1000), st.sampled_from(["So the answer is {}.", "x = {}", "{}"])
)
def test_gsm8k_fixed_reads_every_fraction(value: Fraction, frame: str) -> None:
    assert gsm8k_answer_fixed(frame.format(value)) == str(value)


@given(st.integers(), st.text(st.characters(categories=["L", "Zs"]), max_size=20))
def test_gsm8k_fixed_reads_thousands(value: int, before: str) -> None:
    assert gsm8k_answer_fixed(f"{before} {value:,}.") == str(value)


@given(st.text())
def test_extraction_never_raises(text: str) -> None:
    assert isinstance(gsm8k_answer(text), str)
    assert gsm8k_answer_fixed(text) == "" or Fraction(gsm8k_answer_fixed(text)) is not None
    assert isinstance(deepmind_answer(text), str)
    assert 0.0 <= mmlu_pro_letter(text).format_score <= 1.0


def test_gsm8k_golds(pulled: Path) -> None:
    """Both rules find the integer after "####" in each of the 1,319 reference solutions."""
    file = pulled / "oe_eval_tasks/gsm8k/gold_bpb_5shot/requests.jsonl.gz"
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        docs = [json.loads(line)["doc"] for line in lines]
    assert len(docs) == 1319
    for doc in docs:
        written = doc["answer"].split("####")[-1].strip()
        value = written.replace(",", "")
        text = f"He counts 2 and 3. So the answer is {written}."
        # Gold answers, too, lose their sign in the standard.
        assert gsm8k_answer(text) == gsm8k_answer(doc["answer"]) == value.removeprefix("-")
        assert gsm8k_answer_fixed(text) == gsm8k_answer_fixed(doc["answer"]) == value
        assert gsm8k_answer_fixed(doc["short_answer"]) == value


def test_cascade_stages() -> None:
    cascade = Cascade(
        answers=(r"\(([A-D])\)", r"\b([A-D])\b"),
        exact=r"Therefore, it is \(([A-D])\)",
        templates=(r"So ($ANS$)\.", r"maybe ($ANS$)"),
        prefixes=("first prefix", "second prefix"),
    )
    assert extract("Therefore, it is (A). Therefore, it is (B). So (C).", cascade) == (
        Extracted("B", 1.0)
    )
    assert extract("So (C). So D. maybe (A)", cascade) == Extracted("C", 1.0)  # first pattern wins
    assert extract("maybe (A) or maybe (B)", cascade) == Extracted("B", 0.5)
    assert extract("first prefix: (A) then (B)", cascade) == Extracted("A", 1.0)
    assert extract("second prefix .C. D", cascade) == Extracted("C", 0.5)
    assert extract("(A) (B) C", cascade) == Extracted("B", 0.2)
    assert extract("A B C", cascade) == Extracted("C", 0.1)
    assert extract("nothing", cascade) == Extracted("", 0.0)


def test_mmlu_pro_letter() -> None:
    assert mmlu_pro_letter("... Therefore, the answer is (J).") == Extracted("J", 1.0)
    assert mmlu_pro_letter("therefore the answer is I") == Extracted("I", 1.0)
    assert mmlu_pro_letter("I think the answer is (C), not (D)") == Extracted("C", 0.5)
    assert mmlu_pro_letter("Answer: K") == Extracted("", 0.0)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Therefore, the final answer is -3/4. I hope it is correct.", "-3/4"),
        ("Therefore, the final answer is $x**2$. I hope it is correct.\nProblem", "x**2"),
        ("so the answer is 4. But the answer is 12.", "12"),
        ("The answer is **True**", "True"),
        (r"\(7\)</s>", "7"),
        ("just 8 .", "just 8"),
    ],
)
def test_deepmind_answer(text: str, answer: str) -> None:
    assert deepmind_answer(text) == answer


def test_no_pattern_backtracks_for_long() -> None:
    """Hostile repetition stays linear: seconds here would be minutes over a task."""
    for text in ("1," * 20_000, "answer is " * 5_000, "$" * 20_000, "- " * 20_000, "(" * 20_000):
        for function in (gsm8k_answer, gsm8k_answer_fixed, mmlu_pro_letter, deepmind_answer):
            assert function(text) is not None
    assert re.fullmatch(r"\d+", gsm8k_answer("7" * 50_000))
