"""Scores of the long table for other people's tools: Markdown, LaTeX, TensorBoard, W&B.

A series is one training run (and seed). Tables show its last checkpoint; trackers get every one.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import floor, isfinite, isnan, log10
from pathlib import Path
from typing import TYPE_CHECKING, Any

from olmeval.errors import UserError
from olmeval.files import atomic_dir, make_dir, sha256_json, write_text

if TYPE_CHECKING:
    import pandas as pd

SUITE = "primary_score"
"""The metric of suites."""
ABOUT = ("model", "family", "params", "params_total", "seed", "mix")


@dataclass(frozen=True)
class Series:
    """A training run: ``label`` is its name, with the seed where several share it."""

    label: str
    rows: "pd.DataFrame"

    @property
    def last(self) -> "pd.DataFrame":
        """Its last checkpoint's rows; all rows where no step is known."""
        steps = self.rows["step"]
        return self.rows[steps == steps.max()] if steps.notna().any() else self.rows


def series_of(table: "pd.DataFrame") -> list[Series]:
    """One series a run and seed, in order of appearance, rows sorted by step."""
    found = []
    for (run, seed), rows in table.groupby(["run", "seed"], dropna=False, sort=False):
        several = table.loc[table["run"] == run, "seed"].nunique() > 1
        label = f"{run}, seed {seed:g}" if several and seed == seed else str(run)
        found.append(Series(label, rows.sort_values("step", kind="stable")))
    return found


def export_markdown(table: "pd.DataFrame", output: Path) -> list[Path]:
    """Writes ``scores.md``: a row a task, a column a run, value ± standard error, best bold."""
    write_text(output / "scores.md", "\n".join(markdown_lines(table)) + "\n")
    return [output / "scores.md"]


def markdown_lines(table: "pd.DataFrame") -> list[str]:
    """The lines of :func:`export_markdown`."""
    heads = ["task", "metric", "n", *(markdown_text(one.label) for one in series_of(table))]
    lines = [f"| {' | '.join(heads)} |", f"|-|-|-:|{'-:|' * (len(heads) - 3)}"]
    for task, metric, upward, n, cells in _grid(table):
        shown = [f"**{c}**" if best else c for c, best in (_cell(*x, " ± ") for x in cells)]
        name, what = markdown_text(task), f"{markdown_text(metric)} {'↑' if upward else '↓'}"
        lines.append(f"| {name} | {what} | {n} | {' | '.join(shown)} |")
    return [*lines, "", "Value ± standard error at the last checkpoint; bold: the best value."]


def export_latex(table: "pd.DataFrame", output: Path) -> list[Path]:
    """Writes ``scores.tex``: the same as a ``tabular`` that needs the package ``booktabs``."""
    series = series_of(table)
    heads = ["task", "metric", "$n$", *(_tex(one.label) for one in series)]
    lines = [
        "% Value and standard error at the last checkpoint; bold: the best value.",
        rf"\begin{{tabular}}{{ll{'r' * (len(heads) - 2)}}}",
        r"\toprule",
        " & ".join(heads) + r" \\",
        r"\midrule",
    ]
    for task, metric, upward, n, cells in _grid(table):
        shown = []
        for text, best in (_cell(*x, r" \pm ") for x in cells):
            shown.append("--" if text == "–" else rf"$\mathbf{{{text}}}$" if best else f"${text}$")
        arrow = r"$\uparrow$" if upward else r"$\downarrow$"
        number = n.replace(",", "{,}")
        first = f"{_tex(task)} & {_tex(metric)} {arrow} & {number}"
        lines.append(rf"{first} & {' & '.join(shown)} \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    write_text(output / "scores.tex", "\n".join(lines) + "\n")
    return [output / "scores.tex"]


Cell = tuple[Any, Any, bool]
"""Value, standard error, and whether it is the best of its row."""


def _grid(table: "pd.DataFrame") -> Iterator[tuple[str, str, bool, str, list[Cell]]]:
    """Task, metric, direction, n and a cell a series; suites first."""
    finals = [
        {(r["task"], r["metric"]): r for r in one.last.to_dict("records")}
        for one in series_of(table)
    ]
    scores = {score for rows in finals for score in rows}
    for task, metric in sorted(scores, key=lambda s: (s[1] != SUITE, s)):
        rows = [of_run.get((task, metric)) for of_run in finals]
        known = [r for r in rows if r is not None]
        upward = bool(known[0]["higher_is_better"])
        values = [float(r["value"]) for r in known]
        best = (max if upward else min)(values) if len(values) > 1 else None
        cells = [
            (None, None, False) if r is None else (r["value"], r["stderr"], r["value"] == best)
            for r in rows
        ]
        ns = {int(r["n"]) for r in known if r["n"] is not None and r["n"] == r["n"]}
        size = "" if not ns else f"{min(ns):,}" if len(ns) == 1 else f"{min(ns):,}–{max(ns):,}"
        yield str(task), str(metric), upward, size, cells


def _cell(value: Any, error: Any, best: bool, sign: str) -> tuple[str, bool]:
    """Text with two digits of the error, and whether it is the best."""
    if value is None:
        return "–", False
    if error is None or not isfinite(error) or error <= 0:
        return f"{value:.4f}", best
    places = max(2, min(6, 1 - floor(log10(error))))
    return f"{value:.{places}f}{sign}{error:.{places}f}", best


def markdown_text(text: str) -> str:
    """Text on one line; what Markdown or HTML would read as markup is escaped."""
    line = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\|`*_\[\]~$])", r"\\\1", line)


TEX = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    **{c: f"\\{c}" for c in "&%$#_{}"},
}  # fmt: skip


def _tex(text: str) -> str:
    return "".join(TEX.get(c, c) for c in " ".join(text.split()))


def export_tensorboard(table: "pd.DataFrame", output: Path) -> list[Path]:
    """Writes an event file a series into ``output/<label>``; tags are ``task/metric``.

    The standard error is ``task/metric stderr``. A folder that is there is replaced, so a second
    export adds nothing twice. Raises :class:`UserError` where TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise _missing("tensorboard") from None
    written: list[Path] = []
    for folder, one in _folders(table, output).items():
        with atomic_dir(folder) as tmp:
            writer = SummaryWriter(str(tmp))
            for _, step, values in _points(one):
                for tag, value in values.items():
                    writer.add_scalar(tag, value, step)
            writer.close()
        written += sorted(folder.iterdir())
    return written


def export_wandb(
    table: "pd.DataFrame", output: Path, project: str = "olmeval", online: bool = False
) -> list[Path]:
    """Logs a series as a W&B run of ``project``, kept in ``output`` unless ``online``.

    The same table makes the same run ids, so a second upload replaces the first. Runs kept are sent
    by ``wandb sync``. Raises :class:`UserError` where W&B is not installed.
    """
    try:
        import wandb
    except ImportError:
        raise _missing("wandb") from None
    make_dir(output)
    written = []
    for one in series_of(table):
        first = one.rows.iloc[0]
        config = {k: _plain(first[k]) for k in ABOUT if _plain(first[k]) is not None}
        run = wandb.init(
            project=project,
            name=one.label,
            id=sha256_json([project, one.label])[:16],
            dir=str(output),
            config=config,
            mode="online" if online else "offline",
        )
        for tokens, step, values in _points(one):
            more = {} if tokens is None else {"tokens": tokens}
            run.log({**values, **more}, step=step)
        run.finish()
        written.append(Path(run.dir).parent)
    # finish() may return before the last lines are on disk; the end of W&B's own process does not.
    wandb.teardown()
    return written


def _points(one: Series) -> Iterator[tuple[float | None, int, dict[str, float]]]:
    """Tokens, step and values by tag of every checkpoint; step 0 where none is known."""
    steps = one.rows["step"].astype(float)
    for step, rows in one.rows.groupby(steps, dropna=False, sort=True):
        number = float(str(step))
        values: dict[str, float] = {}
        for r in rows.to_dict("records"):
            tag = f"{r['task']}/{r['metric']}"
            values[tag] = float(r["value"])
            if r["stderr"] is not None and r["stderr"] == r["stderr"]:
                values[f"{tag} stderr"] = float(r["stderr"])
        tokens = _plain(rows["tokens"].iloc[0])
        yield tokens, 0 if isnan(number) else int(number), values


def _folders(table: "pd.DataFrame", output: Path) -> dict[Path, Series]:
    """A folder of its own for every series."""
    found: dict[Path, Series] = {}
    for one in series_of(table):
        folder = output / (re.sub(r"[^\w.,=+-]+", "_", one.label)[:100].strip(".") or "run")
        if folder in found:
            raise UserError(
                f"'{found[folder].label}' and '{one.label}' would both go to '{folder}'; export "
                "them one by one"
            )
        if (folder / "run.json").exists():
            raise UserError(f"'{folder}' is a run folder; choose another --output")
        found[folder] = one
    return found


def _plain(value: Any) -> Any:
    """A number or text that trackers take; None for what is missing."""
    if value is None or value != value:
        return None
    return value.item() if hasattr(value, "item") else value


def _missing(name: str) -> UserError:
    return UserError(f"{name} is not installed; install it: pip install 'olmeval[{name}]'")


FORMATS: dict[str, Callable[["pd.DataFrame", Path], list[Path]]] = {
    "markdown": export_markdown,
    "latex": export_latex,
    "tensorboard": export_tensorboard,
}


def export_scores(
    table: "pd.DataFrame",
    format: str,
    output: Path,
    *,
    project: str = "olmeval",
    online: bool = False,
) -> list[Path]:
    """Writes the rows of a long table as markdown, latex, tensorboard or wandb; returns the files.

    ``project`` and ``online`` are for wandb (:func:`export_wandb`). Raises :class:`UserError` for
    another format, an empty table, or where nothing can be written.
    """
    if format not in FORMATS and format != "wandb":
        raise UserError(f"unknown format '{format}'; known: {', '.join(FORMATS)}, wandb")
    if table.empty:
        raise UserError("the table has no score to export")
    make_dir(output)
    table = table.reset_index(drop=True)
    if format == "wandb":
        return export_wandb(table, output, project, online)
    return FORMATS[format](table, output)
