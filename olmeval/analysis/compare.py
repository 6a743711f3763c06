"""Paired comparison of runs that answered the same questions."""

from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING

from olmeval.errors import UserError
from olmeval.results.run import Run
from olmeval.stats.mean import paired_difference

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("task", "metric", "a", "b", "difference", "stderr", "n", "p", "higher_is_better")


def compare_runs(runs: Sequence[Run]) -> "pd.DataFrame":
    """Every pair of runs on the primary metric of every task they share.

    Differences (a minus b) are paired on instances, clustered where instances share a passage;
    instances that are an error in either run are left out of both. Columns: :data:`COLUMNS`; a
    and b are the runs' names. Raises :class:`UserError` when two runs' questions differ.
    """
    import pandas as pd

    rows = []
    for left, right in combinations(runs, 2):
        for task, result in left.metrics["tasks"].items():
            other = right.metrics["tasks"].get(task)
            if other is None:
                continue
            if other["hash"] != result["hash"]:
                raise UserError(
                    f"'{left.path}' and '{right.path}' were asked different questions in '{task}'; "
                    "run both again with one version of the task and one --limit"
                )
            metric = result["primary_metric"]
            paired = _values(left, task, metric).merge(
                _values(right, task, metric),
                left_index=True, right_index=True, suffixes=("_a", "_b"),
            )  # fmt: skip
            paired = paired.dropna(subset=["value_a", "value_b"])
            if paired.empty:
                continue
            clusters = None
            if paired["cluster_a"].notna().any():
                clusters = paired["cluster_a"].fillna(paired.index.to_series()).tolist()
            difference = paired_difference(paired["value_a"], paired["value_b"], clusters)
            rows.append(
                {
                    "task": task,
                    "metric": metric,
                    "a": run_name(left),
                    "b": run_name(right),
                    "difference": difference.value,
                    "stderr": difference.stderr,
                    "n": difference.n,
                    "p": difference.p,
                    "higher_is_better": result["metrics"][metric]["higher_is_better"],
                }
            )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def run_name(run: Run) -> str:
    """The trained run's name where the checkpoint says it, else the folder's."""
    return str(run.info["model"]["metadata"].get("run", run.path.name))


def _values(run: Run, task: str, metric: str) -> "pd.DataFrame":
    table = run.instances()
    chosen = table[(table["task"] == task) & (table["metric"] == metric)]
    return chosen.set_index("doc_id")[["value", "cluster"]]
