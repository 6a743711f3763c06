"""Runs made of arrays, for tests of the gate: nothing is on the disk."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from olmeval.results.run import Run


class MadeRun(Run):
    """A run whose answers [n] are given by task."""

    def __init__(
        self,
        name: str,
        values: Mapping[str, Any],
        *,
        better: bool = True,
        hashes: Mapping[str, str] | None = None,
        suites: Mapping[str, Any] | None = None,
        clusters: list[str] | None = None,
        step: int | None = None,
    ):
        self.path = Path(name)
        metadata: dict[str, Any] = {"run": name.split("-")[0]} | ({"step": step} if step else {})
        self.info = {
            "model": {"name": name, "fingerprint": name, "metadata": metadata, "params": 1,
                      "params_total": 1},
            "status": "complete",
        }  # fmt: skip
        tasks, frames = {}, []
        for task, answers in values.items():
            x = np.asarray(answers, float)
            kept = x[~np.isnan(x)]
            score = {
                "value": float(kept.mean()), "stderr": float(kept.std(ddof=1) / len(kept) ** 0.5),
                "n": len(kept), "higher_is_better": better,
            }  # fmt: skip
            tasks[task] = {
                "primary_metric": "acc", "metrics": {"acc": score}, "errors": len(x) - len(kept),
                "hash": (hashes or {}).get(task, "h"),
            }  # fmt: skip
            frames.append(
                pd.DataFrame(
                    {"task": task, "doc_id": range(len(x)), "cluster": clusters or [None] * len(x),
                     "native_id": [str(k) for k in range(len(x))], "metric": "acc", "value": x}
                )
            )  # fmt: skip
        self.metrics = {"tasks": tasks, "suites": dict(suites or {})}
        self.frame = pd.concat(frames).sample(frac=1, random_state=0)

    def instances(self) -> pd.DataFrame:
        return self.frame
