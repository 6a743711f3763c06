"""What a report compares: training runs at their last checkpoints, and pairs of them.

Two run folders that asked the same questions are paired question by question; scores that come
from tables are compared by their standard errors, as if the questions were other ones, which errs
on the safe side.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import erfc, isnan, nan, sqrt
from typing import TYPE_CHECKING, Any

import numpy as np

from olmeval.analysis.compare import checkpoint_variances, compare_runs, compare_suites, run_name
from olmeval.errors import UserError
from olmeval.reports.curves import Series
from olmeval.results.run import Run
from olmeval.stats.mean import Z95
from olmeval.stats.mixed import upper_tail
from olmeval.stats.paired import holm

if TYPE_CHECKING:
    import pandas as pd

Score = tuple[str, str]
"""Task and metric."""
SUITE = "primary_score"
"""The metric of suites."""
LEVEL = 0.05
CHECKPOINTS = 6
COLUMNS = (
    "task", "metric", "value_a", "value_b", "gain", "stderr", "low", "high", "p", "p_holm",
    "p_noise", "n", "wins", "losses", "ties", "errors", "test", "higher_is_better",
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


def entries_of(series: Sequence[Series], runs: Sequence[Run]) -> list[Entry]:
    """The last checkpoint of every series; of one series alone, checkpoints spread over it."""
    if len(series) > 1:
        return [_entry(one, one.rows["step"].max(), one.label, runs) for one in series]
    (one,) = series
    steps = sorted(one.rows["step"].dropna().unique().tolist())
    if len(steps) < 2:
        return [_entry(one, steps[0] if steps else nan, one.label, runs)]
    chosen = np.unique(np.linspace(0, len(steps) - 1, min(len(steps), CHECKPOINTS)).round())
    return [_entry(one, steps[int(k)], f"step {steps[int(k)]:,.0f}", runs) for k in chosen]


def _entry(one: Series, step: float, label: str, runs: Sequence[Run]) -> Entry:
    rows = one.rows if isnan(step) else one.rows[one.rows["step"] == step]
    scores = {(str(r["task"]), str(r["metric"])): dict(r) for r in rows.to_dict("records")}
    name, seed = str(one.rows["run"].iloc[0]), one.rows["seed"].iloc[0]
    mine = [run for run in runs if _is(run, name, seed, step)]
    return Entry(
        one.index,
        label,
        {score: {str(k): v for k, v in row.items()} for score, row in scores.items()},
        max(mine, key=lambda run: len(run.metrics["tasks"]), default=None),
    )


def _is(run: Run, name: str, seed: Any, step: float) -> bool:
    trained = run.info["model"]["metadata"]
    its = trained.get("seed")
    return (
        run_name(run) == name
        and (trained.get("step") is None if isnan(step) else trained.get("step") == step)
        and (its is None or seed != seed or its == seed)
    )


class Pairs:
    """Comparisons of entries, each made once; ``notes`` says which could not be paired, and why.

    ``table``: the long table, whose earlier checkpoints give the noise of ``last`` checkpoints:
    ``noise`` maps (run, task, metric) to a variance and its degrees of freedom.
    """

    def __init__(self, table: "pd.DataFrame", last: int, samples: int = 2000):
        self.samples = samples
        self.notes: list[str] = []
        self.noise = checkpoint_variances(table, last) if table["step"].notna().any() else {}
        self._made: dict[tuple[int, str, int, str], pd.DataFrame] = {}

    def between(self, a: Entry, b: Entry) -> "pd.DataFrame":
        """Rows (:data:`COLUMNS`) of the scores that both have; ``gain`` is how much a is better.

        ``low`` and ``high`` are its 95 % interval, ``p`` is two-sided, ``p_holm`` corrected over
        the pair's tasks (and, apart, its suites), ``p_noise`` holds the noise of checkpoints, too.
        ``test`` is empty where the scores are not paired.
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
        checkpoints = [one.index == a.index == b.index for one in (a, b)]
        for row in rows:
            known = () if any(checkpoints) else (self._variance(a, row), self._variance(b, row))
            row["p_noise"] = _with_noise(row, known)
        for suites in (True, False):
            mine = [row for row in rows if (row["metric"] == SUITE) == suites]
            known_p = [row for row in mine if not isnan(row["p"])]
            for row, p in zip(known_p, holm([row["p"] for row in known_p]).tolist(), strict=True):
                row["p_holm"] = p
        return pd.DataFrame(rows, columns=list(COLUMNS))

    def _variance(self, entry: Entry, row: dict[str, Any]) -> tuple[float, int] | None:
        first = next(iter(entry.scores.values()))
        return self.noise.get((str(first["run"]), row["task"], row["metric"]))

    def _paired(self, a: Entry, b: Entry) -> dict[Score, dict[str, Any]]:
        if a.run is None or b.run is None:
            return {}
        import pandas as pd

        try:
            tasks = compare_runs([a.run, b.run], samples=self.samples)
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
        ends = sorted(sign * paired[k] for k in ("low", "high"))
        kept = {k: paired[k] for k in ("value_a", "value_b", "stderr", "n", "test")}
        # A suite's instances are those of its tasks, which have their own rows.
        counts = {k: paired[k] for k in ("wins", "losses", "ties", "errors")}
        return {**common, **kept, **counts, "gain": sign * paired["difference"], "low": ends[0],
                "high": ends[1], "p": paired["p_exact"]}  # fmt: skip
    gain = sign * (float(a["value"]) - float(b["value"]))
    stderr = sqrt(_number(a["stderr"]) ** 2 + _number(b["stderr"]) ** 2)
    return {
        **common, "value_a": a["value"], "value_b": b["value"], "gain": gain, "stderr": stderr,
        "low": gain - Z95 * stderr, "high": gain + Z95 * stderr, "p": normal_p(gain, stderr),
        "n": min(_number(a["n"]), _number(b["n"])), "wins": nan, "losses": nan, "ties": nan,
        "errors": nan, "test": "",
    }  # fmt: skip


def _with_noise(row: dict[str, Any], noise: Sequence[tuple[float, int] | None]) -> float:
    """Two-sided p with the noise of both runs' checkpoints added; nan where it is unknown."""
    known = [part for part in noise if part is not None]
    if len(known) < 2 or isnan(row["stderr"]):
        return nan
    questions = max(row["n"] - 1, 1) if row["n"] == row["n"] else 1e6
    parts = [(row["stderr"] ** 2, questions), *known]
    total = sum(variance for variance, _ in parts)
    if total == 0:
        return float(row["gain"] == 0)
    return min(1.0, 2 * upper_tail(abs(row["gain"]) / sqrt(total), parts))


def normal_p(gain: float, stderr: float) -> float:
    """Two-sided p of the normal test; nan where the error is unknown."""
    if isnan(stderr):
        return nan
    return erfc(abs(gain) / stderr / sqrt(2)) if stderr > 0 else float(gain == 0)


def _number(value: Any) -> float:
    """nan for what is missing, whatever stands for it."""
    return nan if value is None or value != value else float(value)
