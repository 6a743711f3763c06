"""What tester and candidate have in common: questions, answers, and what crosses by name.

Asking may be answered by a question in return (a function of the tests, called by the program), so
both sides can do both.
"""

from __future__ import annotations

import builtins
import collections
import importlib
import operator
import sys
import types
from collections.abc import Callable, Sequence
from typing import Any

from olmeval.sandbox.inside.strict_wire import Channel, Codec, EndedError

STDLIB: frozenset[str] = getattr(sys, "stdlib_module_names", frozenset())
PLAIN_CONTAINERS = (list, dict, set, bytearray)


class Side:
    """One end of the conversation. Asking may be answered by a question in return."""

    def __init__(self, channel: Channel):
        self._channel = channel
        self._kept: list[Any] = []
        self._number: dict[int, int] = {}
        self._codec = Codec(self._keep, self._find)

    def _keep(self, value: Any) -> list[Any]:
        raise NotImplementedError

    def _find(self, data: list[Any]) -> Any:
        raise NotImplementedError

    def _operation(self, name: str) -> Callable[..., Any]:
        raise NotImplementedError

    @property
    def broken(self) -> bool:
        """Nothing more can be said."""
        return self._channel.broken

    @property
    def ended(self) -> bool:
        """The other side is gone."""
        return self._channel.ended

    def _handle(self, value: Any) -> int:
        if id(value) not in self._number:
            # Kept for good, so that no other object gets its id.
            self._number[id(value)] = len(self._kept)
            self._kept.append(value)
        return self._number[id(value)]

    def ask(self, operation: str, handle: int, args: Sequence[Any], words: dict[str, Any]) -> Any:
        """What the other side's ``operation`` on its object gives; raises what that raises."""
        memo: dict[int, int] = {}
        sent = [self._codec.encode(a, memo) for a in args]
        named = {k: self._codec.encode(v, memo) for k, v in words.items()}
        self._channel.send(["ask", operation, handle, sent, named])
        while True:
            message = self._channel.receive()
            if message[0] != "ask":
                break
            self.answer(message)
        kind, content, changed = message
        if changed is not None:
            now = self._codec.decode(["t", changed], [])
            merge((*args, *words.values()), now, set())
        if kind == "error":
            error = exception(*content)
            error.from_program = True  # type: ignore[attr-defined]
            raise error
        if isinstance(content, list) and content[0] == "argument":
            return args[content[1]]
        return self._codec.decode(content, [])

    def answer(self, message: Any) -> None:
        """Does what the other side asks and tells it the result."""
        _, operation, handle, sent, named = message
        memo: list[Any] = []
        args = [self._codec.decode(a, memo) for a in sent]
        words = {k: self._codec.decode(v, memo) for k, v in named.items()}
        target = None if handle < 0 else self._kept[handle]
        try:
            result = self._operation(operation)(target, *args, **words)
            same = [k for k, a in enumerate(args) if a is result]
            if same and isinstance(result, PLAIN_CONTAINERS):
                reply: list[Any] = ["value", ["argument", same[0]]]
            else:
                reply = ["value", self._codec.encode(result, {})]
        except EndedError:
            raise
        except BaseException as error:
            reply = ["error", told(error)]
        changed = None
        if memo:
            after: dict[int, int] = {}
            now = [self._codec.encode(a, after) for a in (*args, *words.values())]
            changed = now if now != [*sent, *named.values()] else None
        self._channel.send([*reply, changed])


def importable(value: Any) -> list[Any] | None:
    """How the other side imports the same object of Python itself; None where it cannot."""
    if isinstance(value, types.ModuleType):
        return ["import", value.__name__, ""] if value.__name__ in STDLIB else None
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str):
        return None
    root = module.partition(".")[0]
    if root not in STDLIB or module not in sys.modules:
        return None
    try:
        found = operator.attrgetter(name)(sys.modules[module])
    except AttributeError:
        return None
    return ["import", module, name] if found is value else None


def imported(module: str, name: str) -> Any:
    if module.partition(".")[0] not in STDLIB:
        raise EndedError("a message is malformed")
    found = importlib.import_module(module)
    return operator.attrgetter(name)(found) if name else found


def exception_class(names: list[str]) -> type[BaseException]:
    """The class of that name here, or a new one derived from its nearest known base."""
    if names[0] in ENDING:
        return ENDING[names[0]]
    if "Exception" not in names:
        return EndedError
    known = next(n for n in names if isinstance(getattr(builtins, n, None), type))
    base: type[BaseException] = getattr(builtins, known)
    if not issubclass(base, Exception):
        return EndedError
    return base if known == names[0] else _own_class(names[0], base)


def _own_class(name: str, base: type[BaseException]) -> type[BaseException]:
    def text(self: BaseException) -> str:
        return str(vars(self).get(TEXT, "")) or base.__str__(self)

    return CLASSES.setdefault(name, type(name, (base,), {"__str__": text}))


# A function may be asked to end the program.
ENDING: dict[str, type[BaseException]] = {
    "SystemExit": SystemExit, "KeyboardInterrupt": KeyboardInterrupt
}  # fmt: skip
SIMPLE = (str, int, float, bool)
TEXT = "text of the program's"  # attribute that no source text can name
CLASSES: dict[str, type[BaseException]] = {}


def is_remote_error(value: Any) -> bool:
    """Whether the other side raised it."""
    return isinstance(value, BaseException) and getattr(value, "from_program", False)


def told(error: BaseException) -> list[Any]:
    """What crosses of an error: its classes' names, simple arguments and attributes, its text."""
    names = [c.__name__ for c in type(error).__mro__]
    try:
        text = str(error)
    except Exception:
        text = ""
    attributes = {k: v for k, v in vars(error).items() if type(v) in SIMPLE}
    return [names, [a for a in error.args if type(a) in SIMPLE], attributes, text]


def exception(
    names: list[str], arguments: list[Any], attributes: dict[str, Any], text: str
) -> BaseException:
    kind = exception_class(names)
    if kind is EndedError:
        return EndedError(f"the program raised {names[0]}")
    try:
        error = kind(*arguments)
    except TypeError:
        # Some need more to be made (UnicodeDecodeError); their name is what tests look at.
        error = _own_class(names[0], Exception)(*arguments)
    vars(error).update(attributes)
    vars(error)[TEXT] = text
    return error


def merge(old: Any, new: Any, seen: set[int]) -> Any:
    """Makes ``old`` equal to ``new`` in place where it can be changed; returns what stands there
    afterwards."""
    if type(old) is not type(new) or id(old) in seen:
        return old if id(old) in seen else new
    if isinstance(old, (tuple, list)):
        seen.add(id(old))
        kept = [merge(o, n, seen) for o, n in zip(old, new)] + list(new[len(old) :])  # noqa: B905
        if isinstance(old, tuple):
            # Not rebuilt where all its parts are the ones it has.
            return old if all(a is b for a, b in zip(old, kept)) else tuple(kept)  # noqa: B905
        old[:] = kept
        return old
    if isinstance(old, dict):
        seen.add(id(old))
        kept_items = {k: merge(old[k], v, seen) if k in old else v for k, v in new.items()}
        old.clear()
        old.update(kept_items)
        return old
    if isinstance(old, (set, collections.deque, bytearray)):
        old.clear()
        (old.update if isinstance(old, set) else old.extend)(new)
        return old
    return new
