"""Hooks for benchmarks whose answers are programs: tests that a template cannot write."""

import ast
import re
from collections.abc import Sequence
from typing import Any

from olmeval.errors import UserError

Row = dict[str, Any]

# The one function of numpy that EvalPlus' tests use (numpy.allclose, without arrays), and the names
# that they ask for types: |a - b| <= atol + rtol * |b|, element by element, equal infinities close.
CLOSE = """
class np:
    float32 = float64 = float

    class ndarray:
        dtype = None

    @staticmethod
    def allclose(a, b, rtol=1e-05, atol=1e-08):
        if isinstance(a, (list, tuple)) or isinstance(b, (list, tuple)):
            if not isinstance(a, (list, tuple)):
                a = [a] * len(b)
            if not isinstance(b, (list, tuple)):
                b = [b] * len(a)
            if len(a) != len(b):
                raise ValueError("operands could not be broadcast together")
            return all(np.allclose(x, y, rtol, atol) for x, y in zip(a, b))
        return a == b or abs(a - b) <= atol + rtol * abs(b) < float("inf")
"""
# How EvalPlus compares (Liu et al. 2023, arXiv:2305.01210; evalplus/evaluate.py): equality, or
# closeness where the reference gives floats or the problem has a tolerance.
COMPARED = """
def floats(value):
    if isinstance(value, (list, tuple)) and value:
        return all(isinstance(v, float) for v in value)
    return isinstance(value, float)


def same(found, expected, tolerance):
    if found == expected:
        return True
    if tolerance == 0 and floats(expected):
        tolerance = 1e-6
    if tolerance == 0 or type(found) is not type(expected):
        return False
    return np.allclose(found, expected, rtol=1e-07, atol=tolerance)
"""


def humaneval_plus(rows: Sequence[Row]) -> list[Row]:
    """EvalPlus' problems from either of its copies: rows with ``test``, or with inputs alone.

    The release's file has inputs and a reference solution, which the tests then run beside the
    answer; the hub's copy has a test that needs numpy for one function, which is put in its place.
    """
    return [
        {
            **row,
            "id": row["task_id"],
            "choices": [row["canonical_solution"]],
            "test": _without_numpy(row["test"]) if "test" in row else _from_inputs(row),
        }
        for row in rows
    ]


def _without_numpy(test: str) -> str:
    return re.sub(r"^import numpy as np\n", CLOSE.replace("\\", r"\\"), test, flags=re.MULTILINE)


def _from_inputs(row: Row) -> str:
    missing = [k for k in ("base_input", "plus_input", "atol", "entry_point") if k not in row]
    if missing:
        raise UserError(
            f"problem '{row['task_id']}' has neither 'test' nor '{missing[0]}'; give the release's "
            "file HumanEvalPlus.jsonl.gz or the hub's copy"
        )
    inputs = [*row["base_input"], *row["plus_input"]]
    reference = row["prompt"] + row["canonical_solution"]
    text = repr(inputs)
    try:
        ast.literal_eval(text)
    except ValueError:
        # JSON writes these as words that are no Python.
        text = re.sub(r"\b(nan|inf)\b", r"float('\1')", text)
    # Several roots are right: EvalPlus looks at the polynomial's value instead.
    judged = (
        f"abs(names['poly'](*arguments, found)) <= {row['atol']!r}"
        if row["entry_point"] == "find_zero"
        else f"same(found, expected, {row['atol']!r})"
    )
    return (
        f"{CLOSE}\n{COMPARED}\n\ndef check(candidate):\n    import copy\n    names = {{}}\n"
        f"    exec({reference!r}, names)\n    reference = names[{row['entry_point']!r}]\n"
        f"    for arguments in {text}:\n"
        "        expected = reference(*copy.deepcopy(arguments))\n"
        "        found = candidate(*copy.deepcopy(arguments))\n"
        f"        assert {judged}\n"
    )
