"""The mixing report: one HTML page and a JSON file for a fitted swarm and its proposals.

Where the swarm has been, how well unseen runs are predicted, what each domain does to each task,
which mixture is proposed and what that rests on, and what more runs would gain.
"""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from olmeval.errors import UserError
from olmeval.files import write_json, write_text
from olmeval.mixing.effects import Effects, effects_at
from olmeval.mixing.fitting import MixtureFit
from olmeval.mixing.names import short_names
from olmeval.mixing.regressors.base import cross_coverage
from olmeval.mixing.uncertainty import span
from olmeval.reports.mixing_charts import figures_of, shares_of
from olmeval.reports.page import document, section
from olmeval.reports.tables import breakable, grid

Array = NDArray[np.float64]
Proposals = Mapping[str, Mapping[str, Any]]
FORMAT = "olmeval-mixing-report/1"
TIGHT = "padding:.3rem .3rem;font-size:.78rem"


def write_mixing_report(
    fit: MixtureFit,
    path: Path,
    *,
    proposals: Proposals | None = None,
    title: str = "Data mixture",
    refits: int | None = None,
) -> tuple[Path, Path]:
    """Writes the page to ``path`` and its numbers beside it as ``.json``; returns both.

    ``proposals``: {name: proposal.json as read}; the first gives the natural mixture, for which the
    swarm's mean stands in otherwise. ``refits``: for the intervals of effects; None: by family.
    Raises :class:`UserError` for proposals of other domains, or where nothing can be written.
    """
    given = dict(proposals or {})
    for name, proposal in given.items():
        if tuple(proposal["mixture"]["weights"]) != fit.table.domains:
            raise UserError(f"the proposal '{name}' has other domains than the fit")
    first = next(iter(given.values()), None)
    natural = shares_of(first["natural"]) if first else fit.table.X.mean(axis=0)
    effects = effects_at(fit, natural, refits=refits)
    covered = cross_coverage(fit.table.losses() - fit.model.out_of_fold(), fit.table.X, fit.level)
    figures = figures_of(fit, natural, given)
    body = "".join(_body(fit, given, natural, effects, covered, figures, title))
    numbers = path.with_suffix(".json")
    write_json(numbers, _numbers(fit, given, natural, effects, covered))
    write_text(path, document(title, body, figures))
    return path, numbers


def _numbers(
    fit: MixtureFit, given: Proposals, natural: Array, effects: Effects, covered: Array
) -> dict[str, Any]:
    curve = fit.curve
    table = fit.table
    ends = [np.where(np.isfinite(a), a, np.nan) for a in (effects.low, effects.high)]
    return {
        "format": FORMAT,
        "runs": len(table.runs),
        "domains": table.domains,
        "natural": dict(zip(table.domains, natural.tolist(), strict=True)),
        "level": fit.level,
        "fit": [
            {**vars(s), "coverage": _known(c)} for s, c in zip(fit.scores, covered, strict=True)
        ],
        "design": {k: _known(v) for k, v in vars(fit.design).items()},
        "effects": {
            "step": effects.step,
            "refits": effects.refits,
            "by_domain": {
                domain: {
                    target: {"value": float(effects.value[i, j]), "low": _known(ends[0][i, j]),
                             "high": _known(ends[1][i, j])}
                    for j, target in enumerate(table.targets)
                }
                for i, domain in enumerate(table.domains)
            },
        },
        "curve": curve and {**vars(curve), "points": [vars(p) for p in curve.points]},
        "proposals": dict(given),
        "warnings": fit.warnings,
    }  # fmt: skip


def _known(value: Any) -> Any:
    """None for what is not finite, which JSON has not."""
    if isinstance(value, tuple | list):
        return [_known(v) for v in value]
    if isinstance(value, float):
        return float(value) if np.isfinite(value) else None
    return value


def _body(
    fit: MixtureFit, given: Proposals, natural: Array, effects: Effects, covered: Array,
    figures: Sequence[Mapping[str, Any]], title: str,
) -> Iterable[str]:  # fmt: skip
    d, level = fit.design, f"{100 * fit.level:g} %"
    counts = (
        f"{d.rows} runs · {d.distinct} mixtures ({d.advised} advised) · {d.domains} domains · "
        f"{len(fit.table.targets)} tasks · {escape(fit.model.family)}"
    )
    lines = [line for name, p in given.items() for line in _promise(name, p, level)]
    yield f'<header><h1>{escape(title)}</h1><p class="lead">{counts}</p>'
    yield "".join(f"<p>{escape(line)}</p>" for line in lines) + "</header>"
    warnings = [*fit.warnings, *(f"{n}: {w}" for n, p in given.items() for w in p["warnings"])]
    if warnings:
        items = "".join(f"<li>{escape(line)}</li>" for line in warnings)
        count = f"{len(warnings)} warning{'s' * (len(warnings) > 1)}"
        inner = f"<details open><summary>{count}</summary><ul>{items}</ul></details>"
        yield section("Warnings", "", inner)
    drawn = [_figure(f) for f in figures]
    if given:
        yield section(
            "Mixture",
            "Shares on a square-root scale, so that small ones can be read. Bars: 5 to 95 % of "
            "the optima of refits on resampled runs. A domain is held where an end stops it.",
            _of(drawn, figures, "mixture")
            + "".join(_mixtures(fit, name, p) for name, p in given.items()),
        )
    yield section(
        "Swarm",
        "Every dot is a run. The map shows the two directions in which square roots of shares "
        "differ most; the quarters of runs with the least and the greatest mean loss (each "
        "task in units of its spread) are marked.",
        _of(drawn, figures, "swarm") + _swarm(fit, natural),
    )
    yield section(
        "Fit",
        f"On runs that the fit had not seen (out of fold). Covered: how many of them lie inside "
        f"the {level} intervals that the other folds ask for. Noise: of repeated runs.",
        _of(drawn, figures, "fit") + _fit(fit, covered),
    )
    yield section(
        "Effect of each domain on each task",
        f"Change of the score when {100 * effects.step:g} points of the natural mixture go to the "
        f"domain, the others giving way in proportion; below it the {level} interval over "
        f"{effects.refits} refits. Blue is better, orange worse, stronger the more of the task's "
        "spread over the swarm; cells whose interval holds 0 have no colour.",
        _heat(fit, effects),
    )


def _promise(name: str, p: Mapping[str, Any], level: str) -> Iterable[str]:
    low, high = p["mixture"]["interval"]
    sure = ""
    if u := p["uncertainty"]:
        a, b = u["gain"]
        sure = (
            f" ({span(u['refits'], 0.95)} over {u['refits']} refits: {a:.4f} to {b:.4f}; "
            f"{100 * u['beats_natural']:.0f} % put it before natural, "
            f"{100 * u['beats_best_row']:.0f} % before the best run)"
        )
    yield (
        f"{name}: predicted gain over natural {p['gain']:.4f}{sure}. Predicted mean loss "
        f"{p['mixture']['objective']:.4f}"
        + (f", {level} interval {low:.4f} to {high:.4f}" if low is not None else "")
        + f"; natural {p['natural']['objective']:.4f}; the best run measured "
        f"{p['measured_best']:.4f}. {p['mixture']['distance']:.2f} from the nearest run; runs "
        f"near it measure {p['local_error']:+.4f} against held-out predictions."
    )


def _row(name: str, cells: Iterable[str]) -> str:
    numbers = "".join(f'<td class="number">{cell}</td>' for cell in cells)
    return f'<tr><th scope="row">{breakable(name)}</th>{numbers}</tr>'


def _heads(*names: str) -> str:
    return f'<th scope="col">{names[0]}</th>' + "".join(
        f'<th scope="col" class="number">{escape(name)}</th>' for name in names[1:]
    )


def _mixtures(fit: MixtureFit, name: str, p: Mapping[str, Any]) -> str:
    """What a proposal gives each domain, and what holds it."""
    spread = p["uncertainty"]["shares"] if p["uncertainty"] else {}
    held = {b["domain"]: b for b in p["binding"]}
    rows = []
    for short, domain in zip(short_names(fit.table.domains), fit.table.domains, strict=True):
        ends, b = spread.get(domain), held.pop(domain, None)
        rows.append(_row(short, (
            *(f"{p[k]['weights'][domain]:.4f}" for k in ("natural", "best_row", "mixture")),
            f"{ends[0]:.3f} – {ends[1]:.3f}" if ends else "",
            f"{p['conservative']['weights'][domain]:.4f}" if p["conservative"] else "",
            f"{p['epochs'][domain]:.2f}" if p["epochs"] else "",
            _held(b) if b else "",
        )))  # fmt: skip
    rows += [_row(f"group {b['domain']}", ("",) * 6 + (_held(b),)) for b in held.values()]
    refits = f"{span(p['uncertainty']['refits'], 0.9)} of refits" if spread else "refits"
    heads = _heads(name, "natural", "best run", "proposed", refits, "conservative", "epochs",
                   "held by")  # fmt: skip
    drawn = grid("scores", f"Mixture {escape(name)}", heads, rows)
    return f'<div style="margin-top:1.25rem">{drawn}</div>'


def _held(b: Mapping[str, Any]) -> str:
    more = "" if b["gain"] is None else f"; free {b['share']:.3f}, gain {b['gain']:.4f}"
    return f"{b['kind']} at {b['at']:.3f}{more}"


def _swarm(fit: MixtureFit, natural: Array) -> str:
    X, names = fit.table.X, short_names(fit.table.domains)
    rows = [
        _row(name, (f"{q:.4f}", f"{x.min():.4f}", f"{x.mean():.4f}", f"{x.max():.4f}",
                    f"{(x > 0).sum()}", f"{e:.2f}" if np.isfinite(e) else "unknown"))
        for name, q, x, e in zip(names, natural, X.T, fit.design.effect, strict=True)
    ]  # fmt: skip
    d = fit.design
    condition = f"{d.condition:.3g}" if np.isfinite(d.condition) else "infinite"
    note = (
        f'<p class="note">Rank {d.rank} of {d.domains}, condition {condition}. Error of effect: '
        "standard error of a domain's linear effect in units of the noise of one run.</p>"
    )
    heads = _heads("domain", "natural", "least", "mean", "most", "runs with it", "error of effect")
    return note + grid("scores", "Shares in the swarm", heads, rows)


def _fit(fit: MixtureFit, covered: Array) -> str:
    def number(value: float | None, form: str = ".4f") -> str:
        return "" if value is None or not np.isfinite(value) else format(value, form)

    rows = [
        _row(name, (s.family, f"{s.rank_correlation:.3f}", number(s.r2, ".3f"), number(s.mae),
                    number(s.halfwidth), number(float(c), ".1%"), number(s.noise),
                    "yes" if s.predictable else "no"))
        for name, s, c in zip(short_names(fit.table.targets), fit.scores, covered, strict=True)
    ]  # fmt: skip
    heads = _heads("task", "law", "rank correlation", "R2", "MAE", f"± {100 * fit.level:g} %",
                   "covered", "noise", "predicted")  # fmt: skip
    return grid("scores", "Quality of the fit", heads, rows)


def _heat(fit: MixtureFit, effects: Effects) -> str:
    """Domains by tasks; the colour of a cell is the effect in units of the task's spread."""
    table = fit.table
    better = np.where([t in table.higher for t in table.targets], 1.0, -1.0)
    sure = (effects.low > 0) | (effects.high < 0)
    unit = np.where(effects.spread > 0, effects.spread, np.inf)
    strength = np.where(sure, better * effects.value / unit, 0.0)
    most = max(float(np.abs(strength).max()), 1e-12)
    rows = []
    for i, domain in enumerate(short_names(table.domains)):
        cells = []
        for j in range(len(table.targets)):
            low, high = effects.low[i, j], effects.high[i, j]
            part = abs(strength[i, j]) / most
            color = f"var(--series-{0 if strength[i, j] > 0 else 1})"
            style = (
                f"background:color-mix(in srgb,{color} {100 * part**0.6 * 0.6:.0f}%,transparent);"
                if part else ""
            )  # fmt: skip
            ends = f"{low:+.3f} {high:+.3f}" if np.isfinite(low) else ""
            cells.append(
                f'<td class="number" style="{style}{TIGHT}">'
                f'{effects.value[i, j]:+.3f}<br><small style="font-size:.6rem">{ends}</small></td>'
            )
        rows.append(f'<tr><th scope="row">{breakable(domain)}</th>{"".join(cells)}</tr>')
    heads = '<th scope="col">domain</th>' + "".join(
        f'<th scope="col" class="number" style="{TIGHT};white-space:normal">{breakable(name)}</th>'
        for name in short_names(table.targets)
    )
    return grid("scores", "Effects", heads, rows)


def _figure(chart: Mapping[str, Any]) -> str:
    wide = ' style="grid-column:1/-1"' if chart["wide"] else ""
    height = chart["figure"]["layout"]["height"]
    return (
        f"<figure{wide}><figcaption>{escape(chart['title'])}</figcaption>"
        f'<div class="plot" role="img" aria-label="{escape(chart["title"])}" '
        f'style="height:{height}px"></div></figure>'
    )


def _of(drawn: Sequence[str], figures: Sequence[Mapping[str, Any]], part: str) -> str:
    inner = "".join(d for d, f in zip(drawn, figures, strict=True) if f["part"] == part)
    columns = "grid-template-columns:repeat(auto-fit,minmax(min(100%,26rem),1fr))"
    return f'<div class="charts" style="{columns};margin-bottom:1.25rem">{inner}</div>'
