"""The tables of a report: scores of every task, and paired comparisons task by task."""

from collections.abc import Mapping, Sequence
from math import isnan
from typing import TYPE_CHECKING, Any

from olmeval.reports.report_contests import Contest, tasks_of
from olmeval.reports.report_entries import LEVEL, SUITE, Entry, Pairs, Score
from olmeval.reports.report_svg import forest, strip
from olmeval.reports.report_text import (
    attribute,
    bare,
    count,
    digits,
    interval,
    name,
    number,
    tag,
)
from olmeval.reports.report_verdict import run_name
from olmeval.reports.tables import ARROW, grid
from olmeval.stats.mean import Z95

if TYPE_CHECKING:
    import pandas as pd

STRIP_RUNS = 6
"""Above this many runs the intervals of a row are too small to be told apart."""
PAIRS = 5
"""Rivals whose differences are shown task by task."""


def scores_table(
    entries: Sequence[Entry],
    reference: Entry | None,
    pairs: Pairs,
    slots: dict[str, int],
    suites: Mapping[str, Sequence[str]],
) -> str:
    """A row a score and a column an entry; ▲ and ▼ against the reference, the best value bold."""
    gains = {
        e.label: _verdicts(pairs.between(reference, e))
        for e in entries
        if reference is not None and e is not reference
    }
    order = _ordered({score for e in entries for score in e.scores}, suites)
    drawn = 1 < len(entries) <= STRIP_RUNS
    body = [_score_row(score, depth, entries, gains, slots, drawn) for score, depth in order]
    heads = '<th scope="col">task</th><th scope="col" class="number">n</th>'
    heads += '<th scope="col" class="pic">95 % intervals</th>' if drawn else ""
    for entry in entries:
        first = next(iter(entry.scores.values()))
        small = "reference" if entry is reference else progress(first)
        small += f", {entry.seeds} seeds" if entry.seeds > 1 else ""
        more = f"<br><small>{small}</small>" if small else ""
        heads += f'<th scope="col" class="number">{run_name(entry, slots)}{more}</th>'
    return grid("scores filtered", "Scores", heads, body)


def _verdicts(pair: "pd.DataFrame") -> dict[Score, str]:
    """▲ where the second of a pair is significantly better, ▼ where it is worse."""
    return {
        (r["task"], r["metric"]): "▼" if r["gain"] > 0 else "▲"
        for r in pair.to_dict("records")
        if r["p_holm"] <= LEVEL
    }


def _ordered(scores: set[Score], suites: Mapping[str, Sequence[str]]) -> list[tuple[Score, int]]:
    """Scores with their depth: suites, the tasks of each below it, then all other tasks."""
    tops = sorted(s for s in scores if s[1] == SUITE)
    rest = sorted(s for s in scores if s[1] != SUITE)
    found: list[tuple[Score, int]] = []
    placed: set[Score] = set()
    for suite in tops:
        found.append((suite, 0))
        members = set(tasks_of(suite[0], suites))
        mine = [s for s in rest if s[0] in members and s not in placed]
        placed.update(mine)
        found += [(s, 1) for s in mine]
    return found + [(s, 0) for s in rest if s not in placed]


def _score_row(
    score: Score,
    depth: int,
    entries: Sequence[Entry],
    gains: Mapping[str, Mapping[Score, str]],
    slots: dict[str, int],
    drawn: bool,
) -> str:
    rows = {e.label: e.scores[score] for e in entries if score in e.scores}
    first = next(iter(rows.values()))
    upward = bool(first["higher_is_better"])
    best = None
    if len(rows) > 1:
        best = (max if upward else min)(float(r["value"]) for r in rows.values())
    n = first["n"]
    cells = [f'<td class="number">{f"{n:,.0f}" if n == n and n is not None else ""}</td>']
    if drawn:
        values = [
            (slots.get(e.label, k), *_ends(rows[e.label]))
            for k, e in enumerate(entries)
            if e.label in rows
        ]
        cells.append(f'<td class="pic">{strip(values)}</td>')
    for entry in entries:
        if entry.label not in rows:
            cells.append('<td class="number">–</td>')
            continue
        value, half = _ends(rows[entry.label])
        places = digits(half / Z95)
        mark = gains.get(entry.label, {}).get(score, "")
        words = {"▲": "better than the reference", "▼": "worse than the reference", "": ""}[mark]
        look = f'class="m{"▲▼".index(mark)}" role="img" aria-label="{words}" title="{words}"'
        sign = f"<span {look}>{mark}</span>" if mark else ""
        error = "" if isnan(half) else f" <small>± {number(half, places)}</small>"
        kind = "number best" if value == best else "number"
        cells.append(f'<td class="{kind}">{sign}{number(value, places)}{error}</td>')
    kind = ' class="suite"' if score[1] == SUITE else ""
    what = "suite" if score[1] == SUITE else name(score[1])
    return (
        f'<tr{kind} data-task="{attribute(score[0])}"><th scope="row" class="depth{depth}">'
        f"{name(score[0])} <small>{what}{ARROW[upward]}</small></th>{''.join(cells)}</tr>"
    )


def _ends(row: Mapping[str, Any]) -> tuple[float, float]:
    error = row["stderr"]
    return float(row["value"]), float("nan") if error is None else Z95 * float(error)


def progress(row: Mapping[str, Any]) -> str:
    """How far a run was: tokens, else steps."""
    from olmeval.reports.report_svg import short

    if row["tokens"] == row["tokens"] and row["tokens"] is not None:
        return f"{short(float(row['tokens']))} tokens"
    return f"step {row['step']:,.0f}" if row["step"] == row["step"] and row["step"] else ""


def comparisons(found: Sequence[Contest], pairs: Pairs, slots: dict[str, int]) -> str:
    """Each contest's reference against its closest rivals, one folding table a pair."""
    parts: list[str] = []
    seen = set()
    for contest in found:
        for rival in contest.rivals[:PAIRS]:
            key = (contest.reference.label, rival.entry.label)
            if key in seen:
                continue
            seen.add(key)
            rows = pairs.between(contest.reference, rival.entry).to_dict("records")
            sure = sum(r["p_holm"] <= LEVEL for r in rows)
            title = (
                f"{run_name(contest.reference, slots)} − {run_name(rival.entry, slots)} "
                f"<small>{count(sure, 'significant difference')} in {len(rows)}</small>"
            )
            label = " against ".join(map(attribute, key))
            opened = "" if parts else " open"
            parts.append(
                f"<details{opened}><summary>{title}</summary>{_pair_table(rows, label)}</details>"
            )
    return "".join(parts)


def _pair_table(rows: Sequence[Mapping[Any, Any]], label: str) -> str:
    # One scale a metric, so that the lengths of its bars can be compared.
    reaches: dict[str, float] = {}
    for r in rows:
        if not isnan(r["low"]):
            reach = max(abs(r["low"]), abs(r["high"]))
            reaches[r["metric"]] = max(reaches.get(r["metric"], 0.0), reach)
    order = sorted(rows, key=lambda r: (r["metric"] != SUITE, r["metric"], -r["gain"]))
    noisy = any(r["p_noise"] == r["p_noise"] for r in rows)
    body = [_pair_row(r, reaches.get(r["metric"], 0.0), noisy) for r in order]
    heads = '<th scope="col">task</th><th scope="col">verdict</th>'
    heads += (
        '<th scope="col" class="number">advantage</th><th scope="col" class="pic">95 % interval'
    )
    heads += (
        '</th><th scope="col" class="number">interval</th><th scope="col" class="number">p</th>'
    )
    heads += '<th scope="col" class="number">with noise</th>' if noisy else ""
    heads += '<th scope="col" class="number">won / lost / tied</th><th scope="col">test</th>'
    return grid("compared filtered", label, heads, body)


def _pair_row(r: Mapping[Any, Any], reach: float, noisy: bool) -> str:
    places = digits(r["stderr"])
    sure = r["p_holm"] <= LEVEL
    word, kind = ("within error", "level") if r["p_holm"] == r["p_holm"] else ("unknown", "level")
    if sure:
        word, kind = ("better", "good") if r["gain"] > 0 else ("worse", "bad")
    cells = [
        f"<td>{tag(word, kind)}</td>",
        f'<td class="number">{number(r["gain"], places, signed=True)}</td>',
        f'<td class="pic">{forest(r["gain"], r["low"], r["high"], (-reach, reach), kind)}</td>',
        f'<td class="number">{interval(r["low"], r["high"], places)}</td>',
        f'<td class="number">{bare(r["p_holm"])}</td>',
    ]
    if noisy:
        cells.append(f'<td class="number">{bare(r["p_noise"])}</td>')
    won = "" if isnan(r["wins"]) else f"{r['wins']:.0f} / {r['losses']:.0f} / {r['ties']:.0f}"
    cells.append(f'<td class="number">{won}</td><td>{r["test"] or "not paired"}</td>')
    arrow = ARROW[bool(r["higher_is_better"])]
    what = "suite" if r["metric"] == SUITE else name(r["metric"])
    return (
        f'<tr data-task="{attribute(r["task"])}"><th scope="row">{name(r["task"])} '
        f"<small>{what}{arrow}</small></th>{''.join(cells)}</tr>"
    )
