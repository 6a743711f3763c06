"""How long a decision report takes: signal, noise and decision accuracy of 24 tasks.

python benchmarks/decide.py [--rows 389000] [--tasks 24]

Writes a long table of that many rows as Parquet, then measures, on one thread: loading and
checking it, grouping it, the table of signal and noise with 2,000 bootstrap samples, and the table
of decisions with intervals. CPU seconds; 25 mixtures at two sizes, three seeds.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pandas as pd

from olmeval.analysis.decisions import DecisionSettings, decision_table
from olmeval.analysis.grid import grids
from olmeval.analysis.snr import SnrSettings, snr_table
from olmeval.results.run import LONG_COLUMNS
from olmeval.results.table import load_table, query_table

MIXES, SEEDS, SIZES = 25, 3, (1.5e8, 1e9)


def made_table(rows: int, tasks: int) -> pd.DataFrame:
    """A long table of about ``rows`` scores: every task at every step of every run."""
    random = np.random.default_rng(0)
    runs = [(size, mix, seed) for size in SIZES for mix in range(MIXES) for seed in range(SEEDS)]
    steps = max(5, rows // (len(runs) * tasks))
    size, mix, seed = (np.array(column) for column in zip(*runs, strict=True))
    shape = (len(runs), tasks, steps)
    run, task, step = (axis.ravel() for axis in np.indices(shape))
    quality = random.standard_normal((MIXES, tasks))[mix] + 0.3 * random.standard_normal(
        (len(runs), tasks)
    )
    value = 0.5 + 0.02 * quality[run, task] + 0.005 * random.standard_normal(run.size)
    names = np.array([f"mix{m}-{s:.0e}-{k}" for s, m, k in runs])
    frame = pd.DataFrame(
        {
            "run": names[run], "model": names[run], "params": size[run], "seed": seed[run],
            "mix": np.char.add("mix", mix.astype(str))[run], "step": 1000.0 * step,
            "tokens": 1e9 * step, "task": np.array([f"task{t}" for t in range(tasks)])[task],
            "metric": "acc", "value": value, "stderr": 0.01, "n": 1000,
            "higher_is_better": True, "primary": True,
        }
    )  # fmt: skip
    return frame.reindex(columns=list(LONG_COLUMNS)).sample(frac=1, random_state=0)


def timed(name: str, work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    result = work()
    spent = time.process_time() - start
    print(f"{name:<44}{spent:7.2f} CPU s")
    return spent, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=389_000)
    parser.add_argument("--tasks", type=int, default=24)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scores.parquet"
        made_table(options.rows, options.tasks).to_parquet(path, index=False)
        # Libraries that are imported on first use are not what is measured.
        load_table([path])
        import scipy.stats  # noqa: F401

        load, table = timed("load and check the Parquet file", lambda: load_table([path]))
        print(f"{'':<44}{len(table):,} rows, {options.tasks} tasks")
        grouped, _ = timed("group by run and task (last 5 checkpoints)", lambda: grids(table, 5))
        timed(
            "the same as SQL: mean by task and mix",
            lambda: query_table("SELECT task, mix, avg(value) FROM t GROUP BY ALL", table),
        )
        snr, found = timed(
            "signal, noise, SNR, 2,000 bootstrap samples",
            lambda: snr_table(table, SnrSettings(per="params", samples=2000)),
        )
        decide, decisions = timed(
            "decision accuracy with intervals", lambda: decision_table(table, DecisionSettings())
        )
        print(f"{'':<44}{len(found)} and {len(decisions)} rows of report")
        print(f"{'load and group':<44}{load + grouped:7.2f} CPU s")
        print(f"{'the whole report, with loading':<44}{load + snr + decide:7.2f} CPU s")


if __name__ == "__main__":
    main()
