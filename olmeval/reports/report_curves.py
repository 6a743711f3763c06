"""The learning curves of a report: one small chart a score, with bands of noise."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from olmeval.reports.curves import Series
from olmeval.reports.report_entries import SUITE
from olmeval.reports.report_svg import Line, chart, markers, sample, thinned
from olmeval.reports.report_text import attribute, cut, name
from olmeval.stats.mean import Z95

if TYPE_CHECKING:
    import pandas as pd

POINTS = 60
"""Of a line, as drawn."""
BACKGROUND = 30
"""Grey lines of runs that are not among the shown ones, and points of each."""
BACKGROUND_POINTS = 16
BANDS = 5
"""Above this many runs the bands of a chart run together."""
Noise = Mapping[tuple[str, str, str], tuple[float, int]]


@dataclass(frozen=True)
class Curves:
    """``figures`` as HTML; ``data`` [{t, m, x, s}] are their numbers for the page's script."""

    figures: tuple[str, ...]
    data: list[dict[str, Any]]

    def html(self, series: Sequence[Series]) -> str:
        """Legend, markers and figures."""
        if not self.figures:
            return ""
        return (
            legend(series)
            + markers([one.index for one in series])
            + f'<div class="charts small">{"".join(self.figures)}</div>'
        )


def curves_of(shown: Sequence[Series], others: Sequence[Series], noise: Noise) -> Curves:
    """A chart for every score that some series has at two checkpoints or more.

    ``shown`` series have colours and bands; ``others`` are thin grey lines. ``noise`` gives the
    variance of the last checkpoints by (run, task, metric), which the wider band adds.
    """
    lines = _lines([*shown, *others[:BACKGROUND]], {one.index for one in shown}, noise)
    figures, data = [], []
    for (task, metric), (axis, upward, found) in lines.items():
        if max(len(line.x) for line in found) < 2:
            continue
        front = [line for line in found if line.slot is not None]
        if not front:
            continue
        figures.append(_figure(task, metric, upward, axis, chart(found, len(front) <= BANDS)))
        data.append(
            {
                "t": cut(task),
                "m": cut(metric),
                "x": axis,
                "s": [[line.slot, *_points(line)] for line in front],
            }
        )
    return Curves(tuple(figures), data)


def _lines(
    series: Sequence[Series], shown: set[int], noise: Noise
) -> dict[tuple[str, str], tuple[str, bool | None, list[Line]]]:
    """Axis, direction and lines by score, suites first."""
    by_score: dict[tuple[str, str], list[tuple[Series, pd.DataFrame]]] = {}
    for one in series:
        for (task, metric), rows in one.rows.groupby(["task", "metric"], sort=False):
            by_score.setdefault((str(task), str(metric)), []).append((one, rows))
    found = {}
    for score in sorted(by_score, key=lambda s: (s[1] != SUITE, s)):
        parts = by_score[score]
        known = all(rows["tokens"].notna().all() for _, rows in parts)
        axis = "tokens" if known else "step"
        lines = []
        for one, rows in parts:
            rows = rows[rows[axis].notna() & rows["value"].notna()].sort_values(axis, kind="stable")
            if len(rows):
                slot = one.index if one.index in shown else None
                lines.append(_line(slot, rows, axis, noise.get((str(rows["run"].iloc[0]), *score))))
        if lines:
            first = parts[0][1].iloc[0].get("higher_is_better")
            found[score] = (axis, None if first is None else bool(first), lines)
    return found


def _line(
    slot: int | None, rows: "pd.DataFrame", axis: str, noise: tuple[float, int] | None
) -> Line:
    x, y = rows[axis].to_numpy(float), rows["value"].to_numpy(float)
    error = rows["stderr"].to_numpy(float, na_value=np.nan)
    half = np.nan_to_num(Z95 * error) if np.isfinite(error).any() else None
    wide = None
    # Two checkpoints say next to nothing about their noise.
    if noise is not None and noise[1] >= 2 and half is not None:
        wide = Z95 * np.sqrt(np.nan_to_num(error) ** 2 + noise[0])
    kept = thinned(x, y, POINTS if slot is not None else BACKGROUND_POINTS)
    bands = [None if band is None else band[kept] for band in (half, wide)]
    return Line(slot, x[kept], y[kept], *bands)


def _points(line: Line) -> list[list[float]]:
    half = [] if line.half is None else line.half.tolist()
    return [[float(f"{v:.5g}") for v in part] for part in (line.x.tolist(), line.y.tolist(), half)]


def legend(series: Sequence[Series]) -> str:
    """Buttons that show and hide a run in all charts."""
    buttons = "".join(
        f'<button type="button" aria-pressed="true" data-s="{one.index}">'
        f"{sample(one.index)}<span>{name(one.label)}</span></button>"
        for one in series
    )
    return f'<div class="legend" role="group" aria-label="Runs in the charts">{buttons}</div>'


def _figure(task: str, metric: str, upward: bool | None, axis: str, svg: str) -> str:
    arrow = {True: "↑", False: "↓", None: ""}[upward]
    label = f"{attribute(task)}, {attribute(metric)}, by training {axis}"
    return (
        f'<figure data-task="{attribute(task)}" tabindex="0" aria-label="{label}; arrow keys read '
        f'checkpoints"><figcaption>{name(task)}<span>{name(metric)} {arrow}</span></figcaption>'
        f'{svg}<details class="values"><summary>values</summary></details></figure>'
    )
