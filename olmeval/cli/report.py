"""``olmeval report``: one page from runs, tables and the files of other commands."""

import json
from pathlib import Path

import click

EPILOG = """\b
Examples:
  olmeval report runs/ -o report.html
  olmeval report runs/ --baseline natural --task 'arc_*' --task 'mmlu*'
  olmeval report scores.parquet ladder.json mixes/long gate.json -o page.html
"""
PATH = click.Path(path_type=Path)


@click.command(epilog=EPILOG)
@click.argument("paths", nargs=-1, type=PATH)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), default="report.html",
    show_default=True, help="The page.",
)  # fmt: skip
@click.option("--title", help="Default: the names of the runs.")
@click.option(
    "--baseline", metavar="RUN", help="Hold all runs against this one, in place of the best."
)
@click.option(
    "--task", "--tasks", "-t", "tasks", multiple=True, metavar="GLOB", help="Only tasks that match."
)
@click.option(
    "--metric", "metrics", multiple=True, help="These metrics, in place of the primary ones."
)
@click.option("--where", metavar="SQL", help="Only rows of the long table that fulfil it.")
@click.option("--map", "mapping", type=PATH, help="YAML: columns of foreign tables.")
@click.option(
    "--last", type=click.IntRange(2), default=5, show_default=True,
    help="Checkpoints whose spread is noise.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print who is better, as JSON.")
def report(
    paths: tuple[Path, ...],
    output: Path,
    title: str | None,
    baseline: str | None,
    tasks: tuple[str, ...],
    metrics: tuple[str, ...],
    where: str | None,
    mapping: Path | None,
    last: int,
    as_json: bool,
) -> None:
    """One self-contained page: which run is better, by how much, and is it significant.

    PATHS (default: runs/) are run folders or folders of them, long tables (.csv, .parquet), and
    JSON files of 'olmeval ladder report', 'olmix report', 'olmix optimize' and 'olmeval gate
    check --output', in any number and order.
    """
    from rich.console import Console

    from olmeval.reports.report import write_report

    with Console(stderr=True).status("comparing runs"):
        made = write_report(
            paths or (Path("runs"),),
            output,
            title=title,
            baseline=baseline,
            tasks=tasks,
            metrics=metrics,
            where=where,
            mapping=mapping,
            last=last,
        )
    for note in made.notes:
        click.echo(note, err=True)
    files = [str(made.page), *([str(made.data)] if made.data else [])]
    if as_json:
        value = {"page": files[0], "data": files[1] if made.data else None}
        click.echo(json.dumps({**value, "contests": made.contests, "notes": made.notes}, indent=2))
        return
    for contest in made.contests:
        verdict = f" ({contest['verdict']})" if contest["verdict"] else ""
        click.echo(f"{contest['name']}: {contest['answer']}{verdict}")
    click.echo(" and ".join(f"'{name}'" for name in files))
