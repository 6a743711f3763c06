"""Run folders, tables and a browser for tests of pages."""

import json
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from olmeval.results.run import Run
from olmeval.stats.mean import mean

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
HOSTILE = "</script></textarea><script>alert('x')</script><img src=x onerror=alert(1)>\u202eevil"
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="chromium is not installed: run scripts/install-test-packages.sh"
)
REFERENCES = ("src", "href", "action", "data")
Answers = dict[str, list[float]]


def long_table(runs: int = 2, steps: int = 4, tasks: int = 3, seed: int = 0) -> pd.DataFrame:
    """Runs that get better, each task with accuracy (primary) or bits per byte."""
    random = np.random.default_rng(seed)
    rows = []
    for r in range(runs):
        for s in range(1, steps + 1):
            for t in range(tasks):
                upward = t % 3 != 2
                noise = 0.01 * random.standard_normal()
                value = 0.3 + 0.1 * r + 0.02 * s if upward else 1.5 - 0.1 * r - 0.02 * s
                rows.append({
                    "run": f"run{r}", "model": f"run{r}-step{s}", "family": "olmo2",
                    "params": 1e9, "params_total": 1.1e9, "tokens": s * 1e9, "flops": 6e18 * s,
                    "step": s * 1000, "seed": 0, "mix": f"mix{r}", "task": f"family{t}:rc:5shot",
                    "metric": "acc_per_char" if upward else "bits_per_byte",
                    "value": value + noise, "stderr": 0.012, "n": 1000,
                    "higher_is_better": upward, "primary": True,
                })  # fmt: skip
    return pd.DataFrame(rows)


def make_run(
    folder: Path,
    answers: Answers,
    *,
    step: int = 10,
    suite: str | None = None,
    upward: bool = True,
    counters: dict[str, int] | None = None,
    **trained: Any,
) -> Run:
    """A finished run folder whose instances have the values of ``answers`` {task: values}."""
    folder.mkdir(parents=True)
    tasks, frames = {}, []
    metric = "acc_raw" if upward else "bits_per_byte"
    for task, values in answers.items():
        n = len(values)
        frames.append(pd.DataFrame({
            "task": task, "doc_id": range(n), "native_id": [str(k) for k in range(n)],
            "cluster": [None] * n, "status": "ok", "metric": metric, "value": values,
        }))  # fmt: skip
        good = [v for v in values if v == v]
        estimate = mean(good)
        tasks[task] = {
            "primary_metric": metric,
            "metrics": {metric: {"value": estimate.value, "stderr": estimate.stderr,
                                 "n": len(good), "higher_is_better": upward}},
            "instances": n, "errors": n - len(good), "hash": "h", "clusters": None,
            "counters": {"truncated": 0, "ties": 0} | (counters or {}),
        }  # fmt: skip
    pd.concat(frames).to_parquet(folder / "instances.parquet")
    metrics: dict[str, Any] = {"tasks": tasks}
    if suite is not None:
        members = {task: result["metrics"][metric]["value"] for task, result in tasks.items()}
        errors = [result["metrics"][metric]["stderr"] for result in tasks.values()]
        metrics["suites"] = {suite: {
            "value": sum(members.values()) / len(members),
            "stderr": sum(e**2 for e in errors) ** 0.5 / len(errors),
            "n": sum(len(v) for v in answers.values()), "higher_is_better": upward,
            "aggregate": "macro", "status": "complete", "missing": [], "members": members,
        }}  # fmt: skip
    (folder / "metrics.json").write_text(json.dumps(metrics))
    about = {task: {"hash": "h", "data": [{"name": "data.jsonl", "sha256": "ab" * 32}],
                    "documents": len(v), "documents_available": len(v), "num_shots": 5}
             for task, v in answers.items()}  # fmt: skip
    info = {
        "status": "complete", "asked": {"limit": None}, "tasks": about,
        "model": {"name": folder.name, "params": 10**9, "params_total": 11 * 10**8,
                  "fingerprint": "f" * 64, "settings": {"device": "cpu"},
                  "metadata": {"step": step, "tokens": step * 10**6, "seed": 0} | trained},
        "tokenizer": "t" * 64, "versions": {"olmeval": "0.1.0"},
        "started": "2026-01-01T00:00:00+00:00", "finished": "2026-01-01T00:01:00+00:00",
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(info))
    return Run(folder)


class Page(HTMLParser):
    """A page's elements, what they refer to, event handlers, scripts and visible text.

    ``cells`` are the pieces of the text between elements.
    """

    def __init__(self, page: str):
        super().__init__()
        self.elements: list[str] = []
        self.references: list[str] = []
        self.handlers: list[str] = []
        self.ids: list[str] = []
        self.scripts: list[str] = []
        self.text: list[str] = []
        self.cells: list[str] = []
        self._open = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self._open = tag
        self.references += [v or "" for k, v in attributes if k in REFERENCES]
        self.handlers += [k for k, _ in attributes if k.startswith("on")]
        self.ids += [v or "" for k, v in attributes if k == "id"]

    def handle_data(self, data: str) -> None:
        if self._open == "script":
            self.scripts.append(data)
        elif self._open != "style":
            self.text.append(data)
            self.cells += [data.strip()] if data.strip() else []

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    @property
    def visible(self) -> str:
        """All text outside styles and scripts."""
        return "".join(self.text)


def browse(path: Path, profile: Path, budget: int | None = 10_000) -> tuple[str, list[str]]:
    """Opens a page in headless Chromium; returns the document it became and its console.

    ``budget``: milliseconds of virtual time; None: as soon as it is loaded.
    """
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --hide-scrollbars"
    flags += " --disable-background-networking --disable-component-update --disable-sync"
    flags += " --enable-logging=stderr --dump-dom --allow-file-access-from-files"
    flags += " --window-size=1280,900"
    if budget is not None:
        flags += f" --virtual-time-budget={budget}"
    assert CHROMIUM is not None
    result = subprocess.run(
        [CHROMIUM, *flags.split(), f"--user-data-dir={profile}", path.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout, [line for line in result.stderr.splitlines() if "CONSOLE" in line]
