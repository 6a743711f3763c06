"""``olmeval interventions``: change a benchmark so that it decides better, and by how much."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from olmeval.cli.tables import interval, number, print_grid, table_options

if TYPE_CHECKING:
    import pandas as pd

    from olmeval.analysis.interventions import Intervention

FILE = click.Path(path_type=Path)


@click.group(epilog="Example: olmeval interventions subtasks scores.parquet --suite best.yaml")
def interventions() -> None:
    """Another metric, averaged checkpoints, fewer subtasks or questions: what each gains.

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
        click.option("--json", "as_json", is_flag=True, help="Print JSON."),
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


@interventions.command(
    epilog="Example: olmeval interventions questions runs/ --task 'arc*' --suite small.yaml"
)
@click.argument("paths", nargs=-1, type=FILE)
@click.option(
    "--task", "--tasks", "-t", "tasks", multiple=True, metavar="GLOB", help="Only such tasks."
)
@click.option("--last", default=5, show_default=True, help="Checkpoints of a run.")
@click.option("--draws", default=50, show_default=True, help="Random samples of each size.")
@click.option("--keep", default=0.9, show_default=True, help="Share of the SNR to keep.")
@click.option("--seed", default=0, show_default=True)
@click.option("--suite", type=FILE, help="Write the tasks as a suite: NAME.yaml.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def questions(
    paths: tuple[Path, ...],
    tasks: tuple[str, ...],
    last: int,
    draws: int,
    keep: float,
    seed: int,
    suite: Path | None,
    as_json: bool,
) -> None:
    """Choose how many questions to ask. PATHS are run folders, default runs/.

    All models answer the same drawn questions. "kept" is the SNR of so many questions over that of
    all; "agreement" how alike the drawn and the other questions rank the models.
    """
    from fnmatch import fnmatch

    from olmeval.analysis.sample_size import sample_size_curve
    from olmeval.analysis.suite_file import write_suite
    from olmeval.results.run import find_runs, joined

    runs = joined(find_runs(paths or (Path("runs"),)))
    done = [run for run in runs if (run.path / "metrics.json").exists()]
    found = sample_size_curve(done, last, draws=draws, enough=keep, seed=seed)
    if tasks:
        found = found[[any(fnmatch(t, glob) for glob in tasks) for t in found["task"]]]
    chosen = found[found["chosen"]]
    if as_json:
        _print_questions_json(found, chosen)
    else:
        _print_questions(found, chosen, keep)
    if suite is not None and len(chosen):
        primary = {t: r["primary_metric"] for t, r in done[-1].metrics["tasks"].items()}
        limit = int(chosen["n"].max())
        summary = f"Chosen by olmeval interventions questions; run with --limit {limit}"
        kept = {task: primary[task] for task in chosen["task"]}
        names, unknown = write_suite(suite, suite.stem, summary, kept)
        _say_suite(suite, names, unknown)


def _print_questions_json(found: "pd.DataFrame", chosen: "pd.DataFrame") -> None:
    import json

    from olmeval.results.run import records

    limit = None if chosen.empty else int(chosen["n"].max())
    click.echo(json.dumps({"limit": limit, "table": records(found)}, indent=2, default=str))


def _print_questions(found: "pd.DataFrame", chosen: "pd.DataFrame", keep: float) -> None:
    rows = [
        (
            str(r["task"]), str(r["n"]),
            f"{number(r['snr'])} {interval(r['snr_low'], r['snr_high'])}",
            f"{number(r['kept'])} {interval(r['kept_low'], r['kept_high'])}",
            number(r["agreement"]), "✓" if r["chosen"] else "",
        )
        for r in found.to_dict("records")
    ]  # fmt: skip
    print_grid(["task", "questions", "SNR", "kept", "agreement", "chosen"], rows, 1)
    if chosen.empty:
        click.echo("no noise is known: bring two checkpoints or more of each model")
        return
    limit = int(chosen["n"].max())
    click.echo(f"--limit {limit} keeps {keep:g} of the SNR of every task, on average over draws")


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
    if options["as_json"]:
        import json
        from dataclasses import asdict

        from olmeval.results.run import records

        value = {**asdict(found), "table": records(found.table)}
        click.echo(json.dumps(value, indent=2, default=str))
    else:
        _print_table(found)
    suite: Path | None = options["suite"]
    if suite is not None:
        from olmeval.analysis.suite_file import write_suite

        summary = f"Chosen by olmeval interventions; held-out gain {found.gain.value:+.4f}"
        if found.average > 1:
            summary += f"; average the last {found.average} checkpoints"
        names, unknown = write_suite(suite, suite.stem, summary, found.chosen)
        _say_suite(suite, names, unknown)


def _print_table(found: "Intervention") -> None:
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


def _say_suite(path: Path, names: list[str], unknown: list[str]) -> None:
    shown = names[0] if names else "…"
    click.echo(
        f"'{path}' holds {', '.join(names) or 'no suite'}; in a folder DIR/suites it runs as "
        f"olmeval run --task-path DIR --tasks {shown}",
        err=True,
    )
    if unknown:
        click.echo(
            f"{len(unknown)} tasks are not in this package's catalogue: comments there", err=True
        )
