"""Values that cross between the two roles of a strict run, as JSON.

Null, booleans, strings, numbers as they are; the rest as ``[tag, ...]``. Mutable containers are
numbered on both sides, so shared and cyclic ones keep their shape. Subclasses of plain types cross
as the plain type, without what they override: their own ``__eq__`` stays behind. Named tuples keep
the names.
"""

from __future__ import annotations

import collections
import datetime
import decimal
import fractions
import functools
import json
import socket
from collections.abc import Callable
from typing import Any

# Longest integer that crosses as a JSON number; text of longer ones takes quadratic time.
PLAIN_INT = 1 << 256
LONGEST_MESSAGE = 256 << 20


class EndedError(BaseException):
    """The other side ended or broke the protocol; no ``except Exception`` may catch this."""


class Channel:
    """Framed JSON messages over a socket.

    ``broken``: nothing more can be said; ``ended``: because the other side is gone.
    """

    def __init__(self, peer: socket.socket):
        self._peer = peer
        self._buffer = bytearray()
        self.ended = self.broken = False

    def send(self, message: Any) -> None:
        data = json.dumps(message, separators=(",", ":")).encode()
        try:
            self._peer.sendall(len(data).to_bytes(4, "big") + data)
        except OSError:
            raise self._end() from None

    def receive(self) -> Any:
        size = int.from_bytes(self._take(4), "big")
        if size > LONGEST_MESSAGE:
            raise self._end("a message is too long")
        try:
            return json.loads(self._take(size))
        except (ValueError, RecursionError):
            raise self._end("a message is malformed") from None

    def _end(self, why: str = "") -> EndedError:
        self.broken = True
        self.ended = self.ended or not why
        return EndedError(why or "the other side ended")

    def _take(self, size: int) -> bytes:
        while len(self._buffer) < size:
            try:
                part = self._peer.recv(1 << 16)
            except OSError:
                part = b""
            if not part:
                raise self._end()
            self._buffer += part
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken


class Codec:
    """Values to JSON and back.

    ``keep`` names an object that stays here; ``find`` makes of such a name of the other side what
    stands for it.
    """

    def __init__(self, keep: Callable[[Any], list[Any]], find: Callable[[list[Any]], Any]):
        self._keep, self._find = keep, find

    def encode(self, value: Any, memo: dict[int, int]) -> Any:
        kind = type(value)
        if value is None or kind is str or kind is bool or kind is float:
            return value
        if kind is int:
            return value if -PLAIN_INT < value < PLAIN_INT else ["i", hex(value)]
        if kind is tuple:
            return ["t", [self.encode(v, memo) for v in value]]
        if kind in NUMBERED:
            return self._numbered(value, kind, memo)
        if kind is frozenset:
            return ["f", [self.encode(v, memo) for v in value]]
        if kind is bytes:
            return ["b", value.hex()]
        if kind is complex:
            return ["c", value.real, value.imag]
        if kind in SCALARS:
            return ["o", SCALARS[kind][0], SCALARS[kind][1](value)]
        if kind in VIEWS:
            return [VIEWS[kind], [self.encode(v, memo) for v in value]]
        return self._other(value, memo)

    def _numbered(self, value: Any, kind: type, memo: dict[int, int]) -> Any:
        if id(value) in memo:
            return ["r", memo[id(value)]]
        memo[id(value)] = len(memo)
        if kind is bytearray:
            return ["ba", value.hex()]
        if kind in PAIRED:
            pairs = [[self.encode(k, memo), self.encode(v, memo)] for k, v in value.items()]
            if kind is collections.defaultdict:
                made = value.default_factory
                return ["dd", pairs, next((n for n, c in FACTORIES.items() if c is made), None)]
            return [NUMBERED[kind], pairs]
        return [NUMBERED[kind], [self.encode(v, memo) for v in value]]

    def _other(self, value: Any, memo: dict[int, int]) -> Any:
        kind = type(value)
        if isinstance(value, type):
            return self._keep(value)
        for base, raw in RAW.items():
            if isinstance(value, base):
                return self.encode(raw(value), memo)
        fields = getattr(kind, "_fields", None)
        if issubclass(kind, tuple) and isinstance(fields, tuple) and len(fields) == len(value):
            parts = [self.encode(v, memo) for v in tuple.__iter__(value)]
            return ["nt", kind.__name__, list(fields), parts]
        for base, copy in COPIES.items():
            if isinstance(value, base):
                return self.encode(copy(value), memo)
        if type(value).__module__ == "numpy" and getattr(value, "shape", None) == ():
            return self.encode(value.item(), memo)
        return self._keep(value)

    def decode(self, data: Any, memo: list[Any]) -> Any:
        if not isinstance(data, list):
            if isinstance(data, dict):
                raise EndedError("a message is malformed")
            return data
        tag = data[0]
        if tag == "nt":
            # Its equality is a tuple's; its other methods stay behind.
            made = _named_tuple(data[1], tuple(data[2]))
            return made._make([self.decode(v, memo) for v in data[3]])
        if tag == "dd":
            counted = self._filled("dd", data[1], memo)
            counted.default_factory = FACTORIES.get(data[2])
            return counted
        if tag in FILLED:
            return self._filled(tag, data[1], memo)
        if tag == "r":
            return memo[data[1]]
        if tag == "ba":
            memo.append(bytearray.fromhex(data[1]))
            return memo[-1]
        if tag in BUILT:
            return BUILT[tag]([self.decode(v, memo) for v in data[1]])
        if tag in MADE:
            return MADE[tag](*data[1:])
        if tag == "o":
            return MAKERS[data[1]](data[2])
        return self._find(data)

    def _filled(self, tag: str, content: Any, memo: list[Any]) -> Any:
        # Numbered before it is filled, for it may contain itself.
        made = FILLED[tag]()
        memo.append(made)
        if isinstance(made, dict):
            for key, item in content:
                made[self.decode(key, memo)] = self.decode(item, memo)
        elif isinstance(made, set):
            made.update([self.decode(v, memo) for v in content])
        else:
            made.extend([self.decode(v, memo) for v in content])
        return made


@functools.lru_cache(256)
def _named_tuple(name: str, fields: tuple[str, ...]) -> Any:
    return collections.namedtuple(name, fields)


# Instances of subclasses by the base's own means.
RAW: dict[type, Callable[[Any], Any]] = {
    int: lambda v: int.__add__(v, 0),
    float: float.__float__,
    complex: lambda v: complex.__add__(v, 0),
    str: lambda v: str.__getitem__(v, slice(None)),
    bytes: lambda v: bytes.__getitem__(v, slice(None)),
}
COPIES: dict[type, Callable[[Any], Any]] = {
    list: lambda v: list(list.__iter__(v)),
    dict: lambda v: dict(dict.items(v)),
    set: lambda v: set(set.__iter__(v)),
    tuple: lambda v: tuple(tuple.__iter__(v)),
    frozenset: lambda v: frozenset(frozenset.__iter__(v)),
}
NUMBERED: dict[type, str] = {
    list: "l", dict: "d", set: "s", collections.deque: "q", collections.OrderedDict: "od",
    collections.Counter: "cn", collections.defaultdict: "dd", bytearray: "ba",
}  # fmt: skip
PAIRED = (dict, collections.OrderedDict, collections.Counter, collections.defaultdict)
FILLED: dict[str, Callable[[], Any]] = {
    "l": list, "d": dict, "s": set, "q": collections.deque, "od": collections.OrderedDict,
    "cn": collections.Counter, "dd": collections.defaultdict,
}  # fmt: skip
# What a defaultdict may make by itself on the other side.
FACTORIES: dict[str, type] = {
    c.__name__: c for c in (int, float, str, bool, list, dict, set, tuple)
}
VIEWS: dict[type, str] = {type({}.keys()): "dk", type({}.values()): "dv", type({}.items()): "di"}
BUILT: dict[str, Callable[[list[Any]], Any]] = {
    "t": tuple,
    "f": frozenset,
    "dk": lambda v: dict.fromkeys(v).keys(),
    "dv": lambda v: dict(enumerate(v)).values(),
    "di": lambda v: dict(v).items(),
}
MADE: dict[str, Callable[..., Any]] = {
    "i": lambda text: int(text, 16),
    "b": bytes.fromhex,
    "c": lambda real, imaginary: complex(float(real), float(imaginary)),
}
SCALARS: dict[type, tuple[str, Callable[[Any], Any]]] = {
    range: ("range", lambda v: [v.start, v.stop, v.step]),
    slice: ("slice", lambda v: [v.start, v.stop, v.step]),
    decimal.Decimal: ("Decimal", str),
    fractions.Fraction: ("Fraction", lambda v: [hex(v.numerator), hex(v.denominator)]),
    datetime.date: ("date", lambda v: v.isoformat()),
    datetime.datetime: ("datetime", lambda v: v.isoformat()),
    datetime.time: ("time", lambda v: v.isoformat()),
    datetime.timedelta: ("timedelta", lambda v: [v.days, v.seconds, v.microseconds]),
    type(Ellipsis): ("Ellipsis", lambda _: None),
    type(NotImplemented): ("NotImplemented", lambda _: None),
}
MAKERS: dict[str, Callable[[Any], Any]] = {
    "range": lambda v: range(*v),
    "slice": lambda v: slice(*v),
    "Decimal": decimal.Decimal,
    "Fraction": lambda v: fractions.Fraction(int(v[0], 16), int(v[1], 16)),
    "date": datetime.date.fromisoformat,
    "datetime": datetime.datetime.fromisoformat,
    "time": datetime.time.fromisoformat,
    "timedelta": lambda v: datetime.timedelta(*v),
    "Ellipsis": lambda _: Ellipsis,
    "NotImplemented": lambda _: NotImplemented,
}
# Classes whose instances cross as what they are.
PLAIN_CLASSES: frozenset[type] = frozenset(
    {bool, tuple, frozenset, *RAW, *NUMBERED, *SCALARS} - {type(Ellipsis), type(NotImplemented)}
)
