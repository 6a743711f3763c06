"""``olmeval report``: one self-contained page that answers which run is better, and on what ground.

From the top: the verdict of every contest with its interval and test, then scores, learning
curves, task-by-task differences, signal and noise, ladders, mixtures, gates, counters and
provenance, as far as the inputs hold them. The page needs no network and no script to be read.
"""

import base64
import gzip
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from html import escape, unescape
from importlib.resources import files as package_files
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from olmeval.analysis.grid import choose
from olmeval.errors import UserError
from olmeval.files import atomic_path, write_text
from olmeval.reports import report_files, report_parts, report_svg
from olmeval.reports.curves import COLORS, Series, series_of
from olmeval.reports.page import document, json_in_html
from olmeval.reports.report_contests import Contest, contests
from olmeval.reports.report_curves import Curves, curves_of
from olmeval.reports.report_entries import SUITE, Entry, Pairs, entries_of
from olmeval.reports.report_inputs import Inputs, gather
from olmeval.reports.report_scores import comparisons, scores_table
from olmeval.reports.report_seeds import NOTE, Seeds, folded, merge_seeds
from olmeval.reports.report_text import count, cut, words
from olmeval.reports.report_verdict import claim, verdicts
from olmeval.results.run import Run

if TYPE_CHECKING:
    import pandas as pd

SHOWN = 8
"""Runs that have a column and a colour."""
IN_ORDER = 4
"""Up to so many columns keep the order of the runs; more go by rank."""
EMBEDDED = 1_000_000
"""Bytes of compressed scores above which they go into a file beside the page."""
ALERTS = {
    "suspected_cheats": "answers passed only where they could cheat",
    "missing_bos": "prompts lack the begin-of-sequence token",
    "truncated": "prompts were cut to fit the model",
    "length_limited": "generations ended at the limit of tokens",
    "unparsed": "generations hold no answer that could be read",
}


@dataclass(frozen=True)
class Report:
    """What was written: the page, the file of all scores where it is beside the page, the answer.

    ``contests`` are JSON-ready: name, answer and verdict in words, reference, standings with gain,
    interval, p and verdict.
    """

    page: Path
    data: Path | None
    contests: list[dict[str, Any]] = field(default_factory=list)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Scores:
    """What the sections on scores share."""

    rows: "pd.DataFrame"
    shown: list[Series]
    others: list[Series]
    entries: list[Entry]
    pairs: Pairs
    found: list[Contest]
    slots: dict[str, int]
    suites: dict[str, list[str]]
    curves: Curves
    seeds: dict[str, Seeds]


def write_report(
    paths: Sequence[str | Path],
    output: str | Path,
    *,
    title: str | None = None,
    baseline: str | None = None,
    tasks: Sequence[str] = (),
    metrics: Sequence[str] = (),
    where: str | None = None,
    mapping: str | Path | None = None,
    last: int = 5,
    summary: Sequence[str] = (),
) -> Report:
    """Writes the page of ``paths`` (see :func:`olmeval.reports.report_inputs.gather`).

    ``baseline``: the run (or its mixture) that all others are held against; default: the best.
    ``tasks`` (globs), ``metrics`` and ``where`` (SQL) choose rows of the long table; ``last``
    checkpoints of a run tell its noise; ``summary``: paragraphs for the top. Raises
    :class:`UserError` for inputs that hold nothing, and where the page cannot be written.
    """
    output = Path(output)
    inputs = gather(paths, mapping)
    sections: list[tuple[str, str, str, str]] = []
    chosen = None
    if inputs.table is not None:
        rows = choose(inputs.table, where, tasks, metrics)
        if not inputs.table["primary"].any() and not metrics:
            inputs.notes.append("the tables mark no primary metric, so all metrics are shown")
        chosen = _scores(rows, inputs, baseline, last)
        sections += _score_sections(chosen, last)
    elif baseline is not None:
        raise UserError(f"--baseline '{baseline}': the inputs hold no scores")
    sections += _file_sections(inputs)
    sections += _run_sections(inputs.runs)
    notes = [*inputs.notes, *(dict.fromkeys(chosen.pairs.notes) if chosen else ())]
    heading = title or _title(chosen, inputs)
    download, data = _download(inputs.table, output)
    body = _body(heading, summary, chosen, inputs, sections, notes, baseline is not None, download)
    write_text(output, _document(heading, body, chosen))
    answers = [_plain(c, baseline is not None) for c in chosen.found] if chosen else []
    return Report(output, data, answers, tuple(notes))


def _scores(rows: "pd.DataFrame", inputs: Inputs, baseline: str | None, last: int) -> _Scores:
    table, seeds = merge_seeds(rows)
    series = series_of(table)
    suites: dict[str, list[str]] = {}
    for run in inputs.runs:
        for suite, result in run.metrics.get("suites", {}).items():
            suites.setdefault(suite, list(result["members"]))
    entries = entries_of(series, inputs.runs, inputs.names, seeds)
    pairs = Pairs(table, last, seeds)
    found = contests(entries, pairs, baseline, suites)
    if len(series) == 1:
        slots = {e.label: k for k, e in enumerate(entries)}
        curves = curves_of(series, [], pairs.noise)
        return _Scores(rows, series, [], entries, pairs, found, slots, suites, curves, seeds)
    # The best by the first contest are shown; colours go by order of appearance.
    ranked = [found[0].reference, *(s.entry for s in found[0].standings), *entries]
    kept = {e.index for e in list({e.index: e for e in ranked}.values())[:SHOWN]}
    shown = [replace(one, index=k) for k, one in enumerate(s for s in series if s.index in kept)]
    others = [replace(one, index=-1) for one in series if one.index not in kept]
    slots = {one.label: one.index for one in shown}
    top = [e for e in entries if e.index in kept]
    if len(top) > IN_ORDER:
        # Of many columns the first ones are seen.
        place = {e.index: k for k, e in reversed(list(enumerate(ranked)))}
        top.sort(key=lambda e: place[e.index])
    curves = curves_of(shown, others, pairs.noise)
    return _Scores(rows, shown, others, top, pairs, found, slots, suites, curves, seeds)


def _score_sections(chosen: _Scores, last: int) -> list[tuple[str, str, str, str]]:
    """(id, title, note, HTML) of the sections that show scores."""
    reference = chosen.found[0].reference if len(chosen.entries) > 1 else None
    left = len(chosen.others)
    more = f" The {SHOWN} best of {SHOWN + left} runs; all are in the data." if left else ""
    found = [(
        "scores", "Scores",
        "Value ± half its 95 % interval, at the last checkpoint. Bold: best value. ▲ ▼: "
        "significantly better or worse than the reference (paired where runs answered the same "
        f"questions; Holm-corrected over tasks).{more}{NOTE if chosen.seeds else ''}",
        scores_table(chosen.entries, reference, chosen.pairs, chosen.slots, chosen.suites)
        + folded(chosen.seeds),
    )]  # fmt: skip
    if chosen.curves.figures:
        grey = " Grey: the other runs." if left else ""
        found.append((
            "curves", "Learning curves",
            "Inner band: 95 % interval of the questions; outer band: with the spread of the last "
            f"{last} checkpoints added. Lines differ in colour, dash and marker.{grey} Point at a "
            "chart, or focus it and use the arrow keys, to read values.",
            chosen.curves.html(chosen.shown),
        ))  # fmt: skip
    inner = comparisons(chosen.found, chosen.pairs, chosen.slots)
    if inner:
        found.append((
            "differences", "Differences, task by task",
            "Advantage of the first run over the second, its closest rivals first; positive: it is "
            "better, whatever the metric's direction. p: McNemar's or a sign-flip test where "
            "questions are paired, else the normal test; Holm-corrected over tasks. With noise: "
            "uncorrected p when the spread of both runs' last checkpoints counts, too.",
            inner,
        ))  # fmt: skip
    ratios = report_parts.snr(chosen.rows, last)
    if ratios:
        found.append((
            "noise", "Signal and noise",
            f"Signal: relative spread of the models' final scores; noise: relative standard "
            f"deviation of a run's last {last} checkpoints (Heineman et al. 2025, section 3), of "
            "seeds, and of the questions. Resolvable: smallest difference of two models that is "
            "found with 80 % power, in the metric's own unit.",
            ratios,
        ))  # fmt: skip
    return found


def _file_sections(inputs: Inputs) -> list[tuple[str, str, str, str]]:
    found = []
    try:
        if inputs.ladders:
            note = "What small runs predict of large ones; dot: prediction, diamond: measured."
            found.append(("ladder", "Ladder", note, report_files.ladders(inputs.ladders)))
        if inputs.mixtures or inputs.proposals:
            note = "Mixtures proposed from swarms of small runs; shares on a square-root scale."
            html = report_files.mixtures(inputs.mixtures, inputs.proposals)
            found.append(("mixing", "Mixing", note, html))
        if inputs.gates:
            note = "Is this checkpoint worse than its baseline by more than is tolerated?"
            found.append(("gate", "Regression gate", note, report_files.gates(inputs.gates)))
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"a ladder, mixing or gate file is not as this version writes it ({error!r}); run the "
            "command that wrote it again"
        ) from None
    return found


def _run_sections(runs: Sequence[Run]) -> list[tuple[str, str, str, str]]:
    if not runs:
        return []
    note = f"Added up over {count(len(runs), 'run')}; a dot is zero."
    return [
        ("counters", "Counters", note, report_parts.counters(runs)),
        ("provenance", "Provenance", "", report_parts.provenance(runs)),
    ]


def _body(
    heading: str,
    summary: Sequence[str],
    chosen: _Scores | None,
    inputs: Inputs,
    sections: Sequence[tuple[str, str, str, str]],
    notes: Sequence[str],
    against_baseline: bool,
    download: str,
) -> str:
    links = "".join(f'<a href="#{key}">{title}</a>' for key, title, _, _ in sections)
    search = (
        '<input id="filter" type="search" placeholder="filter tasks" aria-label="Filter tasks">'
    )
    top = (
        '<a class="skip" href="#main">Skip to the verdict</a>'
        f'<div class="topbar"><nav aria-label="Sections">{links}</nav>'
        f'{search if chosen else ""}<button id="theme" type="button">Theme</button></div>'
    )
    alerts = "".join(f"<li>{words(line)}</li>" for line in [*_alerts(inputs.runs), *notes])
    paragraphs = "".join(f"<p>{words(paragraph)}</p>" for paragraph in summary)
    verdict = ""
    if chosen:
        verdict = verdicts(chosen.found, chosen.slots, against_baseline)
    claims = [
        *report_files.ladder_claims(inputs.ladders),
        *report_files.mixture_claims(inputs.mixtures, inputs.proposals),
        *report_files.gate_claims(inputs.gates),
    ]
    said = "".join(f"<li>{claim}</li>" for claim in claims)
    parts = "".join(
        f'<section id="{key}"><h2>{title}</h2>{f"<p class=note>{note}</p>" if note else ""}'
        f"{inner}</section>"
        for key, title, note, inner in sections
    )
    return (
        f'{top}<header><h1>{_parts(heading)}</h1><p class="lead">{_lead(chosen, inputs)}</p>'
        f'{paragraphs}</header><main id="main">'
        + (f'<ul class="alerts">{alerts}</ul>' if alerts else "")
        + verdict
        + (f'<ul class="claims">{said}</ul>' if said else "")
        + parts
        + f"</main>{download}"
    )


def _parts(heading: str) -> str:
    """A heading as HTML, each name in it isolated from the others."""
    return " · ".join(map(words, heading.split(" · ")))


def _lead(chosen: _Scores | None, inputs: Inputs) -> str:
    facts = []
    if chosen:
        rows, runs = chosen.rows, len(chosen.shown) + len(chosen.others)
        of_tasks = rows[rows["metric"] != SUITE]
        points = rows[["run", "seed", "step", "tokens"]].drop_duplicates()
        facts = [
            count(runs, "run"),
            count(len(points), "checkpoint"),
            count(of_tasks["task"].nunique(), "task"),
        ]
        suites = rows.loc[rows["metric"] == SUITE, "task"].nunique()
        facts += [count(suites, "suite")] if suites else []
    if inputs.runs:
        sums = report_parts.totals(inputs.runs)
        facts += [count(sums["instances"], "scored instance"), count(sums["errors"], "error")]
    facts += [
        count(len(v), k) for k, v in (("ladder", inputs.ladders), ("gate", inputs.gates)) if v
    ]
    proposals = len(inputs.proposals) + sum(len(m["proposals"]) for m in inputs.mixtures.values())
    facts += [count(proposals, "proposed mixture")] if proposals else []
    return " · ".join(facts)


def _alerts(runs: Sequence[Run]) -> list[str]:
    """What a reader must know before believing a score."""
    if not runs:
        return []
    sums, lines = report_parts.totals(runs), []
    if sums["errors"]:
        lines.append(
            f"{sums['errors']:,} of {sums['instances']:,} instances could not be scored and are in "
            "no score; see Counters"
        )
    lines += [f"{sums[key]:,} {what}" for key, what in ALERTS.items() if sums.get(key)]
    versions = report_parts.merged([{"v": run.info.get("versions", {})} for run in runs])
    differing = [key.removeprefix("v ") for key, v in versions.items() if v.startswith("differs")]
    if differing:
        lines.append(f"runs were made with different versions of {', '.join(differing)}")
    return lines


def _title(chosen: _Scores | None, inputs: Inputs) -> str:
    if chosen is None:
        parts = [n for n, v in (("ladder", inputs.ladders), ("mixture", inputs.proposals or
                 inputs.mixtures), ("gate", inputs.gates)) if v]  # fmt: skip
        return f"Report: {', '.join(parts)}"
    labels = [cut(one.label) for one in chosen.shown]
    if len(labels) + len(chosen.others) > 4:
        return f"{len(labels) + len(chosen.others)} runs compared"
    return " · ".join(labels)


def _download(table: "pd.DataFrame | None", output: Path) -> tuple[str, Path | None]:
    """A link to all scores as CSV: inside the page, or in a file beside it when they are many."""
    if table is None:
        return "", None
    packed = gzip.compress(table.to_csv(index=False).encode("utf-8", "replace"), 9, mtime=0)
    name = f"{output.stem}-scores.csv.gz"
    size = f"{len(table):,} rows, {len(packed) / 1000:,.0f} kB"
    beside = None
    if len(packed) <= EMBEDDED:
        link = f"data:application/gzip;base64,{base64.b64encode(packed).decode()}"
        where = "inside this page"
    else:
        beside = output.with_name(name)
        with atomic_path(beside) as tmp:
            tmp.write_bytes(packed)
        link, where = escape(name), "beside this page"
    return (
        f'<footer><p class="note">All scores, every metric and checkpoint ({size}, {where}): '
        f'<a download="{escape(name)}" href="{link}">{escape(name)}</a></p></footer>'
    ), beside


def _document(heading: str, body: str, chosen: _Scores | None) -> str:
    resources = package_files("olmeval.reports")
    style, code = (
        (resources / f"report.{kind}").read_text(encoding="utf-8") for kind in ("css", "js")
    )
    style += "".join(f".c{k}{{--mine:var(--series-{k})}}" for k in range(COLORS))
    style += report_svg.dash_rules()
    data = ""
    if chosen and chosen.curves.data:
        value = {
            "series": [cut(s.label) for s in chosen.shown],
            "charts": chosen.curves.data,
            "box": report_svg.BOX,
        }
        data = f'<script type="application/json" id="chart-data">{json_in_html(value)}</script>'
    return document(cut(heading), body, [], style, f"{data}<script>{code}</script>")


def _plain(contest: Contest, baseline: bool) -> dict[str, Any]:
    """A contest as JSON-ready values; numbers that are not known are None."""
    answer, verdict = claim(contest, baseline)
    standings = []
    for s in contest.standings:
        clean = {
            k: None if isinstance(v, float) and not isfinite(v) else v
            for k, v in vars(s).items()
            if k != "entry"
        }
        standings.append({"run": s.entry.label, **clean, "verdict": s.verdict})
    return {
        "name": contest.name,
        "answer": unescape(re.sub("<[^>]*>", "", answer)),
        "verdict": verdict,
        "higher_is_better": contest.higher_is_better,
        "tasks": [list(score) for score in contest.scores],
        "reference": contest.reference.label,
        "standings": standings,
        "not_ranked": [e.label for e in contest.left_out],
    }
