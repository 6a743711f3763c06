"""``olmix fit`` from the command line."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from numpy.typing import NDArray

from olmeval.cli.olmix import cli
from olmeval.errors import UserError
from olmeval.mixing.names import short_names

Array = NDArray[np.float64]


def invoke(*arguments: object) -> Result:
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture
def files(tmp_path: Path, planted: tuple[Array, ...]) -> tuple[Path, Path]:
    X, Y = planted[:2]
    ratios = pd.DataFrame(X, columns=list("abcde"), index=[f"r{i}" for i in range(60)])
    metrics = pd.DataFrame(
        Y, columns=["eval/x/bpb", "eval/y/bpb", "eval/z/bpb"], index=ratios.index
    )
    for name, table in (("ratios", ratios), ("metrics", metrics)):
        table.to_csv(tmp_path / f"{name}.csv", index_label="run")
    return tmp_path / "ratios.csv", tmp_path / "metrics.csv"


def test_table_and_json(files: tuple[Path, Path], tmp_path: Path) -> None:
    shown = invoke("fit", *files, "--output", tmp_path / "fit")
    assert shown.exit_code == 0 and "60 runs, 5 domains; out of fold" in shown.stdout
    assert "32 more runs would lower" in shown.stdout and (tmp_path / "fit/fit.json").is_file()
    result = invoke(
        "fit", *files, "--output", tmp_path / "fit", "--json", "--no-curve",
        "--group", "both=eval/x/bpb,eval/y/bpb",
    )  # fmt: skip
    value = json.loads(result.stdout)
    assert [score["target"] for score in value["scores"]] == ["both"]
    assert value["scores"][0]["rank_correlation"] > 0.98


def test_mistakes_are_named(files: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no target 'eval/x/pbb'; did you mean 'eval/x/bpb'"):
        invoke("fit", *files, "--output", tmp_path, "--target", "eval/x/pbb")
    with pytest.raises(UserError, match="not NAME=COLUMN"):
        invoke("fit", *files, "--output", tmp_path, "--group", "x")
    assert invoke("fit", *files, "--output", tmp_path, "--family", "lgbm").exit_code == 2


def test_short_names() -> None:
    names = ["metric/the_pile_stack_val_loss", "metric/the_pile_stackexchange_val_loss"]
    assert short_names(names) == ["stack", "stackexchange"]
    assert short_names(["a/x", "a/x/y"]) == ["x", "x/y"]
    assert short_names(["only"]) == ["only"] and short_names(["x", "x_"]) == ["x", "x_"]


def test_few_runs_have_no_interval(files: tuple[Path, Path], tmp_path: Path) -> None:
    """Conformal intervals of 95 % take 19 runs."""
    for path in files:
        lines = path.read_text().splitlines()
        path.write_text("\n".join(lines[:13]) + "\n")
    invoke("fit", *files, "--output", tmp_path / "fit", "--no-curve")
    shown = invoke("optimize", tmp_path / "fit", "--output", tmp_path / "mix").stdout
    assert "too few runs for a 95 % interval" in shown and "inf " not in shown
