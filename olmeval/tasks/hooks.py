"""What a template cannot say: functions over the rows of one source, named in a ``reading``.

A hook takes the raw rows of a split, in order, and returns the documents (as many or more).
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

Row = dict[str, Any]
Hook = Callable[[Sequence[Row]], list[Row]]


def hellaswag(rows: Sequence[Row]) -> list[Row]:
    """Adds ``query`` and ``choices`` with the WikiHow mark-up removed (olmes.md, section 1.2)."""
    return [
        {
            **row,
            "query": _clean(f"{row['activity_label']}: {row['ctx_a']} {row['ctx_b'].capitalize()}"),
            "choices": [_clean(ending) for ending in row["endings"]],
        }
        for row in rows
    ]


def _clean(text: str) -> str:
    text = text.strip().replace(" [title]", ". ")
    return re.sub(r"\[.*?\]", "", text).replace("  ", " ")


HOOKS: dict[str, Hook] = {"hellaswag": hellaswag}
