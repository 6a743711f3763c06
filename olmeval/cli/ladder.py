"""``olmeval ladder``: fit small runs, predict large ones, and learn how sure that is."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from olmeval.ladders.curves import Ladder

PATH = click.Path(path_type=Path)
DATA = "--ladder olmo2-2024 --data ladder-runs"


@click.group(epilog=f"Example: olmeval ladder predict {DATA}")
def ladder() -> None:
    """Model ladders: fit small runs, predict large ones with intervals, choose the next run."""


def scores(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say which ladder and where its scores are."""
    for option in (
        click.argument("tables", nargs=-1, type=PATH),
        click.option("--ladder", "name", required=True, help="A ladder file, or a shipped one."),
        click.option("--data", type=PATH, help="Folder of the files that the ladder file names."),
        click.option("--map", "mapping", type=PATH, help="YAML: columns of foreign TABLES."),
        click.option("--fit", multiple=True, help="Runs to fit (with *), in place of the file's."),
        click.option("--tasks", multiple=True, help="Tasks, in place of all of the file's."),
        click.option("--json", "as_json", is_flag=True, help="Print JSON."),
    )[::-1]:
        command = option(command)
    return command


def opened(options: dict[str, Any]) -> "Ladder":
    """The ladder that the options of :func:`scores` name."""
    from olmeval.ladders.predict import open_ladder

    return open_ladder(
        options["name"], options["data"], options["tables"], options["mapping"], options["fit"],
        options["tasks"],
    )  # fmt: skip


@ladder.command(epilog=f"Example: olmeval ladder fit {DATA} --procedure ladder-2024 --feature bpb")
@scores
@click.option(
    "--procedure", type=click.Choice(["forecast", "ladder-2024"]), default="forecast",
    show_default=True, help="Ours, or the published one exactly.",
)  # fmt: skip
@click.option("--feature", default="bpb", show_default=True, help="Loss, with ladder-2024.")
@click.option("--law", type=click.Choice(["loss-nd", "loss-c3", "loss-c2"]), default="loss-nd",
              show_default=True, help="Loss law, with ladder-2024.")  # fmt: skip
def fit(procedure: str, feature: str, law: Any, as_json: bool, **options: Any) -> None:
    """Fit the laws and print their parameters, convergence and errors."""
    from olmeval.cli.ladder_print import named, print_published, print_rows
    from olmeval.ladders.predict import fit_forecast, fit_published, predict_published, scales

    found = opened(options)
    if procedure == "ladder-2024":
        chains = fit_published(found, feature, law)
        targets = scales(found.file) if found.file.targets else []
        print_published(
            [
                (chain, [(s, predict_published(found, chain, s)) for s in targets])
                for chain in chains
            ],
            as_json,
        )
        return
    made = fit_forecast(found)
    rows = []
    for member in made.members_:
        theta, squash = member.loss_parameters(), member.accuracy_parameters()
        for t, task in enumerate(member.tasks):
            row = {"task": task, "member": member.name, "loss": named(member.loss_law, theta[t])}
            if squash is not None:
                row["accuracy"] = named("sigmoid", squash[t])
            row["converged"] = f"{member.loss.converged[t].mean():.0%}"
            rows.append(row)
    print_rows(rows, as_json)
    for line in made.warnings_:
        click.echo(line, err=True)


@ladder.command(
    epilog=f"""\b
Examples:
  olmeval ladder predict {DATA}
  olmeval ladder predict {DATA} --fit '*-[125]*xC' --target 13B-5T --json
  olmeval ladder predict {DATA} --params 7e9 --tokens 4e12 --flops-per-token 5e10
"""
)
@scores
@click.option("--target", "targets", multiple=True, help="A target of the ladder file; all.")
@click.option("--params", type=float, help="N: weights without the input embedding.")
@click.option("--tokens", type=float, help="D.")
@click.option("--flops-per-token", type=float, help="Exact training FLOPs of one token.")
@click.option("--level", type=click.FloatRange(0.5, 0.999), default=0.95, show_default=True,
              help="Of the intervals.")  # fmt: skip
def predict(
    targets: tuple[str, ...], params: float | None, tokens: float | None,
    flops_per_token: float | None, level: float, as_json: bool, **options: Any,
) -> None:  # fmt: skip
    """Predict loss and accuracy of large runs, with intervals calibrated by back-test."""
    from olmeval.cli.ladder_print import print_predictions
    from olmeval.ladders.predict import fit_forecast, scales
    from olmeval.ladders.predict import predict as at

    found = opened(options)
    wanted = scales(found.file, targets, params, tokens, flops_per_token)
    made = fit_forecast(found, level=level)
    print_predictions([(scale, at(found, made, scale)) for scale in wanted], made, as_json)


@ladder.command(epilog=f"Example: olmeval ladder backtest {DATA}")
@scores
def backtest(as_json: bool, **options: Any) -> None:
    """Predict every largest size from the smaller ones: errors, and what the intervals held."""
    from olmeval.cli.ladder_print import print_backtest
    from olmeval.ladders.predict import fit_forecast

    print_backtest(fit_forecast(opened(options)), as_json)


@ladder.command(
    epilog=f"Example: olmeval ladder design {DATA} --target 13B-5T --multiples 1 --multiples 5"
)
@scores
@click.option("--target", required=True, help="The target whose interval is to narrow.")
@click.option("--sizes", multiple=True, help="Candidate sizes of the ladder file; all.")
@click.option("--multiples", type=float, multiple=True, default=(1, 2, 5, 10), show_default=True,
              help="Candidate lengths, in units of 20 tokens a parameter.")  # fmt: skip
def design(
    target: str, sizes: tuple[str, ...], multiples: tuple[float, ...], as_json: bool, **options: Any
) -> None:
    """Which run to add next: expected shrinkage of the target's interval, per FLOP."""
    from olmeval.cli.ladder_print import print_rows
    from olmeval.ladders.design import candidates, choose
    from olmeval.ladders.predict import fit_forecast, scales

    found = opened(options)
    (scale,) = scales(found.file, [target])
    offered = candidates(found, scale, sizes, multiples)
    rows = [
        {"run": row.name, "flops": row.scale.flops, "shrinkage": row.shrinkage,
         "per_exaflop": row.per_exaflop}
        for row in choose(fit_forecast(found), scale, offered)
    ]  # fmt: skip
    print_rows(rows, as_json)
