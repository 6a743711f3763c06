"""What the tests hold of an object that stays in the program's process."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol


class NotPlainError(Exception):
    """The tests do what cannot be done from outside: they need the program's own process."""


class Asks(Protocol):
    """The tester, as far as an object needs it."""

    def ask(self, operation: str, handle: int, args: Any, words: dict[str, Any]) -> Any:
        """What an operation gives that the other side runs."""

    def remote(self, handle: int, kind: str) -> Remote:
        """The object of a handle, always the same one."""
        ...

    def doubt(self, what: str) -> None:
        """Raises :class:`NotPlainError`."""


class Remote:
    """An object that stays in the candidate. It is equal to itself alone.

    What gives data is asked of the candidate. What gives a verdict is not: whether two objects are
    equal, or their difference small, the candidate would answer as it likes. Tests that ask this of
    an instance which they made themselves need one process.

    ``kind``: "class" where the tests name a class, "made" what calling that gave, else "".
    """

    __slots__ = ("_handle", "_kind", "_side")

    def __init__(self, side: Asks, handle: int, kind: str):
        object.__setattr__(self, "_side", side)
        object.__setattr__(self, "_handle", handle)
        object.__setattr__(self, "_kind", kind)

    def __call__(self, *args: Any, **words: Any) -> Any:
        result = _ask(self, "call", *args, **words)
        if _is(self, "class") and isinstance(result, Remote):
            return _side(self).remote(handle_of(result), "made")
        return result

    def __getattr__(self, name: str) -> Any:
        # What Python looks up by itself (copy, pickle) is no test's business.
        if name.startswith("__") and name not in ("__name__", "__doc__", "__dict__"):
            raise AttributeError(name)
        return _ask(self, "getattr", name)

    def __setattr__(self, name: str, value: Any) -> None:
        _ask(self, "setattr", name, value)

    def __iter__(self) -> Iterator[Any]:
        iterator: Iterator[Any] = _ask(self, "iter")
        return iterator

    def __next__(self) -> Any:
        return _ask(self, "next")

    def __getitem__(self, key: Any) -> Any:
        return _ask(self, "getitem", key)

    def __setitem__(self, key: Any, value: Any) -> None:
        _ask(self, "setitem", key, value)

    def __delitem__(self, key: Any) -> None:
        _ask(self, "delitem", key)

    def __len__(self) -> int:
        return int(_ask(self, "len"))

    def __bool__(self) -> bool:
        return _ask(self, "bool") is True

    def __int__(self) -> int:
        return int(_ask(self, "int"))

    def __float__(self) -> float:
        return float(_ask(self, "float"))

    def __str__(self) -> str:
        return str(_ask(self, "str"))

    def __repr__(self) -> str:
        return str(_ask(self, "repr"))

    def __enter__(self) -> Any:
        return _ask(self, "enter")

    def __exit__(self, *_: object) -> None:
        _ask(self, "exit")  # which must not swallow a failed assert

    def __instancecheck__(self, value: Any) -> bool:
        return _ask(self, "isinstance", value) is True

    def __subclasscheck__(self, value: Any) -> bool:
        return _ask(self, "issubclass", value) is True

    def __eq__(self, other: object) -> Any:
        if not isinstance(other, Remote):
            return NotImplemented
        if handle_of(self) == handle_of(other):
            return True
        if _is(self, "made") or _is(other, "made"):
            _side(self).doubt("compare the program's objects")
        return NotImplemented

    def __hash__(self) -> int:
        return handle_of(self)

    def __contains__(self, item: Any) -> bool:
        if _is(self, "made"):
            _side(self).doubt("ask what the program's objects contain")
        return any(one is item or one == item for one in self)


def handle_of(remote: Remote) -> int:
    """The number by which the candidate knows the object."""
    handle: int = object.__getattribute__(remote, "_handle")
    return handle


def _side(remote: Remote) -> Asks:
    side: Asks = object.__getattribute__(remote, "_side")
    return side


def _is(value: Any, kind: str) -> bool:
    return isinstance(value, Remote) and object.__getattribute__(value, "_kind") == kind


def _ask(remote: Remote, operation: str, *args: Any, **words: Any) -> Any:
    return _side(remote).ask(operation, handle_of(remote), args, words)


def _computes(self: Remote, *others: Any) -> Any:
    if any(_is(value, "made") for value in (self, *others)):
        _side(self).doubt("compute with the program's objects")
    return NotImplemented


_BINARY = "add sub mul truediv floordiv mod pow matmul and or xor lshift rshift divmod"
for _name in [*(f"{r}{name}" for name in _BINARY.split() for r in ("", "r")), "lt", "le", "gt",
              "ge"]:  # fmt: skip
    setattr(Remote, f"__{_name}__", _computes)
