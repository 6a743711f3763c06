"""The learning curves of a report: one small chart a score, with bands of noise."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from olmeval.reports.curves import Series
from olmeval.reports.report_entries import SUITE
from olmeval.reports.report_svg import Line, chart, markers, sample, thinned
from olmeval.reports.report_text import attribute, cut, name
from olmeval.stats.mean import Z95

Array = NDArray[np.float64]
COLUMNS = ("tokens", "step", "value", "stderr")
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


@dataclass(frozen=True)
class _Part:
    """One score of one series: columns (n,) of its checkpoints."""

    one: Series
    columns: dict[str, Array]
    higher_is_better: bool | None


def _parts(one: Series) -> Iterator[tuple[tuple[str, str], _Part]]:
    """The scores of a series. Columns become arrays once, not once for each of many scores."""
    rows = one.rows
    columns = {c: rows[c].to_numpy(float, na_value=np.nan) for c in COLUMNS}
    named = list(zip(map(str, rows["task"]), map(str, rows["metric"]), strict=True))
    upward = rows["higher_is_better"].tolist() if "higher_is_better" in rows else None
    places: dict[tuple[str, str], list[int]] = {}
    for k, score in enumerate(named):
        places.setdefault(score, []).append(k)
    for score, mine in places.items():
        better = None if upward is None else bool(upward[mine[0]])
        yield score, _Part(one, {c: v[mine] for c, v in columns.items()}, better)


def _lines(
    series: Sequence[Series], shown: set[int], noise: Noise
) -> dict[tuple[str, str], tuple[str, bool | None, list[Line]]]:
    """Axis, direction and lines by score, suites first."""
    by_score: dict[tuple[str, str], list[_Part]] = {}
    for one in series:
        for score, part in _parts(one):
            by_score.setdefault(score, []).append(part)
    found = {}
    for score in sorted(by_score, key=lambda s: (s[1] != SUITE, s)):
        parts = by_score[score]
        if max(len(part.columns["value"]) for part in parts) < 2:
            continue
        known = all(np.isfinite(part.columns["tokens"]).all() for part in parts)
        axis = "tokens" if known else "step"
        lines = []
        for part in parts:
            slot = part.one.index if part.one.index in shown else None
            its = noise.get((str(part.one.rows["run"].iloc[0]), *score))
            lines += _line(slot, part.columns, axis, its)
        if lines:
            found[score] = (axis, parts[0].higher_is_better, lines)
    return found


def _line(
    slot: int | None, columns: Mapping[str, Array], axis: str, noise: tuple[float, int] | None
) -> list[Line]:
    """The line of a series; none where it has no point."""
    order = np.argsort(columns[axis], kind="stable")
    x, y, error = (columns[c][order] for c in (axis, "value", "stderr"))
    whole = np.isfinite(x) & np.isfinite(y)
    x, y, error = x[whole], y[whole], error[whole]
    if not len(x):
        return []
    half = np.nan_to_num(Z95 * error) if np.isfinite(error).any() else None
    wide = None
    # Two checkpoints say next to nothing about their noise.
    if noise is not None and noise[1] >= 2 and half is not None:
        wide = Z95 * np.sqrt(np.nan_to_num(error) ** 2 + noise[0])
    kept = thinned(x, y, POINTS if slot is not None else BACKGROUND_POINTS)
    bands = [None if band is None else band[kept] for band in (half, wide)]
    return [Line(slot, x[kept], y[kept], *bands)]


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
