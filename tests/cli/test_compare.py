"""``olmeval compare``: what it prints and writes."""

import json
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner, Result

from olmeval.cli.main import cli
from olmeval.errors import UserError
from tests.cli.runs import write_run


def call(*args: object) -> Result:
    return CliRunner().invoke(cli, ["compare", *map(str, args)])


def test_compares_two_runs(tmp_path: Path) -> None:
    a = write_run(tmp_path / "a", [1.0] * 20)
    b = write_run(tmp_path / "b", [0.0] * 10 + [1.0] * 10)
    flips = tmp_path / "flips.csv"
    done = call(a, b, "--flips", flips)
    assert done.exit_code == 0, done.exception
    row = done.output.splitlines()[1].split()
    assert row[:4] == ["t", "a", "b", "+0.5000"]
    assert "10/0/10" in row
    assert row[6] == "a"  # the better one
    assert pd.read_csv(flips)["native_id"].tolist() == [f"q{k}" for k in range(10)]
    (record,) = json.loads(call(a, b, "--json").output)
    assert record["p_exact"] == pytest.approx(2 / 2**10)
    assert call(tmp_path, "--groups").output.splitlines()[1].split()[2:4] == ["a", "a"]


def test_one_run_is_not_a_comparison(tmp_path: Path) -> None:
    a = write_run(tmp_path / "a", [1.0, 0.0])
    error = call(a).exception
    assert isinstance(error, UserError) and "give two or more" in str(error)
