"""Paired comparison of runs against a by-hand computation on the instances."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from olmeval.analysis.compare import compare_runs
from olmeval.errors import UserError
from olmeval.results.run import Run


def make_run(folder: Path, values: list[float], cluster: list[str | None] | None = None) -> Run:
    folder.mkdir(parents=True)
    n = len(values)
    pd.DataFrame(
        {
            "task": "t", "doc_id": range(n), "native_id": [str(k) for k in range(n)],
            "cluster": cluster or [None] * n, "status": "ok", "metric": "acc_raw", "value": values,
        }
    ).to_parquet(folder / "instances.parquet")  # fmt: skip
    score = {"value": float(np.nanmean(values)), "stderr": 0.1, "n": n, "higher_is_better": True}
    result = {"primary_metric": "acc_raw", "metrics": {"acc_raw": score}, "hash": "h", "errors": 0}
    (folder / "metrics.json").write_text(json.dumps({"tasks": {"t": result}}))
    (folder / "run.json").write_text(json.dumps({"model": {"metadata": {}}, "status": "complete"}))
    return Run(folder)


def test_equals_the_computation_by_hand(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random(80), rng.random(80)
    table = compare_runs([make_run(tmp_path / "a", list(a)), make_run(tmp_path / "b", list(b))])
    row = table.iloc[0]
    assert row["difference"] == pytest.approx((a - b).mean())
    assert row["stderr"] == pytest.approx((a - b).std(ddof=1) / np.sqrt(80))
    assert (row["a"], row["b"], row["n"]) == ("a", "b", 80)


def test_errors_are_left_out_of_both(tmp_path: Path) -> None:
    a = make_run(tmp_path / "a", [1.0, float("nan"), 0.0, 1.0])
    b = make_run(tmp_path / "b", [0.0, 1.0, 0.0, float("nan")])
    row = compare_runs([a, b]).iloc[0]
    assert row["n"] == 2
    assert row["difference"] == 0.5


def test_shared_passages_count_once(tmp_path: Path) -> None:
    passages = [f"p{k // 4}" for k in range(40)]
    rng = np.random.default_rng(1)
    x = np.repeat(rng.random(10), 4)
    clustered = compare_runs(
        [
            make_run(tmp_path / "a", list(x), passages),
            make_run(tmp_path / "b", [0.0] * 40, passages),
        ]
    ).iloc[0]
    one_each = np.unique(x)
    assert clustered["stderr"] == pytest.approx(one_each.std(ddof=1) / np.sqrt(10))


def test_different_questions_are_refused(tmp_path: Path) -> None:
    a, b = make_run(tmp_path / "a", [1.0, 0.0]), make_run(tmp_path / "b", [1.0, 0.0])
    text = (b.path / "metrics.json").read_text().replace('"hash": "h"', '"hash": "other"')
    (b.path / "metrics.json").write_text(text)
    with pytest.raises(UserError, match="different questions in 't'"):
        compare_runs([a, Run(b.path)])
    shutil.rmtree(b.path)
