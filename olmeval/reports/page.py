"""One self-contained HTML page from the long table: what a person looks at first.

Learning curves with error bars, final scores, which run is better and whether the difference is
larger than its error, counters and provenance. The page needs no network (plotly.js is inlined,
and a content security policy forbids every request), follows the reader's light or dark setting,
and reads on a phone.
"""

import json
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files as package_files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from olmeval.files import write_text
from olmeval.reports import tables
from olmeval.reports.curves import Series, charts, primary_rows, series_of

if TYPE_CHECKING:
    import pandas as pd

POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:"
SVG_DASH = {"solid": "", "dash": "7 4", "dot": "2 3", "dashdot": "7 3 2 3", "longdash": "12 4"}
SVG_MARK = {
    "circle": '<circle cx="19" cy="8" r="4"/>',
    "square": '<path d="M15 4h8v8h-8z"/>',
    "diamond": '<path d="M19 3l5 5-5 5-5-5z"/>',
    "triangle-up": '<path d="M19 3l5 9H14z"/>',
    "triangle-down": '<path d="M19 13l5-9H14z"/>',
    "x": '<path d="M15 4l8 8M23 4l-8 8" stroke-width="3"/>',
    "cross": '<path d="M19 3v10M14 8h10" stroke-width="3"/>',
}


def write_page(
    table: "pd.DataFrame",
    path: Path,
    *,
    title: str,
    summary: Sequence[str] = (),
    comparison: "pd.DataFrame | None" = None,
    counters: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Mapping[str, Any]] | None = None,
) -> Path:
    """Writes the report to ``path`` and returns it.

    ``table`` is the long table; rows marked ``primary`` are shown, or all where none is marked so.
    ``summary`` are paragraphs for the top. ``comparison`` has a row per task and pair of runs
    (:func:`olmeval.reports.tables.comparison`). ``counters`` maps names to values; ``provenance``
    maps headings to names and values, nested as they come. Raises :class:`UserError` for a table
    without rows or without a needed column, and where ``path`` cannot be written.
    """
    rows = primary_rows(table)
    series = series_of(rows)
    drawn = charts(series)
    body = [_header(title, rows, series, summary)]
    if comparison is not None and len(comparison):
        body.append(
            section(
                "Which run is better",
                "Differences with their standard errors. A run is named where the difference is "
                "larger than 1.96 standard errors, which one in twenty equal pairs is by chance; "
                "otherwise these questions cannot tell.",
                tables.comparison(comparison),
            )
        )
    if drawn:
        body.append(
            section(
                "Learning curves",
                "Score of every checkpoint; bars and bands are ± 1.96 standard errors. "
                "Select a run to hide or show it.",
                _legend(series) + f'<div class="charts">{"".join(map(_chart, drawn))}</div>',
            )
        )
    body.append(
        section(
            "Final scores",
            "Last checkpoint of every run, ± one standard error. Bold is the best value, which "
            "need not be better than the others by more than the error.",
            tables.scores(series),
        )
    )
    if counters:
        inner = f'<div class="scroll">{tables.pairs(counters)}</div>'
        body.append(section("Counters", "", inner))
    if provenance:
        groups = "".join(
            f"<details><summary>{escape(name)}</summary>{tables.pairs(values)}</details>"
            for name, values in provenance.items()
        )
        body.append(section("Provenance", "", groups))
    write_text(path, document(title, "".join(body), drawn))
    return path


def document(
    title: str, body: str, drawn: list[dict[str, Any]], style: str = "", scripts: str = ""
) -> str:
    """A whole page; ``drawn`` are its figures ``{figure: {data, layout}}``, in their order.

    ``style`` and ``scripts`` (elements) come after the page's own.
    """
    resources = package_files("olmeval.reports")
    style = (resources / "page.css").read_text(encoding="utf-8") + style
    if drawn:
        from plotly.offline import get_plotlyjs

        code = (resources / "page.js").read_text(encoding="utf-8")
        figures = json_in_html([chart["figure"] for chart in drawn])
        scripts = (
            f'<script type="application/json" id="charts">{figures}</script>'
            f"<script>{get_plotlyjs()}</script><script>{code}</script>{scripts}"
        )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{style}</style></head>\n"
        f"<body>{body}{scripts}</body></html>\n"
    )


def json_in_html(value: Any) -> str:
    """JSON that cannot end the script element it is written in, whatever the text inside it."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _header(
    title: str, rows: "pd.DataFrame", series: Sequence[Series], summary: Sequence[str]
) -> str:
    checkpoints = sum(one.rows[["tokens", "step"]].drop_duplicates().shape[0] for one in series)
    counts = [
        _count(len(series), "run"),
        _count(checkpoints, "checkpoint"),
        _count(rows["task"].nunique(), "task"),
    ]
    text = "".join(f"<p>{escape(paragraph)}</p>" for paragraph in summary)
    return (
        f'<header><h1>{escape(title)}</h1><p class="lead">{" · ".join(counts)}</p>{text}</header>'
    )


def _count(n: int, name: str) -> str:
    return f"{n:,} {name}{'' if n == 1 else 's'}"


def section(title: str, note: str, inner: str) -> str:
    """A part of the page under a heading, with a small note."""
    text = f'<p class="note">{note}</p>' if note else ""
    return f"<section><h2>{title}</h2>{text}{inner}</section>"


def _legend(series: Sequence[Series]) -> str:
    buttons = []
    for one in series:
        color = f"var(--series-{one.color})"
        sample = (
            f'<svg width="38" height="16" aria-hidden="true" fill="{color}" stroke="{color}">'
            f'<path d="M1 8h36" stroke-width="2" fill="none" '
            f'stroke-dasharray="{SVG_DASH[one.dash]}"/>{SVG_MARK[one.marker]}</svg>'
        )
        buttons.append(
            f'<button type="button" aria-pressed="true" data-series="{one.index}">'
            f"{sample}{escape(one.label)}</button>"
        )
    return f'<div class="legend">{"".join(buttons)}</div>'


def _chart(chart: Mapping[str, Any]) -> str:
    task, metric = escape(chart["task"]), escape(chart["metric"])
    direction = {True: "↑ higher is better", False: "↓ lower is better", None: ""}
    return (
        f"<figure><figcaption>{task}<span>{metric} {direction[chart['higher_is_better']]}</span>"
        f'</figcaption><div class="plot" role="img" aria-label="{task}, {metric}, by checkpoint">'
        "</div></figure>"
    )
