"""Parts of a report that stand for themselves: signal and noise, counters, provenance."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from olmeval.analysis.snr import SnrSettings, snr_table
from olmeval.reports.report_svg import short
from olmeval.reports.report_text import attribute, count, cut, known, name, number
from olmeval.reports.tables import ARROW, grid, pairs
from olmeval.results.run import Run

if TYPE_CHECKING:
    import pandas as pd

SAMPLES = 500
BAR = 120
RUNS = 100
"""Run folders that are listed one by one."""


def heads(*names: str, text: int = 1) -> str:
    """Heads of columns (HTML); the first ``text`` hold words, the others numbers."""
    return "".join(
        f'<th scope="col"{"" if k < text else " class=number"}>{n}</th>'
        for k, n in enumerate(names)
    )


def row(title: str, cells: Sequence[str], task: str | None = None, text: int = 0) -> str:
    """A row of HTML cells under a head; the first ``text`` hold words, the others numbers."""
    made = "".join(
        f"<td{'' if k < text else ' class=number'}>{cell}</td>" for k, cell in enumerate(cells)
    )
    data = f' data-task="{attribute(task)}"' if task is not None else ""
    return f'<tr{data}><th scope="row">{title}</th>{made}</tr>'


def snr(rows: "pd.DataFrame", last: int) -> str:
    """Signal, noise and their ratio by score; empty where no run has two checkpoints."""
    if not rows.groupby(["run", "seed"], dropna=False)["step"].nunique().gt(1).any():
        return ""
    table = snr_table(rows, SnrSettings(last=last, samples=SAMPLES))
    table = table[table["noise"].notna()]
    if table.empty:
        return ""
    table = table.sort_values(["snr", "noise"], ascending=[False, True], na_position="last")
    most = float(table["snr"].max()) if table["snr"].notna().any() else 0.0
    body = []
    for r in table.to_dict("records"):
        bar = ""
        if known(r["snr"]) and most > 0:
            width = BAR * r["snr"] / most
            bar = (
                f'<svg class="bars" viewBox="0 0 {BAR} 10" aria-hidden="true">'
                f'<path d="M0 1h{width:.1f}v8H0z"/></svg>'
            )
        cells = [
            bar,
            f"{number(r['snr'], 2)} <small>{_ends(r, 'snr', 2)}</small>",
            _percent(r["signal"]),
            _percent(r["noise"]),
            _percent(r["noise_seed"]),
            _percent(r["noise_questions"]),
            number(r["resolvable_questions"], 4),
            f"{r['models']:,} / {r['checkpoints']:,}",
        ]
        title = (
            f"{name(r['task'])} <small>{name(r['metric'])}{ARROW[r['higher_is_better']]}</small>"
        )
        body.append(row(title, cells, str(r["task"])))
    columns = heads("task", "", "SNR", "signal", "noise", "of seeds", "of questions",
                    "resolvable", "models / checkpoints")  # fmt: skip
    return grid("snr filtered", "Signal and noise", columns, body)


def _ends(r: Mapping[Any, Any], key: str, places: int) -> str:
    low, high = r[f"{key}_low"], r[f"{key}_high"]
    return f"{number(low, places)} – {number(high, places)}" if known(low) else ""


def _percent(value: Any) -> str:
    return f"{100 * value:.2g} %" if known(value) else "–"


def totals(runs: Sequence[Run]) -> dict[str, int]:
    """Counters added up over all tasks of all runs, instances and errors first."""
    found = {"instances": 0, "errors": 0}
    for result in (r for run in runs for r in run.metrics["tasks"].values()):
        for key, n in _counted(result):
            found[key] = found.get(key, 0) + n
    return found


def _counted(result: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    yield "instances", int(result["instances"])
    yield "errors", int(result["errors"])
    for key, n in result.get("counters", {}).items():
        if isinstance(n, int):
            yield key, n


def counters(runs: Sequence[Run]) -> str:
    """What happened to instances, by task; columns that are zero everywhere are named below."""
    by_task: dict[str, dict[str, int]] = {}
    for run in runs:
        for task, result in run.metrics["tasks"].items():
            mine = by_task.setdefault(task, {})
            for key, n in _counted(result):
                mine[key] = mine.get(key, 0) + n
    sums = totals(runs)
    columns = [key for key, n in sums.items() if n or key in ("instances", "errors")]
    zero = [key.replace("_", " ") for key in sums if key not in columns]
    ordered = sorted(by_task.items(), key=lambda item: (-item[1].get("errors", 0), item[0]))
    body = [row("<b>all tasks</b>", [f"<b>{sums[c]:,}</b>" for c in columns])]
    body += [
        row(name(task), [f"{mine.get(c, 0):,}" if mine.get(c, 0) else "·" for c in columns], task)
        for task, mine in ordered
    ]
    names = heads("task", *(name(c.replace("_", " ")) for c in columns))
    note = f'<p class="note">Zero everywhere: {", ".join(map(name, zero))}.</p>' if zero else ""
    return grid("counters filtered", "Counters", names, body) + note


def provenance(runs: Sequence[Run]) -> str:
    """Versions, settings and seeds (with what differs between runs), weights, tasks and data."""
    same = [
        {
            "versions": run.info.get("versions", {}),
            "settings": run.info["model"].get("settings", {}),
            "asked": {k: v for k, v in run.info.get("asked", {}).items() if k in ASKED},
            "training seed": run.info["model"]["metadata"].get("seed"),
            "tokenizer": str(run.info.get("tokenizer", ""))[:16],
            "recipe": str(run.info["model"]["metadata"].get("recipe_hash", ""))[:16],
        }
        for run in runs
    ]
    parts = [("Versions, settings, seeds", pairs(merged(same))), ("Checkpoints", _weights(runs))]
    parts.append(("Tasks and data", _tasks(runs)))
    mixtures = {
        str(run.info["model"]["metadata"].get("mix", run.path.name)): mixture
        for run in runs
        if (mixture := run.info["model"]["metadata"].get("mixture"))
    }
    if mixtures:
        cleaned = {
            cut(mix): {cut(k): f"{v:.4g}" if known(v) else cut(v) for k, v in m.items()}
            for mix, m in mixtures.items()
        }
        parts.append(("Mixtures, as realised", pairs(cleaned)))
    return "".join(
        f"<details><summary>{title}</summary>{inner}</details>" for title, inner in parts if inner
    )


ASKED = ("limit", "dtype", "bos", "max_length", "tokenizer")


def merged(values: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """One value a name where all agree, else every value and how many runs have it."""
    counts: dict[str, dict[str, int]] = {}
    for each in values:
        for key, value in _flat(each):
            mine = counts.setdefault(key, {})
            mine[value] = mine.get(value, 0) + 1
    found = {}
    for key, mine in counts.items():
        if len(mine) == 1 and sum(mine.values()) == len(values):
            (only,) = mine
            if only:
                found[key] = only
        else:
            ranked = sorted(mine.items(), key=lambda item: -item[1])
            text = "; ".join(f"{v or 'none'} ({count(n, 'run')})" for v, n in ranked[:6])
            more = f"; {len(ranked) - 6} more" if len(ranked) > 6 else ""
            found[key] = f"differs: {text}{more}"
    return found


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key} ")
        else:
            yield f"{prefix}{key}", "" if value is None else cut(value)


def _weights(runs: Sequence[Run]) -> str:
    body = []
    for run in runs[:RUNS]:
        trained, model = run.info["model"]["metadata"], run.info["model"]
        tokens, step = trained.get("tokens"), trained.get("step")
        cells = [
            name(trained.get("mix") or ""),
            f"{step:,}" if step is not None else "",
            short(tokens) if tokens else "",
            short(model["params"]) if model.get("params") else "",
            "" if trained.get("seed") is None else name(trained["seed"]),
            f"<code>{name(str(model.get('fingerprint', ''))[:16])}</code>",
            name(model.get("settings", {}).get("device", "")),
            name(str(run.info.get("finished", ""))[:16].replace("T", " ")),
        ]
        body.append(row(name(run.path.name), cells))
    names = heads("run", "mix", "step", "tokens", "params", "seed", "weights", "device",
                  "finished (UTC)")  # fmt: skip
    more = len(runs) - RUNS
    note = f'<p class="note">{more} more runs are in the folders.</p>' if more > 0 else ""
    return grid("weights", "Checkpoints", names, body) + note


def _tasks(runs: Sequence[Run]) -> str:
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for run in runs:
        for task, about in run.info.get("tasks", {}).items():
            found.setdefault(task, {}).setdefault(str(about["hash"]), about)
    body = []
    for task, versions in sorted(found.items()):
        for code, about in versions.items():
            data = about.get("data") or [{}]
            sources = ", ".join(
                f"{name(d.get('name', ''))} <code>{name(str(d.get('sha256', ''))[:12])}</code>"
                for d in data[:3]
            )
            differs = " <b>differs between runs</b>" if len(versions) > 1 else ""
            documents = f"{about.get('documents', 0):,} of {about.get('documents_available', 0):,}"
            cells = [f"<code>{name(code)}</code>{differs}", sources, documents,
                     f"{about.get('num_shots', 0)}"]  # fmt: skip
            body.append(row(name(task), cells, task, text=2))
    names = heads("task", "hash", "data", "documents", "shots", text=3)
    return grid("tasks filtered", "Tasks and data", names, body) if body else ""
