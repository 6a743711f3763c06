"""Runner of the strict verdict: the tests in one process, what they test in another.

The *tester* runs the benchmark's tests and is trusted. Every name in them that the program under
test must define is a stub; a call of it crosses a socket to the *candidate*, which alone runs what
the model wrote and sees arguments, never the tests. Only plain data comes back
(:mod:`olmeval.sandbox.inside.strict_wire`) and it is compared in the tester, so nothing that the
candidate does to its own interpreter makes a test pass.

An object that is no plain data stays in the candidate and crosses as a handle. Equality with a
handle is identity: asking the candidate whether its object is equal would be asking it whether it
passed. Arguments that the candidate changed in place are changed in the tester, too.
"""

from __future__ import annotations

import ast
import functools
import json
import operator
import os
import random
import socket
import sys
import time
import types
from collections.abc import Callable
from typing import Any

from olmeval.sandbox.inside.asserts import MARK, instrumented
from olmeval.sandbox.inside.strict_names import (
    helpers,
    is_class_name,
    needs_one_process,
    trusted_modules,
    wanted_names,
)
from olmeval.sandbox.inside.strict_remote import NotPlainError, Remote, handle_of
from olmeval.sandbox.inside.strict_side import (
    CLASSES,
    Side,
    exception_class,
    importable,
    imported,
    is_remote_error,
)
from olmeval.sandbox.inside.strict_wire import PLAIN_CLASSES, Channel, EndedError

LAST_LOOK = 0.1  # seconds
FUNCTIONS = (types.FunctionType, types.BuiltinFunctionType)
# Modules of which tests may use what the program imports: ``from math import isclose``
# in the program must not let the program say what is close.
HARMLESS = {
    "builtins", "math", "cmath", "operator", "_operator", "itertools", "collections", "fractions",
    "decimal", "statistics", "datetime", "string", "bisect", "_bisect", "heapq", "_heapq", "re",
}  # fmt: skip


class _BrokenError(Exception):
    """The tests themselves cannot run here."""


def main(payload: bytes, report: int, peer: socket.socket | None) -> None:
    """``payload`` is JSON: ``program`` for the candidate; ``tests``, ``prompt`` and ``nonce`` for
    the tester, which writes its findings to ``report``."""
    assert peer is not None
    random.seed(0)  # the same in every batch, whatever the program's place in it
    order = json.loads(payload)
    if "program" in order:
        _Candidate(Channel(peer)).serve(order["program"])
        return
    try:
        found = _test(order, _Tester(Channel(peer)))
    except NotPlainError as error:
        found = {"status": "fallback", "error": str(error)}
    except _BrokenError as error:
        found = {"status": "broken", "error": str(error)}
    if found.get("ended"):
        # The run ends with this process: first let the jail see what the other one died of.
        time.sleep(LAST_LOOK)
    found["nonce"] = order["nonce"]
    data = json.dumps(found).encode()
    while data:
        data = data[os.write(report, data) :]


class Elsewhere:
    """Stands for a module that the program calls by some name."""


class _Tester(Side):
    """The trusted end: objects of the other side are :class:`Remote`, its own are functions.

    ``refused`` says what the tests passed that cannot cross, also where they caught the error.
    """

    def __init__(self, channel: Channel):
        super().__init__(channel)
        self.refused = ""
        self._remotes: dict[tuple[int, str], Remote] = {}  # so that "is" means the same
        # Classes that the program had the tests use: it must not choose one whose instances cannot
        # cross, and be judged in its own process for it.
        self._handed: list[type] = []

    def _keep(self, value: Any) -> list[Any]:
        if isinstance(value, Remote):
            return ["own", handle_of(value)]
        name = importable(value)
        if name is not None:
            return name
        if isinstance(value, (types.FunctionType, functools.partial, types.MethodType)):
            return ["theirs", self._handle(value)]
        if (
            isinstance(value, (Elsewhere, *self._handed))
            or any(value is c for c in (Remote, *CLASSES.values()))
            or is_remote_error(value)
        ):
            # The program's own doing is no reason to judge it in its own process.
            raise EndedError("what the program gave cannot go back to it")
        self.refused = f"the tests pass a {type(value).__name__}"
        raise NotPlainError(self.refused)

    def _find(self, data: list[Any]) -> Any:
        tag, *rest = data
        if tag == "theirs":
            return self.remote(int(rest[0]), "")
        if tag == "own":
            return self._kept[rest[0]]
        if tag == "raised":
            self._handed.append(exception_class(rest[0]))
            return self._handed[-1]
        if tag == "import" and rest[1] == "":
            # A module: of any use only under its own name, and then imported by that name.
            return imported(rest[0], "") if rest[0] in HARMLESS else Elsewhere()
        found = imported(*rest) if tag == "import" and rest[0] in HARMLESS else None
        if isinstance(found, type) and found in PLAIN_CLASSES:
            return found
        raise EndedError("a message is malformed")

    def remote(self, handle: int, kind: str) -> Remote:
        return self._remotes.setdefault((handle, kind), Remote(self, handle, kind))

    def doubt(self, what: str) -> None:
        self.refused = f"the tests {what}"
        raise NotPlainError(self.refused)

    def names(self, wanted: list[str]) -> dict[str, Any]:
        """What the program calls by these names; what it imported is imported here, too."""
        values, modules = self.ask("names", -1, wanted, {})
        found = {name: values[name] for name in wanted if name in values}
        for name, value in found.items():
            if is_class_name(name) and isinstance(value, Remote):
                found[name] = self.remote(handle_of(value), "class")
        for name in set(wanted) & set(modules):
            # Run here under its own name: never an object whose equality somebody else defines.
            one = imported(modules[name], name) if modules[name] in HARMLESS else None
            if name[0] == "_" or not isinstance(one, (type, *FUNCTIONS)):
                raise EndedError("a message is malformed")
            if isinstance(one, type) and one not in PLAIN_CLASSES:
                self._handed.append(one)
            found[name] = one
        return found

    def _operation(self, name: str) -> Callable[..., Any]:
        if name != "call":
            raise EndedError("a message is malformed")
        return operator.call if hasattr(operator, "call") else _call


class _Candidate(Side):
    """The other end: runs the program, then what the tester asks for."""

    def __init__(self, channel: Channel):
        super().__init__(channel)
        # As the published benchmark runs it: no name of its own, so "__name__" is "builtins".
        self._names: dict[str, Any] = {}

    def serve(self, program: str) -> None:
        """Runs the program when asked to, then answers until the tester ends."""
        self._program = program
        while True:
            try:
                message = self._channel.receive()
            except EndedError:
                os._exit(0)
            self.answer(message)
            try:
                sys.stdout.flush()
            except Exception:
                continue

    def _keep(self, value: Any) -> list[Any]:
        if isinstance(value, type) and issubclass(value, BaseException):
            return ["raised", [c.__name__ for c in value.__mro__]]
        crosses = isinstance(value, types.ModuleType) or any(value is c for c in PLAIN_CLASSES)
        return (importable(value) if crosses else None) or ["theirs", self._handle(value)]

    def _find(self, data: list[Any]) -> Any:
        tag, *rest = data
        if tag == "theirs":
            return lambda *args, **words: self.ask("call", rest[0], args, words)
        if tag == "own":
            return self._kept[rest[0]]
        return imported(*rest)

    def _operation(self, name: str) -> Callable[..., Any]:
        if name == "load":
            return self._load
        if name == "names":
            return self._named
        return OPERATIONS[name]

    def _named(self, _: Any, *names: str) -> list[dict[str, Any]]:
        """Values by name, and of what is Python's own under its own name the modules instead."""
        values = {n: self._names[n] for n in names if n in self._names}
        places = {n: importable(v) for n, v in values.items()}
        modules = {
            n: p[1] for n, p in places.items() if p is not None and p[2] == n and p[1] in HARMLESS
        }
        return [{n: v for n, v in values.items() if n not in modules}, modules]

    def _load(self, _: Any) -> None:
        exec(compile(self._program, "<program>", "exec"), self._names)


def _call(function: Callable[..., Any], *args: Any, **words: Any) -> Any:
    return function(*args, **words)


OPERATIONS: dict[str, Callable[..., Any]] = {
    "call": _call, "getattr": getattr, "setattr": setattr, "iter": iter, "next": next, "len": len,
    "getitem": operator.getitem, "setitem": operator.setitem, "delitem": operator.delitem,
    "str": str, "repr": repr, "bool": bool, "int": int, "float": float, "enter": lambda v:
    v.__enter__(), "exit": lambda v: v.__exit__(None, None, None),
    "isinstance": lambda kind, v: isinstance(v, kind),
    "issubclass": lambda kind, v: issubclass(v, kind),
}  # fmt: skip


def _test(order: dict[str, Any], side: _Tester) -> dict[str, Any]:
    """Runs the tests; returns the report, without the nonce."""
    counts: list[int] = []

    def end() -> dict[str, Any]:
        return {"asserts": len(counts), "ended": side.ended}

    try:
        tree = ast.parse(order["tests"])
    except (SyntaxError, ValueError) as error:
        raise _BrokenError(f"the tests are no Python: {error}") from None
    shared = needs_one_process(tree)
    if shared:
        raise NotPlainError(f"the tests use {shared}")
    try:
        side.ask("load", -1, (), {})
        names = helpers(order["prompt"])
        names.update(side.names(wanted_names(tree, names)))
        trusted_modules(tree, names)
        body, required = instrumented(tree.body)
        names[MARK] = counts.append
        exec(compile(ast.Module(body, []), "<tests>", "exec"), names)
    except BaseException as error:
        if side.refused:
            raise NotPlainError(side.refused) from None
        if isinstance(error, ImportError) and not is_remote_error(error):
            raise _BrokenError(f"the tests need the module {error.name}") from None
        return {"status": "failed", "error": _told(error), **end()}
    if side.refused:
        raise NotPlainError(side.refused)
    if side.broken:
        # Tests may catch everything, and even the end of the candidate.
        return {"status": "failed", "error": "the program ended early", **end()}
    if not required <= set(counts):
        return {"status": "failed", "error": "asserts were skipped", **end()}
    return {"status": "passed", "error": "", "asserts": len(counts)}


def _told(error: BaseException) -> str:
    """Name, message and place in the tests of what ended them."""
    trace, line = error.__traceback__, None
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<tests>":
            line = trace.tb_lineno
        trace = trace.tb_next
    name = type(error).__name__ if not isinstance(error, EndedError) else "Ended"
    try:
        text = str(error)[:500]
    except Exception:
        text = ""  # a UnicodeError of the program's, at place -5
    return f"{name}: {text}" + ("" if line is None else f" (line {line} of the tests)")
