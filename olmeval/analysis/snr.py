"""Signal, noise and their ratio for every score of a long table, with intervals.

The definitions are those of Heineman et al. 2025, "Signal and Noise" (arXiv 2508.13144), section
3: signal is the relative spread of the models' final scores, noise the relative standard deviation
(divisor n-1) of a run's last n checkpoints.
"""

from dataclasses import dataclass
from math import inf, nan, sqrt
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from olmeval.analysis.grid import Grid, column_values, generator, grids
from olmeval.errors import UserError, nearest
from olmeval.stats.bootstrap import scale_interval, smoothed
from olmeval.stats.noise import (
    ENOUGH_RUNS,
    noise,
    noise_samples,
    normal_theory_interval,
    relative_variances,
    resolvable,
)
from olmeval.stats.spread import SPREADS, spread

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]


@dataclass(frozen=True)
class SnrSettings:
    """How :func:`snr_table` measures.

    ``by``: column whose values are the models of the population (its runs are averaged);
    ``per``: column whose values are populations of their own (sizes, say);
    ``last``: checkpoints of a run for its noise and its final score; ``measure``: a spread of
    ``olmeval.stats.spread``; ``average``: how many checkpoints a later comparison will average.
    """

    by: str = "run"
    per: str | None = None
    last: int = 5
    measure: str = "range"
    average: int = 1
    samples: int = 2000
    seed: int = 0


def snr_table(
    table: "pd.DataFrame",
    settings: SnrSettings | None = None,
    noise_table: "pd.DataFrame | None" = None,
) -> "pd.DataFrame":
    """One row for each task and metric of ``table``, and for each value of ``settings.per``.

    ``noise_table``: where the noise comes from when not from the models themselves. Columns:
    models, runs (with two checkpoints or more), checkpoints (of those runs, together); signal,
    noise, snr, each with ``_low`` and ``_high`` of its 95 % interval; noise_seed (relative standard
    deviation of the last checkpoint over runs that differ in ``seed`` alone) with its interval and
    ``seed_df``; noise_questions (relative standard error from the sampling of questions);
    resolvable (the smallest difference of two models that is found with 80 % power given the noise
    of checkpoints) and resolvable_questions (with new questions for each model, too), both in the
    metric's own unit. What the table does not hold is nan.
    """
    import pandas as pd

    settings = settings or SnrSettings()
    if settings.measure not in SPREADS:
        raise UserError(
            f"'{settings.measure}' is no measure of signal{nearest(settings.measure, SPREADS)} "
            f"Known: {', '.join(SPREADS)}"
        )
    column_values(table, settings.by)
    populations = {"": table}
    if settings.per is not None:
        per = settings.per
        populations = {str(v): table[table[per] == v] for v in column_values(table, per)}
    of_noise = {}
    if noise_table is not None:
        of_noise = {(g.task, g.metric): g for g in grids(noise_table, settings.last)}
    rows = []
    for name, population in populations.items():
        for grid in grids(population, settings.last):
            other = grid if noise_table is None else of_noise.get((grid.task, grid.metric))
            rows.append({"population": name, **_row(grid, other, settings)})
    return pd.DataFrame(rows)


def _row(grid: Grid, of_noise: Grid | None, settings: SnrSettings) -> dict[str, Any]:
    random = generator(settings.seed, grid.task, grid.metric)
    labels, finals = grid.by(settings.by)
    # Checkpoints of a model are drawn together with the model where each has runs of its own.
    joint = of_noise is grid and len(labels) == len(grid.values) >= ENOUGH_RUNS
    index = index_of_run = None
    if joint:
        index = random.integers(len(labels), size=(settings.samples, len(labels)))
        index_of_run = np.argsort(grid.runs[settings.by].to_numpy(), kind="stable")[index]
    signal, signals, center = nan, np.full(settings.samples, nan), nan
    if len(finals) > 1:
        signal = float(spread(settings.measure, finals))
        signals = spread(settings.measure, smoothed(finals, random, settings.samples, index))
        center = float(np.nanmean(signals))
    series = np.empty((0, settings.last)) if of_noise is None else of_noise.values
    level = noise(series)
    drawn = noise_samples(series, random, settings.samples, index_of_run)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio, ratios, middle = (
            signal / level if level > 0 else nan,
            signals / drawn,
            center / level if level > 0 else nan,
        )
    enough = np.isfinite(series).sum(axis=1) > 1
    counts = np.isfinite(series[enough]).sum(axis=1)
    df = float((counts - 1).sum())
    mean = float(np.abs(finals.mean()))
    seeds, seed_df = seed_noise(grid)
    questions = _question_noise(grid)
    per_model = level / sqrt(settings.average)
    return {
        "task": grid.task, "metric": grid.metric, "models": len(labels),
        "runs": int(enough.sum()), "checkpoints": int(counts.sum()),
        **_with_interval("signal", signal, signals, center),
        **_with_interval("noise", level, drawn, level),
        **_with_interval("snr", ratio, ratios, middle),
        "noise_seed": seeds,
        **dict(zip(("noise_seed_low", "noise_seed_high"),
                   normal_theory_interval(seeds, seed_df), strict=True)),
        "seed_df": seed_df,
        "noise_questions": questions,
        "mean": mean,
        "resolvable": mean * resolvable(per_model, df),
        "resolvable_questions": mean * resolvable(sqrt(per_model**2 + questions**2), inf),
        "higher_is_better": grid.higher_is_better,
    }  # fmt: skip


def _with_interval(name: str, value: float, samples: Array, center: float) -> dict[str, float]:
    low, high = nan, nan
    if np.isfinite(value) and value > 0 and np.isfinite(samples).any():
        low, high = scale_interval(value, samples, center)
    return {name: value, f"{name}_low": low, f"{name}_high": high}


def seed_noise(grid: Grid) -> tuple[float, int]:
    """Relative standard deviation of the last checkpoint over seeds, and its degrees of freedom.

    Runs of one size and mix (or model, where the table has no mixes) that differ in seed are one
    group; the groups' relative variances are averaged by their degrees of freedom. (nan, 0) where
    no group has two seeds.
    """
    last = grid.values[:, -1]
    recipe = grid.runs["mix"].where(grid.runs["mix"].notna(), grid.runs["model"])
    keys = [grid.runs["params"], recipe]
    total, df = 0.0, 0
    for _, rows in grid.runs.groupby(keys, sort=False, dropna=False):
        if rows["seed"].nunique() < 2:
            continue
        variance = float(relative_variances(last[rows.index.to_numpy()][None, :])[0])
        total += variance * (len(rows) - 1)
        df += len(rows) - 1
    return (sqrt(total / df), df) if df else (nan, 0)


def _question_noise(grid: Grid) -> float:
    """Root mean square over runs of stderr / mean at the last checkpoint."""
    errors = grid.runs["stderr"].to_numpy(np.float64) / grid.values[:, -1]
    errors = errors[np.isfinite(errors)]
    return sqrt(float((errors**2).mean())) if len(errors) else nan
