"""Strict YAML: keys that stand twice, mistakes and where they are."""

import pytest

from olmeval.config import Config, parse_config
from olmeval.errors import UserError


@pytest.mark.parametrize(
    ("text", "line", "key", "first"),
    [
        ("steps: 1\nsteps: 2\n", 2, "steps", 1),
        ("steps: 1\ninner:\n  a: 1\n  'a': 2\n", 4, "a", 3),
        ("items:\n- {b: 1, b: 1}\n", 2, "b", 2),
    ],
)
def test_a_key_that_stands_twice_is_refused(text: str, line: int, key: str, first: int) -> None:
    said = f"^f.yaml:{line}: the key '{key}' stands twice, first in line {first}; remove one$"
    with pytest.raises(UserError, match=said):
        parse_config(text, Config, "f.yaml")


def test_merges_and_aliases_are_no_repetition() -> None:
    class Free(Config):
        one: dict[str, int]
        two: dict[str, int]
        three: dict[str, int]

    text = "one: &a {x: 1, y: 2}\ntwo: {<<: *a, x: 3}\nthree: *a\n"
    found = parse_config(text, Free, "f.yaml")
    assert found.two == {"x": 3, "y": 2} and found.three == found.one


def test_a_mistake_in_an_override_is_not_looked_for_in_the_file() -> None:
    class Inner(Config):
        size: int = 1

    class Outer(Config):
        inner: Inner = Inner()
        name: str = ""

    text = "inner:\n  size: 2\nname: 3\n"
    with pytest.raises(UserError, match=r"^f\.yaml:3: name"):
        parse_config(text, Outer, "f.yaml", {"inner.size": 4})
    with pytest.raises(UserError, match=r"^override 'inner\.size' of f\.yaml: inner\.size: "):
        parse_config(text, Outer, "f.yaml", {"inner.size": "much", "name": "a"})
    with pytest.raises(UserError, match=r"^override 'inner' of f\.yaml: inner\.size: "):
        parse_config(text, Outer, "f.yaml", {"inner": {"size": "much"}, "name": "a"})
    with pytest.raises(UserError, match=r"^override 'inner\.sise' of .*did you mean 'size'"):
        parse_config(text, Outer, "f.yaml", {"inner.sise": 4, "name": "a"})
