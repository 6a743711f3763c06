"""Runs that differ only in their seed, as one: their mean, with the seeds' spread in its error.

A difference of two settings that is smaller than what another seed changes is no finding, so the
interval of a mean over S seeds holds the variance between seeds (divided by S, with S - 1 degrees
of freedom) beside that of the questions. What of the questions' error shows between the seeds is
counted twice, which errs on the safe side.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from math import isnan, nan, sqrt
from typing import TYPE_CHECKING, Any

import numpy as np

from olmeval.reports.report_text import attribute, digits, name, number
from olmeval.reports.tables import ARROW, grid
from olmeval.results.run import Run
from olmeval.stats.mean import Z95
from olmeval.stats.mixed import critical_value

if TYPE_CHECKING:
    import pandas as pd

POINT = ["task", "metric", "step"]
SETTING = ["family", "params", "mix"]
NOTE = (
    " Runs that differ only in their seed are one: their mean; intervals hold their spread. "
    "Beside such a mean, a run of one seed is taken to vary alike."
)
MANY = 1e6
"""Degrees of freedom of an error of many questions."""


@dataclass(frozen=True)
class Seeds:
    """The runs behind the one called ``name``: their ``rows`` of the long table."""

    name: str
    rows: "pd.DataFrame"

    @cached_property
    def runs(self) -> list[tuple[str, float]]:
        """Name and seed of each."""
        pairs = self.rows[["run", "seed"]].drop_duplicates().sort_values("seed")
        return [(str(run), float(seed)) for run, seed in pairs.itertuples(index=False)]

    @cached_property
    def _points(self) -> dict[float | None, "pd.DataFrame"]:
        found: dict[float | None, pd.DataFrame] = {}
        step: Any
        for step, rows in self.rows.groupby("step", dropna=False):
            found[None if step != step else float(step)] = rows
        return found

    def variance(self, scores: Sequence[tuple[str, str]], step: Any) -> tuple[float, float]:
        """Variance of the mean over seeds of the mean of ``scores``, and degrees of freedom."""
        rows = self._points[None if step != step else float(step)]
        wanted = set(scores)
        mine = [k in wanted for k in zip(rows["task"], rows["metric"], strict=True)]
        means = rows[mine].groupby("seed")["value"].mean().to_numpy(float)
        return float(means.var(ddof=1)) / len(means), len(means) - 1


class SeedRun(Run):
    """The folders of several seeds as one run whose answers are the seeds' means by question."""

    def __init__(self, runs: Sequence[Run], name: str):
        super().__init__(runs[0].path)
        self.parts = list(runs)
        self.called = name

    @cached_property
    def name(self) -> str:
        return self.called

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """Tasks that all seeds were asked alike, and suites with the seeds' mean."""
        first, *others = (run.metrics for run in self.parts)
        tasks = {
            task: result
            for task, result in first["tasks"].items()
            if all(o["tasks"].get(task, {}).get("hash") == result["hash"] for o in others)
        }
        suites = {}
        for suite, result in first.get("suites", {}).items():
            beside = [result, *(o.get("suites", {}).get(suite) for o in others)]
            if all(b is not None and b["status"] == "complete" for b in beside):
                value = sum(b["value"] for b in beside) / len(beside)
                suites[suite] = {**result, "value": value}
        return {**first, "tasks": tasks, "suites": suites}

    def instances(self) -> "pd.DataFrame":
        """Means over seeds; a question that is an error under some seed has none."""
        import pandas as pd

        key = ["task", "metric", "doc_id"]
        tables = [run.instances() for run in self.parts]
        every = pd.concat(tables, ignore_index=True)
        means = every.groupby(key, sort=False)["value"].agg(["sum", "count"])
        whole = means["sum"].where(means["count"] == len(tables)) / len(tables)
        table = tables[0].drop(columns="value")
        return table.join(whole.rename("value"), on=key)


def merge_seeds(rows: "pd.DataFrame") -> tuple["pd.DataFrame", dict[str, Seeds]]:
    """``rows`` of a long table with the runs that differ in seed alone as one, and those by name.

    They are one run of several seeds, or runs of one family, size and mixture (which must be known)
    under other names, every seed once. A score is kept where all seeds have it. ``value`` is the
    mean; 1.96 ``stderr`` is half its 95 % interval; ``questions`` is the error of the questions
    alone (root mean square over seeds); ``seeds`` counts them.
    """
    import pandas as pd

    left = rows.assign(questions=rows["stderr"], seeds=1)
    merged: list[pd.DataFrame] = []
    found: dict[str, Seeds] = {}
    names = set(rows["run"].astype(str))
    for called, own in _groups(rows):
        name_, number_ = called, 2
        while name_ in found or (name_ in names and name_ not in set(own["run"])):
            name_, number_ = f"{called} ({number_})", number_ + 1
        one = _mean(own)
        if one.empty:
            continue
        merged.append(one.assign(run=name_))
        found[name_] = Seeds(name_, own)
        left = left.drop(index=own.index)
    return pd.concat([*merged, left], ignore_index=True) if merged else left, found


def _groups(rows: "pd.DataFrame") -> Iterator[tuple[str, "pd.DataFrame"]]:
    """A name and the rows of each group of runs that differ in their seed alone."""
    seeded = rows[rows["seed"].notna()]
    alone = []
    for run, own in seeded.groupby("run", sort=False):
        if own["seed"].nunique() < 2:
            alone.append(run)
        elif len(own[SETTING].drop_duplicates()) == 1:
            yield str(run), own
    single = seeded[seeded["run"].isin(alone) & seeded[["params", "mix"]].notna().all(axis=1)]
    for setting, own in single.groupby(SETTING, sort=False, dropna=False):
        runs = own["run"].unique().tolist()
        if len(runs) > 1 and own["seed"].nunique() == len(runs):
            yield _common(runs) or str(setting[-1]), own


def _common(runs: Sequence[str]) -> str:
    """What the names of runs begin with alike, without what is the seed's."""
    alike = takewhile(lambda letters: len(set(letters)) == 1, zip(*runs, strict=False))
    same = re.sub(r"\d+$", "", "".join(letters[0] for letters in alike))
    return re.sub(r"[-_./ ]+(seed|s)?[-_= ]*$", "", same)


def _mean(own: "pd.DataFrame") -> "pd.DataFrame":
    """The rows of the mean over seeds; none where a seed has a score twice."""
    if own.duplicated([*POINT, "seed"]).any():
        return own.iloc[:0]
    seeds = own["seed"].nunique()
    groups = own.assign(square=own["stderr"].astype(float) ** 2).groupby(
        POINT, dropna=False, sort=False
    )
    values = groups["value"].agg(["mean", "var", "count"]).reset_index(drop=True)
    squares = groups["square"].agg(["mean", "count"]).reset_index(drop=True)
    questions = np.sqrt(squares["mean"].where(squares["count"] == seeds).to_numpy(float))
    variance = values["var"].to_numpy(float) / seeds
    one = own.drop_duplicates(POINT).reset_index(drop=True)
    t, z = (critical_value(0.025, [(1.0, df)]) for df in (seeds - 1, MANY))
    own_part = np.nan_to_num(questions**2)
    half = (variance * t + own_part * z) / np.sqrt(np.maximum(variance + own_part, 1e-300))
    one = one.assign(
        value=values["mean"], stderr=half / Z95, questions=questions, seeds=seeds, seed=nan
    )
    return one[values["count"] == seeds]


def with_seeds(questions: float, noise: Sequence[tuple[float, float]]) -> float:
    """The standard error of which 1.96 is half the 95 % interval, small degrees of freedom and all.

    ``questions``: the error of the questions (nan: unknown); ``noise``: other variances and their
    degrees of freedom (:func:`olmeval.stats.mixed.critical_value`).
    """
    if not noise:
        return questions
    parts = [*noise, *([] if isnan(questions) else [(questions**2, MANY)])]
    total = sum(variance for variance, _ in parts)
    return critical_value(0.025, parts) * sqrt(total) / Z95 if total > 0 else 0.0


def folded(found: Mapping[str, Seeds]) -> str:
    """A table for each mean over seeds, folded: the last scores of every seed."""
    return "".join(
        f"<details><summary>{name(one.name)} <small>its {len(one.runs)} seeds</small></summary>"
        f"{_seed_table(one)}</details>"
        for one in found.values()
    )


def _seed_table(one: Seeds) -> str:
    last = one.rows.sort_values("step", kind="stable").drop_duplicates(
        ["task", "metric", "seed"], keep="last"
    )
    body = []
    for (task, metric), rows in last.groupby(["task", "metric"]):
        values = dict(zip(rows["seed"], rows["value"], strict=True))
        spread = float(rows["value"].std())
        places = digits(spread)
        cells = [number(values.get(seed), places) for _, seed in one.runs]
        cells.append(number(spread, places))
        arrow = ARROW[bool(rows["higher_is_better"].iloc[0])]
        body.append(
            f'<tr data-task="{attribute(task)}"><th scope="row">{name(task)} '
            f"<small>{name(metric)}{arrow}</small></th>"
            + "".join(f'<td class="number">{cell}</td>' for cell in cells)
            + "</tr>"
        )
    heads = '<th scope="col">task</th>' + "".join(
        f'<th scope="col" class="number">{name(run)}<br><small>seed {seed:g}</small></th>'
        for run, seed in one.runs
    )
    heads += '<th scope="col" class="number">spread</th>'
    return grid("seeds filtered", f"Seeds of {one.name}", heads, body)
