import pytest
from hypothesis import given
from hypothesis import strategies as st

from olmeval.errors import UserError
from olmeval.tasks.spec import FORMATS, Spec, parse

names = st.from_regex(r"[a-z][a-z0-9_]{0,12}", fullmatch=True)
variants = names.filter(
    lambda text: (
        text not in FORMATS
        and not (text[0] == "n" and text[1:].isdigit())
        and not text.removesuffix("s").removesuffix("shot").isdigit()
    )
)
specs = st.builds(
    Spec,
    family=names,
    format=st.none() | st.sampled_from(FORMATS),
    variants=st.sets(variants, max_size=3).map(lambda found: tuple(sorted(found))),
    shots=st.none() | st.integers(0, 100),
    samples=st.none() | st.integers(1, 100),
)


@given(specs)
def test_round_trip(spec: Spec) -> None:
    assert parse(str(spec)) == spec
    assert str(parse(str(spec))) == str(spec)


@given(specs, st.randoms())
def test_parts_after_the_family_come_in_any_order(spec: Spec, random) -> None:
    family, *parts = str(spec).split(":")
    random.shuffle(parts)
    assert parse(":".join([family, *parts])) == spec


def test_an_example_by_hand() -> None:
    assert parse("gsm8k:n8:8shot:cot") == Spec("gsm8k", "cot", (), 8, 8)
    assert str(parse("gsm8k:n8:8shot:cot")) == "gsm8k:cot:8shot:n8"
    assert parse("arc_easy:val:rc:0shot") == Spec("arc_easy", "rc", ("val",), 0)
    # Variants that only look like a number of samples or shots.
    assert parse("x:n:nshot").variants == ("n", "nshot")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not a family name"),
        ("arc easy", "'arc easy' is not a family name"),
        ("arc_easy:rc:mc", "two values for the format"),
        ("arc_easy:5shot:3shot", "two values for the number of shots"),
        ("arc_easy:n2:n4", "two values for the number of samples"),
        ("arc_easy::rc", "'' is not a format, variant or number of shots"),
        ("arc_easy:r c", "'r c' is not a format"),
    ],
)
def test_mistakes_are_named(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse(text)
