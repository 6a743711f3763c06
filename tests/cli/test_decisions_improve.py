"""``olmeval interventions``: what it prints and writes."""

import json
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


def write_run(folder: Path, model: str, step: int, values: np.ndarray) -> None:
    folder.mkdir(parents=True)
    n = len(values)
    pd.DataFrame(
        {
            "task": "arc_easy:rc:5shot", "doc_id": range(n),
            "native_id": [str(k) for k in range(n)],
            "cluster": None, "status": "ok", "metric": "acc", "value": values.astype(float),
        }
    ).to_parquet(folder / "instances.parquet")  # fmt: skip
    score = {"value": float(values.mean()), "stderr": 0.1, "n": n, "higher_is_better": True}
    result = {"primary_metric": "acc", "metrics": {"acc": score}, "hash": "h", "errors": 0}
    (folder / "metrics.json").write_text(json.dumps({"tasks": {"arc_easy:rc:5shot": result}}))
    info = {"model": {"name": model, "metadata": {"run": model, "step": step}}}
    (folder / "run.json").write_text(json.dumps({**info, "status": "complete"}))


def test_how_many_questions(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    difficulty = random.random(120)
    for m in range(4):
        for step in (1, 2, 3):
            flips = random.random(120) < 0.03
            values = (difficulty < 0.4 + 0.1 * m) ^ flips
            write_run(tmp_path / "runs" / f"m{m}-{step}", f"m{m}", step, values)
    suite = tmp_path / "few.yaml"
    done = call("questions", tmp_path / "runs", "--draws", 5, "--keep", 0.5, "--suite", suite)
    assert done.exit_code == 0, done.exception
    rows = [line.split() for line in done.output.splitlines()[1:-2]]
    assert [row[1] for row in rows][-1] == "120" and sum("✓" in row for row in rows) == 1
    (chosen,) = (row[1] for row in rows if "✓" in row)
    assert f"--limit {chosen} keeps 0.5 of the SNR" in done.output
    assert "arc_easy:rc:5shot" in suite.read_text()
