"""``olmeval decisions``: what it prints."""

import json
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner, Result

from olmeval.cli.main import cli


def call(*args: object) -> Result:
    return CliRunner().invoke(cli, ["decisions", *map(str, args)])


@pytest.fixture
def scores(tmp_path: Path) -> Path:
    rows = [
        {
            "model": size, "run": f"{mix}-{size}", "mix": mix, "task": "t", "metric": metric,
            "value": k if metric == "acc" or size == "1B" else -(k % 3), "higher_is_better": True,
        }
        for size in ("small", "1B") for k, mix in enumerate("abcd") for metric in ("acc", "bpb")
    ]  # fmt: skip
    path = tmp_path / "scores.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


def test_prints_accuracy_and_gain(scores: Path, tmp_path: Path) -> None:
    args = (scores, "--size", "model", "--target", "1B", "--target-metric", "acc")
    done = call(*args, "--metric", "acc", "--metric", "bpb")
    assert done.exit_code == 0, done.exception
    head, first, second = done.output.splitlines()
    assert "decision accuracy" in head and head.split()[-1] == "gain"
    assert first.split()[:5] == ["small", "t", "acc", "4", "1.00"]
    # a, b, c, d score 0, -1, -2, 0: ab, ac, bc wrong, ad tied, bd, cd right.
    assert second.split()[2:5] == ["bpb", "4", "0.417"]
    (record,) = json.loads(call(*args, "--metric", "acc", "--json").output)
    assert record["decision_accuracy"] == 1.0 and record["gain"] is None
    csv = tmp_path / "d.csv"
    assert call(*args, "--csv", csv).exit_code == 0
    assert len(pd.read_csv(csv)) == 1
