"""Tables are joined by key; nothing depends on the order of rows or columns."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from olmeval.errors import UserError
from olmeval.mixing.tables import read_swarm

Change = Callable[[pd.DataFrame], pd.DataFrame]


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    rng = np.random.default_rng(1)
    runs = [f"r{i}" for i in range(8)]
    ratios = pd.DataFrame(rng.dirichlet(np.ones(3), 8), columns=["web", "code", "books"])
    metrics = pd.DataFrame(rng.uniform(1, 2, (8, 2)), columns=["b", "a"])
    ratios.insert(0, "run", runs)
    metrics.insert(0, "run", runs)
    ratios.to_csv(tmp_path / "ratios.csv", index=False)
    metrics.to_csv(tmp_path / "metrics.csv", index=False)
    return tmp_path / "ratios.csv", tmp_path / "metrics.csv"


def edit(path: Path, change: Change) -> None:
    change(pd.read_csv(path)).to_csv(path, index=False)


def test_rows_and_columns_in_any_order(files: tuple[Path, Path]) -> None:
    """Public defects 1 and 2: positional pairing of rows, of columns."""
    first = read_swarm(*files)
    edit(files[0], lambda t: t.sample(frac=1, random_state=3)[["books", "run", "web", "code"]])
    edit(files[1], lambda t: t[::-1][["a", "run", "b"]])
    second = read_swarm(*files)
    assert first.runs == second.runs and first.domains == second.domains == ("books", "code", "web")
    np.testing.assert_array_equal(first.X, second.X)
    np.testing.assert_array_equal(first.Y, second.Y)
    table = pd.read_csv(files[1]).set_index("run")
    np.testing.assert_allclose(first.Y[:, 1], table.loc[list(first.runs), "b"])


def test_unpaired_and_incomplete_runs_are_left_out_and_named(files: tuple[Path, Path]) -> None:
    edit(files[0], lambda t: t[t["run"] != "r2"])
    edit(files[1], lambda t: t.assign(a=t["a"].where(t["run"] != "r5")))
    table = read_swarm(*files)
    assert table.runs == ("r0", "r1", "r3", "r4", "r6", "r7")
    assert any("'r2'" in note for note in table.notes)
    assert any("'r5'" in note for note in table.notes)


def test_keys_of_the_public_tables(files: tuple[Path, Path]) -> None:
    """run_id joins; name, index and a nameless column of row numbers are no domains."""
    plain = read_swarm(*files)

    def public(table: pd.DataFrame) -> pd.DataFrame:
        table = table.rename(columns={"run": "run_id"})
        return table.assign(name="x" + table["run_id"], index=range(len(table)))

    edit(files[0], public)
    edit(files[1], public)
    pd.read_csv(files[0]).to_csv(files[0])
    again = read_swarm(*files)
    assert (again.runs, again.domains, again.targets) == (plain.runs, plain.domains, plain.targets)
    np.testing.assert_array_equal(again.X, plain.X)


@pytest.mark.parametrize(
    ("which", "change", "words"),
    [
        (0, lambda t: t.assign(web=t["web"] * 1.5), "add up to"),
        (0, lambda t: t.assign(web=-t["web"]), "negative"),
        (0, lambda t: pd.concat([t, t[:1]]), "more than one row"),
        (1, lambda t: t.assign(a="high"), "'a' of run 'r0' is 'high'"),
        (1, lambda t: t.rename(columns={"run": "key"}), "no column in common"),
        (1, lambda t: t.assign(run=t["run"] + "x"), "no run in common"),
    ],
)
def test_bad_tables(files: tuple[Path, Path], which: int, change: Change, words: str) -> None:
    edit(files[which], change)
    with pytest.raises(UserError, match=words):
        read_swarm(*files)


def test_unknown_target_names_the_nearest(files: tuple[Path, Path]) -> None:
    edit(files[1], lambda t: t.rename(columns={"a": "arc_easy"}))
    with pytest.raises(UserError, match="did you mean 'arc_easy'"):
        read_swarm(*files, targets=["arc_esay"])


def test_scores_of_which_more_is_better_become_losses(files: tuple[Path, Path]) -> None:
    edit(files[1], lambda t: t.assign(a=t["a"] - 1, b=t["b"] * 400))
    table = read_swarm(*files, higher=["a", "b"])
    losses = table.losses()
    np.testing.assert_allclose(losses[:, 0], 1 - table.Y[:, 0])
    assert (losses > 0).all()
    np.testing.assert_allclose(np.diff(losses[:, 1]), -np.diff(table.Y[:, 1]))


def test_groups_average_targets(files: tuple[Path, Path]) -> None:
    table = read_swarm(*files)
    both = table.grouped({"all": ["a", "b"]})
    np.testing.assert_allclose(both.Y[:, 0], table.Y.mean(axis=1))
    with pytest.raises(UserError, match="no target 'c'"):
        table.grouped({"all": ["a", "c"]})
    with pytest.raises(UserError, match="mixes targets"):
        read_swarm(*files, higher=["a"]).grouped({"all": ["a", "b"]})


@pytest.mark.parametrize(
    ("which", "old", "new", "words"),
    [
        (0, "run,web,code", "run,web,web", "more than one column 'web'"),
        (1, "run,b,a", "run,a,a", "more than one column 'a'"),
        (1, "\nr", "\n", "no run in common in the column 'run' \\('r0' in one; '0' in one\\)"),
    ],
)
def test_bad_headings_and_keys(
    files: tuple[Path, Path], which: int, old: str, new: str, words: str
) -> None:
    text = files[which].read_text()
    assert old in text
    files[which].write_text(text.replace(old, new))
    with pytest.raises(UserError, match=words):
        read_swarm(*files)


def test_percent_and_targets_without_scores_are_named(files: tuple[Path, Path]) -> None:
    edit(files[1], lambda t: t.assign(a=np.nan))
    with pytest.raises(UserError, match="every run lacks the score of some target; drop 'a'"):
        read_swarm(*files)
    edit(files[0], lambda t: t.set_index("run").mul(100).reset_index())
    with pytest.raises(UserError, match="not 1; give fractions, not percent"):
        read_swarm(*files, drop=["a"])
