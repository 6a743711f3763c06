"""Decision accuracy: would the small runs have made the choice that the large runs make?

Models (data recipes, say) are trained at several sizes. For each small size, each task and each
proxy metric: the share of pairs of models that it orders as the target size does (Magnusson et al.
2025, "DataDecide", arXiv 2504.11393, section 2). Models are joined by key, never by position.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from olmeval.analysis.grid import Grid, column_values, grids
from olmeval.errors import UserError
from olmeval.stats.ranking import (
    accuracy_interval,
    agreement,
    jackknife_interval,
    leave_one_out,
)

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]
Seeds = Literal["each", "mean"]


@dataclass(frozen=True)
class DecisionSettings:
    """What :func:`decision_table` compares.

    ``key``: column that joins a model to itself at another size; ``size``: column of the sizes;
    ``target``: its value that decides (default: the largest); ``target_metric``: what the target is
    ranked by (default: each proxy's own metric); ``proxies``: metrics at small scale (default:
    all); ``seeds``: rank the small runs seed by seed and average the accuracies (what one run
    would have decided), or rank the mean over seeds; ``last``: checkpoints averaged at either
    size; ``curve``: every checkpoint of the small runs, not their end alone.
    """

    key: str = "mix"
    size: str = "params"
    target: str | None = None
    target_metric: str | None = None
    proxies: tuple[str, ...] = ()
    seeds: Seeds = "each"
    last: int = 1
    curve: bool = False


def decision_table(
    table: "pd.DataFrame", settings: DecisionSettings | None = None
) -> "pd.DataFrame":
    """One row for each small size (and step, with ``curve``), task and proxy metric.

    Columns: size, step, tokens, flops (of a small run; 6ND where the table has none), task, metric
    (the proxy), target_metric, models, seeds (most of a model), decision_accuracy with ``low`` and
    ``high`` of its 95 % interval, tied (share of pairs that either size leaves tied), spearman,
    kendall (tau-b), and gain with ``gain_low`` and ``gain_high``: accuracy above that of the
    target's own metric as proxy, paired over models.

    The intervals are over a population of models; a model with all its seeds is one block, so they
    hold the uncertainty of both. Raises :class:`UserError` where the models of two sizes differ.
    """
    import pandas as pd

    settings = settings or DecisionSettings()
    column_values(table, settings.key)
    sizes, target = choose_sizes(table, settings)
    of_target = {
        (g.task, g.metric): g for g in grids(table[table[settings.size] == target], settings.last)
    }
    rows: list[dict[str, Any]] = []
    for size in sizes:
        small = table[table[settings.size] == size]
        for step, part in _parts(small, settings):
            rows += _size_rows(part, of_target, size, step, settings)
    if not rows:
        raise UserError(
            f"no task has a proxy at a small size and '{settings.target_metric or 'its metric'}' "
            f"at {settings.size} = {target}; name other metrics"
        )
    return pd.DataFrame(rows)


def choose_sizes(table: "pd.DataFrame", settings: DecisionSettings) -> tuple[list[Any], Any]:
    """The small sizes and the target."""
    values = column_values(table, settings.size)
    if len(values) < 2:
        raise UserError(
            f"the column '{settings.size}' has {len(values)} values; decisions need a small size "
            "and a target (--size names the column)"
        )
    if settings.target is None:
        if isinstance(values[-1], str):
            raise UserError(
                f"--target says which of {', '.join(values)} decides; '{settings.size}' is text, "
                "so none is the largest"
            )
        return values[:-1], values[-1]
    wanted: Any = settings.target
    if not isinstance(values[0], str):
        try:
            wanted = float(wanted)
        except ValueError:
            raise UserError(f"--target {wanted}: '{settings.size}' holds numbers") from None
    if wanted not in values:
        raise UserError(
            f"no row has {settings.size} = {settings.target}; there are "
            f"{', '.join(map(_plain, values))}"
        )
    # Of numbers, only smaller ones can stand for the target.
    small = [v for v in values if v != wanted and (isinstance(v, str) or v < wanted)]
    if not small:
        raise UserError(f"no size is smaller than {settings.size} = {settings.target}")
    return small, wanted


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _parts(
    small: "pd.DataFrame", settings: DecisionSettings
) -> Iterator[tuple[float | None, "pd.DataFrame"]]:
    """The small runs' end or, for a curve, what they were up to each step that all of them have."""
    if not settings.curve:
        yield None, small
        return
    models = small[settings.key].nunique()
    counts = small.groupby("step")[settings.key].nunique()
    common = [float(step) for step in counts[counts == models].index]
    if not common:
        raise UserError(
            f"the runs at {settings.size} = {_plain(small[settings.size].iloc[0])} have no step "
            "in common, so there is no curve"
        )
    for step in common:
        yield step, small[small["step"] <= step]


def _size_rows(
    small: "pd.DataFrame",
    of_target: dict[tuple[str, str], Grid],
    size: Any,
    step: float | None,
    settings: DecisionSettings,
) -> list[dict[str, Any]]:
    by_task: dict[str, list[Grid]] = {}
    for grid in grids(small, settings.last):
        if not settings.proxies or grid.metric in settings.proxies:
            by_task.setdefault(grid.task, []).append(grid)
    rows = []
    for task, proxies in by_task.items():
        found: list[tuple[dict[str, Any], Array]] = []
        for proxy in proxies:
            target = of_target.get((task, settings.target_metric or proxy.metric))
            if target is not None:
                found.append(_decide(proxy, target, settings))
        base = next((f for f in found if f[0]["metric"] == f[0]["target_metric"]), None)
        for row, without in found:
            rows.append(
                {"size": _plain(size), "step": step, **_compute(small, step), **row,
                 **_gain(row, without, base if settings.target_metric else None)}
            )  # fmt: skip
    return rows


def _compute(small: "pd.DataFrame", step: float | None) -> dict[str, float]:
    """Tokens and FLOPs of one small run (the median over runs) at its end, or at ``step``."""
    rows = small[small["step"] == step] if step is not None else small
    ends = rows.groupby("run", sort=False)[["tokens", "flops", "params"]].max()
    flops = ends["flops"].where(ends["flops"].notna(), 6 * ends["params"] * ends["tokens"])
    return {"tokens": float(ends["tokens"].median()), "flops": float(flops.median())}


def _decide(proxy: Grid, target: Grid, settings: DecisionSettings) -> tuple[dict[str, Any], Array]:
    """The row of one proxy, and its accuracy without each model in turn."""
    from scipy.stats import kendalltau, spearmanr

    names, small, final = aligned(proxy, target, settings)
    agreed, tied = mean_agreement(small, final, settings.seeds)
    models = len(names)
    without = leave_one_out(agreed)
    pairs = models * (models - 1)
    accuracy = float(agreed.sum() / pairs) if pairs else np.nan
    low, high = accuracy_interval(accuracy, without)
    means = np.nanmean(small, axis=1)
    varied = models > 1 and np.ptp(means) > 0 and np.ptp(final) > 0
    row = {
        "task": proxy.task, "metric": proxy.metric, "target_metric": target.metric,
        "models": models, "seeds": int(np.isfinite(small).sum(axis=1).max()),
        "decision_accuracy": accuracy, "low": low, "high": high, "tied": tied,
        "spearman": float(spearmanr(means, final).statistic) if varied else np.nan,
        "kendall": float(kendalltau(means, final).statistic) if varied else np.nan,
    }  # fmt: skip
    return row, without


def aligned(
    proxy: Grid, target: Grid, settings: DecisionSettings
) -> tuple[list[str], Array, Array]:
    """Models' names [M], their scores at small size [M, seeds] and at target size [M].

    Losses are negated, so that more is better. Raises :class:`UserError` where the models differ.
    """
    names, small = _by_seed(proxy, settings.key)
    others, large = _by_seed(target, settings.key)
    _check_keys(proxy, names, others, settings)
    final = np.nanmean(large if target.higher_is_better else -large, axis=1)
    return names, small if proxy.higher_is_better else -small, final


def _by_seed(grid: Grid, key: str) -> tuple[list[str], Array]:
    """Labels of the models and their final scores [models, seeds], nan where there are fewer."""
    labels, _ = grid.by(key)
    position = {label: k for k, label in enumerate(labels)}
    rows: list[list[float]] = [[] for _ in labels]
    for label, value in zip(grid.runs[key], grid.final.tolist(), strict=True):
        rows[position[str(label)]].append(value)
    most = max(map(len, rows))
    return labels, np.array([r + [np.nan] * (most - len(r)) for r in rows])


def _check_keys(
    proxy: Grid, small: Sequence[str], large: Sequence[str], settings: DecisionSettings
) -> None:
    missing, extra = sorted(set(large) - set(small)), sorted(set(small) - set(large))
    if missing or extra:
        where, names = ("small size", missing) if missing else ("target", extra)
        raise UserError(
            f"task '{proxy.task}', metric '{proxy.metric}': the {where} lacks {len(names)} of the "
            f"models, first {settings.key} = '{names[0]}'; leave them out with --where or complete "
            "the table"
        )


def mean_agreement(small: Array, final: Array, seeds: Seeds) -> tuple[Array, float]:
    """Agreement of pairs [M, M] (mean over seeds, or of the mean), and the share that is tied.

    Of models with different numbers of seeds, a pair's agreement is the mean over the seeds that
    both have.
    """
    columns = [np.nanmean(small, axis=1)] if seeds == "mean" else list(small.T)
    total, tied, counts = (np.zeros((len(final), len(final))) for _ in range(3))
    for column in columns:
        both = np.isfinite(column[:, None] + column)
        agreed = agreement(np.nan_to_num(column), final)
        total += np.where(both, agreed, 0.0)
        tied += both & (agreed == 0.5)
        counts += both
    off = ~np.eye(len(final), dtype=bool)
    share = tied[off].sum() / max(counts[off].sum(), 1)
    return np.divide(total, counts, out=np.zeros_like(total), where=counts > 0), float(share)


def _gain(
    row: dict[str, Any], without: Array, base: tuple[dict[str, Any], Array] | None
) -> dict[str, float]:
    if base is None or base[0] is row:
        return {"gain": np.nan, "gain_low": np.nan, "gain_high": np.nan}
    gain = row["decision_accuracy"] - base[0]["decision_accuracy"]
    low, high = jackknife_interval(gain, without - base[1])
    return {"gain": gain, "gain_low": low, "gain_high": high}
