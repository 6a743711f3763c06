"""The compatible form: which asserts must have run, and that tests stay tests."""

import ast

import pytest

from olmeval.sandbox.inside import compat
from olmeval.sandbox.inside.asserts import MARK, instrumented


def marks(source: str) -> tuple[list[int], set[int]]:
    """The numbers of the asserts that ran, and of those that had to."""
    body, required = instrumented(ast.parse(source).body)
    counts: list[int] = []
    exec(compile(ast.Module(body, []), "<tests>", "exec"), {MARK: counts.append})
    return counts, required


@pytest.mark.parametrize(
    ("source", "ran", "required"),
    [
        ("assert 1\nassert 2", [0, 1], {0, 1}),
        ("def check(c):\n    assert 1\n    for k in range(3):\n        assert 1\n    assert 1\n"
         "check(0)",
         [0, 1, 1, 1, 2], {0, 2}),
        ("if 0:\n    assert 1\nelse:\n    assert 1", [1], set()),
        ("try:\n    assert 1\nfinally:\n    assert 1", [0, 1], set()),
        ("def unused():\n    assert 0\nassert 1", [1], {1}),
        ("def check():\n    return\n    assert 0\ncheck()", [], set()),
        ("import contextlib\nwith contextlib.suppress(KeyError):\n    assert 1\nassert 1", [0, 1],
         {0, 1}),
        ("class T:\n    def f(self):\n        assert 1\nT().f()", [0], set()),
    ],
)  # fmt: skip
def test_asserts_are_counted_behind_themselves(source: str, ran: list[int], required) -> None:
    assert marks(source) == (ran, required)


def test_an_assert_that_fails_is_not_counted() -> None:
    body, _ = instrumented(ast.parse("assert 1\nassert 0, 'why'\nassert 1").body)
    counts: list[int] = []
    with pytest.raises(AssertionError, match="why"):
        exec(compile(ast.Module(body, []), "<tests>", "exec"), {MARK: counts.append})
    assert counts == [0]


def test_no_source_text_names_the_mark() -> None:
    assert not MARK.isidentifier()


TESTS = "\ndef check(f):\n    assert f(1) == 1\n\ncheck(one)\n"


@pytest.mark.parametrize(
    "program",
    [
        "def one(n): return n",
        "def one(n): return n\n",
        "def one(n): return n\r\n\r\nx = 1\r",
        "'''doc'''\ndef one(n):\n    return '''\n'''and n\n# é\n",
        "from __future__ import annotations\ndef one(n: Nope): return n",
    ],
)
def test_honest_text_in_front_of_tests_changes_nothing(program: str) -> None:
    counts: list[int] = []
    names: dict[str, object] = {MARK: counts.append}
    body, required = compat._joined(program, TESTS)
    exec(compile(ast.Module(body, []), "<program>", "exec"), names)
    assert counts == [0] and required == {0}


@pytest.mark.parametrize(
    ("program", "tests"),
    [
        ("def one(n): return 2\n@(lambda f: lambda g: None)", TESTS),
        ("def one(n): return 2\n_ = '''", TESTS + "# '''"),
        ("def one(n): return 2\nif one:", "\n    assert False"),
        ("def one(n): return 2\n_ = (", "\n'a', 'b')\nassert False"),
        ("def one(n): return 2\nif 0: \\", "\nassert False"),
        ("pass", "\n# nothing to test"),
    ],
)
def test_tests_that_are_not_parsed_as_themselves_fail(program: str, tests: str) -> None:
    with pytest.raises((compat._FailedError, SyntaxError)):
        compat._joined(program, tests)


def test_methods_of_the_class_that_runs_are_counted() -> None:
    tests = (
        "class Other:\n    def test_x(self): pass\nclass TestCases:\n    def setUp(self): pass\n"
        "    def test_a(self): pass\n    def test_b(self): pass\n    def helper(self): pass\n"
    )
    assert compat._cases(tests) == 2
