"""The template language of the catalogue: text with references, nothing else.

``{a.b}`` inserts the value at ``doc["a"]["b"]``; ``{a.0}`` takes the first item of a list;
``{a|strip}`` passes it through a named filter (several: ``{a|strip|upper}``). ``{{`` and ``}}`` are
literal braces. A template that is one bare reference returns the value with its type; any other
returns text, character for character: nothing is stripped, escaped or re-spaced. There are no
loops and no conditions; what a template cannot say is a hook (``hooks.py``).
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from olmeval.errors import UserError, nearest

Values = Mapping[str, Any]
Compiled = Callable[[Values], Any]

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def lettered(choices: Sequence[str]) -> str:
    """Choices as `` A. first`` lines, one space before the letter, as OLMES has them."""
    if len(choices) > len(LETTERS):
        raise UserError(f"{len(choices)} choices are more than there are letters")
    return "\n".join(
        [f" {letter}. {choice}" for letter, choice in zip(LETTERS, choices, strict=False)]
    )


FILTERS: dict[str, Callable[[Any], Any]] = {
    "strip": lambda value: str(value).strip(),
    "lstrip": lambda value: str(value).lstrip(),
    "rstrip": lambda value: str(value).rstrip(),
    "upper": lambda value: str(value).upper(),
    "lower": lambda value: str(value).lower(),
    "capitalize": lambda value: str(value).capitalize(),
    "int": lambda value: int(value),
    "str": lambda value: str(value),
    # Windows line ends to Unix ones; old Mac ones are dropped, as the MBPP recipes do.
    "no_cr": lambda value: str(value).replace("\r", ""),
    "lf": lambda value: str(value).replace("\r\n", "\n"),
    "spaces": lambda value: str(value).replace("_", " "),
    "comma": lambda value: ", ".join(str(item) for item in value),
    "words": lambda value: " ".join(str(item) for item in value),
    "one_line": lambda value: " ".join([p for p in map(str.strip, str(value).splitlines()) if p]),
    "lettered": lambda value: lettered(value),
    "lines": lambda value: "\n".join([str(item) for item in value]),
    # The text Python prints for a one-item tuple of the value's items (a published mistake).
    "tuple": lambda value: str(tuple(value)),
}

_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


def names(template: str) -> set[str]:
    """The top-level names that ``template`` refers to."""
    return {
        match.group(1).split("|")[0].split(".")[0]
        for match in _TOKEN.finditer(template)
        if match.group(1) is not None
    }


@lru_cache(maxsize=4096)
def compile_template(template: str) -> Compiled:
    """A function from a document's values to the rendered text (or bare value).

    Raises :class:`UserError` for an unbalanced brace, an empty reference or an unknown filter.
    """
    parts: list[str | Compiled] = []
    end = 0
    literal = ""
    for match in _TOKEN.finditer(template):
        literal += template[end : match.start()]
        end = match.end()
        if match.group() in ("{{", "}}"):
            literal += match.group()[0]
        elif match.group(1) is None:
            raise UserError(
                f"template {template!r}: unbalanced '{match.group()}' at character"
                f" {match.start()}; write '{match.group() * 2}' for a literal brace"
            )
        else:
            if literal:
                parts.append(literal)
                literal = ""
            parts.append(_reference(match.group(1), template))
    literal += template[end:]
    if literal:
        parts.append(literal)
    if len(parts) == 1 and callable(parts[0]):
        return parts[0]
    pieces = tuple(parts)

    def render(values: Values) -> str:
        return "".join([p if isinstance(p, str) else str(p(values)) for p in pieces])

    return render


def _reference(text: str, template: str) -> Compiled:
    path, *filter_names = text.split("|")
    if not path:
        raise UserError(f"template {template!r}: empty reference '{{{text}}}'")
    for name in filter_names:
        if name not in FILTERS:
            hint = nearest(name, FILTERS)
            raise UserError(f"template {template!r}: unknown filter '{name}'{hint}")
    steps = [int(step) if step.isdigit() else step for step in path.split(".")]
    filters = [FILTERS[name] for name in filter_names]

    def value_of(values: Values) -> Any:
        value: Any = values
        try:
            for step in steps:
                value = value[step]
        except (KeyError, IndexError, TypeError):
            known = ", ".join(sorted(map(str, values)))
            raise UserError(
                f"template {template!r}: the document has no '{path}' (it has: {known})"
            ) from None
        for function in filters:
            value = function(value)
        return value

    return value_of
