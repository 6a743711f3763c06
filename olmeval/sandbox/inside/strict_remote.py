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

    def doubt(self, what: str) -> None:
        """Raises :class:`NotPlainError` where the tests are about the program's own classes."""


class Remote:
    """An object that stays in the candidate. It is equal to itself alone.

    What gives data is asked of the candidate. What gives a verdict is not: whether two objects are
    equal, or their difference small, the candidate would answer as it likes.
    """

    __slots__ = ("_handle", "_side")

    def __init__(self, side: Asks, handle: int):
        object.__setattr__(self, "_side", side)
        object.__setattr__(self, "_handle", handle)

    def __call__(self, *args: Any, **words: Any) -> Any:
        return _ask(self, "call", *args, **words)

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
        if isinstance(other, Remote) and self is not other:
            _doubt(self, "compare the program's objects")
        return self is other or NotImplemented

    __hash__ = object.__hash__

    def __contains__(self, item: Any) -> bool:
        _doubt(self, "ask what the program's objects contain")
        return any(one is item or one == item for one in self)


def _ask(remote: Remote, operation: str, *args: Any, **words: Any) -> Any:
    side: Asks = object.__getattribute__(remote, "_side")
    return side.ask(operation, object.__getattribute__(remote, "_handle"), args, words)


def _doubt(remote: Remote, what: str) -> None:
    side: Asks = object.__getattribute__(remote, "_side")
    side.doubt(what)


def _computes(self: Remote, *_: Any) -> Any:
    _doubt(self, "compute with the program's objects")
    return NotImplemented


_BINARY = "add sub mul truediv floordiv mod pow matmul and or xor lshift rshift divmod"
for _name in [*(f"{r}{name}" for name in _BINARY.split() for r in ("", "r")), "lt", "le", "gt",
              "ge"]:  # fmt: skip
    setattr(Remote, f"__{_name}__", _computes)
