"""Names and numbers as a report writes them.

Names come from people, files and models: they are cut, cleaned of control characters, escaped, and
isolated, so that neither markup nor marks of right-to-left writing reach the text around them.
"""

from html import escape
from math import floor, isfinite, log10
from typing import Any

LONGEST = 120
"""Characters of a name; the middle of a longer one is left out."""


def cut(text: Any, longest: int = LONGEST) -> str:
    """One line of at most ``longest`` characters, without control characters."""
    whole = str(text)
    if len(whole) > longest:
        whole = whole[: longest - 30] + "…" + whole[-29:]
    return "".join(c if c.isprintable() or c in BIDI else " " for c in whole)


BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
"""Direction marks: not printable in Python's sense, but part of names in some languages."""


def name(text: Any) -> str:
    """A name as HTML, isolated and free to break after a colon, a slash or an underscore."""
    safe = escape(cut(text))
    for mark in ":_/":
        safe = safe.replace(mark, f"{mark}<wbr>")
    return f"<bdi>{safe}</bdi>"


def words(text: Any) -> str:
    """A sentence from a file as HTML."""
    return f"<bdi>{escape(cut(text, 1000))}</bdi>"


def attribute(text: Any) -> str:
    """A name inside quotes."""
    return escape(cut(text))


def known(value: Any) -> bool:
    """Whether it is a finite number."""
    return isinstance(value, int | float) and isfinite(value)


def digits(error: float) -> int:
    """Decimals that show two significant digits of ``error``, 2 to 5."""
    if not isfinite(error) or error <= 0:
        return 4
    return max(2, min(5, 1 - floor(log10(error))))


def number(value: Any, decimals: int = 4, signed: bool = False) -> str:
    """A number with a true minus; a dash where there is none."""
    if value is None or value != value or not isfinite(value):
        return "–"
    text = f"{value:{'+' if signed else ''}.{decimals}f}"
    return text.replace("-", "−")


def interval(low: Any, high: Any, decimals: int) -> str:
    """``0.012 to 0.034``."""
    if low != low or high != high:
        return "unknown"
    return f"{number(low, decimals)} to {number(high, decimals)}"


def probability(p: Any) -> str:
    """``p = 0.012``, ``p < 0.001``; p is corrected or not as the caller says."""
    if p is None or p != p:
        return "p unknown"
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def bare(p: float) -> str:
    """p alone, for a column."""
    return "–" if p != p else "< 0.001" if p < 0.001 else f"{p:.2g}"


def count(n: int, noun: str) -> str:
    """``3 runs``."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def listed(names: list[str], most: int = 4) -> str:
    """Names (HTML) in a sentence: a, b and c."""
    kept = names[:most]
    if len(names) > most:
        return f"{', '.join(kept)} and {len(names) - most} more"
    return kept[0] if len(kept) == 1 else f"{', '.join(kept[:-1])} and {kept[-1]}" if kept else ""


def tag(word: str, kind: str) -> str:
    """A verdict in a frame: ``kind`` good, bad or level picks its colour, the word its meaning."""
    return f'<span class="tag {kind}">{escape(word)}</span>'
