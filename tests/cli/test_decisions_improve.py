"""``olmeval interventions``: what it prints and writes."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result

from olmeval.cli.main import cli


def call(*args: object) -> Result:
    return CliRunner().invoke(cli, ["interventions", *map(str, args)])


@pytest.fixture
def scores(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    quality = random.standard_normal(12)
    rows = [
        {
            "model": f"m{m}-{size}", "mix": f"m{m}", "params": size, "step": step,
            "task": "arc_easy:rc:5shot" if k else "piqa:rc:5shot", "metric": metric,
            "value": 5 + quality[m] + (1.0 if metric == "acc" else 0.1) * random.standard_normal(),
            "higher_is_better": True,
        }
        for size in (1e6, 1e9) for m in range(12) for step in range(4) for k in range(2)
        for metric in ("acc", "soft")
    ]  # fmt: skip
    path = tmp_path / "scores.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


def test_every_intervention_prints_its_gain(scores: Path, tmp_path: Path) -> None:
    suite = tmp_path / "suites" / "best.yaml"
    few = ("--splits", 5, "--last", 4, "--suite", suite)
    for args in (
        ("metric", scores, "--target-metric", "acc", *few),
        ("average", scores, "--metric", "acc", *few),
        ("subtasks", scores, "--metric", "acc", *few),
    ):
        done = call(*args)
        assert done.exit_code == 0, done.exception
        assert "held-out gain in decision accuracy: " in done.output
        assert "olmeval run --task-path DIR --tasks best" in done.output
        assert suite.exists()
        suite.unlink()
