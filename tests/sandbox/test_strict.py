"""The strict form: what crosses between tester and candidate, and what tests may do with it."""

import json
import math
import socket
import threading
from collections import Counter, OrderedDict, defaultdict, deque
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from olmeval.sandbox.inside import strict
from olmeval.sandbox.inside.strict_wire import Channel, Codec, EndedError

SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.complex_numbers() | st.binary()
    | st.text(st.characters()) | st.fractions() | st.dates() | st.decimals()
)  # fmt: skip
HASHABLE = st.recursive(
    st.integers() | st.text() | st.booleans() | st.none(),
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner),
    max_leaves=6,
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(HASHABLE, inner)
        | st.lists(inner).map(deque)
        | st.sets(HASHABLE)
        | st.dictionaries(st.text(), inner).map(OrderedDict)
        | st.lists(st.text()).map(Counter)
    ),
    max_leaves=12,
)


def refuse(value: Any) -> Any:
    raise AssertionError(f"{value!r} is plain data")


def crossed(value: Any) -> Any:
    codec = Codec(refuse, refuse)
    return codec.decode(json.loads(json.dumps(codec.encode(value, {}))), [])


def told(value: Any) -> Any:
    """Types and values all the way down; also what equality forgives (-0.0, True == 1, nan)."""
    if isinstance(value, dict):
        return type(value), [(told(k), told(v)) for k, v in value.items()]
    if isinstance(value, (set, frozenset)):
        return type(value), sorted(map(repr, map(told, value)))
    if isinstance(value, (list, tuple, deque)):
        return type(value), [told(v) for v in value]
    return type(value), repr(value)


@settings(max_examples=150, deadline=None)
@given(VALUES)
def test_plain_data_crosses_unchanged(value: Any) -> None:
    assert told(crossed(value)) == told(value)


@pytest.mark.parametrize(
    "value",
    [
        10**5000, -(1 << 300), float("inf"), -0.0, "\ud800 lone", b"\0\xff", bytearray(b"ab"),
        range(3, 9, 2), slice(1, None), {1: "a"}.keys(), {1: "a"}.items(), Ellipsis,
        defaultdict(int, a=1), date(2024, 2, 29), Decimal("1.10"), Fraction(2, 3), {(1, 2): {3}},
    ],
    ids=lambda v: type(v).__name__,
)  # fmt: skip
def test_these_cross_too(value: Any) -> None:
    back = crossed(value)
    assert type(back) is type(value) and back == value


def test_shared_and_cyclic_containers_keep_their_shape() -> None:
    row = [0, 0]
    back = crossed([row, row, row])
    assert back[0] is back[1] is back[2]
    cycle: list[Any] = [1]
    cycle.append(cycle)
    back = crossed(cycle)
    assert back[0] == 1 and back[1] is back


def test_a_subclass_leaves_what_it_overrides_behind() -> None:
    def always(*_: object) -> bool:
        return True

    for base, value in (
        (int, 3),
        (float, 2.5),
        (str, "x"),
        (list, [1]),
        (dict, {1: 2}),
        (set, {4}),
    ):
        lying = type("Lying", (base,), {"__eq__": always, "__hash__": None})(value)
        back = crossed(lying)
        assert type(back) is base and back == value and back != "anything else"


@pytest.mark.parametrize("message", ["{", '{"a": 1}', "[" * 3000])
def test_a_malformed_message_ends_the_conversation(message: str) -> None:
    here, there = socket.socketpair()
    data = message.encode()
    there.sendall(len(data).to_bytes(4, "big") + data)
    channel = Channel(here)
    with pytest.raises(EndedError):
        Codec(refuse, refuse).decode(channel.receive(), [])


def run(program: str, tests: str, prompt: str = "") -> dict[str, Any]:
    """Both roles in threads of this process: what they do, not how they are contained."""
    here, there = socket.socketpair()
    candidate = strict._Candidate(Channel(there))
    candidate._program = program

    def serve() -> None:
        try:
            while True:
                candidate.answer(candidate._channel.receive())
        except (EndedError, OSError):
            there.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        found = strict._test({"prompt": prompt, "tests": tests}, strict._Tester(Channel(here)))
    finally:
        here.shutdown(socket.SHUT_RDWR)
        here.close()
        thread.join(5)
    return found


@pytest.mark.parametrize(
    ("program", "tests"),
    [
        # In place, nested, aliased, and returned as what was given.
        ("def f(v):\n    v.sort()", "x = [3, 1]\nf(x)\nassert x == [1, 3]"),
        ("def f(*, v, w):\n    v.append(w)\n    w.pop()", "x, y = [1], [2]\nf(v=x, w=y)\n"
         "assert x == [1, []] and y == []"),
        ("def f(v):\n    v[0].append(5)", "x = [[1]]\ny = x[0]\nf(x)\nassert y == [1, 5]"),
        ("def f(d):\n    d.pop('a')\n    d['b'].add(2)", "d = {'a': 1, 'b': {1}}\nf(d)\n"
         "assert d == {'b': {1, 2}}"),
        ("def f(v):\n    v[0][0] = 7\n    return v", "v = [[0]] * 2\nassert f(v) is v\n"
         "assert v == [[7], [7]]"),
        ("def f(v):\n    v += (1,)\n    return v", "t = (0,)\nassert f(t) == (0, 1)\n"
         "assert t == (0,)"),
        # Exceptions by name, own and Python's.
        ("def f(x):\n    raise ValueError('no')", "try:\n    f(1)\nexcept ValueError as e:\n"
         "    assert str(e) == 'no'\nelse:\n    assert False"),
        ("class Odd(KeyError): pass\ndef f(x):\n    raise Odd(x)", "try:\n    f(1)\n"
         "    assert False\nexcept Odd as e:\n    assert isinstance(e, KeyError)"),
        # Objects that stay, their methods and attributes.
        ("class Box:\n    def __init__(self, n): self.n = n\n    def twice(self): return 2 * "
         "self.n\n    def __len__(self): return self.n", "b = Box(3)\nassert b.twice() == 6\n"
         "assert len(b) == 3 and b.n == 3\nb.n = 5\nassert b.twice() == 10"),
        ("class P:\n    def __init__(self, a): self.a = a\ndef f(ps): return sum(p.a for p in ps)",
         "assert f([P(1), P(2)]) == 3"),
        ("def f():\n    yield 1\n    yield 2", "assert list(f()) == [1, 2]\nassert next(f()) == 1"),
        # Functions of the tests, called by the program.
        ("def f(g, v): return [g(x) for x in v]", "assert f(lambda x: x + 1, [1, 2]) == [2, 3]\n"
         "assert f(abs, [-1]) == [1]"),
        ("def compose(g, h): return lambda x: g(h(x))", "assert compose(lambda x: x + 1, "
         "lambda x: 2 * x)(5) == 11"),
        # Names that are Python's own.
        ("def sum(a, b): return a * 10 + b", "assert sum(1, 2) == 12"),
        ("import math\ndef f(): return 2", "assert math.isclose(f(), 2)"),
        ("from math import isclose\ndef f(): return 2", "assert isclose(f(), 2)"),
        ("def f(x): return type(x)", "assert f(1) is int"),
        ("from collections import Counter\ndef f(s): return Counter(s)", "assert f('aab') == "
         "{'a': 2, 'b': 1}"),
        ("def f(x): return x", "assert f(float('inf')) == float('inf')\nassert f(1+2j) == 1+2j\n"
         "assert f(b'a') == b'a' and f(None) is None and f(10**80) == 10**80"),
        ("import sys\ndef f(): return sys.maxsize", "assert f() == sys.maxsize"),
        ("import math\ndef f(x): return x", "assert math.isnan(f(float('nan')))"),
        # Classes of the program's: identity, kinds, context managers, named tuples.
        ("from enum import Enum\nclass C(Enum):\n    A = 1\n    B = 2\ndef f(): return C.A",
         "assert f() == C.A and f() is C.A and f().name == 'A'"),
        ("class A: pass\nclass B(A): pass\ndef f(): return B()", "assert isinstance(f(), A)\n"
         "assert issubclass(B, A) and not isinstance(3, A) and isinstance(f(), (int, B))"),
        ("class V:\n    def __enter__(self): return 3\n    def __exit__(self, *a): return True",
         "with V() as v:\n    assert v == 3"),
        ("from collections import namedtuple\nP = namedtuple('P', 'x y')\ndef f(): return P(1, 2)",
         "assert f().x == 1 and f() == (1, 2) == P(1, y=2) and f()._replace(x=3) == (3, 2)"),
        ("from collections import defaultdict\ndef f(): return defaultdict(list, a=[1])",
         "assert f()['zzz'] == [] and f() == {'a': [1]}"),
        # Errors with attributes and texts of their own; a program that is asked to end.
        ("class E(Exception):\n    def __init__(self, a, b): self.a = a\n    def __str__(self): "
         "return f'<{self.a}>'\ndef f(): raise E(1, [2])", "try:\n    f()\n    assert False\n"
         "except E as e:\n    assert e.a == 1 and str(e) == '<1>'"),
        ("import sys\ndef f(): sys.exit(3)", "try:\n    f()\nexcept SystemExit as e:\n"
         "    assert e.code == 3\nelse:\n    assert False"),
    ],
)  # fmt: skip
def test_what_tests_may_do(program: str, tests: str) -> None:
    names: dict[str, Any] = {}
    exec(f"{program}\n{tests}", names)  # Python itself agrees
    found = run(program, tests)
    assert found["status"] == "passed", found


def test_helpers_of_the_prompt_are_the_prompts_own() -> None:
    prompt = "def poly(c, x):\n    return c[0] + c[1] * x\n\ndef root(c):\n    '''Find it.'''\n"
    tests = "assert abs(poly([-4, 2], root([-4, 2]))) < 1e-9"
    assert run(prompt + "    return 2.0\n", tests, prompt)["status"] == "passed"
    cheat = "    return 7.0\ndef poly(c, x):\n    return 0\n"
    assert run(prompt + cheat, tests, prompt)["status"] == "failed"


@pytest.mark.parametrize(
    "cheat",
    [
        "class math:\n    isclose = staticmethod(lambda *a: True)\ndef f(): return 3",
        "def abs(x): return 0\ndef f(): return 3",
        "def isclose(a, b): return True\ndef f(): return 3",
    ],
)
def test_a_program_does_not_say_what_is_close(cheat: str) -> None:
    tests = (
        "import math\nfrom math import isclose\nassert math.isclose(f(), 2)\nassert isclose(f(), 2)"
    )
    assert run(cheat, tests)["status"] == "failed"
    assert run(cheat, "assert abs(f() - 2) < 1e-9")["status"] == "failed"
    assert run("import math\n" + cheat, "assert math.isclose(f(), 2)")["status"] == "failed"


@pytest.mark.parametrize(
    ("tests", "why"),
    [
        ("class Node: pass\nassert f(Node()) is None", "Node"),
        ("import io\nassert f(io.StringIO('x')) is None", "StringIO"),
    ],
)
def test_tests_that_pass_objects_need_one_process(tests: str, why: str) -> None:
    with pytest.raises(strict.NotPlainError, match=why):
        run("def f(x): return None", tests)


@pytest.mark.parametrize(
    "program",
    [
        "import os\ndef f(): return os\ndef g(x): return 1",
        "class Odd(Exception): pass\ndef f(): return Odd\ndef g(x): return 1",
        "import unittest.mock as m\ndef f(): return m\ndef g(x): return 1",
    ],
)
def test_a_program_cannot_ask_for_one_process(program: str) -> None:
    assert run(program, "assert g(f()) == 1")["status"] in ("failed", "passed")
    caught = "try:\n    f()\nexcept Exception as e:\n    assert g(e) == 1"
    raising = "class Odd(Exception): pass\ndef f(): raise Odd\ndef g(x): return 1"
    assert run(raising, caught)["status"] == "failed"


NODES = "root = Node('a')\nroot.left = Node('b')\nassert depth(root) == 2"


@pytest.mark.parametrize(
    "node",
    [
        "from string import Template as Node",
        "from string import Formatter\nNode = lambda _: Formatter()",
        "import operator\nNode = operator.itemgetter",
        "Node = ValueError",
        "class Node(Exception): pass",
        "Node = object\nNode = iter",
    ],
)
def test_a_program_cannot_have_the_tests_make_what_does_not_cross(node: str) -> None:
    program = f"{node}\ndef depth(n):\n    from unittest.mock import ANY\n    return ANY"
    assert run(program, NODES)["status"] == "failed"
    honest = "class Node:\n    def __init__(self, v): self.v = v\ndef depth(n): return 2"
    assert run(honest, NODES)["status"] == "passed"


def test_a_class_of_pythons_own_under_its_own_name_is_no_way_either() -> None:
    program = "from itertools import count\ndef twice(n):\n    from unittest.mock import ANY\n"
    tests = "assert twice(count(3)) == 12"
    assert run(program + "    return ANY", tests)["status"] == "failed"
    # What the tests make of their own accord is another matter.
    with pytest.raises(strict.NotPlainError, match="count"):
        run("def twice(n): return 12", "from itertools import count\n" + tests)


@pytest.mark.parametrize(
    ("tests", "why"),
    [
        ("assert open('a').read() == f()", "open"),
        ("import sys, io\nsys.stdout = io.StringIO()\nf()", "sys.stdout"),
        ("import contextlib, io\nwith contextlib.redirect_stdout(io.StringIO()):\n    f()",
         "redirect_stdout"),
        ("from unittest.mock import patch\nwith patch('random.random', f): pass", "unittest"),
        ("import random\nrandom.seed(3)\nassert f() == 1", "random.seed"),
        ("import os\nassert f() == 1 and os.path.exists('x')", "os"),
    ],
)  # fmt: skip
def test_tests_that_share_more_than_data_need_one_process(tests: str, why: str) -> None:
    with pytest.raises(strict.NotPlainError, match=why):
        run("def f(): return 1", tests)


VECTOR = """
class Vector:
    def __init__(self, x): self.x = x
    def __eq__(self, other): return self.x == other.x
    def __lt__(self, other): return self.x < other.x
    def __add__(self, other): return Vector(self.x + other.x)
    def __contains__(self, x): return x == self.x
def f(): return Vector(3)
"""


@pytest.mark.parametrize("test", ["f() == Vector(3)", "Vector(1) + Vector(2)", "3 in Vector(3)",
                                  "Vector(1) < Vector(2)"])  # fmt: skip
def test_what_classes_of_the_program_say_of_themselves_needs_one_process(test: str) -> None:
    with pytest.raises(strict.NotPlainError, match="the program's objects"):
        run(VECTOR, f"assert Vector(1).x == 1\nassert {test}")


def test_what_a_method_gives_is_not_excused_by_its_class() -> None:
    tests = "c = Circle(2)\nassert abs(c.area() - 12.56) < 0.01"
    honest = "class Circle:\n    def __init__(self, r): self.r = r\n"
    assert (
        run(honest + "    def area(self): return 3.14 * self.r ** 2", tests)["status"] == "passed"
    )
    lying = honest + "    def area(self): return self\n    __sub__ = lambda *_: 0\n"
    assert run(lying, tests)["status"] == "failed"
    single = "class One:\n    it = None\n    def __new__(cls):\n"
    single += "        cls.it = cls.it or object.__new__(cls)\n        return cls.it\n"
    assert run(single, "assert One() is One() and One() == One()")["status"] == "passed"


@pytest.mark.parametrize("test", ["f() == 3", "3 in f()", "f() < 4", "f() + 1 == 4", "3 == f()"])
def test_where_tests_name_no_class_such_objects_are_no_answer(test: str) -> None:
    lying = VECTOR.replace("self.x == other.x", "True").replace("other.x", "3")
    assert run(lying, f"assert {test}")["status"] == "failed"


def test_what_cannot_cross_is_seen_where_tests_catch_it() -> None:
    tests = "class Node: pass\ntry:\n    f(Node())\n    assert False\nexcept Exception:\n    pass"
    with pytest.raises(strict.NotPlainError, match="Node"):
        run("def f(x): return 1", tests)
    given_back = "class Node: pass\nassert f(lambda: Node()) == 1"
    with pytest.raises(strict.NotPlainError, match="Node"):
        run("def f(g):\n    try:\n        g()\n    except Exception:\n        return 2", given_back)


def test_names_that_the_program_imports_are_found() -> None:
    program = "from functools import reduce\nfrom typing import List\nfrom collections import *\n"
    program += "from itertools import permutations\nimport operator as op\ndef f(x): return x\n"
    tests = "def check(c, x: List[int]):\n    assert reduce(lambda a, b: a + b, c(x)) == 3\n"
    tests += "    assert sorted(permutations(c(x))) == [(1, 2), (2, 1)]\n"
    tests += "    assert Counter(c('aab')) == {'a': 2, 'b': 1} and deque(c(x)) == deque([1, 2])\n"
    tests += "    assert op.add(1, 2) == 3\ncheck(f, [1, 2])"
    found = run(program, tests)
    assert found["status"] == "passed", found


def test_a_fault_of_the_tests_is_none_of_the_program() -> None:
    with pytest.raises(strict._BrokenError, match="no_such_module"):
        run("def f(): return 1", "import no_such_module\nassert f() == 1")
    missing = run("def f():\n    import no_such_module", "assert f() == 1")
    assert missing["status"] == "failed" and "no_such_module" in missing["error"]


def test_an_end_that_tests_would_forgive_is_seen() -> None:
    tests = "try:\n    f()\nexcept:\n    pass\nassert True"
    assert run("def f(): raise ValueError", tests)["status"] == "passed"
    program = "import sys\ndef f():\n    wire = sys.modules['olmeval.sandbox.inside.strict_wire']\n"
    program += "    raise wire.EndedError('gone')\n"
    assert run(program, tests)["status"] == "failed"


def test_nan_is_equal_to_nothing() -> None:
    assert run("def f(): return float('nan')", "assert f() == f()")["status"] == "failed"
    assert math.isnan(crossed(math.nan))
