"""The tables of a report as HTML: final scores, comparison of runs, pairs of names and values.

Every text goes through :func:`html.escape`; nothing that a person or a data set named can become
markup.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from olmeval.errors import UserError
from olmeval.reports.curves import Series
from olmeval.stats.mean import Z95

if TYPE_CHECKING:
    import pandas as pd

COMPARISON = ("task", "metric", "a", "b", "difference", "stderr", "higher_is_better")
WIDTH, HEIGHT = 220, 18
ARROW = {True: " ↑", False: " ↓", None: ""}


def scores(series: Sequence[Series]) -> str:
    """Final score of every run by task, with standard errors; the best value is bold."""
    cells: dict[tuple[str, str], dict[int, Any]] = {}
    for one in series:
        for (task, metric), rows in one.rows.groupby(["task", "metric"], sort=False):
            cells.setdefault((str(task), str(metric)), {})[one.index] = rows.iloc[-1]
    body = []
    for (task, metric), row in sorted(cells.items(), key=lambda item: item[0]):
        first = next(iter(row.values()))
        better = _flag(first.get("higher_is_better"))
        values = {i: float(r["value"]) for i, r in row.items() if _known(r["value"])}
        top = None
        if better is not None and len(values) > 1:
            top = max(values.values()) if better else min(values.values())
        columns = [_score(row.get(one.index), top) for one in series]
        n = first.get("n")
        size = f"{int(n):,}" if _known(n) else ""
        body.append(
            f'<tr><th scope="row">{breakable(task)}<br>'
            f"<small>{escape(metric)}{ARROW[better]}</small>"
            f'</th><td class="number">{size}</td>{"".join(columns)}</tr>'
        )
    heads = ['<th scope="col">task</th><th scope="col" class="number">n</th>']
    for one in series:
        last = one.rows.iloc[-1]
        at = _progress(last)
        heads.append(
            f'<th scope="col" class="number">{escape(one.label)}'
            f"{f'<br><small>{at}</small>' if at else ''}</th>"
        )
    return grid("scores", "Final scores", "".join(heads), body)


def comparison(table: "pd.DataFrame") -> str:
    """Differences between two runs by task, each with its 95% interval and a verdict.

    ``table`` has the columns :data:`COMPARISON`; ``difference`` is the score of ``a`` minus that
    of ``b``, and ``stderr`` its standard error, computed by the caller (paired by question).
    """
    missing = [column for column in COMPARISON if column not in table.columns]
    if missing:
        raise UserError(f"the table of comparisons has no column '{missing[0]}'")
    groups: dict[tuple[str, str], list[dict[Any, Any]]] = {}
    # One scale a metric, so that the lengths of its bars can be compared.
    scales: dict[str, float] = {}
    for row in table.to_dict("records"):
        metric = str(row["metric"])
        groups.setdefault((str(row["task"]), metric), []).append(row)
        if _known(row["difference"]) and _known(row["stderr"]):
            reach = abs(row["difference"]) + Z95 * row["stderr"]
            scales[metric] = max(scales.get(metric, 0.0), reach)
    body = []
    for (task, metric), rows in groups.items():
        mark = ARROW[_flag(rows[0]["higher_is_better"])]
        head = (
            f'<th scope="rowgroup" rowspan="{len(rows)}">{breakable(task)}'
            f"<br><small>{escape(metric)}{mark}</small></th>"
        )
        lines = [_compared(row, scales.get(metric, 0.0)) for row in rows]
        lines[0] = head + lines[0]
        body.append("".join(f"<tr>{line}</tr>" for line in lines))
    heads = '<th scope="col">task</th><th scope="col">compared</th><th scope="col">better</th>'
    heads += '<th scope="col" class="number">difference ± stderr</th>'
    heads += '<th scope="col">95% interval (dashed: no difference)</th>'
    return grid("comparison", "Comparison of runs", heads, body, group=True)


def pairs(values: Mapping[str, Any]) -> str:
    """Names and values; a group inside a group is written with dotted names."""
    rows = [
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>'
        for name, value in _flat(values)
    ]
    return f'<table class="pairs"><tbody>{"".join(rows)}</tbody></table>'


def grid(kind: str, label: str, heads: str, body: Iterable[str], group: bool = False) -> str:
    """A table that scrolls; ``body`` are its rows, or with ``group`` groups of rows."""
    rows = "".join(f"<tbody>{rows}</tbody>" for rows in ([*body] if group else ["".join(body)]))
    # A scrolling region must be reachable from the keyboard, hence tabindex and a name.
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{label}">'
        f'<table class="{kind}"><thead><tr>{heads}</tr></thead>{rows}</table></div>'
    )


def breakable(text: str) -> str:
    """A task's name, which may break after a colon or an underscore on a narrow screen."""
    return escape(text).replace(":", ":<wbr>").replace("_", "_<wbr>")


def _known(value: Any) -> bool:
    return value is not None and value == value and str(value) != "<NA>"


def _flag(value: Any) -> bool | None:
    return bool(value) if _known(value) else None


def _progress(row: Any) -> str:
    """How far the run was at its last checkpoint."""
    if _known(row["tokens"]):
        tokens = float(row["tokens"])
        for unit, size in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)):
            if tokens >= size:
                return f"{tokens / size:.3g}{unit} tokens"
        return f"{tokens:g} tokens"
    return f"step {int(row['step'])}" if _known(row["step"]) else ""


def _score(row: Any, top: float | None) -> str:
    if row is None or not _known(row["value"]):
        return '<td class="number">–</td>'
    value = float(row["value"])
    error = f" <small>± {float(row['stderr']):.4f}</small>" if _known(row["stderr"]) else ""
    kind = "number best" if value == top else "number"
    return f'<td class="{kind}">{value:.4f}{error}</td>'


def _compared(row: Mapping[Any, Any], scale: float) -> str:
    """The cells of one pair of runs."""
    difference, error = row["difference"], row["stderr"]
    better = _flag(row["higher_is_better"])
    a, b = escape(str(row["a"])), escape(str(row["b"]))
    measured = _known(difference) and _known(error)
    clear = measured and abs(difference) > Z95 * error
    if clear and better is not None:
        winner = a if (difference > 0) == better else b
        verdict = f'<td class="clear">{winner}</td>'
    elif clear:
        verdict = "<td>they differ</td>"
    else:
        verdict = f'<td class="within">{"within error" if measured else "error unknown"}</td>'
    amount = f"{difference:+.4f}".replace("-", "−") if _known(difference) else "–"
    spread = f" <small>± {error:.4f}</small>" if _known(error) else ""
    picture = _interval(difference, error, scale, clear) if measured and scale else ""
    return f'<td>{a} − {b}</td>{verdict}<td class="number">{amount}{spread}</td><td>{picture}</td>'


def _interval(difference: float, error: float, scale: float, clear: bool) -> str:
    """A small forest plot: the interval as a line, zero as a dashed one."""

    def at(value: float) -> float:
        return round(WIDTH / 2 + value / scale * (WIDTH / 2 - 4), 1)

    low, high, y = at(difference - Z95 * error), at(difference + Z95 * error), HEIGHT // 2
    return (
        f'<svg class="interval{" sure" if clear else ""}" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'aria-hidden="true"><line class="zero" x1="{WIDTH / 2}" x2="{WIDTH / 2}" y1="0" '
        f'y2="{HEIGHT}"/><line class="bar" x1="{low}" x2="{high}" y1="{y}" y2="{y}"/>'
        f'<circle class="dot" cx="{at(difference)}" cy="{y}" r="3.5"/></svg>'
    )


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}.")
        elif isinstance(value, list | tuple):
            yield name, ", ".join(map(str, value))
        elif isinstance(value, int) and not isinstance(value, bool):
            yield name, f"{value:,}"
        else:
            yield name, "" if value is None else str(value)
