"""Plain-text reading of mathematical answers: tidying, exact numbers, lists, brackets.

What ``exact_match_verified`` decides without a computer-algebra system. Everything here is linear
in the length of the text and evaluates nothing.
"""

import math
import re
from fractions import Fraction

_CHARACTERS = str.maketrans(
    {
        "−": "-", "–": "-", "﹣": "-", "－": "-", "π": "\\pi", "∞": "\\infty", "√": "\\sqrt",
        "×": "\\times", "·": "\\cdot", "÷": "/", "≤": "\\le", "≥": "\\ge", "∪": "\\cup",
        "∅": "\\emptyset", "°": "^\\circ", "％": "%", "\u00a0": " ", "\u2009": " ",
        **{chr(0xFF10 + digit): str(digit) for digit in range(10)},
    }
)  # fmt: skip
# Not the second backslash of a row break.
_SPACING = re.compile(r"(?<!\\)(?:\\[!,;: ]|\\(?:quad|qquad|displaystyle)(?![A-Za-z])|~)")
_SIZED = re.compile(r"\\(?:left|right|big|Big|bigg|Bigg)[lr]?(?=[\s()\[\]{}|.\\])\.?")
_TEXT = re.compile(
    r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mbox|operatorname)\s*\{([^{}]*)\}"
)
_ENCLOSURES = (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"), ("**", "**"))
_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{(.*)\}", re.DOTALL)


def tidy(text: str) -> str:
    """The same mathematics in fewer spellings: no math delimiters, spacing or size commands.

    Unicode signs become LaTeX, ``\\dfrac`` and ``\\tfrac`` become ``\\frac``, shorthand arguments
    get braces, a final full stop goes, spaces are single.
    """
    text = text.translate(_CHARACTERS).strip()
    while True:
        before = text
        text = text.rstrip(".,;: \n") if not text.endswith("\\,") else text[:-2]
        for left, right in _ENCLOSURES:
            inner = text[len(left) : len(text) - len(right)]
            if text.startswith(left) and text.endswith(right) and len(text) >= len(left + right):
                text = inner.strip() if left not in inner else text
        box = _BOX.fullmatch(text)
        text = box[1].strip() if box else text
        if text == before:
            break
    text = text.replace("{,}", ",").replace(",\\!", ",")
    text = _SIZED.sub("", _SPACING.sub(" ", text))
    text = re.sub(r"\\[dtc]frac", r"\\frac", text)
    text = re.sub(r"\\l?dots|\\cdots", "...", text)
    text = re.sub(r"\\le(?:q|qslant)?(?![A-Za-z])", r"\\le", text)
    text = re.sub(r"\\ge(?:q|qslant)?(?![A-Za-z])", r"\\ge", text)
    text = re.sub(r"\\frac\s*([0-9a-zA-Z])\s*([0-9a-zA-Z])", r"\\frac{\1}{\2}", text)
    text = re.sub(r"\\frac\s*([0-9a-zA-Z])\s*\{", r"\\frac{\1}{", text)
    text = re.sub(r"(\\frac\{[^{}]*\})\s*([0-9a-zA-Z])", r"\1{\2}", text)
    text = re.sub(r"\\sqrt\s*([0-9a-zA-Z])", r"\\sqrt{\1}", text)
    return " ".join(text.split())


def compact(text: str) -> str:
    """Without spaces, for comparing tidied strings."""
    # A space that ends a command name is needed: "\pi r" is not "\pir".
    return re.sub(r"(?<![A-Za-z]) | (?![A-Za-z])", "", text)


def plain_text(text: str) -> str | None:
    """The words of a textual answer, lower case; None when it holds mathematics.

    Textual: letters in text commands, or a bare word of two letters and more, or one letter in
    parentheses inside a text command.
    """
    stripped = _TEXT.sub(r" \1 ", text).strip(" '\"")
    stripped = stripped.replace("^\\circ", "")
    words = re.sub(r"[\s.,'’\"()-]+", " ", stripped).strip().lower()
    if not re.fullmatch(r"[^\W\d_]+(?: [^\W\d_]+)*", words):
        return None
    in_command = _TEXT.search(text) is not None
    return words if in_command or re.search(r"[^\W\d_]{2,}", words) else None


_POWER = r"(?:\s*\^\s*\{?[23]\}?)?$"
_UNIT = re.compile(r"\s*\\(?:text|mathrm|mbox|textrm)\s*\{[^{}]*\}" + _POWER)
_UNIT_WORD = re.compile(
    r"(?<=[\d})])\s*(?:square |cubic )?(?:degrees?|dollars?|cents?"
    r"|(?:kilo|centi|milli)?met(?:er|re)s?|km|cm|mm|kg|m|g|s|h|ft|mph|inch(?:es)?|feet|foot|miles?"
    r"|yards?|hours?|minutes?|seconds?|days?|weeks?|months?|years?|units?|pounds?|grams?|people"
    r"|students?|ways|points?)" + _POWER
)
_DEGREES = re.compile(r"\s*\^\s*\{?\s*\\circ\s*\}?")
_ANGLE = re.compile(
    r"(\\(?:sin|cos|tan|cot|sec|csc))\s*[({]?\s*(\d+(?:\.\d+)?)\s*\^\s*\{?\s*\\circ\s*\}?\s*[)}]?"
)


def without_unit(text: str) -> str:
    """Without currency sign, degree signs (but as an angle's measure) and trailing unit."""
    bare = re.sub(r"^(-?)\s*\\?\$\s*", r"\1", text)
    bare = _DEGREES.sub("", _ANGLE.sub(r"\1(\\frac{\2\\pi}{180})", bare))
    for pattern in (_UNIT, _UNIT_WORD):
        shorter = pattern.sub("", bare).strip()
        bare = shorter or bare
    return bare


_INTEGER = r"(?:\d{1,3}(?:,\d{3})+|\d+)"
_DECIMAL = rf"(?:{_INTEGER}(?:\.\d*)?|\.\d+)"
_NUMBER = re.compile(
    rf"(?P<sign>[-+]?)(?:(?P<whole>\d+)(?: ?(?=\\frac)| (?=\d+ ?/)))?(?:"
    rf"\\frac ?\{{ ?(?P<top>-?{_DECIMAL}) ?\}} ?\{{ ?(?P<bottom>-?{_DECIMAL}) ?\}}"
    rf"|(?P<over>{_DECIMAL}) ?/ ?(?P<under>{_DECIMAL})"
    rf"|(?P<plain>{_DECIMAL})"
    r"(?: ?(?:\\times|\\cdot|\*) ?10 ?\^ ?(?:\{ ?(?P<power>[-+]?\d+) ?\}|(?P<digit>\d))"
    r"|[eE](?P<exponent>[-+]?\d+))?)"
)
_MAX_POWER = 10_000


def exact_number(text: str) -> Fraction | None:
    """Value of an integer, decimal, fraction, mixed number or scientific notation; else None.

    Thousands commas must stand at thousands; ``1\\frac{3}{4}`` is a mixed number, 7/4.
    """
    match = _NUMBER.fullmatch(re.sub(r"^([-+]) ", r"\1", text))
    if match is None:
        return None
    if match["top"] is not None or match["over"] is not None:
        top, bottom = match["top"] or match["over"], match["bottom"] or match["under"]
        denominator = _decimal(bottom)
        if denominator == 0:
            return None
        value = _decimal(top) / denominator
        if match["whole"] is not None:
            if top.startswith("-") or value >= 1:
                return None
            value += int(match["whole"])
    else:
        value = _decimal(match["plain"])
        power = int(match["power"] or match["digit"] or match["exponent"] or 0)
        if abs(power) > _MAX_POWER:
            return None
        value *= Fraction(10) ** power
    return -value if match["sign"] == "-" else value


def _decimal(text: str) -> Fraction:
    return Fraction(text.replace(",", ""))


def split_top(text: str, separator: str) -> list[str]:
    """Parts of ``text`` between ``separator`` outside all brackets and braces."""
    parts, depth, start, index = [], 0, 0, 0
    while index < len(text):
        if depth <= 0 and text.startswith(separator, index):
            parts.append(text[start:index].strip())
            index += len(separator)
            start = index
            continue
        if text[index] in "([{":
            depth += 1
        elif text[index] in ")]}":
            depth -= 1
        index += 1
    return [*parts, text[start:].strip()]


_TOWER = re.compile(r"(?:\d+\s*\}?\s*\^\s*\{?\s*)+\d+")
_FACTORIAL = re.compile(r"(\d+)\s*((?:[)}\]]*\s*!)+)")
_MAX_ARGUMENT = 9_999  # of a factorial, and as an exponent of a number


def too_large(text: str) -> bool:
    """Whether ``text`` holds a power or factorial of plain integers that nothing can write out.

    Estimated without computing: an exponent, itself a power or not, or the argument of a
    factorial, over 9,999.
    """
    for tower in _TOWER.finditer(text):
        *bases, top = (int(digits[:9]) for digits in re.findall(r"\d+", tower[0]))
        exponent = top
        for base in reversed(bases[1:]):
            if base > 1 and exponent > 14:  # 2**14 > 9,999
                return True
            exponent = base**exponent
        if bases[0] > 1 and exponent > _MAX_ARGUMENT:
            return True
    for factorial in _FACTORIAL.finditer(text):
        argument = int(factorial[1][:9])
        for _ in range(factorial[2].count("!")):
            if argument > _MAX_ARGUMENT:
                return True
            argument = math.factorial(min(argument, 8))  # 8! > 9,999
    return False
