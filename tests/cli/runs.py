"""Run folders as the engine leaves them, made of given scores."""

import json
from pathlib import Path

import pandas as pd


def write_run(folder: Path, values: list[float]) -> Path:
    """One task ``t``, right or wrong on each question."""
    folder.mkdir(parents=True)
    n = len(values)
    pd.DataFrame(
        {
            "task": "t", "doc_id": range(n), "native_id": [f"q{k}" for k in range(n)],
            "cluster": None, "status": "ok", "metric": "acc", "value": values,
        }
    ).to_parquet(folder / "instances.parquet")  # fmt: skip
    score = {"value": sum(values) / n, "stderr": 0.1, "n": n, "higher_is_better": True}
    result = {"primary_metric": "acc", "metrics": {"acc": score}, "hash": "h", "errors": 0}
    (folder / "metrics.json").write_text(json.dumps({"tasks": {"t": result}}))
    info = {"model": {"name": folder.name, "metadata": {}}, "status": "complete"}
    (folder / "run.json").write_text(json.dumps(info))
    return folder
