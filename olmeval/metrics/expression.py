"""Equality of DeepMind mathematics answers without evaluating the model's text.

OLMES reads both answers with sympy's ``parse_expr``, which executes Python. Here Python's own
grammar gives a tree of which only numbers, single-letter names, arithmetic and tuples become
sympy objects; calls, attributes and anything else are unparsable. The comparison is OLMES's:
same strings but for case, yes/no for True/False, or the same symbols, the same value at one
random point, and ``equals``.
"""

import ast
import operator
import random
from collections.abc import Callable
from typing import Any

_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
_MAX_EXPONENT = 10_000


class _UnreadableError(Exception):
    """The text is not plain arithmetic."""


def same_text(gold: str, answer: str) -> bool:
    """Equal but for case, or yes/no for True/False."""
    gold, answer = gold.strip().lower(), answer.strip().lower()
    return gold == answer or (gold, answer) in {("true", "yes"), ("false", "no")}


def expression_equal(gold: str, answer: str) -> str:
    """Status "equal", "different" or "unparsable". Runs only inside a worker process."""
    import sympy  # type: ignore[import-untyped]

    if same_text(gold, answer):
        return "equal"
    try:
        left, right = _read(gold), _read(answer)
    except (_UnreadableError, SyntaxError, ValueError, TypeError, ZeroDivisionError):
        return "unparsable"
    if not (isinstance(left, sympy.Expr) and isinstance(right, sympy.Expr)):
        return "equal" if left == right else "different"
    if left.free_symbols != right.free_symbols:
        return "different"
    probe = random.Random(42)
    symbols = sorted(left.free_symbols, key=str)
    point = {symbol: sympy.Rational(probe.randrange(1, 10**9), 10**9) for symbol in symbols}
    gap = sympy.N((left - right).subs(point), 30)
    scale = 1 + abs(sympy.N(right.subs(point), 30))
    if gap.is_number and not abs(gap) <= scale * sympy.Float("1e-5"):
        return "different"
    return "equal" if left.equals(right) else "different"


def _read(text: str) -> Any:
    return _convert(ast.parse(text.strip(), mode="eval").body)


def _convert(node: ast.expr) -> Any:
    import sympy

    match node:
        case ast.Constant(value=bool() as flag):
            return flag
        case ast.Constant(value=int() as number):
            return sympy.Integer(number)
        case ast.Constant(value=float()):
            return sympy.Rational(ast.unparse(node))
        case ast.Name(id=name) if name in ("pi", "E", "I"):
            return getattr(sympy, name)
        case ast.Name(id=name) if len(name) == 1:
            return sympy.Symbol(name)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_number(operand)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _number(operand)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            first, second = _number(left), _number(right)
            if isinstance(op, ast.Pow) and not abs(second) <= _MAX_EXPONENT:
                raise _UnreadableError
            return _OPERATORS[type(op)](first, second)
        case ast.Tuple(elts=elements) | ast.List(elts=elements):
            return sympy.Tuple(*(_convert(element) for element in elements))
    raise _UnreadableError


def _number(node: ast.expr) -> Any:
    import sympy

    value = _convert(node)
    if not isinstance(value, sympy.Expr):
        raise _UnreadableError
    return value
