"""``olmeval interventions``: change a benchmark so that it decides better, and by how much."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from olmeval.cli.tables import interval, number, print_grid, table_options

if TYPE_CHECKING:
    from olmeval.analysis.interventions import Intervention

FILE = click.Path(path_type=Path)


@click.group(epilog="Example: olmeval interventions subtasks scores.parquet --suite best.yaml")
def interventions() -> None:
    """Another metric, averaged checkpoints, fewer subtasks: what each gains in decisions.

    The gain is in decision accuracy on models that had no part in the choice, with its 95 %
    interval.
    """


def shared(function: Callable[..., Any]) -> Callable[..., Any]:
    """Options of every intervention."""
    options = [
        table_options,
        click.option("--key", default="mix", show_default=True, help="Column that names a model."),
        click.option("--size", default="params", show_default=True, help="Column of the sizes."),
        click.option("--target", help="The size that decides; default: the largest."),
        click.option("--last", default=5, show_default=True, help="Checkpoints of a run."),
        click.option("--splits", default=50, show_default=True, help="Splits into halves."),
        click.option("--seed", default=0, show_default=True),
        click.option("--suite", type=FILE, help="Write what was chosen as a suite: NAME.yaml."),
    ]
    for option in reversed(options):
        function = option(function)
    return function


@interventions.command(epilog="Example: olmeval interventions metric runs/ --target-metric acc_raw")
@shared
@click.option("--target-metric", required=True, help="What the target is ranked by.")
def metric(target_metric: str, **options: Any) -> None:
    """Choose each task's metric at small scale."""
    from olmeval.analysis.interventions import choose_metrics

    wanted = (*options["metrics"], target_metric) if options["metrics"] else ()
    _run(choose_metrics, {**options, "metrics": wanted}, target_metric, every_metric=True)


@interventions.command(epilog="Example: olmeval interventions average runs/ --last 10")
@shared
def average(**options: Any) -> None:
    """Choose how many final checkpoints to average."""
    from olmeval.analysis.interventions import average_checkpoints

    _run(average_checkpoints, options)


@interventions.command(epilog="Example: olmeval interventions subtasks runs/ --task 'mmlu_*'")
@shared
def subtasks(**options: Any) -> None:
    """Choose the tasks of an average by their signal-to-noise ratio."""
    from olmeval.analysis.interventions import choose_subtasks

    _run(choose_subtasks, options)


def _run(
    function: "Callable[..., Intervention]",
    options: dict[str, Any],
    target_metric: str | None = None,
    every_metric: bool = False,
) -> None:
    from olmeval.analysis.decisions import DecisionSettings
    from olmeval.analysis.grid import choose
    from olmeval.results.table import load_table

    loaded = load_table(options["paths"] or (Path("runs"),), options["mapping"])
    metrics = options["metrics"]
    if every_metric and not metrics:
        metrics = tuple(sorted(set(loaded["metric"])))
    table = choose(loaded, options["where"], options["tasks"], metrics)
    settings = DecisionSettings(
        key=options["key"], size=options["size"], target=options["target"],
        target_metric=target_metric, last=options["last"],
    )  # fmt: skip
    _print(function(table, settings, splits=options["splits"], seed=options["seed"]), options)


def _print(found: "Intervention", options: dict[str, Any]) -> None:
    rows = []
    for record in found.table.to_dict("records"):
        cells = [
            number(value) if isinstance(value, float) else str(value)
            for name, value in record.items()
            if name != "chosen"
        ]
        rows.append([*cells, "✓" if record["chosen"] else ""])
    heads = [str(c).replace("_", " ") for c in found.table.columns]
    print_grid(heads, rows, 1)
    gain = found.gain
    click.echo(
        f"held-out gain in decision accuracy: {gain.value:+.4f} "
        f"{interval(gain.low, gain.high)}; judged on the models that chose: {gain.naive:+.4f}; "
        f"{100 * gain.stable:.0f} % of halves choose the same"
    )
    suite: Path | None = options["suite"]
    if suite is not None:
        from olmeval.analysis.suite_file import write_suite

        summary = f"Chosen by olmeval interventions; held-out gain {gain.value:+.4f}"
        if found.average > 1:
            summary += f"; average the last {found.average} checkpoints"
        names, unknown = write_suite(suite, suite.stem, summary, found.chosen)
        click.echo(
            f"'{suite}' holds {', '.join(names) or 'no suite'}; in a folder DIR/suites it runs as "
            f"olmeval run --task-path DIR --tasks {names[0] if names else '…'}"
        )
        if unknown:
            click.echo(f"{len(unknown)} tasks are not in this package's catalogue: comments there")
