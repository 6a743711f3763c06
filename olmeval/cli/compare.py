"""``olmeval compare``: is one run really better than another?"""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from olmeval.cli.tables import interval, number, print_grid, print_or_write

if TYPE_CHECKING:
    import pandas as pd

EPILOG = """\b
Examples:
  olmeval compare runs/mine-step1000 runs/base-step1000
  olmeval compare runs/a-step900 runs/b-step900 --checkpoints runs/ --flips flipped.csv
  olmeval compare runs/*-step244 --groups
"""
FILE = click.Path(path_type=Path)


@click.command(epilog=EPILOG)
@click.argument("paths", nargs=-1, required=True, type=FILE)
@click.option(
    "--task", "--tasks", "-t", "tasks", multiple=True, metavar="GLOB", help="Only tasks that match."
)
@click.option(
    "--checkpoints", multiple=True, type=FILE,
    help="Runs or tables with earlier checkpoints: their noise is added.",
)  # fmt: skip
@click.option("--last", default=5, show_default=True, help="Checkpoints whose spread is noise.")
@click.option("--groups", is_flag=True, help="Print groups of runs that cannot be told apart.")
@click.option("--flips", type=FILE, help="Write the questions that two runs score differently.")
@click.option("--samples", default=2000, show_default=True, help="Bootstrap samples.")
@click.option("--seed", default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON records.")
@click.option("--csv", type=FILE, help="Write all columns as CSV.")
def compare(
    paths: tuple[Path, ...],
    tasks: tuple[str, ...],
    checkpoints: tuple[Path, ...],
    last: int,
    groups: bool,
    flips: Path | None,
    samples: int,
    seed: int,
    as_json: bool,
    csv: Path | None,
) -> None:
    """Paired differences (a minus b) of every pair of runs, with 95 % intervals and tests.

    Suites that are plain averages come first, then their tasks.

    PATHS are run folders or folders of them. p is McNemar's exact test for right-or-wrong scores
    and a sign-flip test otherwise; with --checkpoints "p noise" is a t test that holds the noise of
    checkpoints, too. Holm corrects the last of them over tasks; "better" is decided by it at 0.05.
    """
    from fnmatch import fnmatch

    import pandas as pd

    from olmeval.analysis.compare import compare_runs, compare_suites, flipped, groups_table
    from olmeval.errors import UserError
    from olmeval.files import atomic_path
    from olmeval.results.run import find_runs, joined
    from olmeval.results.table import load_table

    runs = joined(find_runs(paths))
    if len(runs) < 2:
        raise UserError(f"'{paths[0]}' is one run; give two or more to compare")
    noise = load_table(checkpoints) if checkpoints else None
    found = compare_runs(runs, noise, last, samples, seed)
    suites = compare_suites(runs, found)
    if len(suites):
        found = pd.concat([suites, found], ignore_index=True)
    if tasks:
        found = found[[any(fnmatch(t, glob) for glob in tasks) for t in found["task"]]]
    if found.empty:
        raise UserError("the runs share no task; see `olmeval results` for what each one has")
    if flips is not None:
        if len(runs) != 2:
            raise UserError(f"--flips compares two runs, not {len(runs)}")
        with atomic_path(flips) as tmp:
            flipped(runs).to_csv(tmp, index=False)
    if groups:
        print_or_write(groups_table(found), as_json, csv, _print_groups)
    else:
        print_or_write(found, as_json, csv, _print)


def _print_groups(found: "pd.DataFrame") -> None:
    rows = [
        (r["task"], r["metric"], r["run"], r["groups"], number(r["value"], 4))
        for r in found.to_dict("records")
    ]
    print_grid(["task", "metric", "run", "alike", "value"], rows, 4)


def _print(found: "pd.DataFrame") -> None:
    noisy = bool(found["p_total"].notna().any())
    heads = ["task", "a", "b", "a − b", "better", "p", *["± noise", "p noise"] * noisy, "Holm"]
    heads += ["wins/losses/ties", "n"]
    rows = []
    for r in found.to_dict("records"):
        a_better = (r["difference"] > 0) == r["higher_is_better"]
        winner = "?" if not r["p_holm"] <= 0.05 else "a" if a_better else "b"
        row = [
            str(r["task"]), str(r["a"]), str(r["b"]),
            f"{r['difference']:+.4f} {interval(r['low'], r['high'])}", winner,
            f"{r['p_exact']:.2g}",
        ]  # fmt: skip
        if noisy:
            known = r["p_total"] == r["p_total"]
            row += [number(r["stderr_total"]), f"{r['p_total']:.2g}" if known else "—"]
        row += [f"{r['p_holm']:.2g}", f"{r['wins']}/{r['losses']}/{r['ties']}", str(r["n"])]
        rows.append(row)
    print_grid(heads, rows, 3)
    errors = int(found["errors"].sum())
    if errors:
        click.echo(f"{errors} instances were an error in either run and are left out of both")
