"""The baseline of a regression gate: one small JSON file that belongs into a repository.

It holds the answers to every question (one bit for a right-or-wrong score), because a paired
comparison needs far fewer questions than one of two means.
"""

import base64
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from olmeval.analysis.compare import averaged, check_same_questions, checkpoint_variances, run_name
from olmeval.errors import CorruptFileError, UserError
from olmeval.files import read_json, write_json
from olmeval.results.run import Run

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]
FORMAT = 1
TYPES = {"half": "<f2", "single": "<f4"}


@dataclass(frozen=True)
class Score:
    """One task or suite of the baseline.

    ``noise`` is the standard deviation (divisor n-1) of the run's last checkpoints, ``noise_df``
    its degrees of freedom; ``averaged`` counts the checkpoints that this is the mean of;
    ``values`` are the packed answers (tasks), ``members`` the tasks of a suite that is their plain
    average.
    """

    metric: str
    higher_is_better: bool
    value: float
    stderr: float | None
    n: int
    hash: str | None = None
    noise: float | None = None
    noise_df: int = 0
    averaged: int = 1
    values: dict[str, Any] | None = None
    members: tuple[str, ...] = ()


@dataclass(frozen=True)
class Baseline:
    """What :func:`record` wrote."""

    run: str
    model: str
    step: int | None
    tasks: Mapping[str, Score]
    suites: Mapping[str, Score]


def record(
    run: Run,
    path: Path,
    checkpoints: "pd.DataFrame | None" = None,
    last: int = 5,
    earlier: Sequence[Run] = (),
) -> Baseline:
    """Writes the baseline of ``run`` to ``path``.

    ``checkpoints`` is a long table with the run's checkpoints, of which the ``last`` up to this one
    give the noise. ``earlier`` are checkpoints whose answers are averaged with this one's, so that
    a lucky one does not become the standard. Raises :class:`UserError` for a run without scores,
    and where ``earlier`` ones were asked other questions.
    """
    metrics = run.metrics
    if not metrics["tasks"]:
        raise UserError(f"'{run.path}' has no task; a baseline needs scores")
    step = run.info["model"]["metadata"].get("step")
    if checkpoints is not None and step is not None:
        checkpoints = checkpoints[~(checkpoints["step"] > step)]  # later ones are not its noise
    noises = {} if checkpoints is None else checkpoint_variances(checkpoints, last)
    runs = [*earlier, run]
    names = {each.info["model"]["metadata"].get("run") for each in runs}
    if len(names) > 1:
        of = ", ".join(sorted(map(str, names)))
        raise UserError(f"a baseline averages checkpoints of one run, not of {of}")
    answers = [instance_values(each) for each in runs]

    def noise(task: str, metric: str) -> dict[str, Any]:
        variance, df = noises.get((run_name(run), task, metric), (None, 0))
        deviation = None if variance is None else variance**0.5
        return {"noise": deviation, "noise_df": df, "averaged": len(runs)}

    tasks = {}
    for task, result in metrics["tasks"].items():
        metric = result["primary_metric"]
        score = result["metrics"].get(metric)
        if score is None:
            raise UserError(
                f"'{run.path}': task '{task}' has no score, all of its instances are errors"
            )
        for other in earlier:
            if task not in other.metrics["tasks"]:
                raise UserError(f"'{other.path}' lacks the task '{task}' of '{run.path}'")
            check_same_questions(task, other, run)
        scores = [each.metrics["tasks"][task]["metrics"][metric] for each in runs]
        tasks[task] = Score(
            metric=metric, **_mean_score(scores), hash=result["hash"],
            **noise(task, metric), values=pack(np.mean([a[task] for a in answers], axis=0)),
        )  # fmt: skip
    suites = {
        name: Score(
            metric="primary_score", **noise(name, "primary_score"),
            **_mean_score([each.metrics["suites"][name] for each in runs]),
            members=averaged(score, metrics["tasks"]),
        )
        for name, score in metrics.get("suites", {}).items()
        if all(_complete(each, name) for each in runs)
    }  # fmt: skip
    model = str(run.info["model"].get("name", run.path.name))
    baseline = Baseline(run_name(run), model, step, tasks, suites)
    write_json(path, {"format": FORMAT, **asdict(baseline)})
    return baseline


def load_baseline(path: Path) -> Baseline:
    """Reads a baseline. Raises :class:`UserError` where the file is none."""
    data = read_json(path)
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise UserError(
            f"'{path}' is no baseline of format {FORMAT}; write one with `olmeval gate record`"
        )
    try:
        scores = {
            kind: {
                name: Score(**{**s, "members": tuple(s["members"])})
                for name, s in data[kind].items()
            }
            for kind in ("tasks", "suites")
        }
        return Baseline(data["run"], data["model"], data["step"], **scores)
    except (KeyError, TypeError) as error:
        raise CorruptFileError(f"'{path}' is damaged: {error}; record it again") from None


def instance_values(run: Run) -> dict[str, Array]:
    """Primary values by task in order of documents, nan where an instance is an error."""
    return {task: table["value"].to_numpy(float) for task, table in instances(run).items()}


def instances(run: Run) -> dict[str, "pd.DataFrame"]:
    """Rows (value, cluster) of the primary metric by task in order of documents."""
    primary = {task: r["primary_metric"] for task, r in run.metrics["tasks"].items()}
    table = run.instances()
    table = table[table["metric"] == table["task"].map(primary)]
    return {
        str(task): rows.sort_values("doc_id").reset_index(drop=True)[["value", "cluster"]]
        for task, rows in table.groupby("task", sort=False)
    }


def pack(values: Array) -> dict[str, Any]:
    """Values [n] as text: a bit each where all are 0, 1 or nan, else half precision, compressed.

    Half precision keeps three digits of an answer, which moves a mean of 100 by less than 1e-4 of
    itself; the baseline's own mean is kept in full.
    """
    missing = np.flatnonzero(np.isnan(values))
    filled = np.nan_to_num(values)
    bits = bool(np.isin(filled, (0, 1)).all())
    # Half precision ends at 65,504.
    kind = "bits" if bits else "half" if np.abs(filled).max() < 6e4 else "single"
    raw = np.packbits(filled == 1) if bits else filled.astype(TYPES[kind])
    return {
        "kind": kind,
        "n": len(values),
        "missing": missing.tolist(),
        "data": base64.b64encode(zlib.compress(raw.tobytes(), 9)).decode(),
    }


def unpack(packed: Mapping[str, Any]) -> Array:
    """Reverses :func:`pack`. Raises :class:`CorruptFileError`."""
    try:
        raw = zlib.decompress(base64.b64decode(packed["data"], validate=True))
        if packed["kind"] == "bits":
            bits = np.unpackbits(np.frombuffer(raw, np.uint8), count=packed["n"])
            values = bits.astype(np.float64)
        else:
            values = np.frombuffer(raw, TYPES[packed["kind"]]).astype(np.float64)
        values[packed["missing"]] = np.nan
    except (KeyError, ValueError, IndexError, zlib.error) as error:
        raise CorruptFileError(f"the baseline's answers are damaged: {error}") from None
    if len(values) != packed["n"]:
        raise CorruptFileError("the baseline's answers are damaged: some are missing")
    return values


def _complete(run: Run, suite: str) -> bool:
    found = run.metrics.get("suites", {}).get(suite)
    return found is not None and found["status"] == "complete"


def _mean_score(scores: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The mean of checkpoints' scores. They share their questions, so the error stays theirs."""
    errors = [score["stderr"] for score in scores if score["stderr"] is not None]
    return {
        "value": float(np.mean([score["value"] for score in scores])),
        "stderr": max(errors) if len(errors) == len(scores) else None,
        "n": scores[-1]["n"],
        "higher_is_better": scores[-1]["higher_is_better"],
    }
