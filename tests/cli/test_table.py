"""``olmeval table``: files in, SQL out."""

import json
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner, Result

from olmeval.cli.main import cli
from olmeval.errors import UserError


def call(*args: object) -> Result:
    return CliRunner().invoke(cli, ["table", *map(str, args)])


@pytest.fixture
def scores(tmp_path: Path) -> tuple[Path, Path]:
    csv = tmp_path / "s.csv"
    csv.write_text("who,arc\nm1,0.25\nm2,0.75\n")
    mapping = tmp_path / "map.yaml"
    mapping.write_text(
        "columns: {model: who}\nscores:\n"
        "  - {columns: '(?P<task>arc)', metric: acc, higher_is_better: true}\n"
    )
    return csv, mapping


def test_import_and_query(scores: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    done = call("import", scores[0], "--map", scores[1], "-o", out)
    assert done.exit_code == 0
    assert done.output.startswith("2 scores of 2 runs, 1 tasks and 1 metrics")
    asked = call("query", "SELECT avg(value) AS mean FROM t", out, "--json")
    assert json.loads(asked.output) == [{"mean": 0.5}]
    assert "0.75" in call("query", "SELECT * FROM t", out).output
    csv = tmp_path / "answer.csv"
    assert call("query", "SELECT model FROM t ORDER BY 1", out, "--csv", csv).exit_code == 0
    assert pd.read_csv(csv)["model"].tolist() == ["m1", "m2"]


def test_a_foreign_ending_is_refused(scores: tuple[Path, Path], tmp_path: Path) -> None:
    done = call("import", scores[0], "--map", scores[1], "-o", tmp_path / "out.xlsx")
    assert isinstance(done.exception, UserError)
    assert "neither .parquet nor .csv" in str(done.exception)
