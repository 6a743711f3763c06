"""Answers of MATH solutions: where they stand and how Minerva normalises them.

Sources: Lewkowycz et al. 2022 (Minerva), appendix D.1 (prompt and normalisation), and OLMES's
``minerva_math``, which takes the answer from several places for ``exact_match_flex``.
"""

import re

_PHRASE = re.compile(r"Final Answer: The final answer is(.*?). I hope it is correct.")
_HOPE = "I hope it is correct."

# Appendix D.1, in its order.
_SUBSTITUTIONS = (
    ("an ", ""), ("a ", ""), (".$", "$"), ("\\$", ""), ("\\ ", ""), (" ", ""), ("mbox", "text"),
    (",\\text{and}", ","), ("\\text{and}", ","), ("\\text{m}", "\\text{}"),
)  # fmt: skip
_REMOVED = (
    "square", "ways", "integers", "dollars", "mph", "inches", "ft", "hours", "km", "units",
    "\\ldots", "sue", "points", "feet", "minutes", "digits", "cents", "degrees", "cm", "gm",
    "pounds", "meters", "meals", "edges", "students", "childrentickets", "multiples", "\\text{s}",
    "\\text{.}", "\\text{\ns}", "\\text{}^2", "\\text{}^3", "\\text{\n}", "\\text{}",
    "\\mathrm{th}", "^\\circ", "^{\\circ}", "\\;", ",\\!", "{,}", '"', "\\dots",
)  # fmt: skip


def phrase_answer(text: str) -> str | None:
    """What stands in the first "Final Answer: The final answer is ... I hope it is correct."

    The closing sentence may be missing at the very end of ``text`` (a stop sequence took it).
    """
    match = _PHRASE.search(text + _HOPE)
    return match[1].strip() if match else None


def last_boxed(text: str) -> str | None:
    """Content of the last ``\\boxed{...}`` with balanced braces, as OLMES finds it.

    If the text has the form ``\\boxed 7`` anywhere, the last of that form counts, up to the next
    ``$``. An unclosed last box is no answer.
    """
    if "\\boxed " in text:
        return text.rsplit("\\boxed ", 1)[1].split("$")[0]
    start = text.rfind("\\boxed")
    if start < 0:
        return None
    content = _braced(text, start + len("\\boxed"))
    # The published code accepts nothing between \boxed and its brace.
    return content if text.startswith("{", start + len("\\boxed")) else None


def _braced(text: str, start: int) -> str | None:
    """Content of the brace group that opens at or after ``start``; None when it never closes."""
    depth, opened = 0, -1
    for match in re.compile("[{}]").finditer(text, start):
        if match[0] == "{":
            opened = match.start() if opened < 0 else opened
            depth += 1
        else:
            depth -= 1
            if depth == 0:
                return text[opened + 1 : match.start()]
    return None


def last_dollars(text: str) -> str | None:
    """What stands between the last two dollar signs."""
    parts = text.rsplit("$", 2)
    return parts[1] if len(parts) == 3 else None


def candidates(text: str) -> tuple[str, ...]:
    """Normalised candidate answers of OLMES's ``exact_match_flex``, at least one.

    The Minerva phrase and the last box; without either the last ``$...$``; without that the text.
    """
    phrase, boxed = phrase_answer(text), last_boxed(text)
    found = [normalize_final_answer(answer) for answer in (phrase, boxed) if answer is not None]
    if found:
        return tuple(found)
    dollars = last_dollars(text)
    return (normalize_final_answer(text if dollars is None else dollars),)


def gold_answer(solution: str) -> str:
    """Normalised answer of a MATH reference solution: its last box.

    Raises ValueError when the solution has none.
    """
    boxed = last_boxed(solution)
    if boxed is None:
        raise ValueError("a MATH solution has no \\boxed answer")
    return normalize_final_answer(boxed)


def normalize_final_answer(text: str) -> str:
    """Minerva's normal form of an answer (appendix D.1), its oddities included.

    The last side of an equation, without units, articles, dollars and text commands; ``\\frac ab``
    and ``\\sqrt a`` get braces (only if the first argument has none), and an integer loses its
    thousands commas.
    """
    text = text.rsplit("=", 1)[-1]
    for before, after in _SUBSTITUTIONS:
        text = text.replace(before, after)
    for removed in _REMOVED:
        text = text.replace(removed, "")
    text = re.sub(r"(.*?)(\$)(.*?)(\$)(.*)", r"$\3$", text)
    for command in ("text", "textbf", "overline"):
        text = re.sub(r"\\" + command + r"\{(.*?)\}", r"\1", text)
    text = re.sub(r"\\boxed\{(.*)\}", r"\1", text)
    text = re.sub(r"frac([^{])(.)", r"frac{\1}{\2}", text)
    text = re.sub(r"sqrt([^{])", r"sqrt{\1}", text)
    text = text.replace("$", "")
    bare = text.replace(",", "")
    return bare if bare.isdigit() else text
