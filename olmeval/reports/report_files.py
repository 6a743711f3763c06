"""Parts of a report from other commands' files: ladders, mixtures, gates.

The pages of those commands show more; here is what a reader of scores needs of them.
"""

from collections.abc import Mapping
from typing import Any

from olmeval.reports.report_parts import heads, row
from olmeval.reports.report_svg import FOREST
from olmeval.reports.report_text import attribute, count, known, name, number, tag, words
from olmeval.reports.tables import grid

Named = Mapping[str, Mapping[str, Any]]
VERDICTS = {
    "ok": ("ok", "good"),
    "regressed": ("worse", "bad"),
    "drifting": ("drifting", "bad"),
    "unknown": ("cannot tell", "level"),
    "skipped": ("not there", "level"),
}
DOMAINS = 40
"""Domains of a mixture that are listed, by their share."""


def ladders(given: Named) -> str:
    """Predictions of ladders with intervals, what was measured, and how the back-tests went."""
    return "".join(_ladder(key, value) for key, value in given.items())


def ladder_claims(given: Named) -> list[str]:
    """A sentence a ladder and target, for the top of the page."""
    lines = []
    for key, value in given.items():
        for target in value["targets"]:
            main = _main(target["predictions"])
            errors = [abs(p["error"]) for p in main if known(p["error"])]
            text = f"Ladder {name(key)}, target {name(_target(target))}: "
            if errors:
                inside = sum(
                    p["low"] <= p["actual"] <= p["high"] for p in main if known(p["actual"])
                )
                text += (
                    f"mean error of the prediction {100 * sum(errors) / len(errors):.1f} %, "
                    f"{inside} of {len(errors)} inside the {100 * value['level']:g} % intervals"
                )
            else:
                text += f"{count(len(main), 'score')} predicted, none measured yet"
            lines.append(text + ".")
    return lines


def _main(predictions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those of accuracy, or else of the first quantity."""
    kinds = [p["quantity"] for p in predictions]
    wanted = "accuracy" if "accuracy" in kinds else kinds[0] if kinds else ""
    return [p for p in predictions if p["quantity"] == wanted]


def _target(target: Mapping[str, Any]) -> str:
    return str(target["target"] or f"N {target['params']:.3g}, D {target['tokens']:.3g}")


def _ladder(key: str, value: Mapping[str, Any]) -> str:
    level = f"{100 * value['level']:g} %"
    body = []
    for target in value["targets"]:
        for p in target["predictions"]:
            inside = ""
            if known(p["actual"]):
                hit = p["low"] <= p["actual"] <= p["high"]
                inside = tag("inside" if hit else "outside", "good" if hit else "bad")
            error = f"{100 * p['error']:+.1f} %".replace("-", "−") if known(p["error"]) else "–"
            cells = [
                name(_target(target)),
                name(p["quantity"]),
                number(p["value"]),
                f"{number(p['low'])} – {number(p['high'])}",
                _range(p),
                number(p["actual"]),
                error,
                inside,
            ]
            body.append(row(name(p["task"]), cells, str(p["task"]), text=2))
    columns = heads("task", "target", "quantity", "predicted", f"{level} interval", "", "measured",
                    "error", "", text=3)  # fmt: skip
    lines = [
        f"Back-test of {name(quantity)}: the nominal {level} held "
        f"{100 * c['actual']:.0f} % of {c['tests']}."
        for quantity, c in value["back_test"].items()
        if isinstance(c, Mapping) and known(c.get("actual"))
    ]
    lines += [words(w) for w in value["warnings"][:6]]
    more = len(value["warnings"]) - 6
    lines += [f"{more} more warnings."] if more > 0 else []
    notes = "".join(f"<li>{line}</li>" for line in lines)
    table = grid("ladder filtered", f"Ladder {attribute(key)}", columns, body)
    return f"<h3>{name(key)}</h3>{table}" + (f'<ul class="note">{notes}</ul>' if notes else "")


def _range(p: Mapping[str, Any]) -> str:
    """The interval with the prediction (dot) and the measured value (diamond) on one scale."""
    values = [p["low"], p["high"], p["value"]] + ([p["actual"]] if known(p["actual"]) else [])
    if not all(map(known, values)) or max(values) <= min(values):
        return ""
    low, high = min(values), max(values)

    def at(v: float) -> float:
        return float(round(8 + (v - low) / (high - low) * (FOREST - 16), 1))

    measured = ""
    if known(p["actual"]):
        place = f'transform="translate({at(p["actual"])} 8)"'
        measured = f'<path class="actual" {place} d="M0-5L5 0 0 5-5 0z"/>'
    return (
        f'<svg class="forest level" viewBox="0 0 {FOREST} 16" aria-hidden="true">'
        f'<path class="bar" d="M{at(p["low"])} 8H{at(p["high"])}M{at(p["low"])} 5v6'
        f'M{at(p["high"])} 5v6"/><circle cx="{at(p["value"])}" cy="8" r="3.4"/>{measured}</svg>'
    )


def mixtures(reports: Named, proposals: Named) -> str:
    """How well swarms are fitted, and the mixtures proposed from them."""
    parts = []
    for key, value in reports.items():
        parts.append(f"<h3>{name(key)}</h3>{_fit(key, value)}")
        parts += [_proposal(f"{key}: {k}", p) for k, p in value["proposals"].items()]
    parts += [_proposal(key, value) for key, value in _alone(reports, proposals).items()]
    return "".join(parts)


def _alone(reports: Named, proposals: Named) -> Named:
    """The proposals that no report shows already."""
    shown = [p for value in reports.values() for p in value["proposals"].values()]
    return {key: p for key, p in proposals.items() if p not in shown}


def mixture_claims(reports: Named, proposals: Named) -> list[str]:
    """A sentence a proposal."""
    every = [(k, p) for value in reports.values() for k, p in value["proposals"].items()]
    lines = []
    for key, p in [*every, *_alone(reports, proposals).items()]:
        text = f"Mixture {name(key)}: predicted mean loss {number(p['mixture']['objective'])}, "
        text += f"{number(p['gain'])} below natural"
        if u := p["uncertainty"]:
            text += (
                f" ({number(u['gain'][0])} to {number(u['gain'][1])} over {u['refits']} refits; "
            )
            text += f"{100 * u['beats_natural']:.0f} % put it before natural)"
        lines.append(text + ".")
    return lines


def _fit(key: str, value: Mapping[str, Any]) -> str:
    body = [
        row(name(f["target"]), [name(f["family"]), number(f["rank_correlation"], 3),
                                number(f.get("r2"), 3), number(f["mae"]),
                                number(f.get("halfwidth")),
                                f"{100 * f['coverage']:.0f} %" if known(f["coverage"]) else "–"],
            text=1)
        for f in value["fit"]
    ]  # fmt: skip
    columns = heads("target", "law", "rank correlation", "R2", "MAE",
                    f"± {100 * value['level']:g} %", "covered", text=2)  # fmt: skip
    note = f"{value['runs']} runs, {len(value['domains'])} domains; on runs the fit had not seen."
    return f'<p class="note">{note}</p>' + grid("fit", f"Fit {attribute(key)}", columns, body)


def _proposal(key: str, p: Mapping[str, Any]) -> str:
    spread = p["uncertainty"]["shares"] if p["uncertainty"] else {}
    natural, proposed = p["natural"]["weights"], p["mixture"]["weights"]
    most = max(max(natural.values()), max(proposed.values()), 1e-12)
    order = sorted(proposed, key=lambda d: -proposed[d])
    body = []
    for domain in order[:DOMAINS]:
        ends = spread.get(domain)
        epochs = (p["epochs"] or {}).get(domain)
        cells = [
            _share(natural[domain], proposed[domain], ends, most),
            number(natural[domain]),
            number(proposed[domain]),
            f"{number(ends[0], 3)} – {number(ends[1], 3)}" if ends else "–",
            number(epochs, 2) if known(epochs) else "–",
        ]
        body.append(row(name(domain), cells))
    left = order[DOMAINS:]
    if left:
        rest = [number(sum(w[d] for d in left)) for w in (natural, proposed)]
        body.append(row(f"{len(left)} smaller domains", ["", *rest, "–", "–"]))
    columns = heads("domain", "natural ○ to proposed ●", "natural", "proposed", "90 % of refits",
                    "epochs", text=2)  # fmt: skip
    warnings = "".join(f"<li>{words(w)}</li>" for w in p["warnings"])
    notes = f'<ul class="note">{warnings}</ul>' if warnings else ""
    return f"<h3>{name(key)}</h3>" + grid("mix", f"Mixture {attribute(key)}", columns, body) + notes


def _share(natural: float, proposed: float, ends: Any, most: float) -> str:
    """From a hollow dot to a full one, on a square-root scale so that small shares can be read."""

    def at(v: float) -> float:
        return float(round(6 + (max(v, 0.0) / most) ** 0.5 * (FOREST - 12), 1))

    band = ""
    if ends:
        band = f'<path class="band" d="M{at(ends[0])} 8H{at(ends[1])}"/>'
    return (
        f'<svg class="forest level" viewBox="0 0 {FOREST} 16" aria-hidden="true">{band}'
        f'<path class="bar" d="M{at(natural)} 8H{at(proposed)}"/>'
        f'<circle class="hollow" cx="{at(natural)}" cy="8" r="3.4"/>'
        f'<circle cx="{at(proposed)}" cy="8" r="3.4"/></svg>'
    )


def gates(given: Named) -> str:
    """Findings of regression gates, the bad ones first."""
    parts = []
    for key, value in given.items():
        order = sorted(value["findings"], key=lambda f: f["verdict"] in ("ok", "skipped"))
        body = [
            row(name(f["name"]), [tag(*VERDICTS.get(f["verdict"], (f["verdict"], "level"))),
                                  words(f["reason"]), number(f["baseline"]), number(f["value"]),
                                  number(f["drop"], 4, signed=True), number(f["stderr"]),
                                  number(f["detectable"]), f"{f['n']:,}"], f["name"], text=2)
            for f in order
        ]  # fmt: skip
        columns = heads("task", "verdict", "why", "baseline", "now", "worse by", "± stderr",
                        "detectable", "n", text=3)  # fmt: skip
        title = f"{name(value['run'])} against {name(value['baseline'])}"
        parts.append(
            f'<h3>{title}</h3><p class="note">{words(value["summary"])}. An unchanged model fails '
            f"such a check in at most {100 * value['false_alarm']:g} % of cases.</p>"
            + grid("gate filtered", f"Gate {attribute(key)}", columns, body)
        )
    return "".join(parts)


def gate_claims(given: Named) -> list[str]:
    """A sentence a gate."""
    return [
        f"Gate, {name(g['run'])} against {name(g['baseline'])}: {words(g['summary'])}."
        for g in given.values()
    ]
