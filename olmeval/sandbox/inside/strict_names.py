"""What the tests of a strict run need, read from their text: which names, and whose process.

Nothing here depends on the program, which must not choose the form that it is judged in.
"""

from __future__ import annotations

import ast
import builtins
import importlib
from typing import Any

from olmeval.sandbox.inside.strict_side import STDLIB

# What is of the process that does it: output, files, settings of the interpreter.
SHARED = {
    "sys.stdout", "sys.stderr", "sys.stdin", "sys.argv", "sys.path", "sys.modules",
    "sys.setrecursionlimit", "random.seed", "builtins.input", "builtins.print", "builtins.open",
    "open", "os", "shutil", "tempfile", "pathlib", "subprocess", "mock", "patch", "unittest",
    "redirect_stdout", "redirect_stderr", "contextlib.redirect_stdout",
    "contextlib.redirect_stderr", "inspect", "gc", "weakref", "pickle", "importlib", "warnings",
}  # fmt: skip


def needs_one_process(tree: ast.Module) -> str:
    """The first thing that tests and program can only share in one process; "" for none."""
    bound = {n.name for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.ClassDef))}
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name.partition(".")[0] for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = (node.module or "").partition(".")[0]
            names = [module, *(alias.name for alias in node.names)]
            names += [f"{module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            names = [f"{node.value.id}.{node.attr}"]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            names = [node.func.id]
        for name in names:
            if name in SHARED and name not in bound:
                return name
    return ""


def is_class_name(name: str) -> bool:
    """Whether a name is written as those of classes are."""
    return name[0].isupper() and "_" not in name and not (len(name) > 1 and name.isupper())


def helpers(prompt: str) -> dict[str, Any]:
    """What the prompt itself defines and imports, without the function that is to be written."""
    try:
        body = ast.parse(prompt).body
        if body and isinstance(body[-1], (ast.FunctionDef, ast.ClassDef)):
            body = body[:-1]
    except SyntaxError:
        # Cut in the middle of its last definition, or no Python at all.
        lines = prompt.split("\n")
        starts = [k for k, line in enumerate(lines) if line.startswith(("def ", "class ", "@"))]
        try:
            body = ast.parse("\n".join(lines[: starts[-1]])).body if starts else []
        except SyntaxError:
            body = []
    names: dict[str, Any] = {}
    for statement in body:
        try:
            exec(compile(ast.Module([statement], []), "<prompt>", "exec"), names)
        except Exception:
            continue  # then the name comes from the candidate, if the tests use it at all
    return names


def wanted_names(tree: ast.Module, names: dict[str, Any]) -> list[str]:
    """Names that the tests use and that only the candidate can define."""
    nodes = list(ast.walk(tree))
    used = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
    unknown = {n for n in used if n not in names and not hasattr(builtins, n)}
    bound = {n.id for n in nodes if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load)}
    bound |= {n.arg for n in nodes if isinstance(n, ast.arg)}
    bound |= {n.name for n in nodes if isinstance(n, (ast.FunctionDef, ast.ClassDef))}
    bound |= {(n.asname or n.name).partition(".")[0] for n in nodes if isinstance(n, ast.alias)}
    if unknown - bound - STDLIB:
        return sorted(unknown)
    # A problem whose function is called like a builtin ("sum") or like a module ("bisect").
    return sorted(unknown | _called(tree))


def _called(tree: ast.Module) -> set[str]:
    calls = [n.func for n in ast.walk(tree) if isinstance(n, ast.Call)]
    return {f.id for f in calls if isinstance(f, ast.Name)}


def trusted_modules(tree: ast.Module, names: dict[str, Any]) -> None:
    """A module of Python's own is imported here, whatever the candidate calls by its name."""
    attributes = [n.value for n in ast.walk(tree) if isinstance(n, ast.Attribute)]
    bases = {b.id for b in attributes if isinstance(b, ast.Name)}
    for name in (bases - _called(tree)) & STDLIB & set(names):
        names[name] = importlib.import_module(name)
