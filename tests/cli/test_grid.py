"""Tables fit a terminal, and lose nothing in it."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from olmeval.cli.grid import NARROWEST, fit, fold, listed
from olmeval.cli.tables import print_grid

HEADS = ["task", "a", "b", "a − b", "better", "wins/losses/ties"]
ROWS = [
    ["basic_skills_arithmetic:bpb:5shot", "first", "last", "+1.5118 [1.45, 1.57]", "b", "0/50/0"],
    ["arc_easy:rc:5shot", "first", "last", "-0.0004 [-0.0009, 0.10]", "?", "12/10/28"],
]


def flat(cells: list[str]) -> str:
    """All that a table says, in any order of lines."""
    return re.sub(r"\s", "", "".join(cells))


def test_a_table_that_fits_is_left_alone() -> None:
    for width in (None, 200):
        grid = fit(HEADS, ROWS, range(3), width)
        assert grid.heads == HEADS and grid.rows == ROWS and not grid.same


def test_a_narrow_table_says_once_what_is_the_same_and_keeps_every_digit() -> None:
    grid = fit(HEADS, ROWS, range(3), 72)
    assert grid.width() <= 72
    assert grid.same == {"a": "first", "b": "last"}
    assert [row[1] for row in grid.rows] == ["+1.5118\n[1.45, 1.57]", "-0.0004\n[-0.0009, 0.10]"]
    assert [flat([row[0]]) for row in grid.rows] == [row[0] for row in ROWS]
    narrow = fit(HEADS, ROWS, range(3), 58)
    assert narrow.width() <= 58
    assert narrow.rows[0][0].split("\n")[0] == "basic_skills_"  # broken at a joint


def test_one_row_keeps_its_columns() -> None:
    assert fit(HEADS, ROWS[:1], range(3), 70).same == {}


def test_what_does_not_fit_is_a_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(HEADS, ROWS, range(3), 30).width() > 30
    text = listed(fit(HEADS, ROWS, range(3), None), 40)
    assert "basic_skills_arithmetic:bpb:5shot  first  last\n  a − b +1.5118 [1.45, 1.57]" in text
    assert all(len(line) <= 40 for line in text.splitlines() if line.startswith("  "))


def test_a_pipe_gets_the_whole_table(capsys: pytest.CaptureFixture[str]) -> None:
    long = "x" * 300
    print_grid(["task", "n"], [[long, "1"]], 1)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == [long, "1"]


@given(st.text(alphabet="ab:_-/ é漢", max_size=60), st.integers(2, 30))
def test_folding_loses_nothing_and_fits(text: str, width: int) -> None:
    from rich.cells import cell_len

    folded = fold(text, width)
    assert flat([folded]) == flat([text])
    assert all(cell_len(line) <= width for line in folded.split("\n"))


@given(
    st.lists(
        st.tuples(st.text(alphabet="ab_:", min_size=1, max_size=40), st.floats(-1e6, 1e6)),
        min_size=2, max_size=5,
    ),
    st.integers(NARROWEST + 22, 120),
)  # fmt: skip
def test_any_table_fits_and_keeps_its_numbers(cells: list[tuple[str, float]], width: int) -> None:
    rows = [[name, f"{x:.4g} [{x - 1:.4g}, {x + 1:.4g}]"] for name, x in cells]
    grid = fit(["t", "v"], rows, [0], width)
    for given_row, shown in zip(rows, grid.rows, strict=True):
        assert flat([given_row[1]]) == flat([shown[-1]])
    assert grid.width() <= max(width, NARROWEST + 2 + max(len(r[1]) for r in rows))
