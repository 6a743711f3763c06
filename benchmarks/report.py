"""How long a report takes: runs that answered the same questions of many tasks in bits per byte.

python benchmarks/report.py [--runs 10] [--tasks 80] [--questions 1000] [--profile]

Run folders with random scores, as `olmeval run` lays them out, are made first and not counted. CPU
seconds of one thread and peak memory of `olmeval.reports.report.write_report`.
"""

import argparse
import cProfile
import os
import pstats
import resource
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pandas as pd

from olmeval.files import write_json
from olmeval.reports.report import write_report

METRIC = "bits_per_byte"


def make_run(folder: Path, tasks: int, questions: int, seed: int) -> None:
    """A finished run; its answers differ from those of others by a tenth of their spread."""
    difficulty, random = np.random.default_rng(0), np.random.default_rng(seed)
    folder.mkdir(parents=True)
    scores, parts = {}, []
    for task in (f"quiz_{k}:bpb" for k in range(tasks)):
        values = difficulty.gamma(4.0, 0.25, questions) * random.lognormal(0.005 * seed, 0.1)
        values *= random.lognormal(0, 0.1, questions)
        score = {
            "value": float(values.mean()), "stderr": float(values.std(ddof=1) / questions**0.5),
            "n": questions, "higher_is_better": False,
        }  # fmt: skip
        scores[task] = {
            "primary_metric": METRIC, "metrics": {METRIC: score}, "instances": questions,
            "errors": 0, "clusters": None, "counters": {}, "hash": task,
        }  # fmt: skip
        parts.append(
            pd.DataFrame(
                {
                    "task": task, "doc_id": np.arange(questions),
                    "native_id": [f"q{k}" for k in range(questions)], "cluster": None,
                    "status": "ok", "metric": METRIC, "value": values,
                }
            )
        )  # fmt: skip
    pd.concat(parts).to_parquet(folder / "instances.parquet", index=False, compression="zstd")
    write_json(folder / "metrics.json", {"tasks": scores, "suites": {}, "errors": 0})
    write_json(
        folder / "run.json",
        {
            "status": "complete", "asked": {"limit": None},
            "tasks": {t: {"hash": t, "primary_metric": METRIC} for t in scores},
            "model": {
                "name": folder.name, "path": "/nowhere", "fingerprint": folder.name, "params": 1,
                "params_total": 1, "max_length": 2048, "settings": {}, "metadata": {},
            },
            "tokenizer": "-", "versions": {}, "started": "2026-01-01T00:00:00+00:00",
            "finished": "2026-01-01T01:00:00+00:00",
        },
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--tasks", type=int, default=80)
    parser.add_argument("--questions", type=int, default=1000)
    parser.add_argument("--profile", action="store_true", help="also print where the time goes")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as tmp:
        for k in range(options.runs):
            make_run(Path(tmp) / "runs" / f"model-{k}", options.tasks, options.questions, k + 1)
        profile = cProfile.Profile(time.process_time)
        cpu, wall = time.process_time(), time.perf_counter()
        if options.profile:
            profile.enable()
        report = write_report([Path(tmp) / "runs"], Path(tmp) / "report.html")
        profile.disable()
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        size = report.page.stat().st_size / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{options.runs} runs x {options.tasks} tasks x {options.questions:,} questions: "
        f"{cpu:.1f} CPU s, {wall:.1f} s (load average {os.getloadavg()[0]:.1f}), "
        f"{peak:.0f} MB, a page of {size:.1f} MB"
    )
    if options.profile:
        pstats.Stats(profile).sort_stats("tottime").print_stats(25)


if __name__ == "__main__":
    main()
