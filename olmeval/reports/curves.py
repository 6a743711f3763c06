"""The long table as series and plotly figures: one chart a task and metric, one line a run.

A line is told apart by color, dash and marker together, so that a page printed in gray or read by
a color-blind person still shows which is which. Colors are numbers here; the page maps them to its
light or dark palette.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from olmeval.errors import UserError
from olmeval.stats.mean import Z95

if TYPE_CHECKING:
    import pandas as pd

COLORS = 8
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
MARKERS = ("circle", "square", "diamond", "triangle-up", "x", "cross", "triangle-down")
# Above this many checkpoints error bars run together, and a band is clearer.
MAX_BARS = 25
REQUIRED = ("run", "task", "metric", "value", "stderr", "tokens", "step")


@dataclass(frozen=True)
class Series:
    """One run through training; ``index`` picks its color, dash and marker."""

    index: int
    label: str
    rows: "pd.DataFrame"

    @property
    def color(self) -> int:
        """Number of the color in the page's palette."""
        return self.index % COLORS

    @property
    def dash(self) -> str:
        """Name of plotly's dash pattern."""
        return DASHES[self.index % len(DASHES)]

    @property
    def marker(self) -> str:
        """Name of plotly's marker symbol."""
        return MARKERS[self.index % len(MARKERS)]


def primary_rows(table: "pd.DataFrame") -> "pd.DataFrame":
    """The rows to show: each task's primary metric where the table marks it, else all.

    Raises :class:`UserError` for an empty table or a missing column.
    """
    missing = [column for column in REQUIRED if column not in table.columns]
    if missing:
        raise UserError(f"the table of scores has no column '{missing[0]}'")
    if "primary" in table.columns:
        table = table[table["primary"].fillna(False).astype(bool)]
    if table.empty:
        raise UserError("the table of scores has no rows to report")
    return table


def series_of(rows: "pd.DataFrame") -> list[Series]:
    """One series per run (and seed), in order of appearance, rows sorted by progress."""
    rows = rows.assign(_seed=rows["seed"] if "seed" in rows.columns else None)
    seeds = rows.groupby("run", dropna=False)["_seed"].nunique()
    found = []
    keys = rows[["run", "_seed"]].drop_duplicates()
    for index, (run, seed) in enumerate(keys.itertuples(index=False)):
        same_seed = rows["_seed"].isna() if _missing(seed) else rows["_seed"] == seed
        own = rows[(rows["run"] == run) & same_seed].sort_values("step", kind="stable")
        label = str(run)
        mixes = [m for m in own["mix"].unique() if not _missing(m)] if "mix" in own.columns else []
        if len(mixes) == 1 and str(mixes[0]) != label:
            label += f" ({mixes[0]})"
        if seeds[run] > 1:
            label += f", seed {seed:g}" if isinstance(seed, float) else f", seed {seed}"
        found.append(Series(index, label, own))
    return found


def charts(series: Sequence[Series]) -> list[dict[str, Any]]:
    """A plotly figure per (task, metric) that some run has at two or more checkpoints.

    Each is ``{task, metric, higher_is_better, figure: {data, layout}}``, ready for JSON. The x
    axis is tokens, or training steps where a checkpoint's tokens are unknown.
    """
    pairs = list(
        dict.fromkeys(
            pair
            for one in series
            for pair in one.rows[["task", "metric"]].itertuples(index=False, name=None)
        )
    )
    found = []
    for task, metric in sorted(pairs, key=lambda pair: (str(pair[0]), str(pair[1]))):
        parts = [
            (one, one.rows[(one.rows["task"] == task) & (one.rows["metric"] == metric)])
            for one in series
        ]
        known = all(part["tokens"].notna().all() for _, part in parts)
        axis = "tokens" if known else "step"
        parts = [(one, part[part[axis].notna()]) for one, part in parts]
        if max(part[axis].nunique() for _, part in parts) < 2:
            continue
        data = [trace for one, part in parts if len(part) for trace in _traces(one, part, axis)]
        better = _direction([part for _, part in parts])
        found.append(
            {
                "task": str(task),
                "metric": str(metric),
                "higher_is_better": better,
                "figure": {"data": data, "layout": _layout(axis)},
            }
        )
    return found


def _missing(value: Any) -> bool:
    return value is None or value != value or str(value) == "<NA>"


def _direction(parts: Sequence["pd.DataFrame"]) -> bool | None:
    """The metric's direction where the table knows it."""
    for part in parts:
        if "higher_is_better" in part.columns and len(part):
            value = part["higher_is_better"].iloc[0]
            return None if _missing(value) else bool(value)
    return None


def _numbers(values: Any) -> list[float | None]:
    """JSON has no NaN; plotly reads null as a gap."""
    return [float(v) if not _missing(v) and math.isfinite(v) else None for v in values]


def _traces(one: Series, rows: "pd.DataFrame", axis: str) -> list[dict[str, Any]]:
    x, y = _numbers(rows[axis]), _numbers(rows["value"])
    half = [None if e is None else Z95 * e for e in _numbers(rows["stderr"])]
    # plotly reads a few HTML tags and entities in text, so names are escaped for it, too.
    name = escape(one.label, quote=False)
    line: dict[str, Any] = {
        "type": "scatter",
        "mode": "lines+markers",
        "name": name,
        "x": x,
        "y": y,
        "customdata": [None if h is None else f"{h:.4f}" for h in half],
        "hovertemplate": f"%{{x:.3s}} {axis}<br>%{{y:.4f}} ± %{{customdata}} (95%)",
        "line": {"dash": one.dash, "width": 2},
        "marker": {"symbol": one.marker, "size": 7},
        "meta": {"color": one.color, "series": one.index},
    }
    if len(x) <= MAX_BARS:
        line["error_y"] = {
            "type": "data",
            "array": [h or 0 for h in half],
            "thickness": 1,
            "width": 3,
        }
        return [line]
    line["marker"]["size"] = 3
    return [_band(one, x, y, half), line]


def _band(
    one: Series, x: list[float | None], y: list[float | None], half: list[float | None]
) -> dict[str, Any]:
    whole = [
        (a, b, h or 0.0)
        for a, b, h in zip(x, y, half, strict=True)
        if a is not None and b is not None
    ]
    upper = [b + h for _, b, h in whole]
    lower = [b - h for _, b, h in reversed(whole)]
    return {
        "type": "scatter",
        "mode": "lines",
        "fill": "toself",
        "x": [a for a, _, _ in whole] + [a for a, _, _ in reversed(whole)],
        "y": upper + lower,
        "line": {"width": 0},
        "hoverinfo": "skip",
        "showlegend": False,
        "meta": {"color": one.color, "series": one.index, "band": True},
    }


def _layout(axis: str) -> dict[str, Any]:
    title = "training tokens" if axis == "tokens" else "training step"
    return {
        "xaxis": {"title": {"text": title, "standoff": 8}, "tickformat": "~s", "nticks": 6},
        "yaxis": {"nticks": 6},
        "margin": {"l": 48, "r": 12, "t": 8, "b": 42},
        "height": 260,
        "showlegend": False,
        "hovermode": "closest",
    }
