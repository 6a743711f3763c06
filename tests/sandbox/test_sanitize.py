"""BigCodeBench's post-processing: each rule of the published step; its search by brute force."""

import ast
import textwrap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from olmeval.sandbox.sanitize import longest_valid, names_in, sanitize


def clean(text: str) -> str:
    return sanitize(textwrap.dedent(text), "task_func")


def test_keeps_imports_and_what_the_function_reaches() -> None:
    kept = clean(
        """
        import os
        from math import sqrt as root
        LIMIT = 3  # a remark
        UNUSED = 4
        def helper(x):
            return deeper(x) + LIMIT
        def deeper(x):
            return root(x)
        def idle():
            return 1
        class Box:
            pass
        def task_func(x: Box):
            return helper(x)
        print(task_func(2))
        if __name__ == "__main__":
            task_func(3)
        """
    )
    assert kept == textwrap.dedent(
        """\
        import os
        from math import sqrt as root
        LIMIT = 3
        def helper(x):
            return deeper(x) + LIMIT
        def deeper(x):
            return root(x)
        class Box:
            pass
        def task_func(x: Box):
            return helper(x)"""
    )


@pytest.mark.parametrize(
    ("text", "dropped"),
    [
        ("from __future__ import annotations\ndef task_func():\n    pass", "__future__"),
        ("@cache\ndef helper():\n    pass\ndef task_func():\n    helper()", "def helper"),
        ("try:\n    import os\nexcept ImportError:\n    pass\ndef task_func():\n    os", "import"),
        ("def task_func():\n    return 1\ndef task_func():\n    return 2", "2"),
        ("x = 1\nx += 2\ndef task_func():\n    return x", "+="),
        ("a, b = 1, 2\ndef task_func():\n    return a", "1, 2"),
        ("task_func.attribute = 1\ndef task_func():\n    pass", "attribute"),
        ("for i in []:\n    pass\ndef task_func():\n    pass", "for"),
    ],
)
def test_drops_what_the_published_step_drops(text: str, dropped: str) -> None:
    assert dropped in text and dropped not in sanitize(text, "task_func")


def test_names_count_wherever_they_stand() -> None:
    source = 'def f(a, *, key: Kind = other.attr):\n    return f"{inner.part(word=2)}", g(name=1)'
    assert names_in(source) == {
        "f", "a", "key", "Kind", "other", "attr", "inner", "part", "word", "g", "name",
    }  # fmt: skip


def test_a_text_that_does_not_parse_is_cut_to_its_longest_part() -> None:
    text = "def task_func():\n    return 1\n\n```\nThat is the whole answer.\nx = ("
    assert clean(text) == "def task_func():\n    return 1"


def test_without_anything_to_keep_the_longest_part_is_the_result() -> None:
    assert sanitize("print(1)\nprint(2)", "task_func") == "print(1)\nprint(2)"
    assert sanitize("no python at all", "task_func") == "no python at all"
    assert sanitize("", "task_func") == ""


LINES = st.lists(
    st.sampled_from(["x = 1", "def f():", "    return x", "", "if (", ")", "    y = 2", "'''"]),
    max_size=8,
)


@given(LINES)
@settings(max_examples=300, deadline=None)
def test_the_search_equals_a_search_of_every_run_of_lines(lines: list[str]) -> None:
    best, found = 0, (0, 0)
    for i in range(len(lines)):
        for j in range(i + 1, len(lines)):
            try:
                ast.parse("\n".join(lines[i : j + 1]))
            except SyntaxError:
                continue
            filled = sum(1 for line in lines[i : j + 1] if line.strip())
            if filled > best:
                best, found = filled, (i, j)
    assert longest_valid("\n".join(lines)) == "\n".join(lines[found[0] : found[1] + 1])
