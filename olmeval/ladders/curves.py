"""Runs as curves: from the long table to what the laws are fitted on.

A ladder's data are ragged (every run has checkpoints of its own), so a run is one object with
aligned arrays, and a task a tuple of runs.
"""

import warnings
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from olmeval.errors import UserError, nearest
from olmeval.ladders.laws import Array, exact_flops, six_nd
from olmeval.ladders.spec import Feature, LadderFile, Task
from olmeval.results.table import load_table

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class RunCurve:
    """One run on one task. ``loss`` and ``accuracy`` [checkpoints] are aligned, oldest first.

    ``params`` is N without the input embedding, ``tokens`` D and ``flops`` C of the whole run.
    A task without accuracies has an empty ``accuracy``.
    """

    run: str
    size: str
    params: float
    tokens: float
    flops: float
    loss: Array
    accuracy: Array


@dataclass(frozen=True)
class TaskCurves:
    """The runs of a task for one feature, in the order of the table."""

    task: str
    feature: str
    chance: float
    runs: tuple[RunCurve, ...]

    def only(self, names: Sequence[str]) -> "TaskCurves":
        """The runs called ``names``."""
        kept = tuple(run for run in self.runs if run.run in set(names))
        return TaskCurves(self.task, self.feature, self.chance, kept)


@dataclass(frozen=True)
class Ladder:
    """Curves of every (task, feature), and which runs are fitted."""

    file: LadderFile
    curves: dict[tuple[str, str], TaskCurves]
    rungs: tuple[str, ...]

    def fitted(self, task: str, feature: str) -> TaskCurves:
        """The curves of the rungs."""
        return self.of(task, feature).only(self.rungs)

    def of(self, task: str, feature: str) -> TaskCurves:
        """All curves of a task; :class:`UserError` if there are none."""
        try:
            return self.curves[task, feature]
        except KeyError:
            names = sorted({t for t, _ in self.curves})
            raise UserError(
                f"the ladder has no task '{task}' with loss '{feature}'{nearest(task, names)}"
            ) from None

    def target(self, task: str, feature: str, name: str) -> RunCurve | None:
        """The measured target, None where it has not been trained."""
        wanted = self.file.targets[name].run
        return next((run for run in self.of(task, feature).runs if run.run == wanted), None)


def read_scores(file: LadderFile, folder: Path, root: Path) -> "pd.DataFrame":
    """The long table of a ladder file's ``data`` below ``root``; maps lie beside the file."""
    import pandas as pd

    frames = []
    for source in file.data:
        paths = [path for pattern in source.files for path in sorted(root.glob(pattern))]
        if not paths:
            raise UserError(f"'{root}' holds no file '{source.files[0]}' that the ladder names")
        frames.append(load_table(paths, folder / source.map if source.map else None))
    return pd.concat(frames, ignore_index=True)


def make_ladder(file: LadderFile, table: "pd.DataFrame") -> Ladder:
    """The curves of every task and feature of ``file`` in the long table.

    Raises :class:`UserError` for a task, metric or run that is missing, a size or FLOP count that
    nothing gives, and units that cannot be right.
    """
    import pandas as pd

    names = list(dict.fromkeys(table["run"]))
    targets = {target.run for target in file.targets.values() if target.run}
    rungs = tuple(
        name
        for name in names
        if name not in targets
        and (not file.fit or any(fnmatchcase(name, pattern) for pattern in file.fit))
    )
    if not rungs:
        raise UserError(f"no run matches 'fit' of the ladder; the table has {', '.join(names[:5])}")
    scores = dict(iter(table.groupby(["task", "metric"], sort=False)))
    curves = {}
    for name, task in file.tasks.items():
        for label, feature in file.features.items():
            loss = _scores(scores, feature.task or task.task or name, feature.metric)
            if task.accuracy is None:
                curves[name, label] = _curves(file, name, label, task, feature, loss, names)
                continue
            accuracy = _scores(scores, task.task or name, task.accuracy)
            _check_steps(name, label, loss, accuracy)
            both = pd.merge(
                loss, accuracy[["run", "step", "value"]], on=["run", "step"],
                suffixes=("", "_accuracy"), sort=False,
            )  # fmt: skip
            curves[name, label] = _curves(file, name, label, task, feature, both, names)
    return Ladder(file, curves, rungs)


def _check_steps(task: str, label: str, loss: "pd.DataFrame", accuracy: "pd.DataFrame") -> None:
    """Refuses runs whose last loss or accuracy is missing; says how many others are.

    The long table has no rows for values that are not numbers, so a hole is a missing step.
    """
    ends: dict[str, dict[Hashable, float]] = {
        name: frame.groupby("run")["step"].max().to_dict()
        for name, frame in (("loss", loss), ("accuracy", accuracy))
    }
    for run, end in ends["loss"].items():
        if run in ends["accuracy"] and ends["accuracy"][run] != end:
            lacking = "loss" if end < ends["accuracy"][run] else "accuracy"
            raise UserError(
                f"task '{task}', loss '{label}': run '{run}' has no {lacking} at its last step "
                f"{max(end, ends['accuracy'][run]):g} (missing, or not a number); score it again"
            )
    pairs = len(loss.merge(accuracy, on=["run", "step"]))
    lost = max(len(loss), len(accuracy)) - pairs
    if lost:
        warnings.warn(
            f"task '{task}', loss '{label}': {lost} checkpoints have a loss or an accuracy but not "
            "both, and are left out",
            stacklevel=2,
        )


def _scores(
    scores: "dict[tuple[Hashable, ...], pd.DataFrame]", task: str, metric: str
) -> "pd.DataFrame":
    if (task, metric) not in scores:
        tasks = sorted({str(key[0]) for key in scores if key[1] == metric})
        if not tasks:
            metrics = sorted({str(key[1]) for key in scores})
            raise UserError(f"no row has the metric '{metric}'{nearest(metric, metrics)}")
        raise UserError(f"no row has the task '{task}' with '{metric}'{nearest(task, tasks)}")
    return scores[task, metric]


def _curves(
    file: LadderFile, name: str, label: str, task: Task, feature: Feature,
    both: "pd.DataFrame", order: list[str],
) -> TaskCurves:  # fmt: skip
    runs = []
    grouped = dict(iter(both.groupby("run", sort=False)))
    for run in order:
        if run not in grouped:
            continue
        part = grouped[run].sort_values("step", kind="stable")
        loss = (-1.0 if feature.negate else 1.0) * part["value"].to_numpy(np.float64)
        runs.append(_run_curve(file, run, part, loss))
    curves = TaskCurves(name, label, task.chance, tuple(runs))
    check_units(curves)
    return curves


def _run_curve(file: LadderFile, run: str, part: "pd.DataFrame", loss: Array) -> RunCurve:
    last = part.iloc[-1]
    target = next((t for t in file.targets.values() if t.run == run), None)
    size = file.sizes.get(str(last["model"]))
    params = target.params if target else (size.params if size else None) or _known(last["params"])
    tokens = target.tokens if target else _known(last["tokens"])
    for what, value in (("params", params), ("tokens", tokens)):
        if value is None:
            raise UserError(f"run '{run}' has no {what}; give them in the table or in 'sizes'")
    assert params is not None
    assert tokens is not None
    if file.flops == "6nd":
        flops = six_nd(params, tokens)
    else:
        per_token = (target or size or last).flops_per_token if target or size else None
        if per_token is not None:
            flops = exact_flops(per_token, tokens)
        else:
            known = _known(last["flops"])
            if known is None:
                raise UserError(
                    f"run '{run}' has no FLOPs; give 'flops_per_token' of '{last['model']}' in "
                    "'sizes', or say 'flops: 6nd'"
                )
            flops = known
    return RunCurve(
        run, str(last["model"]), float(params), float(tokens), float(flops), loss,
        part["value_accuracy"].to_numpy(np.float64) if "value_accuracy" in part else np.empty(0),
    )  # fmt: skip


def _known(value: object) -> float | None:
    number = float(value)  # type: ignore[arg-type]
    return number if np.isfinite(number) else None


def check_units(curves: TaskCurves) -> None:
    """Refuses what cannot be right: swapped or scaled columns, by plausibility.

    Raises :class:`UserError` for: values that are not finite, losses that are not positive,
    accuracies outside 0..1, N above D, and FLOPs far from 6 N D (attention and head add, they
    rarely double; per-token or giga-FLOPs are off by powers of ten).
    """
    where = f"task '{curves.task}', loss '{curves.feature}'"
    for run in curves.runs:
        if not (np.isfinite(run.loss).all() and np.isfinite(run.accuracy).all()):
            raise UserError(f"{where}: run '{run.run}' has a value that is not a number")
        if not (run.loss > 0).all():
            raise UserError(f"{where}: run '{run.run}' has a loss of {run.loss.min():g}; losses "
                            "are positive (a log-probability needs 'negate: true')")  # fmt: skip
        if len(run.accuracy) and (run.accuracy.min() < 0 or run.accuracy.max() > 1):
            raise UserError(
                f"{where}: run '{run.run}' has an accuracy of {run.accuracy.max():g}; accuracies "
                "are fractions from 0 to 1 (percent: 'unit: percent' in the mapping)"
            )
        if run.params > run.tokens:
            raise UserError(
                f"run '{run.run}' has {run.params:.3g} parameters and {run.tokens:.3g} tokens; "
                "are the columns swapped, or the units not those of the mapping?"
            )
        ratio = run.flops / six_nd(run.params, run.tokens)
        if not 0.2 < ratio < 20:
            raise UserError(
                f"run '{run.run}' has {run.flops:.3g} FLOPs, {ratio:.2g} times 6 N D; FLOPs are "
                "those of the whole run, not per token, and not in giga"
            )
