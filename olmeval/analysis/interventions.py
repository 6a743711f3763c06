"""Ways to make a benchmark decide better, each judged on models that had no part in the choice.

The interventions are those of Heineman et al. 2025, "Signal and Noise" (arXiv 2508.13144), section
5: another metric, averaged checkpoints, the subtasks of high signal-to-noise ratio. There, subtasks
are chosen and judged on the same models; here, split halves choose and judge.
"""

from dataclasses import dataclass, replace
from math import nan
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from olmeval.analysis.decisions import (
    DecisionSettings,
    aligned,
    choose_sizes,
    mean_agreement,
)
from olmeval.analysis.grid import Grid, generator, grids
from olmeval.errors import UserError
from olmeval.stats.held_out import Gain, held_out_gain, masked_accuracy, split_gain
from olmeval.stats.noise import relative_variances
from olmeval.stats.ranking import agreement
from olmeval.stats.spread import spread

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]
LEAST = 8  # models: halves of fewer rank next to nothing


@dataclass(frozen=True)
class Intervention:
    """What was chosen with all models, and its gain in decision accuracy in held-out models.

    ``table`` lists the candidates; ``chosen`` maps tasks to their metric; ``average`` is how many
    final checkpoints to average.
    """

    table: "pd.DataFrame"
    gain: Gain
    chosen: dict[str, str]
    average: int = 1


@dataclass(frozen=True)
class _Sizes:
    """The grids of the one small size and of the target, by task and metric."""

    small: dict[tuple[str, str], Grid]
    target: dict[tuple[str, str], Grid]


def choose_metrics(
    table: "pd.DataFrame", settings: DecisionSettings, splits: int = 50, seed: int = 0
) -> Intervention:
    """For each task, the small runs' metric that best predicts the target's ``target_metric``.

    The base is ``target_metric`` itself. The table has columns task, metric, decision_accuracy,
    chosen. Raises :class:`UserError` without a target metric or where the base is missing.
    """
    import pandas as pd

    wanted = settings.target_metric
    if wanted is None:
        raise UserError("--target-metric says what the target is ranked by")
    sizes = _grids(table, settings)
    tasks = sorted({task for task, metric in sizes.target if metric == wanted})
    metrics = sorted({metric for _, metric in sizes.small})
    if wanted not in metrics or not tasks:
        raise UserError(f"the metric '{wanted}' is not in both sizes")
    stacks = []
    for task in tasks:
        if (task, wanted) not in sizes.small:
            raise UserError(f"task '{task}' has no '{wanted}' at the small size")
        found = {
            metric: _agreed(
                sizes.small[task, metric], sizes.target[task, wanted], settings, settings.last
            )
            for metric in metrics
            if (task, metric) in sizes.small
        }
        none = np.full_like(found[wanted], nan)
        stacks.append([found.get(metric, none) for metric in metrics])
    agreed = _stacked(stacks)
    whole = masked_accuracy(agreed, np.ones((1, agreed.shape[-1])))[..., 0]
    best = np.nanargmax(whole, axis=1)
    gain = held_out_gain(agreed, metrics.index(wanted), generator(seed, "metric"), splits)
    rows = [
        (task, metric, whole[t, m], best[t] == m)
        for t, task in enumerate(tasks)
        for m, metric in enumerate(metrics)
        if np.isfinite(whole[t, m])
    ]
    chosen = {task: metrics[best[t]] for t, task in enumerate(tasks)}
    columns = ["task", "metric", "decision_accuracy", "chosen"]
    return Intervention(pd.DataFrame(rows, columns=columns), gain, chosen)


def average_checkpoints(
    table: "pd.DataFrame", settings: DecisionSettings, splits: int = 50, seed: int = 0
) -> Intervention:
    """How many final checkpoints of the small runs to average, up to ``settings.last``.

    One number for all scores; the base is the last checkpoint alone, and the target is averaged
    over ``settings.last`` throughout. The table has columns checkpoints, decision_accuracy (mean
    over scores), gain with gain_low and gain_high (paired jackknife over models), chosen.
    """
    import pandas as pd

    from olmeval.stats.ranking import jackknife_interval, leave_one_out

    if settings.last < 2:
        raise UserError("--last says how many checkpoints may be averaged; it is 2 or more")
    sizes = _grids(table, settings)
    keys = sorted(key for key in sizes.small if key in sizes.target)
    if not keys:
        raise UserError("the two sizes share no task and metric")
    per_key = [
        [
            _agreed(sizes.small[key], sizes.target[key], settings, count)
            for count in range(1, settings.last + 1)
        ]
        for key in keys
    ]
    agreed = _stacked(per_key).mean(axis=0)
    gain = held_out_gain(agreed[None], 0, generator(seed, "average"), splits)
    models = agreed.shape[-1]
    accuracy = agreed.sum(axis=(1, 2)) / (models * (models - 1))
    best = int(np.argmax(accuracy))
    rows = []
    for k, value in enumerate(accuracy.tolist()):
        difference = value - float(accuracy[0])
        without = leave_one_out(agreed[k]) - leave_one_out(agreed[0])
        rows.append((k + 1, value, difference, *jackknife_interval(difference, without), k == best))
    columns = ["checkpoints", "decision_accuracy", "gain", "gain_low", "gain_high", "chosen"]
    chosen = dict(keys)
    return Intervention(pd.DataFrame(rows, columns=columns), gain, chosen, best + 1)


def choose_subtasks(
    table: "pd.DataFrame",
    settings: DecisionSettings,
    measure: str = "range",
    splits: int = 50,
    seed: int = 0,
) -> Intervention:
    """Which tasks to keep in an average: the first so many by signal-to-noise ratio.

    In each split the choosing models rank the tasks by the ratio of their spread (``measure``) to
    the noise of their last checkpoints, and choose the length of the prefix whose average decides
    best; the judging models compare that average with the average of all tasks, at both sizes. The
    tasks need one metric. The table has columns task, snr, rank, decision_accuracy (of the prefix
    that ends with the task, judged on all models: it flatters) and chosen.
    """
    import pandas as pd

    sizes = _grids(table, settings)
    keys = sorted(key for key in sizes.small if key in sizes.target)
    metrics = {metric for _, metric in keys}
    if len(metrics) != 1:
        raise UserError(
            f"subtasks of one metric can be averaged, there are {len(metrics)}; choose by --metric"
        )
    if len(keys) < 2:
        raise UserError("there is one task; a choice of subtasks needs two or more")
    names, small, large, noise = _per_task(sizes, keys, settings)
    sign = 1.0 if sizes.small[keys[0]].higher_is_better else -1.0

    def by_snr(mask: Array) -> Array:
        kept = mask > 0
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = spread(measure, sign * small[:, kept]) / np.sqrt(
                np.nanmean(noise[:, kept], axis=1)
            )
        return np.asarray(np.where(np.isnan(ratio), -np.inf, ratio))

    # The target is what is to be decided: the average of all tasks.
    target = large.mean(axis=0)

    def accuracies(order: NDArray[np.int64], mask: Array) -> Array:
        """Of each prefix [tasks], among the models of ``mask``."""
        kept = mask > 0
        prefixes = small[order][:, kept].cumsum(axis=0) / np.arange(1, len(order) + 1)[:, None]
        count = kept.sum()
        pairs = count * (count - 1)
        return np.array([agreement(p, target[kept]).sum() / pairs for p in prefixes])

    def gains(choosing: Array, judging: Array) -> tuple[Array, Array]:
        found, lengths = [], []
        for first, second in zip(choosing, judging, strict=True):
            order = np.argsort(-by_snr(first), kind="stable")
            length = int(np.argmax(accuracies(order, first)))
            judged = accuracies(order, second)
            found.append(judged[length] - judged[-1])
            lengths.append(length + 1)
        return np.array(found), np.array(lengths)

    value, low, high, lengths = split_gain(gains, len(names), generator(seed, "subtasks"), splits)
    everyone = np.ones(len(names))
    ratios = by_snr(everyone)
    order = np.argsort(-ratios, kind="stable")
    whole = accuracies(order, everyone)
    count = int(np.argmax(whole)) + 1
    rows = [
        (keys[k][0], ratios[k], rank, whole[rank - 1], rank <= count)
        for rank, k in enumerate(order.tolist(), 1)
    ]
    gain = Gain(
        value, low, high, float(whole[count - 1] - whole[-1]), float((lengths == count).mean())
    )
    columns = ["task", "snr", "rank", "decision_accuracy", "chosen"]
    chosen = {keys[k][0]: keys[k][1] for k in order[:count].tolist()}
    return Intervention(pd.DataFrame(rows, columns=columns), gain, chosen)


def _grids(table: "pd.DataFrame", settings: DecisionSettings) -> _Sizes:
    small, target = choose_sizes(table, settings)
    if len(small) > 1:
        raise UserError(
            f"an intervention is judged at one small size, there are {len(small)} under "
            f"{settings.size} = {target}; choose one with --where"
        )
    found = _Sizes(
        *(
            {(g.task, g.metric): g for g in grids(rows, settings.last)}
            for rows in (
                table[table[settings.size] == small[0]], table[table[settings.size] == target],
            )
        )
    )  # fmt: skip
    models = table[settings.key].nunique()
    if models < LEAST:
        raise UserError(f"there are {models} models; halves that choose and judge need {LEAST}")
    return found


def _agreed(small: Grid, target: Grid, settings: DecisionSettings, count: int) -> Array:
    """Agreement of pairs [M, M] when ``count`` checkpoints of the small runs are averaged."""
    cut = replace(small, values=small.values[:, -count:])
    _, scores, final = aligned(cut, target, settings)
    return mean_agreement(scores, final, settings.seeds)[0]


def _stacked(stacks: list[list[Array]]) -> Array:
    shapes = {a.shape for stack in stacks for a in stack}
    if len(shapes) > 1:
        raise UserError(
            f"scores have {' and '.join(sorted(str(s[0]) for s in shapes))} models; choose the "
            "tasks and metrics that all of them have (--task, --metric)"
        )
    return np.array(stacks)


def _per_task(
    sizes: _Sizes, keys: list[tuple[str, str]], settings: DecisionSettings
) -> tuple[list[str], Array, Array, Array]:
    """Names of models; scores [tasks, models] at either size, more being better; relative noise
    variances [tasks, models]."""
    names: list[str] = []
    small, large, noise = [], [], []
    for key in keys:
        grid = sizes.small[key]
        labels, scores, final = aligned(grid, sizes.target[key], settings)
        if names and labels != names:
            raise UserError(
                f"task '{key[0]}' was run on other models than '{keys[0][0]}'; leave it out"
            )
        names = labels
        variances = relative_variances(grid.values)
        if not np.isfinite(variances).any():
            raise UserError(
                f"task '{key[0]}' has no run with two checkpoints, so no noise; raise --last or "
                "bring more checkpoints"
            )
        by_model: dict[str, list[Any]] = {name: [] for name in names}
        for label, variance in zip(grid.runs[settings.key], variances.tolist(), strict=True):
            by_model[str(label)].append(variance)
        small.append(np.nanmean(scores, axis=1))
        large.append(final)
        noise.append([float(np.nanmean(by_model[name])) for name in names])
    return names, np.array(small), np.array(large), np.array(noise)
