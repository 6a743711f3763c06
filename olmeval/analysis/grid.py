"""The long table as dense arrays: for each score, its runs by their last checkpoints."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from olmeval.errors import UserError, nearest

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]
# What tells one training run from another. A model's name may differ by checkpoint.
SERIES = ("run", "params", "mix", "seed")


@dataclass(frozen=True)
class Grid:
    """One score (task and metric) of S runs.

    ``values`` [S, n] are their last n checkpoints in order of steps, nan at the front where a run
    has fewer; ``runs`` (S rows) is the table's row of each run's last checkpoint.
    """

    task: str
    metric: str
    higher_is_better: bool
    runs: "pd.DataFrame"
    values: Array

    @property
    def final(self) -> Array:
        """Mean of each run's last checkpoints [S]."""
        return np.asarray(np.nanmean(self.values, axis=1))

    def by(self, column: str) -> tuple[list[str], Array]:
        """Labels and final scores of models: runs with one label in ``column`` are averaged."""
        import pandas as pd

        codes, labels = pd.factorize(self.runs[column], sort=True, use_na_sentinel=False)
        if pd.isna(labels).any():
            raise UserError(
                f"'{column}' is empty in rows of task '{self.task}'; group by a column that is not"
            )
        totals = np.bincount(codes, self.final, len(labels))
        return [str(v) for v in labels], np.asarray(totals / np.bincount(codes))


def grids(table: "pd.DataFrame", last: int) -> list[Grid]:
    """Every (task, metric) of a long table with its runs' ``last`` checkpoints, sorted by name.

    A run is what :data:`SERIES` tells apart. The order of the table's rows does not matter.
    """
    if last < 1:
        raise UserError(f"--last {last}: at least one checkpoint is needed")
    series = _codes(table, SERIES)
    score = _codes(table, ("task", "metric"))
    step = table["step"].to_numpy(np.float64, na_value=np.nan)
    order = np.lexsort((step, series, score))
    score, series = score[order], series[order]
    changes = np.flatnonzero((np.diff(score) != 0) | (np.diff(series) != 0))
    ends = np.append(changes, len(order) - 1)  # position of each group's last checkpoint
    sizes = np.diff(ends, prepend=-1)
    back = np.repeat(ends, sizes) - np.arange(len(order))
    group = np.repeat(np.arange(len(ends)), sizes)
    kept = back < last
    values = np.full((len(ends), last), np.nan)
    raw = table["value"].to_numpy(np.float64)[order]
    values[group[kept], last - 1 - back[kept]] = raw[kept]
    finals = table.take(order[ends]).reset_index(drop=True)
    bounds = np.append(
        np.flatnonzero(np.diff(score[ends], prepend=-1)),
        len(ends),
    )
    better = table["higher_is_better"].to_numpy(bool)[order]
    found = []
    for lo, hi in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        rows = finals.iloc[lo:hi].reset_index(drop=True)
        of_score = better[ends[lo] - sizes[lo] + 1 : ends[hi - 1] + 1]
        task, metric = str(rows["task"].iloc[0]), str(rows["metric"].iloc[0])
        if of_score.any() != of_score.all():
            raise UserError(
                f"task '{task}', metric '{metric}': some rows say that higher is better, some not"
            )
        found.append(Grid(task, metric, bool(of_score[0]), rows, values[lo:hi]))
    return found


def _codes(table: "pd.DataFrame", columns: Sequence[str]) -> NDArray[np.int64]:
    """An integer [rows] for each distinct combination of ``columns``, in sorted order."""
    import pandas as pd

    code = np.zeros(len(table), np.int64)
    for name in columns:
        codes, values = pd.factorize(table[name], sort=True, use_na_sentinel=False)
        code = pd.factorize(code * len(values) + codes, sort=True)[0].astype(np.int64)
    return code


def choose(
    table: "pd.DataFrame",
    where: str | None = None,
    tasks: Sequence[str] = (),
    metrics: Sequence[str] = (),
) -> "pd.DataFrame":
    """Rows that fulfil the SQL condition ``where``, task globs and metric names.

    Without ``metrics``: the primary metrics where the table marks any. Raises
    :class:`UserError` when nothing is left.
    """
    from fnmatch import fnmatch

    from olmeval.results.table import query_table

    for name in metrics:
        if name not in set(table["metric"]):
            known = sorted(set(table["metric"]))
            raise UserError(f"no row has the metric '{name}'{nearest(name, known)}")
    if where:
        table = query_table(f"SELECT * FROM t WHERE {where}", table)
    if metrics:
        table = table[table["metric"].isin(list(metrics))]
    elif table["primary"].any():
        table = table[table["primary"]]
    if tasks:
        names = {t: any(fnmatch(t, glob) for glob in tasks) for t in table["task"].unique()}
        table = table[table["task"].map(names).astype(bool)]
    if table.empty:
        raise UserError("no score is left by --where, --task and --metric")
    return table


def column_values(table: "pd.DataFrame", column: str) -> list[Any]:
    """Distinct values of a column of the long table, sorted. Raises :class:`UserError`."""
    if column not in table.columns:
        raise UserError(
            f"'{column}' is no column of the long table{nearest(column, table.columns)}"
        )
    return sorted(table[column].dropna().unique().tolist())


def generator(seed: int, *names: str) -> np.random.Generator:
    """A generator for one named piece of work, so that no other piece changes its numbers."""
    return np.random.default_rng([seed, *(crc32(name.encode()) for name in names)])
