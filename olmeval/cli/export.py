"""``olmeval export``: scores in the files of other tools, for papers, trackers and model cards."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from olmeval.results.run import Run

EPILOG = """\b
Examples:
  olmeval export runs/ --format olmes -o exported
  olmeval export runs/my-model --format model-card -o cards
  olmeval export runs/ --format latex --task 'arc_*' -o paper
  olmeval export scores.parquet --format tensorboard -o tensorboard
"""
OF_RUNS = ("olmes", "lm-eval", "model-card")
OF_TABLES = ("markdown", "latex", "tensorboard", "wandb")
PATH = click.Path(path_type=Path)


@click.command(epilog=EPILOG)
@click.argument("paths", nargs=-1, required=True, type=PATH)
@click.option(
    "--format", "format_", type=click.Choice([*OF_RUNS, *OF_TABLES]), required=True,
    help="Whose files to write.",
)  # fmt: skip
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, file_okay=False), required=True,
    help="A folder; run by run each gets one of its own in it.",
)  # fmt: skip
@click.option(
    "--task", "--tasks", "-t", "tasks", multiple=True, metavar="GLOB", help="Only tasks that match."
)
@click.option(
    "--metric", "metrics", multiple=True, help="These metrics, in place of the primary ones."
)
@click.option("--map", "mapping", type=PATH, help="YAML: columns of foreign tables.")
@click.option("--project", default="olmeval", show_default=True, help="With wandb.")
@click.option("--online", is_flag=True, help="With wandb: upload now; else `wandb sync` does.")
def export(
    paths: tuple[Path, ...],
    format_: str,
    output: Path,
    tasks: tuple[str, ...],
    metrics: tuple[str, ...],
    mapping: Path | None,
    project: str,
    online: bool,
) -> None:
    """Write scores in the files that other tools read.

    PATHS are run folders, or hold them; for markdown, latex, tensorboard and wandb also long tables
    (.csv, .parquet).

    \b
    olmes        task-NNN-NAME-{metrics.json,predictions.jsonl,requests.jsonl},
                 metrics.json, metrics-all.jsonl
    lm-eval      results_TIME.json, samples_TASK_TIME.jsonl
    model-card   README.md with model-index metadata of the Hugging Face hub
    markdown     scores.md: last checkpoints, value ± standard error
    latex        scores.tex: the same, for the package booktabs
    tensorboard  an event file a training run, every checkpoint
    wandb        a W&B run a training run, every checkpoint
    """
    if format_ in OF_RUNS:
        _export_runs(paths, format_, output, tasks or metrics or mapping)
        return
    from olmeval.analysis.grid import choose
    from olmeval.results.export_scores import export_scores
    from olmeval.results.table import load_table

    table = choose(load_table(paths, mapping), None, tasks, metrics)
    files = export_scores(table, format_, output, project=project, online=online)
    click.echo("\n".join(map(str, files)))


def _export_runs(paths: tuple[Path, ...], format_: str, output: Path, chosen: object) -> None:
    from rich.console import Console
    from rich.progress import Progress

    from olmeval.errors import UserError
    from olmeval.results.export import export_runs
    from olmeval.results.export_card import export_cards
    from olmeval.results.run import find_runs, joined

    if chosen:
        raise UserError(f"--format {format_} writes whole runs; --task, --metric and --map do not")
    runs = find_runs(paths)
    if format_ == "model-card":
        runs = joined(runs)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("exporting runs", total=len(runs))

        def advance(_: "Run") -> None:
            progress.advance(bar)

        if format_ == "model-card":
            files = export_cards(runs, output, advance)
        else:
            files = export_runs(runs, format_, output, advance)
    click.echo(f"{len(files)} files of {len(runs)} runs in {output}")
