"""``olmeval snr``: what it prints."""

import json
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner, Result

from olmeval.cli.main import cli


def call(*args: object) -> Result:
    return CliRunner().invoke(cli, ["snr", *map(str, args)])


@pytest.fixture
def scores(tmp_path: Path) -> Path:
    rows = [
        {
            "model": f"m{m}", "run": f"m{m}", "step": s, "task": task, "metric": "acc",
            "value": 0.4 + 0.1 * m + 0.01 * (s % 2) * k, "higher_is_better": True,
        }
        for m in range(4) for s in range(6) for k, task in enumerate(("calm", "noisy"), 1)
    ]  # fmt: skip
    path = tmp_path / "scores.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


def test_prints_the_best_first(scores: Path, tmp_path: Path) -> None:
    done = call(scores, "--samples", 100)
    assert done.exit_code == 0
    head, first, second = done.output.splitlines()
    assert head.split()[:4] == ["task", "metric", "models", "SNR"]
    assert (first.split()[0], second.split()[0]) == ("calm", "noisy")
    records = json.loads(call(scores, "--samples", 100, "--json").output)
    assert records[0]["snr"] == pytest.approx(2 * records[1]["snr"], rel=0.05)
    assert records[0]["noise_seed"] is None
    csv = tmp_path / "out.csv"
    assert call(scores, "--samples", 100, "--where", "step > 2", "--csv", csv).exit_code == 0
    assert pd.read_csv(csv)["checkpoints"].tolist() == [12, 12]
