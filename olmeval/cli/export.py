"""``olmeval export``: run folders in the files of OLMES and lm-evaluation-harness."""

from pathlib import Path

import click

EPILOG = """\b
Examples:
  olmeval export runs/ --format olmes -o exported
  olmeval export runs/my-model --format lm-eval -o exported
"""


@click.command(epilog=EPILOG)
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--format",
    "format_",
    type=click.Choice(["olmes", "lm-eval"]),
    required=True,
    help="Whose files to write.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Each run gets a folder of its own in it.",
)
def export(paths: tuple[Path, ...], format_: str, output: Path) -> None:
    """Write finished runs in the files that other tools parse. PATHS are run folders, or hold them.

    olmes: task-NNN-NAME-{metrics.json,predictions.jsonl,requests.jsonl}, metrics.json,
    metrics-all.jsonl. lm-eval: results_TIME.json, samples_TASK_TIME.jsonl.
    """
    from rich.console import Console
    from rich.progress import Progress

    from olmeval.results.export import export_runs
    from olmeval.results.run import find_runs

    runs = find_runs(paths)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("exporting runs", total=len(runs))
        files = export_runs(runs, format_, output, lambda _: progress.advance(bar))
    click.echo(f"{len(files)} files of {len(runs)} runs in {output}")
