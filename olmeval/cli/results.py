"""``olmeval results``: the scores of run folders as a table or a file."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from olmeval.cli.tables import print_grid

if TYPE_CHECKING:
    import pandas as pd

    from olmeval.results.run import Run

EPILOG = """\b
Examples:
  olmeval results runs/
  olmeval results runs/ --all-metrics --csv scores.csv
"""


@click.command(epilog=EPILOG)
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option("--all-metrics", is_flag=True, help="Every metric, not the primary ones alone.")
@click.option(
    "--task", "--tasks", "-t", "tasks", multiple=True, metavar="GLOB", help="Only tasks that match."
)
@click.option("--json", "as_json", is_flag=True, help="Print the long table as JSON records.")
@click.option("--csv", type=click.Path(path_type=Path), help="Write the long table as CSV.")
@click.option("--parquet", type=click.Path(path_type=Path), help="Write it as Parquet.")
def results(
    paths: tuple[Path, ...],
    all_metrics: bool,
    tasks: tuple[str, ...],
    as_json: bool,
    csv: Path | None,
    parquet: Path | None,
) -> None:
    """Scores with standard errors by model, step and task. PATHS default to runs/."""
    from fnmatch import fnmatch

    from olmeval.errors import UserError
    from olmeval.files import atomic_path
    from olmeval.results.run import find_runs, long_table, records

    everything = find_runs(paths or (Path("runs"),))
    runs = [run for run in everything if (run.path / "metrics.json").exists()]
    for run in everything:
        if run not in runs:
            click.echo(f"unfinished: {run.path} (give its command again to finish it)", err=True)
    table = long_table(runs)
    if not all_metrics and not (csv or parquet):
        table = table[table["primary"]]
    if tasks:
        table = table[[any(fnmatch(t, glob) for glob in tasks) for t in table["task"]]]
    if table.empty:
        raise UserError("no score matches; see `olmeval results` without filters")
    if csv:
        with atomic_path(csv) as tmp:
            table.to_csv(tmp, index=False)
    if parquet:
        with atomic_path(parquet) as tmp:
            table.to_parquet(tmp, index=False)
    if as_json:
        click.echo(json.dumps(records(table), indent=2))
    elif not (csv or parquet):
        print_table(table, runs)


def print_table(table: "pd.DataFrame", runs: Sequence["Run"]) -> None:
    """One line a score: model, step, task, metric, value ± standard error, n, what went wrong.

    Where one model has runs of several names (other limits), the run stands before the model.
    """
    if "primary" in table and table["primary"].any():
        shown = table[table["primary"]] if len(runs) * 4 < len(table) else table
    else:
        shown = table
    notes = {
        (run.name, run.info["model"]["name"], task): _notes(result)
        for run in runs
        for task, result in run.metrics["tasks"].items()
    }
    several = bool((table.groupby("model")["run"].nunique() > 1).any())
    heads = [*["run"] * several, "model", "step", "task", "metric", "value", "± stderr", "n"]
    heads.append("notes")
    texts = [
        k for k, head in enumerate(heads) if head in ("run", "model", "task", "metric", "notes")
    ]
    rows = []
    for row in shown.to_dict("records"):
        arrow = "↑" if row["higher_is_better"] else "↓"
        step, error = row["step"], row["stderr"]
        run_and_model = str(row["run"]), str(row["model"])
        rows.append([
            *run_and_model[0 if several else 1 :],
            "" if step is None or step != step else str(int(step)),
            str(row["task"]),
            f"{row['metric']} {arrow}",
            f"{row['value']:.4f}",
            "—" if error is None or error != error else f"± {error:.4f}",
            str(int(row["n"])),
            notes.get((*run_and_model, str(row["task"])), ""),
        ])  # fmt: skip
    print_grid(heads, rows, texts)


def _notes(result: dict[str, object]) -> str:
    """Errors and counters of a task that are not zero, in words."""
    counters: dict[str, int] = result["counters"]  # type: ignore[assignment]
    named = {"errors": result["errors"], **counters}
    shown = ("errors", "truncated", "ties", "unparsed", "length_limited", "seams", "missing_bos")
    return ", ".join(f"{named[k]} {k.replace('_', ' ')}" for k in shown if named.get(k))
