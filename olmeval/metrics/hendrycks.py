"""String equality of MATH answers after light LaTeX normalisation.

The rules of Hendrycks et al. 2021 (``math_equivalence.py``, ``is_equiv``), which OLMES uses in
``exact_match_flex``. They are applied in the published order; where a rule fails on a malformed
string, the published code falls back to comparing the strings as they are, and so does this.
"""

import re


class _MalformedError(Exception):
    """A rule does not apply; the raw strings are compared instead."""


def string_equal(first: str, second: str) -> bool:
    """Whether the normalised strings are equal (raw ones, if either cannot be normalised)."""
    try:
        return normalize(first) == normalize(second)
    except _MalformedError:
        return first == second


def normalize(text: str) -> str:
    """The normal form; raises an internal error for malformed ``\\sqrt``, ``\\frac`` or units."""
    text = text.replace("\n", "").replace("\\!", "").replace("\\\\", "\\")
    text = text.replace("tfrac", "frac").replace("dfrac", "frac")
    text = text.replace("\\left", "").replace("\\right", "")
    text = text.replace("^{\\circ}", "").replace("^\\circ", "").replace("\\$", "")
    text = _without_units(text).replace("\\%", "")
    text = text.replace(" .", " 0.").replace("{.", "{0.")
    if not text:
        return text
    if text.startswith("."):
        text = "0" + text
    left, *right = text.split("=")
    if len(right) == 1 and len(left) <= 2:
        text = right[0]
    text = _braced_roots(text).replace(" ", "")
    text = _braced_fractions(text)
    if text == "0.5":
        text = "\\frac{1}{2}"
    return _slash_fraction(text)


def _without_units(text: str) -> str:
    # "\text{ " with its space occurs in MATH only before a unit.
    before, *after = text.split("\\text{ ")
    if len(after) > 1:
        raise _MalformedError
    return before


def _braced_roots(text: str) -> str:
    head, *rest = text.split("\\sqrt")
    if not all(rest):
        raise _MalformedError
    return head + "".join(
        "\\sqrt" + (part if part[0] == "{" else f"{{{part[0]}}}{part[1:]}") for part in rest
    )


def _braced_fractions(text: str) -> str:
    head, *rest = text.split("\\frac")
    result = head
    for part in rest:
        if not part:
            raise _MalformedError
        if part[0] == "{":
            result += "\\frac" + part
        elif len(part) < 2:
            return text
        elif part[1] == "{":
            result += f"\\frac{{{part[0]}}}{part[1:]}"
        else:
            result += f"\\frac{{{part[0]}}}{{{part[1]}}}{part[2:]}"
    return result


def _slash_fraction(text: str) -> str:
    """a/b of two plainly written integers becomes a fraction."""
    match = re.fullmatch(r"(-?(?:0|[1-9][0-9]*))/(-?(?:0|[1-9][0-9]*))", text)
    if match is None or "-0" in match.groups():
        return text
    return f"\\frac{{{match[1]}}}{{{match[2]}}}"
