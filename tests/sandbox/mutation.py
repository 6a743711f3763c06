"""One operator of a program replaced by another, by a seed: a wrong answer that looks honest."""

import ast
import random

SWAPS: dict[type, tuple[type, ...]] = {
    ast.Add: (ast.Sub,), ast.Sub: (ast.Add,), ast.Mult: (ast.Add, ast.FloorDiv),
    ast.Div: (ast.Mult, ast.FloorDiv), ast.FloorDiv: (ast.Mult, ast.Div), ast.Mod: (ast.FloorDiv,),
    ast.Pow: (ast.Mult,), ast.LShift: (ast.RShift,), ast.RShift: (ast.LShift,),
    ast.BitOr: (ast.BitAnd,), ast.BitAnd: (ast.BitOr,), ast.BitXor: (ast.BitOr,),
    ast.Lt: (ast.LtE, ast.GtE), ast.LtE: (ast.Lt, ast.Gt), ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt), ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,), ast.In: (ast.NotIn,), ast.NotIn: (ast.In,),
    ast.And: (ast.Or,), ast.Or: (ast.And,), ast.USub: (ast.UAdd,), ast.Not: (ast.UAdd,),
}  # fmt: skip


def mutated(source: str, seed: str, after: int = 0) -> str | None:
    """``source`` with one operator below line ``after`` replaced; None where there is none."""
    tree = ast.parse(source)
    places = [
        (node, field)
        for node in ast.walk(tree)
        if getattr(node, "lineno", 0) > after
        for field in ("op", "ops")
        for op in [getattr(node, field, None)]
        if type(op[0] if isinstance(op, list) and op else op) in SWAPS
    ]
    if not places:
        return None
    draw = random.Random(seed)
    node, field = draw.choice(places)
    old = getattr(node, field)
    first = old[0] if isinstance(old, list) else old
    new = draw.choice(SWAPS[type(first)])()
    setattr(node, field, [new, *old[1:]] if isinstance(old, list) else new)
    return ast.unparse(ast.fix_missing_locations(tree))
