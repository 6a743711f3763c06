"""Which asserts a test has, which of them must be reached, and how often they were.

A program that ends early, jumps over its tests or replaces what runs them passes no assert. Behind
every ``assert`` a call is put that notes its number; the run passes only if every assert that
stands where nothing can lead around it was noted.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence

# A compiled name that no source text can hold.
MARK = "olmeval mark"


def instrumented(body: Sequence[ast.stmt], first: int = 0) -> tuple[list[ast.stmt], set[int]]:
    """``body`` with a call ``MARK(number)`` behind every assert; and the numbers that must occur.

    Numbers count from ``first``. Those must occur that stand in ``body`` itself or in a function
    that ``body`` defines and calls, and not inside a branch, a loop or a handler.
    """
    marker = _Marker(first)
    marked = [marker.visit(statement) for statement in body]
    flat = _flat(marked)
    module = ast.fix_missing_locations(ast.Module(flat, []))
    functions = {s.name: s.body for s in flat if isinstance(s, ast.FunctionDef)}
    required = _straight(flat)
    for statement in flat:
        call = statement.value if isinstance(statement, ast.Expr) else None
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name):
            required |= _straight(functions.get(call.func.id, []))
    return module.body, required


class _Marker(ast.NodeTransformer):
    def __init__(self, first: int):
        self._next = first

    def visit_Assert(self, node: ast.Assert) -> list[ast.stmt]:
        # On the assert's own line: whoever jumps to this line runs the assert.
        number = ast.Constant(self._next)
        call = ast.Expr(ast.Call(ast.Name(MARK, ast.Load()), [number], []))
        self._next += 1
        for part in ast.walk(call):
            ast.copy_location(part, node)
        return [node, call]


def _flat(statements: Sequence[ast.stmt | list[ast.stmt]]) -> list[ast.stmt]:
    flat: list[ast.stmt] = []
    for statement in statements:
        flat += statement if isinstance(statement, list) else [statement]
    return flat


def _straight(body: Sequence[ast.stmt]) -> set[int]:
    """The marks of a body that runs from top to bottom."""
    numbers = set()
    for statement in body:
        if isinstance(statement, ast.With):
            numbers |= _straight(statement.body)
        elif isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
            function = statement.value.func
            if isinstance(function, ast.Name) and function.id == MARK:
                [number] = statement.value.args
                if isinstance(number, ast.Constant) and isinstance(number.value, int):
                    numbers.add(number.value)
        elif isinstance(statement, ast.Return):
            break
    return numbers
