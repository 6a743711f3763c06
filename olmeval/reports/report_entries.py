"""What a report compares: training runs at their last checkpoints, and pairs of them.

Two run folders that asked the same questions are paired question by question; scores that come
from tables are compared by their standard errors, as if the questions were other ones, which errs
on the safe side.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import erfc, isnan, nan, sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from olmeval.analysis.compare import checkpoint_variances, compare_runs, compare_suites
from olmeval.errors import UserError
from olmeval.reports.curves import Series
from olmeval.reports.report_seeds import SeedRun, Seeds
from olmeval.results.run import Run
from olmeval.stats.mean import Z95
from olmeval.stats.mixed import critical_value, upper_tail
from olmeval.stats.paired import holm

if TYPE_CHECKING:
    import pandas as pd

Score = tuple[str, str]
"""Task and metric."""
Noise = tuple[float, float]
"""A variance and its degrees of freedom."""
SUITE = "primary_score"
"""The metric of suites."""
BY_CHECKPOINTS = "checkpoints"
"""The test of scores whose questions have no known error."""
BY_SEEDS = "seeds and questions"
"""The test of means over seeds."""
LEVEL = 0.05
CHECKPOINTS = 6
COLUMNS = (
    "task", "metric", "value_a", "value_b", "gain", "stderr", "low", "high", "p", "p_holm",
    "p_noise", "n", "wins", "losses", "ties", "errors", "test", "higher_is_better", "questions",
)  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """One side of comparisons: a checkpoint of the series ``index``, the last unless said so.

    ``scores`` maps (task, metric) to the table's row; ``run`` is its folder, where there is one.
    """

    index: int
    label: str
    scores: dict[Score, dict[str, Any]]
    run: Run | None

    @property
    def run_name(self) -> str:
        """The run's name in the table."""
        return str(next(iter(self.scores.values()))["run"])

    @property
    def seed(self) -> float:
        """The run's seed; nan where it is unknown."""
        return _number(next(iter(self.scores.values()))["seed"])

    @property
    def seeds(self) -> int:
        """How many seeds it is the mean of."""
        return int(next(iter(self.scores.values()))["seeds"])


def entries_of(
    series: Sequence[Series],
    runs: Sequence[Run],
    names: Mapping[Path, str],
    seeds: Mapping[str, Seeds],
) -> list[Entry]:
    """The last checkpoint of every series; of one series alone, checkpoints spread over it.

    ``names``: what the table calls the run folders, by path; ``seeds``: the runs that are means.
    """
    found = _entries(series, runs, names)
    called = [(run, names[run.path]) for run in runs]
    return [_of_seeds(e, seeds[e.run_name], called) if e.run_name in seeds else e for e in found]


def _of_seeds(entry: Entry, of: Seeds, runs: Sequence[tuple[Run, str]]) -> Entry:
    """With the folders of all seeds, where each has one."""
    step = _number(next(iter(entry.scores.values()))["step"])
    parts = [_folder(called, seed, step, runs) for called, seed in of.runs]
    folders = [part for part in parts if part is not None]
    whole = len(folders) == len(parts)
    return replace(entry, run=SeedRun(folders, of.name) if whole else None)


def _entries(
    series: Sequence[Series], runs: Sequence[Run], names: Mapping[Path, str]
) -> list[Entry]:
    called = [(run, names[run.path]) for run in runs]
    if len(series) > 1:
        return [_entry(one, one.rows["step"].max(), one.label, called) for one in series]
    (one,) = series
    steps = sorted(one.rows["step"].dropna().unique().tolist())
    if len(steps) < 2:
        return [_entry(one, steps[0] if steps else nan, one.label, called)]
    chosen = np.unique(np.linspace(0, len(steps) - 1, min(len(steps), CHECKPOINTS)).round())
    return [_entry(one, steps[int(k)], f"step {steps[int(k)]:,.0f}", called) for k in chosen]


def _entry(one: Series, step: float, label: str, runs: Sequence[tuple[Run, str]]) -> Entry:
    rows = one.rows if isnan(step) else one.rows[one.rows["step"] == step]
    scores = {(str(r["task"]), str(r["metric"])): dict(r) for r in rows.to_dict("records")}
    name, seed = str(one.rows["run"].iloc[0]), one.rows["seed"].iloc[0]
    return Entry(
        one.index,
        label,
        {score: {str(k): v for k, v in row.items()} for score, row in scores.items()},
        _folder(name, seed, step, runs),
    )


def _folder(name: str, seed: Any, step: float, runs: Sequence[tuple[Run, str]]) -> Run | None:
    """The folder of a checkpoint, that with most tasks where there are several."""
    mine = [run for run, called in runs if called == name and _is(run, seed, step)]
    return max(mine, key=lambda run: len(run.metrics["tasks"]), default=None)


def _is(run: Run, seed: Any, step: float) -> bool:
    trained = run.info["model"]["metadata"]
    its = trained.get("seed")
    at_step = trained.get("step") is None if isnan(step) else trained.get("step") == step
    return at_step and (its is None or seed != seed or its == seed)


class Pairs:
    """Comparisons of entries, each made once; ``notes`` says which could not be paired, and why.

    ``table``: the long table, whose earlier checkpoints give the noise of ``last`` checkpoints:
    ``noise`` maps (run, task, metric) to a variance and its degrees of freedom. ``seeds``: the runs
    that are means over seeds.
    """

    def __init__(self, table: "pd.DataFrame", last: int, seeds: Mapping[str, Seeds]):
        self.table, self.last, self.seeds = table, last, seeds
        self.notes: list[str] = []
        self.noise = checkpoint_variances(table, last) if table["step"].notna().any() else {}
        self._made: dict[tuple[int, str, int, str], pd.DataFrame] = {}
        self._by_run: dict[str, pd.DataFrame] = {}

    def between(self, a: Entry, b: Entry) -> "pd.DataFrame":
        """Rows (:data:`COLUMNS`) of the scores that both have; ``gain`` is how much a is better.

        ``low`` and ``high`` are its 95 % interval, ``p`` is two-sided, ``p_holm`` corrected over
        the pair's tasks (and, apart, its suites), ``p_noise`` holds the noise of checkpoints, too.
        Where the error of the questions is unknown, the noise alone makes interval and p. ``test``
        is empty where the scores are not paired.
        """
        key = (a.index, a.label, b.index, b.label)
        if key not in self._made:
            self._made[key] = self._compare(a, b)
        return self._made[key]

    def _compare(self, a: Entry, b: Entry) -> "pd.DataFrame":
        import pandas as pd

        paired = self._paired(a, b)
        rows = [
            _row(score, a.scores[score], b.scores[score], paired.get(score))
            for score in a.scores
            if score in b.scores
        ]
        for row in rows:
            score = (row["task"], row["metric"])
            different = [] if a.index == b.index else [a, b]
            seeds = self.seeds_apart(a, b, [score])
            add_seeds(row, seeds)
            add_noise(row, [self._variance(e, score) for e in different], seeds)
        for suites in (True, False):
            mine = [row for row in rows if (row["metric"] == SUITE) == suites]
            known_p = [row for row in mine if not isnan(row["p"])]
            for row, p in zip(known_p, holm([row["p"] for row in known_p]).tolist(), strict=True):
                row["p_holm"] = p
        return pd.DataFrame(rows, columns=list(COLUMNS))

    def _variance(self, entry: Entry, score: Score) -> Noise | None:
        return self.noise.get((entry.run_name, *score))

    def between_seeds(self, entry: Entry, scores: Sequence[Score]) -> list[Noise]:
        """The variance of the mean of ``scores`` from seed to seed; none for a run of one seed."""
        of = self.seeds.get(entry.run_name)
        step = _number(next(iter(entry.scores.values()))["step"])
        return [] if of is None else [of.variance(scores, step)]

    def seeds_apart(self, a: Entry, b: Entry, scores: Sequence[Score]) -> list[Noise]:
        """Variances of the difference of two runs' mean of ``scores`` from seed to seed.

        A run of one seed is taken to vary as the seeds of the other do; then one estimate of s^2
        makes both parts, s^2 / S + s^2.
        """
        if a.index == b.index:
            return []
        known = [self.between_seeds(e, scores) for e in (a, b)]
        found = [noise for of_entry in known for noise in of_entry]
        if len(found) == 1:
            ((variance, df),) = found
            return [(variance * (df + 2), df)]
        return found

    def spread(self, entry: Entry, scores: Sequence[Score]) -> Noise | None:
        """Noise of the mean of ``scores`` over the last checkpoints that have all of them.

        The mean is taken checkpoint by checkpoint, so that tasks which move together count so.
        """
        if not self._by_run:
            self._by_run = {str(run): rows for run, rows in self.table.groupby("run", sort=False)}
        rows = self._by_run[entry.run_name]
        if entry.seed == entry.seed:
            rows = rows[rows["seed"] == entry.seed]
        names = list(zip(rows["task"], rows["metric"], strict=True))
        rows = rows[[name in set(scores) for name in names]]
        by_step = rows.groupby("step")["value"].agg(["mean", "size"])
        means = by_step.loc[by_step["size"] == len(scores), "mean"].to_numpy()[-self.last :]
        if len(means) < 2:
            return None
        return float(means.var(ddof=1)), len(means) - 1

    def _paired(self, a: Entry, b: Entry) -> dict[Score, dict[str, Any]]:
        if a.run is None or b.run is None:
            return {}
        import pandas as pd

        try:
            # Intervals here are of normal theory, as those of means over tasks must be: hundreds of
            # bootstraps would take minutes.
            tasks = compare_runs([a.run, b.run], samples=1)
            whole = pd.concat([compare_suites([a.run, b.run], tasks), tasks])
        except UserError as error:
            self.notes.append(f"{a.label} and {b.label} are not paired: {error}")
            return {}
        return {
            (str(r["task"]), str(r["metric"])): {str(k): v for k, v in r.items()}
            for r in whole.to_dict("records")
        }


def _row(
    score: Score, a: dict[str, Any], b: dict[str, Any], paired: dict[str, Any] | None
) -> dict[str, Any]:
    task, metric = score
    upward = bool(a["higher_is_better"])
    sign = 1.0 if upward else -1.0
    common = {"task": task, "metric": metric, "higher_is_better": upward, "p_holm": nan}
    if paired is not None:
        kept = ("value_a", "value_b", "stderr", "n", "test", "wins", "losses", "ties", "errors")
        gain, half = sign * paired["difference"], Z95 * paired["stderr"]
        return {**common, **{k: paired[k] for k in kept}, "gain": gain, "low": gain - half,
                "high": gain + half, "p": paired["p_exact"],
                "questions": paired["stderr"]}  # fmt: skip
    gain = sign * (float(a["value"]) - float(b["value"]))
    stderr = sqrt(_number(a["questions"]) ** 2 + _number(b["questions"]) ** 2)
    return {
        **common, "value_a": a["value"], "value_b": b["value"], "gain": gain, "stderr": stderr,
        "low": gain - Z95 * stderr, "high": gain + Z95 * stderr, "p": normal_p(gain, stderr),
        "n": min(_number(a["n"]), _number(b["n"])), "wins": nan, "losses": nan, "ties": nan,
        "errors": nan, "test": "", "questions": stderr,
    }  # fmt: skip


def add_seeds(row: dict[str, Any], seeds: Sequence[Noise]) -> None:
    """Adds the variances from seed to seed to ``stderr``, ``low``, ``high`` and ``p``."""
    parts = _parts(row, seeds)
    total = sum(variance for variance, _ in parts)
    if not seeds or total == 0:
        return
    half = critical_value(LEVEL / 2, parts) * sqrt(total)
    p = min(1.0, 2 * upper_tail(abs(row["gain"]) / sqrt(total), parts))
    row.update(
        stderr=sqrt(total), low=row["gain"] - half, high=row["gain"] + half, p=p, test=BY_SEEDS
    )


def _parts(row: Mapping[str, Any], noise: Sequence[Noise]) -> list[Noise]:
    """Variances of a comparison and their degrees of freedom, with the questions' if known."""
    error, n = row["questions"], row["n"]
    own = [] if isnan(error) else [(error**2, max(n - 1, 1) if n == n else 1e6)]
    return [*noise, *own]


def add_noise(
    row: dict[str, Any], noise: Sequence[Noise | None], seeds: Sequence[Noise] = ()
) -> None:
    """Sets ``p_noise`` of a comparison: two-sided, with the noise of both runs' checkpoints.

    It is nan where a noise is unknown. Where the error of the questions is unknown, the noise alone
    makes ``stderr``, ``low``, ``high`` and ``p`` (``test``: checkpoints). ``seeds``: variances from
    seed to seed, which count as well.
    """
    known = [part for part in noise if part is not None]
    row["p_noise"] = nan
    if len(known) < 2:
        return
    parts = _parts(row, [*known, *seeds])
    total = sum(variance for variance, _ in parts)
    if total == 0:
        row["p_noise"] = float(row["gain"] == 0)
        return
    row["p_noise"] = min(1.0, 2 * upper_tail(abs(row["gain"]) / sqrt(total), parts))
    if isnan(row["stderr"]):
        half = critical_value(LEVEL / 2, parts) * sqrt(total)
        row.update(
            stderr=sqrt(total), low=row["gain"] - half, high=row["gain"] + half,
            p=row["p_noise"], test=BY_CHECKPOINTS,
        )  # fmt: skip


def normal_p(gain: float, stderr: float) -> float:
    """Two-sided p of the normal test; nan where the error is unknown."""
    if isnan(stderr):
        return nan
    return erfc(abs(gain) / stderr / sqrt(2)) if stderr > 0 else float(gain == 0)


def _number(value: Any) -> float:
    """nan for what is missing, whatever stands for it."""
    return nan if value is None or value != value else float(value)
