"""Paired comparison of runs that answered the same questions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import erfc, isnan, nan, sqrt
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from olmeval.analysis.grid import generator, grids
from olmeval.errors import UserError
from olmeval.results.run import Run
from olmeval.stats.mean import Z95, paired_difference
from olmeval.stats.mixed import upper_tail
from olmeval.stats.paired import (
    bootstrap_means,
    cluster_sums,
    groups_alike,
    holm,
    mcnemar,
    sign_flip,
)

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "task", "metric", "a", "b", "value_a", "value_b", "difference", "stderr", "low", "high", "n",
    "p", "p_exact", "test", "p_holm", "wins", "losses", "ties", "errors", "checkpoint_noise",
    "stderr_total", "p_total", "higher_is_better",
)  # fmt: skip


def compare_runs(
    runs: Sequence[Run],
    checkpoints: "pd.DataFrame | None" = None,
    last: int = 5,
    samples: int = 2000,
    seed: int = 0,
) -> "pd.DataFrame":
    """Every pair of runs on the primary metric of every task they share.

    Differences (a minus b) are paired on instances, clustered where instances share a passage;
    instances that are an error in either run are left out of both. Columns: :data:`COLUMNS`; a and
    b are :func:`labels`. ``low`` and ``high`` are the 95 % bootstrap interval (clusters drawn);
    ``p`` is the normal test, ``p_exact`` McNemar's for right-or-wrong scores without clusters and
    else a sign-flip permutation test (``test`` says which); ``p_holm`` corrects ``p_total``, where
    it is known, else ``p_exact`` over the tasks of the pair. ``wins`` counts instances where a is
    better; ``errors`` those left out.

    With ``checkpoints`` (a long table that holds the runs' earlier checkpoints), the variance of
    each run's ``last`` checkpoints is added to that of the questions: ``stderr_total``, and
    ``p_total`` by :func:`olmeval.stats.mixed.upper_tail`. What of a checkpoint's noise shows in
    the questions already is counted twice, so this errs on the safe side. Raises
    :class:`UserError` when two runs' questions differ.
    """
    import pandas as pd

    names = labels(runs)
    noises = {} if checkpoints is None else checkpoint_variances(checkpoints, last)
    answers = [_answers(run) for run in runs]
    rows = []
    for i, j in combinations(range(len(runs)), 2):
        of_pair = []
        for task, result in runs[i].metrics["tasks"].items():
            other = runs[j].metrics["tasks"].get(task)
            if other is None:
                continue
            check_same_questions(task, runs[i], runs[j])
            paired = _join(answers[i].get(task), answers[j].get(task))
            row = _difference(paired, result, generator(seed, task), samples)
            if row is None:
                continue
            metric = result["primary_metric"]
            noise = [noises.get((run_name(runs[k]), task, metric)) for k in (i, j)]
            named = {"task": task, "metric": metric, "a": names[i], "b": names[j]}
            of_pair.append({**named, **row, **_with_noise(row, noise)})
        adjusted = holm([r["p_exact"] if isnan(r["p_total"]) else r["p_total"] for r in of_pair])
        rows += [{**row, "p_holm": p} for row, p in zip(of_pair, adjusted.tolist(), strict=True)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def compare_suites(runs: Sequence[Run], comparison: "pd.DataFrame") -> "pd.DataFrame":
    """Every pair of runs on the suites that are plain averages of tasks, as more rows.

    ``comparison`` is that of their tasks (:func:`compare_runs`), whose paired errors make the
    suite's, as of tasks that ask different questions: sqrt(sum of squares) / k. Wins, losses, ties
    and errors are added up. ``p`` is the normal test, corrected by Holm over the pair's suites.
    Suites of other kinds are left out.
    """
    import pandas as pd

    names = labels(runs)
    by_pair = {key: rows.set_index("task") for key, rows in comparison.groupby(["a", "b"])}
    rows = []
    for i, j in combinations(range(len(runs)), 2):
        tasks = by_pair.get((names[i], names[j]))
        of_pair = []
        for name, suite in runs[i].metrics.get("suites", {}).items():
            other = runs[j].metrics.get("suites", {}).get(name)
            members = averaged(suite, runs[i].metrics["tasks"])
            if tasks is None or other is None or not members or not set(members) <= {*tasks.index}:
                continue
            if averaged(other, runs[j].metrics["tasks"]) != members:
                continue
            of_pair.append(_suite_row(name, suite, other, tasks.loc[list(members)]))
        adjusted = holm([r["p"] if isnan(r["p_total"]) else r["p_total"] for r in of_pair])
        rows += [
            {**row, "a": names[i], "b": names[j], "p_holm": p}
            for row, p in zip(of_pair, adjusted.tolist(), strict=True)
        ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _suite_row(
    name: str, suite: Mapping[str, Any], other: Mapping[str, Any], tasks: "pd.DataFrame"
) -> dict[str, Any]:
    difference = float(suite["value"] - other["value"])
    stderr = sqrt(float((tasks["stderr"] ** 2).sum(skipna=False))) / len(tasks)
    noise = sqrt(float((tasks["checkpoint_noise"] ** 2).sum(skipna=False))) / len(tasks)
    total = sqrt(stderr**2 + noise**2)
    added = {k: int(tasks[k].sum()) for k in ("n", "wins", "losses", "ties", "errors")}
    p = _normal_p(difference, stderr)
    return {
        "task": name, "metric": "primary_score", "value_a": suite["value"],
        "value_b": other["value"], "difference": difference, "stderr": stderr,
        "low": difference - Z95 * stderr, "high": difference + Z95 * stderr, **added, "p": p,
        "p_exact": p, "test": "normal", "checkpoint_noise": noise, "stderr_total": total,
        "p_total": _normal_p(difference, total), "higher_is_better": suite["higher_is_better"],
    }  # fmt: skip


def _normal_p(difference: float, stderr: float) -> float:
    if isnan(stderr) or stderr == 0:
        return nan if isnan(stderr) else float(difference == 0)
    return erfc(abs(difference) / stderr / sqrt(2))


def averaged(suite: Mapping[str, Any], tasks: Mapping[str, Any]) -> tuple[str, ...]:
    """The members of a complete suite that is a plain average of tasks; none for any other."""
    members = tuple(suite["members"])
    whole = suite["status"] == "complete" and suite["aggregate"] == "macro"
    plain = whole and all(m in tasks for m in members)
    return members if plain else ()


def check_same_questions(task: str, left: Run, right: Run) -> None:
    """Raises :class:`UserError` when two runs were asked different questions in ``task``."""
    if left.metrics["tasks"][task]["hash"] != right.metrics["tasks"][task]["hash"]:
        raise UserError(
            f"'{left.path}' and '{right.path}' were asked different questions in '{task}'; "
            "run both again with one version of the task and one --limit, or name only folders "
            "that had the same"
        )


def run_name(run: Run) -> str:
    """The trained run's name where the checkpoint says it, else the folder's."""
    return run.name


def labels(runs: Sequence[Run]) -> list[str]:
    """A name for each run: the trained run's, or the folder's where two would be the same."""
    for name in (run_name, lambda run: run.path.name, lambda run: str(run.path)):
        names = [name(run) for run in runs]
        if len(set(names)) == len(runs):
            break
    return names


def flipped(runs: Sequence[Run]) -> "pd.DataFrame":
    """Instances that two runs score differently, the largest differences first within a task.

    Columns: task, metric, doc_id, native_id, a, b (the two values), better (``a`` or ``b``).
    """
    import pandas as pd

    left, right = runs
    frames = []
    answers = [_answers(left), _answers(right)]
    for task, result in left.metrics["tasks"].items():
        if task not in right.metrics["tasks"]:
            continue
        check_same_questions(task, left, right)
        metric = result["primary_metric"]
        paired = _join(answers[0].get(task), answers[1].get(task))
        if paired is None:
            continue
        differ = paired.a != paired.b
        a, b = paired.a[differ], paired.b[differ]
        sign = 1 if result["metrics"][metric]["higher_is_better"] else -1
        gap = sign * (a - b)
        differs = pd.DataFrame(
            {
                "task": task, "metric": metric, "doc_id": paired.docs[differ],
                "native_id": paired.names[differ], "a": a, "b": b,
                "better": np.where(gap > 0, "a", "b"), "size": np.abs(gap),
            }
        ).sort_values(["size", "doc_id"], ascending=[False, True])  # fmt: skip
        frames.append(differs)
    columns = ["task", "metric", "doc_id", "native_id", "a", "b", "better"]
    if not frames:
        return pd.DataFrame(columns=columns)
    return pd.concat(frames, ignore_index=True)[columns]


def groups_table(comparison: "pd.DataFrame", level: float = 0.05) -> "pd.DataFrame":
    """Which of many runs cannot be told apart: columns task, metric, run, value, groups.

    Runs of a task that share a letter do not differ after Holm's correction over the task's pairs
    (of ``p_total`` where it is known, else ``p_exact``). Better runs come first.
    """
    import pandas as pd

    rows = []
    for (task, metric), pairs in comparison.groupby(["task", "metric"], sort=False):
        values = dict(zip(pairs["b"], pairs["value_b"], strict=True))
        values |= dict(zip(pairs["a"], pairs["value_a"], strict=True))
        upward = bool(pairs["higher_is_better"].iloc[0])
        order = sorted(values, key=lambda run: (-values[run] if upward else values[run], run))
        place = {run: k for k, run in enumerate(order)}
        p = pairs["p_total"].where(pairs["p_total"].notna(), pairs["p_exact"])
        apart = holm(p.to_numpy(float)) <= level
        different = [
            (place[a], place[b])
            for a, b, far in zip(pairs["a"], pairs["b"], apart, strict=True)
            if far
        ]
        groups = groups_alike(len(order), different)
        for k, run in enumerate(order):
            letters = [_letter(g) for g, members in enumerate(groups) if k in members]
            rows.append((task, metric, run, values[run], " ".join(letters)))
    return pd.DataFrame(rows, columns=["task", "metric", "run", "value", "groups"])


def _letter(index: int) -> str:
    return chr(ord("a") + index) if index < 26 else f"a{index}"


def checkpoint_variances(
    table: "pd.DataFrame", last: int
) -> Mapping[tuple[str, str, str], tuple[float, int]]:
    """Variance of the last checkpoints, divisor n-1, and its degrees of freedom.

    By (run, task, metric); runs with one checkpoint have none.
    """
    found = {}
    for grid in grids(table, last):
        for run, values in zip(grid.runs["run"], grid.values, strict=True):
            kept = values[np.isfinite(values)]
            if len(kept) > 1:
                found[str(run), grid.task, grid.metric] = (float(kept.var(ddof=1)), len(kept) - 1)
    return found


@dataclass(frozen=True)
class _Answers:
    """The primary metric of one task: ``docs``, ``values``, ``clusters`` and ``names`` [n]."""

    docs: NDArray[np.int64]
    values: NDArray[np.float64]
    clusters: NDArray[Any]
    names: Any


@dataclass(frozen=True)
class _Paired:
    """The documents that two runs were asked: their values ``a`` and ``b`` [n], nan for errors."""

    docs: NDArray[np.int64]
    a: NDArray[np.float64]
    b: NDArray[np.float64]
    clusters: NDArray[Any]
    names: Any


def _answers(run: Run) -> dict[str, _Answers]:
    """Primary values, clusters and native ids by task and document."""
    import pandas as pd

    primary = {task: r["primary_metric"] for task, r in run.metrics["tasks"].items()}
    table = run.instances()
    table = table[table["metric"] == table["task"].map(primary)]
    codes, tasks = pd.factorize(table["task"])
    order = np.argsort(codes, kind="stable")
    docs = table["doc_id"].to_numpy(np.int64)[order]
    values = table["value"].to_numpy(np.float64, na_value=nan)[order]
    clusters, names = table["cluster"].to_numpy(object)[order], table["native_id"].array[order]
    ends = np.searchsorted(codes[order], np.arange(len(tasks) + 1)).tolist()
    return {
        str(task): _Answers(docs[i:j], values[i:j], clusters[i:j], names[i:j])
        for task, i, j in zip(tasks, ends, ends[1:], strict=False)
    }


def _join(a: _Answers | None, b: _Answers | None) -> _Paired | None:
    import pandas as pd

    if a is None or b is None:
        return None
    if np.array_equal(a.docs, b.docs):
        return _Paired(a.docs, a.values, b.values, a.clusters, a.names)
    place = pd.Index(b.docs).get_indexer(pd.Index(a.docs))
    both = place >= 0
    return _Paired(
        a.docs[both], a.values[both], b.values[place[both]], a.clusters[both], a.names[both]
    )


def _difference(
    paired: _Paired | None,
    result: Mapping[str, Any],
    random: np.random.Generator,
    samples: int,
) -> dict[str, Any] | None:
    """The row of one task; None when no instance has both values."""
    import pandas as pd

    if paired is None:
        return None
    kept = ~(np.isnan(paired.a) | np.isnan(paired.b))
    if not kept.any():
        return None
    a, b, labels = paired.a[kept], paired.b[kept], paired.clusters[kept]
    named, clusters = pd.notna(labels), None
    if named.any():  # a question without a cluster stands alone
        clusters = np.where(named, labels, paired.docs[kept]).tolist()
    difference = paired_difference(a, b, clusters)
    sums, sizes = cluster_sums(a - b, clusters)
    low = high = nan
    if len(sums) > 1:
        means = bootstrap_means(sums, sizes, random, samples)
        low, high = np.quantile(means, [0.025, 0.975]).tolist()
    upward = bool(result["metrics"][result["primary_metric"]]["higher_is_better"])
    better, worse = int((a > b).sum()), int((a < b).sum())
    wins, losses = (better, worse) if upward else (worse, better)
    if clusters is None and np.isin(a, (0, 1)).all() and np.isin(b, (0, 1)).all():
        test, p_exact = "McNemar", mcnemar(wins, losses)
    else:
        test, p_exact = "sign flip", sign_flip(sums, random)
    return {
        "value_a": float(a.mean()), "value_b": float(b.mean()),
        "difference": difference.value, "stderr": difference.stderr, "low": low, "high": high,
        "n": difference.n, "p": difference.p, "p_exact": p_exact, "test": test,
        "wins": wins, "losses": losses, "ties": len(a) - wins - losses,
        "errors": len(kept) - len(a), "higher_is_better": upward,
    }  # fmt: skip


def _with_noise(
    row: Mapping[str, Any], noise: Sequence[tuple[float, int] | None]
) -> dict[str, float]:
    """The total error where the checkpoint noise of both runs is known."""
    known = [entry for entry in noise if entry is not None]
    if len(known) < len(noise) or isnan(row["stderr"]):
        return {"checkpoint_noise": nan, "stderr_total": nan, "p_total": nan}
    parts = [(row["stderr"] ** 2, max(row["n"] - 1, 1)), *known]
    total = sum(variance for variance, _ in parts)
    if total == 0:
        p = float(row["difference"] == 0)
    else:
        p = min(1.0, 2 * upper_tail(abs(row["difference"]) / sqrt(total), parts))
    return {
        "checkpoint_noise": sqrt(sum(v for v, _ in known)),
        "stderr_total": sqrt(total),
        "p_total": p,
    }
