"""Runner of the compatible verdict: program and tests in one process, as benchmarks publish it.

What the model wrote shares an interpreter with its own tests here, and in one interpreter nothing
can be kept from a program that looks for it: one that knows this file can pass. So a pass in this
form says that the published benchmark would count one, and :mod:`olmeval.sandbox.inside.strict`
says whether it was earned. This runner closes the ways that need no such knowledge. A pass needs

- the text of the tests to be parsed as itself (an open string or decorator in front of it is not),
- every assert that nothing leads around to have run (no early exit, no jump, no replaced check),
- builtins and test framework to be what they were, and no tracing or hunting for objects,
- a secret of this run on the report pipe, which lies in no Python object while the program runs.
"""

from __future__ import annotations

import ast
import builtins
import ctypes
import json
import os
import random
import socket
import sys
import types
from collections.abc import Callable, Sequence
from typing import Any

from olmeval.sandbox.inside.asserts import MARK, instrumented

# Events of Python's audit hooks (which nothing can remove) that no honest answer raises.
FORBIDDEN = {
    "gc.get_objects", "gc.get_referrers", "gc.get_referents", "sys.settrace", "sys.setprofile",
    "sys._current_frames", "sys._current_exceptions",
}  # fmt: skip
SECRET_BYTES = 16


class _FailedError(Exception):
    """The run does not count as a pass; says why."""


def main(payload: bytes, report: int, peer: socket.socket | None) -> None:  # noqa: ARG001
    """``payload`` is JSON: ``program``, ``tests``, ``nonce`` (hex), and ``unittest``: the tests are
    a ``TestCases`` class, as in BigCodeBench."""
    order = json.loads(payload)
    # Callers hold it, too, and their frames can be walked.
    ctypes.memset(id(payload) + bytes.__basicsize__ - 1, 0, len(payload))
    reader = _hidden(bytes.fromhex(order.pop("nonce")))
    # Taken now, while they are Python's own.
    write, read, leave, dumps = os.write, os.read, os._exit, json.dumps
    counts: list[int] = []
    try:
        _run(order["program"], order["tests"], order["unittest"], counts)
    except BaseException as error:
        said = str(error) if isinstance(error, _FailedError) else _told(error)
        found = {"status": "failed", "error": said, "asserts": len(counts)}
    else:
        found = {"status": "passed", "error": "", "asserts": len(counts)}
        found["nonce"] = read(reader, SECRET_BYTES).hex()
    _flush()
    data = dumps(found).encode()
    while data:
        data = data[write(report, data) :]
    # Nothing that the program left behind (exit handlers, threads) gets a turn.
    leave(0)


def _hidden(secret: bytes) -> int:
    """Puts the secret where no search of the interpreter finds it: into a pipe of the kernel."""
    reader, writer = os.pipe()
    os.write(writer, secret)
    os.close(writer)
    return reader


def _run(program: str, tests: str, is_unittest: bool, counts: list[int]) -> None:
    random.seed(0)
    body, required = _joined(program, tests)
    frozen = [(owner, dict(vars(owner))) for owner in _framework(is_unittest)]
    names: dict[str, Any] = {MARK: counts.append}
    if is_unittest:
        module = types.ModuleType("__test__")
        sys.modules["__test__"] = module
        names = vars(module)
        names[MARK] = counts.append
    compiled = compile(ast.Module(body, []), "<program>", "exec")
    sys.addaudithook(_refuse)
    exec(compiled, names)
    if is_unittest:
        _run_cases(names, _cases(tests), may_skip="skip" in tests.lower())
    if not required <= set(counts):
        raise _FailedError("asserts were skipped")
    for owner, before in frozen:
        now = vars(owner)
        theirs = {n for n in before if f"builtins.{n}" in tests} | {"_"}  # what tests replace
        if any(now.get(name) is not value for name, value in before.items() if name not in theirs):
            raise _FailedError(f"the program changed {getattr(owner, '__name__', owner)}")


def _joined(program: str, tests: str) -> tuple[list[ast.stmt], set[int]]:
    """One module's statements, asserts of the tests counted; raises where the tests are not
    parsed as what they are by themselves."""
    whole = ast.parse(program + tests).body
    own = ast.parse(tests).body
    shift = _lines(program + tests) - _lines(tests)
    tail = whole[len(whole) - len(own) :]
    if len(tail) != len(own) or not own:
        raise _FailedError("the program swallows its tests")
    for there, here in zip(tail, own):  # noqa: B905  (Python 3.8)
        if _place(there, shift) != _place(here, 0):
            raise _FailedError("the program swallows its tests")
    marked, required = instrumented(tail)
    return [*whole[: len(whole) - len(own)], *marked], required


def _lines(text: str) -> int:
    return text.replace("\r\n", "\n").replace("\r", "\n").count("\n")


def _place(node: ast.stmt, shift: int) -> tuple[Any, ...]:
    """Kind and extent of a statement: the same text parsed in the same places is the same tree."""
    decorators = len(getattr(node, "decorator_list", ()))
    end = (node.end_lineno or 0) - shift
    return type(node), decorators, node.lineno - shift, end, node.col_offset, node.end_col_offset


def _framework(is_unittest: bool) -> list[Any]:
    if not is_unittest:
        return [builtins]
    import unittest

    return [builtins, unittest.TestCase, unittest.TestResult, unittest.TestSuite]


def _cases(tests: str) -> int:
    """How many test methods the class has that is run."""
    return sum(
        name.name.startswith("test")
        for cls in ast.parse(tests).body
        if isinstance(cls, ast.ClassDef) and cls.name == "TestCases"
        for name in cls.body
        if isinstance(name, ast.FunctionDef)
    )


def _run_cases(names: dict[str, Any], expected: int, may_skip: bool) -> None:
    import unittest

    suite = unittest.TestLoader().loadTestsFromTestCase(names["TestCases"])
    result = unittest.TestResult()
    suite.run(result)
    bad: Sequence[Any] = [*result.failures, *result.errors]
    if bad:
        raise _FailedError(f"{len(bad)} of {result.testsRun} tests: {bad[0][1][-500:]}")
    # A program can raise SkipTest, too; it is no way to pass where the tests do not skip.
    skipped = result.skipped and not may_skip
    if result.testsRun < expected or result.unexpectedSuccesses or skipped:
        raise _FailedError("tests were skipped")


def _refuse(event: str, _: Any, forbidden: Callable[[str], bool] = FORBIDDEN.__contains__) -> None:
    if forbidden(event):
        raise PermissionError(f"{event} is not allowed here")


def _told(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {str(error)[:500]}"
    except Exception:
        return type(error).__name__


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:
            continue
