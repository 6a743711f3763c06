import pytest
from hypothesis import given
from hypothesis import strategies as st

from olmeval.errors import UserError
from olmeval.tasks.template import FILTERS, compile_template, names


def test_references_paths_and_filters() -> None:
    doc = {"a": {"b": ["x", " y "]}, "n": 3}
    assert compile_template("<{a.b.1}>")(doc) == "< y >"
    assert compile_template("{a.b.1|strip|upper}")(doc) == "Y"
    assert compile_template("{{{n}}}")(doc) == "{3}"


def test_a_lone_reference_keeps_its_type() -> None:
    assert compile_template("{n}")({"n": 3}) == 3
    assert compile_template("{a}")({"a": ["x"]}) == ["x"]
    assert compile_template("{n} ")({"n": 3}) == "3 "


@given(st.text(), st.text(), st.text())
def test_text_comes_out_character_for_character(before: str, value: str, after: str) -> None:
    template = "{}{{value}}{}".format(
        *(t.replace("{", "{{").replace("}", "}}") for t in (before, after))
    )
    assert compile_template(template)({"value": value}) == before + value + after


def test_names() -> None:
    assert names("{{no}} {a.b|strip} {choice}") == {"a", "choice"}


def test_filters_against_values_by_hand() -> None:
    by_hand = {
        "strip": (" a ", "a"), "lstrip": (" a ", "a "), "rstrip": (" a ", " a"),
        "upper": ("aB", "AB"), "lower": ("aB", "ab"), "capitalize": ("he IS", "He is"),
        "int": ("3", 3), "str": (3, "3"), "no_cr": ("a\r\nb\r", "a\nb"),
        "lf": ("a\r\nb\r", "a\nb\r"),
        "spaces": ("a_b", "a b"), "comma": (["a", 1], "a, 1"), "words": (["a", "b"], "a b"),
        "tuple": (["a"], "('a',)"), "lines": (["a", 1], "a\n1"),
        "lettered": (["x", " y"], " A. x\n B.  y"),
        "one_line": ("def f(x): \r\n    y = x\r\n\r\n    return  y ", "def f(x): y = x return  y"),
    }  # fmt: skip
    assert by_hand.keys() == FILTERS.keys()
    for name, (value, expected) in by_hand.items():
        assert FILTERS[name](value) == expected


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("a } b", "unbalanced '}' at character 2"),
        ("a { b", "unbalanced '{'"),
        ("{}", "empty reference"),
        ("{a|stirp}", "unknown filter 'stirp'; did you mean 'strip'"),
    ],
)
def test_mistakes_in_a_template(template: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        compile_template(template)


def test_a_missing_field_is_named_with_what_there_is() -> None:
    with pytest.raises(UserError, match=r"no 'a\.c' \(it has: a\)"):
        compile_template("{a.c}")({"a": {"b": 1}})
