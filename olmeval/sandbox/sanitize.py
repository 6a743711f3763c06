"""Keeps the part of a Python text that a function needs: BigCodeBench's post-processing.

A re-implementation, with Python's own parser in place of tree-sitter, of the step that BigCodeBench
(Zhuo et al. 2024, arXiv:2406.15877; ``bigcodebench/sanitize.py``) runs on every completion, as
OLMES has it. Its rules are kept also where one would choose others: decorated definitions,
``from __future__`` imports and every statement that is no import, definition or assignment are
dropped, and of two definitions of a name the first stays.
"""

import ast
import io
import keyword
import tokenize
import warnings

DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def sanitize(code: str, entry_point: str) -> str:
    """Imports, and the top-level definitions that ``entry_point`` reaches through names in them.

    ``code`` is cut to its longest part that parses (:func:`longest_valid`) where it does not. When
    nothing of it is kept, that part itself is the result.
    """
    text = code.strip()
    tree = _parsed(text)
    if tree is None:
        text = longest_valid(text)
        tree = _parsed(text)
    kept = "" if tree is None else _needed(text, tree, entry_point).strip()
    return kept or longest_valid(code)


def longest_valid(text: str) -> str:
    """The run of two or more whole lines that parses and has most lines that are not blank.

    Of several the first, and the shortest that starts there; the first line where there is none.
    """
    lines = text.split("\n")
    filled = [0]
    for line in lines:
        filled.append(filled[-1] + bool(line.strip()))
    best, found = 0, (0, 1)
    for start in range(len(lines)):
        if filled[-1] - filled[start] <= best:
            break
        end = len(lines)
        while end > start + 1 and filled[end] - filled[start] > best:
            if _parsed("\n".join(lines[start:end])) is not None:
                best = filled[end] - filled[start]
                found = (start, end)
                # Without blank lines at its end it may parse, too, and comes first.
                while end > start + 2 and not lines[end - 1].strip():
                    end -= 1
                    if _parsed("\n".join(lines[start:end])) is not None:
                        found = (start, end)
                break
            end -= 1
    return "\n".join(lines[found[0] : found[1]])


def _parsed(text: str) -> ast.Module | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(text)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return None


def _needed(text: str, tree: ast.Module, entry_point: str) -> str:
    imports: list[str] = []
    definitions: dict[str, str] = {}
    for node in tree.body:
        source = ast.get_source_segment(text, node) or ""
        if isinstance(node, ast.Import) or (
            isinstance(node, ast.ImportFrom) and node.module != "__future__"
        ):
            imports.append(source)
        elif isinstance(node, DEFINITIONS):
            if not node.decorator_list:
                definitions.setdefault(node.name, source)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            name = _assigned(node)
            if name is not None:
                definitions.setdefault(name, source)
    reached = _reached(entry_point, {name: names_in(s) for name, s in definitions.items()})
    return "\n".join([*imports, *(s for name, s in definitions.items() if name in reached)])


def _assigned(node: ast.Assign | ast.AnnAssign) -> str | None:
    """The name that an assignment counts as defining: the first operand that is a bare name."""
    operands = [node.target] if isinstance(node, ast.AnnAssign) else node.targets[:1]
    if isinstance(node, ast.AnnAssign) or len(node.targets) == 1:
        operands = [*operands, *([node.value] if node.value is not None else [])]
    return next((o.id for o in operands if isinstance(o, ast.Name)), None)


def names_in(source: str) -> set[str]:
    """Every identifier in a statement's text, attributes and keywords of calls included."""
    names = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.NAME and not keyword.iskeyword(token.string):
            names.add(token.string)
    # Before Python 3.12 a formatted string is one token.
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            for part in ast.walk(node):
                if isinstance(part, ast.Name):
                    names.add(part.id)
                elif isinstance(part, ast.Attribute):
                    names.add(part.attr)
                elif isinstance(part, ast.keyword) and part.arg:
                    names.add(part.arg)
    return names


def _reached(start: str, uses: dict[str, set[str]]) -> set[str]:
    reached, todo = {start}, [start]
    while todo:
        new = uses.get(todo.pop(), set()) - reached
        reached |= new
        todo += sorted(new)
    return reached
