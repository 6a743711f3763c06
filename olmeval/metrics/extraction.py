"""The answer of a model's text: numbers of word problems, letters, DeepMind mathematics.

Where the published rule of OLMES loses right answers there are two functions: the exact standard,
and one named ``..._fixed``, which is ours. They never stand in for each other.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

_DIGIT_COMMA = re.compile(r"(\d),(\d)")
_STANDARD_NUMBER = re.compile(r"[-+]?\d*\.\d+|\d+")

_DECIMAL = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+"
_FIXED_NUMBER = re.compile(
    rf"(?P<sign>[-+]?)(?:\\?\$\s?(?P<inner>[-+]?))?(?P<number>{_DECIMAL})"
    r"(?:\s?/\s?(?P<denominator>\d+)(?![\d/]|\.\d))?"
)
_FIXED_ANCHOR = re.compile(r"(?:answer\s+is|answer\s*:|####|\\boxed\s*\{)", re.IGNORECASE)
_UNICODE_MINUS = str.maketrans({"−": "-", "–": "-", "﹣": "-", "－": "-"})


def gsm8k_answer(text: str) -> str:
    """GSM8K family, as published: the last number, or the whole text when there is none.

    OLMES ``gsm8k._extract_answer``: one pass drops a comma between two digits, then the last match
    of ``[-+]?\\d*\\.\\d+|\\d+``. The gold answer goes through the same function, and the strings
    are compared without regard to case. Its known defects are part of the standard: an integer
    loses its sign ("-5" -> "5"), "18.00" is not "18", "5/8" is 8, and of "1,2,3" only the first
    comma goes.
    """
    joined = _DIGIT_COMMA.sub(r"\1\2", text)
    numbers = _STANDARD_NUMBER.findall(joined)
    return numbers[-1] if numbers else joined


def gsm8k_answer_fixed(text: str) -> str:
    """GSM8K family, corrected (ours): the exact rational value, as ``str(Fraction)``; may be "".

    The first number after the last "answer is", "answer:", "####" or "\\boxed{" of the text, else
    the last number. Signs, thousands commas, decimals and fractions count; a minus with an operand
    before it, or a space after it, is no sign. "" when there is no number.
    """
    text = text.translate(_UNICODE_MINUS)
    anchors = list(_FIXED_ANCHOR.finditer(text))
    if anchors:
        found = _FIXED_NUMBER.search(text, anchors[-1].end())
        if found:
            return _rational(found)
    numbers = list(_FIXED_NUMBER.finditer(text))
    return _rational(numbers[-1]) if numbers else ""


def _rational(match: re.Match[str]) -> str:
    value = Fraction(match["number"].replace(",", ""))
    if match["denominator"] and int(match["denominator"]):
        value /= int(match["denominator"])
    # After an operand a sign is an operator: "10 -4" ends with four.
    operand = match.string[: match.start()].rstrip()[-1:]
    sign = "" if operand.isdigit() or operand in (")", "]", "}") else match["sign"]
    negative = "-" in (sign, match["inner"])
    return str(-value if negative else value)


@dataclass(frozen=True)
class Extracted:
    """An answer ("" when there is none) and how closely its format was followed, in [0, 1]."""

    answer: str
    format_score: float


@dataclass(frozen=True)
class Cascade:
    """Patterns of OLMES's shared ``extract_answer``, from the exact format to the bare answer.

    ``answers`` match the answer itself; ``exact`` the whole asked-for sentence, its last group the
    answer; ``templates`` hold ``$ANS$`` where an answer pattern goes; ``prefixes`` match what comes
    before an answer.
    """

    answers: tuple[str, ...]
    exact: str | None = None
    templates: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()


def extract(text: str, cascade: Cascade) -> Extracted:
    """The answer of the first stage of ``cascade`` that has a non-empty one (OLMES).

    Last match of the exact sentence (score 1); else last match of a template (1 for the first, .5
    for the others); else the first answer after the last match of a prefix (1 / .5); else the last
    bare answer (.2 for the first pattern, .1 for the others); else "" (0).
    """
    if cascade.exact and (found := re.findall(cascade.exact, text)) and found[-1]:
        return Extracted(found[-1], 1.0)
    for rank, template in enumerate(cascade.templates):
        for pattern in cascade.answers:
            matches = list(re.finditer(template.replace("$ANS$", pattern), text))
            if matches and (answer := _last_group(matches[-1])):
                return Extracted(answer, 0.5 if rank else 1.0)
    either = "|".join(cascade.answers)
    for rank, prefix in enumerate(cascade.prefixes):
        matches = list(re.finditer(prefix, text))
        if not matches:
            continue
        rest = text[matches[-1].end() :].strip().strip(".")
        found_match = re.search(f"({either})", rest)
        if found_match and (answer := _last_group(found_match)):
            return Extracted(answer, 0.5 if rank else 1.0)
    for rank, pattern in enumerate(cascade.answers):
        matches = list(re.finditer(pattern, text))
        if matches:
            return Extracted(_last_group(matches[-1]), 0.1 if rank else 0.2)
    return Extracted("", 0.0)


def _last_group(match: re.Match[str]) -> str:
    """The last group that matched something, else the whole match."""
    groups: Sequence[str | None] = match.groups()
    return next((group for group in reversed(groups) if group), "" if groups else match[0])


def letter_cascade(letters: str) -> Cascade:
    """OLMES's chain-of-thought patterns for a letter out of ``letters`` (such as "ABCD")."""
    return Cascade(
        answers=(rf"\(([{letters}])\)", rf"\b([{letters}])\b"),
        exact=rf"Therefore, the answer is \(([{letters}])\)",
        prefixes=(
            "(?i)Therefore,? the answer is",
            "(?i)the answer is",
            "(?i)answer is",
            "(?i)answer:",
        ),
    )


MMLU_PRO = letter_cascade("ABCDEFGHIJ")


def mmlu_pro_letter(text: str) -> Extracted:
    """The letter A-J of an MMLU-Pro chain of thought, and its format score (OLMES)."""
    return extract(text, MMLU_PRO)


_DEEPMIND_EXACT = re.compile(r"(?s)Therefore, the final answer is:?(.*?)\.?\s*I hope it is correct")
_DEEPMIND_LOOSE = re.compile(r"(?is)answer is:?(.*)")
_DEEPMIND_HOPE = re.compile(r"(?s)\s*\.?\s*I hope it is correct.*")
_SPECIAL_TOKENS = ("<end_of_turn>", "<|eot_id|>", "<s>", "</s>")
_MATH_DELIMITERS = (("$", "$"), (r"\(", r"\)"), ("**", "**"), ("***", "***"), (r"\[", r"\]"))


def deepmind_answer(text: str) -> str:
    """The answer of a DeepMind mathematics chain of thought (rule of OLMES, see its limits).

    What stands in the last "Therefore, the final answer is ... I hope it is correct.", else after
    the last "answer is", else the whole text; without special tokens, final full stop and
    enclosing math delimiters.
    """
    exact = _DEEPMIND_EXACT.findall(text)
    if exact:
        answer = exact[-1]
    else:
        start = text.lower().rfind("answer is")
        loose = _DEEPMIND_LOOSE.match(text, start) if start >= 0 else None
        answer = loose[1] if loose else text
    answer = _DEEPMIND_HOPE.sub("", answer)
    for token in _SPECIAL_TOKENS:
        answer = answer.replace(token, "")
    answer = re.sub(r"\.\s*$", "", answer.strip()).strip()
    for left, right in _MATH_DELIMITERS:
        if answer.startswith(left) and answer.endswith(right) and len(answer) >= len(left + right):
            answer = answer[len(left) : len(answer) - len(right)].strip()
    return answer
