"""The verified grader on pairs written for it: equal and not, and what it takes for the answer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from olmeval.metrics.grading import grade_many
from olmeval.metrics.mathtext import exact_number, plain_text, split_top, tidy, too_large
from olmeval.metrics.mathverify import final_answer, quick_verdict

EQUAL = [
    # numbers
    (r"\frac{3}{8}", "0.375"),
    (r"\frac38", "3/8"),
    (r"-\frac{5}{7}", r"\frac{-5}{7}"),
    (r"-\frac{5}{7}", r"\frac{5}{-7}"),
    ("7", "7.000"),
    (".25", "0.25"),
    ("12,345,678", "12345678"),
    (r"12{,}345", "12345"),
    (r"12,\!345", "12345"),
    ("\u22124", "-4"),
    ("3\u03c0", r"3\pi"),
    ("$42$.", "42"),
    (r"\(42\)", "**42**"),
    ("\uff14\uff12", "42"),
    # mixed numbers, percent, scientific notation
    (r"2\frac{2}{5}", "2.4"),
    (r"2\frac25", r"\frac{12}{5}"),
    ("-2 2/5", "-12/5"),
    (r"35\%", "35"),
    (r"35\%", "0.35"),
    ("35%", r"35 \%"),
    (r"6.5\times 10^{4}", "65000"),
    (r"6.5\cdot10^{-3}", "0.0065"),
    ("6.5e4", r"6.5 \times 10^4"),
    # units, currency, degrees
    (r"14\text{ cm}", "14"),
    (r"14\text{ cm}^2", r"14 \mathrm{cm}^2"),
    ("14 meters", "14"),
    (r"\$7.50", "7.5"),
    (r"72^\circ", "72"),
    ("72 degrees", r"72^{\circ}"),
    # names
    ("x = 9", "9"),
    ("9", "y=9"),
    ("f(x) = 3x - 1", "3x-1"),
    (r"x \in [1,4]", "[1,4]"),
    # radicals, algebra, constants
    (r"\sqrt{50}", r"5\sqrt2"),
    (r"\frac{6}{\sqrt{3}}", r"2\sqrt{3}"),
    (r"\sqrt{3+2\sqrt{2}}", r"1+\sqrt{2}"),
    (r"\sqrt[3]{54}", r"3\sqrt[3]{2}"),
    (r"(a-b)(a+b)", "a^2-b^2"),
    ("4-3i", "-3i+4"),
    (r"\frac{5\pi}{4}", r"1.25\pi"),
    (r"\log_3 81", "4"),
    (r"\cos 60^\circ", r"\frac12"),
    ("2^{10}", "1024"),
    ("5!", "120"),
    # tuples, intervals, sets, lists
    ("(3,-1)", r"\left(3,\,-1\right)"),
    (r"(\frac12, 4)", "(0.5,4)"),
    ("[0,1)", r"\left[0,1\right)"),
    (r"(-\infty,2]", r"x \le 2"),
    (r"(-\infty,0)\cup(4,\infty)", r"(4,\infty)\cup(-\infty,0)"),
    (r"\{2,5,9\}", r"\{9,2,5\}"),
    ("-2,6", "6, -2"),
    (r"-2\text{ or }6", "6,-2"),
    ("6 and -2", "-2, 6"),
    (r"\emptyset", r"\{\}"),
    # matrices
    (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}"),
    (r"\begin{pmatrix}1/2\\0\end{pmatrix}", r"\begin{bmatrix}\frac12\\0\end{bmatrix}"),
    # text
    (r"\text{Tuesday}", "tuesday"),
    (r"\text{(D)}", "D"),
    (r"\text{(D)}", "(D)"),
    (r"\textbf{yes}", "Yes."),
    # bases, boxes
    ("1021_3", "1021_{3}"),
    (r"\boxed{13}", "13"),
    (r"\fbox{13}", "13"),
]

DIFFERENT = [
    ("7", "-7"),
    ("7", "8"),
    ("", ""),
    ("7", ""),
    (r"\frac{1}{3}", "0.333"),
    (r"\pi", "3.14"),
    (r"\pi", r"\frac{22}{7}"),
    (r"\sqrt{2}", "1.41421356"),
    (r"2\frac{2}{5}", r"\frac{4}{5}"),
    (r"2\frac{2}{5}", "22/5"),
    ("21/2", r"2\frac12"),
    (r"35\%", "3.5"),
    (r"6.5\times10^4", r"6.5\times10^5"),
    (r"\frac{1}{2^{80}}", r"\frac{1}{2^{81}}"),
    (r"\frac{1}{90!}", r"\frac{1}{91!}"),
    ("2^{80}", "2^{80}+1"),
    ("(3,-1)", "(-1,3)"),
    ("(3,-1)", "[3,-1]"),
    ("[0,1)", "[0,1]"),
    ("(0,1)", r"\{0,1\}"),
    (r"(-\infty,2]", "x<2"),
    (r"(-\infty,0)\cup(4,\infty)", r"(-\infty,0]\cup(4,\infty)"),
    ("-2,6", "6"),
    ("-2,6", "6,6"),
    (r"\{2,5\}", r"\{2,5,9\}"),
    (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{pmatrix}1&3\\2&4\end{pmatrix}"),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}1&2\end{pmatrix}"),
    (r"\text{east}", "seat"),
    (r"\text{(D)}", "C"),
    (r"\text{Tuesday}", "Thursday"),
    ("1021_3", "1021"),
    ("1021_3", "1021_4"),
    ("x=9", "y=8"),
    ("x = 9", "y = 9"),
    (r"\pm 6", "6"),
    ("a-b", "b-a"),
    ("a+b", "a-b"),
    ("12", "6+6"),
    ("12", r"3 \cdot 4"),
    ("10:30", "10:20"),
    (r"3\sqrt{2}", r"2\sqrt{3}"),
    ("x^2", "x^3"),
    (r"9^{9^{9^9}}", r"9^{9^{9^8}}"),
    (r"\frac{1}{0}", "0"),
    ("5", "the number is not five but something like four"),
]


def test_there_are_enough_pairs() -> None:
    assert len(EQUAL) >= 60 and len(DIFFERENT) >= 40


def test_equal_pairs() -> None:
    # Equality has two directions; an inequality for an interval only the one policy allows.
    pairs = [*EQUAL, *((answer, gold) for gold, answer in EQUAL if r"\le" not in answer)]
    grades = grade_many(pairs, "exact_match_verified")
    assert [(p, g.status) for p, g in zip(pairs, grades, strict=True) if not g.equal] == []


def test_different_pairs() -> None:
    pairs = [*DIFFERENT, *((answer, gold) for gold, answer in DIFFERENT)]
    grades = grade_many(pairs, "exact_match_verified")
    wrong = {"equal", "timeout", "memory", "crashed", "error"}
    found = [(p, g.status) for p, g in zip(pairs, grades, strict=True) if g.status in wrong]
    assert found == []


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"first \boxed{1}, then \boxed{\frac{1}{\sqrt{2}}}", r"\frac{1}{\sqrt{2}}"),
        ("Final Answer: The final answer is $7$. I hope it is correct. Problem:", "$7$"),
        ("the answer is 3. 5 apples", "3"),
        ("The answer is $x=4$, because", "x=4"),
        (r"Answer: \(42\).", "42"),
        ("The final answer is: 2.5", "2.5"),
        ("we find $1$ and $2$ there", "2"),
        ("<think>\\boxed{1}</think> It is 6", "It is 6"),
        (r"\boxed{5", r"\boxed{5"),
        ("17", "17"),
        ("line\nline", None),
        ("w" * 81, None),
        ("", None),
    ],
)
def test_final_answer(text: str, answer: str | None) -> None:
    assert final_answer(text) == answer


@pytest.mark.parametrize(
    ("text", "value"),
    [("1,23", None), ("12,3456", None), ("1/0", None), (r"1\frac{5}{4}", None), ("x", None)],
)
def test_what_is_no_number(text: str, value: None) -> None:
    assert exact_number(text) is value


@given(st.fractions(max_denominator=10**6))
def test_exact_number_reads_fractions(value: object) -> None:
    assert exact_number(str(value)) == value
    assert quick_verdict(str(value), f"$ {value} $.") == "equal"


@given(st.integers(), st.integers(1, 999), st.integers(1, 999))
def test_exact_number_reads_thousands_and_mixed(whole: int, top: int, bottom: int) -> None:
    assert exact_number(f"{whole:,}") == whole
    if top < bottom:
        mixed = exact_number(rf"{abs(whole)}\frac{{{top}}}{{{bottom}}}")
        assert mixed is not None and (mixed - abs(whole)) * bottom == top


@given(st.text(st.sampled_from([*r"\{}()[],$^_=.!%&12xa or"]), max_size=40))
def test_the_quick_part_is_total_and_reflexive(text: str) -> None:
    assert quick_verdict(text, text) == ("equal" if tidy(text) else "different")
    assert ",".join(split_top("1,(2,3)", ",")) == "1,(2,3)"
    too_large(text)
    plain_text(text)


@pytest.mark.parametrize(
    ("text", "large"),
    [
        ("9^{9^{9^9}}", True),
        ("2^{3^2}", False),
        ("2^{99}", False),
        ("10^{10000}", True),
        ("1^{1^{99999}}", False),
        ("100!", False),
        ("10000!", True),
        ("(10!)!", True),
        ("3!!", False),
        ("x^{99999}", False),
    ],
)
def test_too_large(text: str, large: bool) -> None:
    assert too_large(text) is large
