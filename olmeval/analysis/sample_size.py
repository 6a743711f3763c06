"""How many questions a benchmark needs: signal and noise by number of questions.

All models answer the same drawn questions, as they would in an evaluation with a limit; drawing
other questions for the models than for the noise makes both look worse than they are (Heineman et
al. 2025, arXiv 2508.13144, appendix, where that happens).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from olmeval.analysis.compare import run_name
from olmeval.analysis.gate_baseline import instances
from olmeval.analysis.grid import generator
from olmeval.errors import UserError
from olmeval.results.run import Run
from olmeval.stats.noise import noise
from olmeval.stats.ranking import decision_accuracy
from olmeval.stats.spread import spread

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]
SMALLEST = 30


def sample_size_curve(
    runs: Sequence[Run], last: int = 5, sizes: int = 10, draws: int = 50,
    measure: str = "range", enough: float = 0.9, seed: int = 0,
) -> "pd.DataFrame":  # fmt: skip
    """Signal-to-noise ratio of each task by number of questions, over ``draws`` random samples.

    ``runs`` are checkpoints of two models or more; models are told apart by the trained run's
    name, and the ``last`` steps of each are its final score and its noise. Columns: task, n, snr
    with snr_low and snr_high (middle 95 % of the draws), kept (snr over that of all questions) with
    kept_low and kept_high, agreement (share of pairs of models that the drawn questions order as
    the others do, up to half of all), chosen (the smallest n that keeps ``enough``). nan where
    models have one checkpoint. Raises :class:`UserError` where runs were asked different questions.
    """
    import pandas as pd

    rows = []
    for task, answers in _answers(runs, last).items():
        random = generator(seed, task)
        total = answers.shape[2]
        low = min(SMALLEST, total)
        counts = np.unique(np.geomspace(low, total, sizes).round().astype(int)).tolist()
        whole = _ratio(answers, measure)
        of_task = []
        for count in counts:
            ratios, agreed = [], []
            for _ in range(draws if count < total else 1):
                order = random.permutation(total)
                ratios.append(_ratio(answers[:, :, order[:count]], measure))
                if count <= total // 2:
                    agreed.append(_agreement(answers, order, count))
            kept = np.array(ratios) / whole if np.isfinite(whole) else np.full(len(ratios), np.nan)
            of_task.append(
                (task, count, *_middle(np.array(ratios)), *_middle(kept),
                 float(np.mean(agreed)) if agreed else np.nan)
            )  # fmt: skip
        fit = next((row[1] for row in of_task if row[5] >= enough), None)
        rows += [(*row, row[1] == fit) for row in of_task]
    columns = ["task", "n", "snr", "snr_low", "snr_high", "kept", "kept_low", "kept_high",
               "agreement", "chosen"]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)


def _answers(runs: Sequence[Run], last: int) -> dict[str, Array]:
    """Primary values [models, last, questions] of each task that every run has.

    nan where a model has fewer checkpoints; questions that are an error anywhere are left out.
    """
    by_model: dict[str, list[Run]] = {}
    for run in runs:
        by_model.setdefault(run_name(run), []).append(run)
    if len(by_model) < 2:
        raise UserError("there is one model; a signal needs two or more")
    chosen = {
        name: sorted(of, key=lambda r: r.info["model"]["metadata"].get("step") or 0)[-last:]
        for name, of in by_model.items()
    }
    first = next(iter(chosen.values()))[-1]
    everyone = [run for of in chosen.values() for run in of]
    loaded = {run.path: instances(run) for run in everyone}
    found = {}
    for task, result in first.metrics["tasks"].items():
        if any(task not in run.metrics["tasks"] for run in everyone):
            continue
        for run in everyone:
            if run.metrics["tasks"][task]["hash"] != result["hash"]:
                raise UserError(
                    f"'{first.path}' and '{run.path}' were asked different questions in '{task}'"
                )
        questions = len(loaded[first.path][task])
        values = np.full((len(chosen), last, questions), np.nan)
        for m, of in enumerate(chosen.values()):
            for k, run in enumerate(of):
                values[m, last - len(of) + k] = loaded[run.path][task]["value"].to_numpy(float)
        ran = np.isfinite(values).any(axis=2)
        whole = np.isfinite(values[ran]).all(axis=0)
        if whole.sum() >= 2:
            found[task] = values[:, :, whole]
    if not found:
        raise UserError("no task was answered by all of the runs")
    return found


def _ratio(answers: Array, measure: str) -> float:
    scores = answers.mean(axis=2)
    level = noise(scores)
    final = np.nanmean(scores, axis=1)
    return float(spread(measure, final)) / level if level > 0 else np.nan


def _agreement(answers: Array, order: NDArray[np.int64], count: int) -> float:
    final = np.nanmean(answers, axis=1)
    drawn, others = final[:, order[:count]], final[:, order[count:]]
    return decision_accuracy(drawn.mean(axis=1), others.mean(axis=1))


def _middle(values: Array) -> tuple[float, float, float]:
    """Mean and middle 95 % of the values that are known."""
    known = values[np.isfinite(values)]
    if not len(known):
        return np.nan, np.nan, np.nan
    low, high = np.quantile(known, [0.025, 0.975]).tolist()
    return float(known.mean()), low, high
