"""The report's figures as plain SVG: learning curves, intervals, strips of intervals.

Drawn here and not by a script in the page: plotly.js alone is larger than a whole report may be,
static drawings print and open at once, and colours come from the style sheet, so that light, dark
and paper need no second drawing. A series is told by colour, dash and marker together.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, isfinite, log10

import numpy as np
from numpy.typing import NDArray

from olmeval.reports.curves import COLORS, DASHES, MARKERS

Array = NDArray[np.float64]
WIDTH, HEIGHT = 360, 210
LEFT, RIGHT, TOP, BOTTOM = 44, 8, 8, 24
BOX = {
    "left": LEFT + 6, "right": WIDTH - RIGHT - 6, "top": TOP, "bottom": HEIGHT - BOTTOM,
    "width": WIDTH,
}  # fmt: skip
"""Where a chart draws, for the page's script."""
STRIP = 150
FOREST = 160
SHAPES = {
    "circle": "M-3.2 0a3.2 3.2 0 1 0 6.4 0a3.2 3.2 0 1 0-6.4 0z",
    "square": "M-2.8-2.8h5.6v5.6h-5.6z",
    "diamond": "M0-4L4 0 0 4-4 0z",
    "triangle-up": "M0-3.8L3.7 2.7h-7.4z",
    "triangle-down": "M0 3.8L3.7-2.7h-7.4z",
    "x": "M-2.8-2.8l5.6 5.6M2.8-2.8l-5.6 5.6",
    "cross": "M0-3.8v7.6M-3.8 0h7.6",
}
DASH = {
    "solid": "",
    "dash": "6 3",
    "dot": "1.5 2.5",
    "dashdot": "6 2.5 1.5 2.5",
    "longdash": "11 3",
}
MARKS = 6
"""Markers on a line with many checkpoints."""


@dataclass(frozen=True)
class Line:
    """A line of a chart: points (n,) sorted by x; ``half`` and ``wide`` are half widths of bands.

    ``slot`` picks colour, dash and marker; None is a thin grey line of the background.
    """

    slot: int | None
    x: Array
    y: Array
    half: Array | None = None
    wide: Array | None = None


def thinned(x: Array, y: Array, most: int) -> NDArray[np.int64]:
    """Indices of at most ``most`` points (>= 3) that keep a curve's shape, first and last among
    them.

    Largest triangle three buckets (Steinarsson 2013, "Downsampling Time Series for Visual
    Representation", section 4.2).
    """
    n = len(x)
    if n <= most:
        return np.arange(n)
    edges = np.linspace(1, n - 1, most - 1).astype(int)
    kept = [0]
    for k in range(most - 2):
        lo, hi = edges[k], edges[k + 1]
        # The next bucket's mean stands for the point that is chosen there.
        after = slice(hi, edges[k + 2] if k + 2 < len(edges) else n)
        ax, ay, cx, cy = x[kept[-1]], y[kept[-1]], x[after].mean(), y[after].mean()
        area = np.abs((ax - cx) * (y[lo:hi] - ay) - (ax - x[lo:hi]) * (cy - ay))
        kept.append(int(lo + area.argmax()))
    return np.array([*kept, n - 1])


def ticks(low: float, high: float, most: int) -> list[float]:
    """At most ``most`` round numbers from ``low`` to ``high``, evenly spaced."""
    if not high > low:
        return [low]
    size = 10.0 ** floor(log10((high - low) / most))
    for step in (size * m for m in (1, 2, 2.5, 5, 10, 20, 25, 50)):
        first, last = ceil(low / step - 1e-9), floor(high / step + 1e-9)
        if last - first < most:
            return [k * step for k in range(first, last + 1)]
    return [low, high]


def short(value: float) -> str:
    """A count with the unit that people say: 1.5k, 20B."""
    for unit, size in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


class Axes:
    """Where values of a chart go; x is logarithmic where it spans two powers of ten or more."""

    def __init__(self, lines: Sequence[Line]):
        x = np.concatenate([line.x for line in lines])
        self.log = bool(x.min() > 0 and x.max() / x.min() >= 100)
        ends = [(line.y, line.half) for line in lines]
        low = min(float((y - (0 if h is None else h)).min()) for y, h in ends)
        high = max(float((y + (0 if h is None else h)).max()) for y, h in ends)
        pad = 0.04 * (high - low) or 0.05 * abs(high) or 1.0
        self.low, self.high = low - pad, high + pad
        self.left, self.right = self._scale(float(x.min())), self._scale(float(x.max()))
        if self.left == self.right:
            self.left, self.right = self.left - 1, self.right + 1

    def _scale(self, x: float) -> float:
        return log10(x) if self.log else x

    def at_x(self, x: Array) -> Array:
        """Positions (n,) of ``x``."""
        scaled = np.log10(x) if self.log else x
        part = (scaled - self.left) / (self.right - self.left)
        return np.asarray(BOX["left"] + part * (BOX["right"] - BOX["left"]))

    def at_y(self, y: Array) -> Array:
        """Positions (n,) of ``y``; what lies far outside stays near the edge."""
        part = (np.asarray(y) - self.low) / (self.high - self.low)
        return np.asarray(HEIGHT - BOTTOM - np.clip(part, -1, 2) * (HEIGHT - TOP - BOTTOM))

    def drawn(self) -> str:
        """Grid lines and labels."""
        parts = []
        values = ticks(self.low, self.high, 5)
        digits = _digits(values[1] - values[0] if len(values) > 1 else abs(values[0]) or 1.0)
        for value in values:
            (y,) = self.at_y(np.array([value]))
            parts.append(
                f'<path class="g" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>'
                f'<text class="y" x="{LEFT - 5}" y="{y + 3.5:.1f}">{value:.{digits}f}</text>'
            )
        for value, text in self._x_ticks():
            (x,) = self.at_x(np.array([value]))
            parts.append(f'<text class="x" x="{x:.1f}" y="{HEIGHT - 7}">{text}</text>')
        return "".join(parts)

    def _x_ticks(self) -> list[tuple[float, str]]:
        if self.log:
            powers = range(ceil(self.left - 1e-9), floor(self.right + 1e-9) + 1)
            skip = max(1, ceil(len(powers) / 5))
            return [(10.0**k, short(10.0**k)) for k in powers[::skip]]
        return [(value, short(value)) for value in ticks(self.left, self.right, 5)]


def _digits(step: float) -> int:
    """Decimals that tell neighbouring ticks apart."""
    power = floor(log10(step) + 1e-9)
    broken = step / 10.0**power % 1 > 0.01  # 2.5 needs one more than 2
    return max(0, min(6, broken - power))


def chart(lines: Sequence[Line], bands: bool = True) -> str:
    """The SVG of one learning chart; background lines first, the first series on top."""
    axes = Axes(lines)
    behind = [line for line in lines if line.slot is None]
    front = [line for line in lines if line.slot is not None][::-1]
    parts = [axes.drawn()]
    for line in behind:
        parts.append(f'<path class="bg" d="{_path(axes.at_x(line.x), axes.at_y(line.y))}"/>')
    if bands:
        for line in front:
            for kind, half in (("w", line.wide), ("b", line.half)):
                if half is not None and len(line.x) > 1 and (half > 0).any():
                    parts.append(
                        f'<path class="{kind} c{(line.slot or 0) % COLORS}" '
                        f'data-s="{line.slot}" d="{_band(axes, line, half)}"/>'
                    )
    parts += [_line(line, axes) for line in front]
    scale = f"{axes.left:.10g},{axes.right:.10g},{axes.low:.10g},{axes.high:.10g},{int(axes.log)}"
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" data-axes="{scale}" aria-hidden="true">'
        f"{''.join(parts)}</svg>"
    )


def _line(line: Line, axes: Axes) -> str:
    """A series with markers at a few of its points."""
    slot = line.slot or 0
    x, y = axes.at_x(line.x), axes.at_y(line.y)
    some = np.unique(np.linspace(0, len(x) - 1, min(len(x), MARKS)).round().astype(int))
    ends = " ".join(f'marker-{end}="url(#k{slot})"' for end in ("start", "mid", "end"))
    return (
        f'<path class="l {_style(slot)}" data-s="{slot}" d="{_path(x, y)}"/>'
        f'<path class="k" data-s="{slot}" d="{_path(x[some], y[some])}" {ends}/>'
    )


def _style(slot: int) -> str:
    return f"c{slot % COLORS} d{slot % len(DASHES)}"


def _path(x: Array, y: Array) -> str:
    points = [f"{a:.1f} {b:.1f}" for a, b in zip(x.tolist(), y.tolist(), strict=True)]
    return "M" + "L".join(points)


def _band(axes: Axes, line: Line, half: Array) -> str:
    x = axes.at_x(line.x)
    up, down = axes.at_y(line.y + half), axes.at_y(line.y - half)
    return _path(np.concatenate([x, x[::-1]]), np.concatenate([up, down[::-1]])) + "z"


def markers(slots: Sequence[int]) -> str:
    """The markers that the lines of :func:`chart` refer to; once a page."""
    shapes = "".join(
        f'<marker id="k{slot}" viewBox="-5 -5 10 10" markerWidth="10" markerHeight="10" '
        f'markerUnits="userSpaceOnUse">{shape(slot)}</marker>'
        for slot in slots
    )
    return (
        '<svg width="0" height="0" style="position:absolute" aria-hidden="true">'
        f"<defs>{shapes}</defs></svg>"
    )


def shape(slot: int, x: float = 0, y: float = 0) -> str:
    """The marker of a series at a place."""
    at = f' transform="translate({x:.1f} {y:.1f})"' if x or y else ""
    return f'<path class="m c{slot % COLORS}" d="{SHAPES[MARKERS[slot % len(MARKERS)]]}"{at}/>'


def sample(slot: int) -> str:
    """A piece of a series' line with its marker, for names in text and in the legend."""
    return (
        f'<svg class="sample" viewBox="0 0 30 12" aria-hidden="true">'
        f'<path class="l {_style(slot)}" d="M1 6h28"/>{shape(slot, 15, 6)}</svg>'
    )


def dash_rules() -> str:
    """The style rules of the dashes."""
    return "".join(f".d{k}{{stroke-dasharray:{DASH[n]}}}" for k, n in enumerate(DASHES) if DASH[n])


def forest(value: float, low: float, high: float, ends: tuple[float, float], kind: str) -> str:
    """A 95 % interval and a dashed zero on a scale between ``ends``, which hold zero."""
    left, right = ends
    if not all(map(isfinite, (value, low, high, left, right))) or right <= left:
        return ""

    def at(v: float) -> float:
        part = (max(left, min(right, v)) - left) / (right - left)
        return round(5 + part * (FOREST - 10), 1)

    return (
        f'<svg class="forest {kind}" viewBox="0 0 {FOREST} 16" aria-hidden="true">'
        f'<path class="zero" d="M{at(0)} 0v16"/><path class="bar" d="M{at(low)} 8H{at(high)}'
        f'M{at(low)} 5v6M{at(high)} 5v6"/><circle cx="{at(value)}" cy="8" r="3.4"/></svg>'
    )


def strip(values: Sequence[tuple[int, float, float]]) -> str:
    """(slot, value, half width) of the runs of one task below each other on one scale."""
    known = [(s, v, h if isfinite(h) else 0.0) for s, v, h in values if isfinite(v)]
    if not known:
        return ""
    low, high = min(v - h for _, v, h in known), max(v + h for _, v, h in known)
    size = (STRIP - 12) / (high - low) if high > low else 0.0
    row = 9 if len(known) < 4 else 7
    parts = []
    for k, (slot, value, half) in enumerate(known):
        y = row * (k + 0.5)
        a, b, c = (6 + (v - low) * size for v in (value - half, value + half, value))
        parts.append(
            f'<path class="l c{slot % COLORS}" d="M{a:.1f} {y:.1f}H{b:.1f}"/>{shape(slot, c, y)}'
        )
    height = row * len(known)
    return (
        f'<svg class="strip" viewBox="0 0 {STRIP} {height}" style="height:{height}px" '
        f'aria-hidden="true">{"".join(parts)}</svg>'
    )
