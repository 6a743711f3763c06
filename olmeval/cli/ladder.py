"""``olmeval ladder``: fit small runs, predict large ones, and learn how sure that is."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from olmeval.cli.options import placement

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
        click.option("--tasks", "-t", multiple=True, help="Tasks, in place of all of the file's."),
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


@ladder.command(epilog=f"Example: olmeval ladder report {DATA} --output ladder.html")
@scores
@click.option("--output", "-o", default="ladder.html", show_default=True, type=PATH,
              help="The page; its numbers go beside it as .json.")  # fmt: skip
def report(output: Path, as_json: bool, **options: Any) -> None:
    """One page for a ladder: fits, forecasts with bands, errors, back-tests, warnings."""
    from olmeval.ladders.predict import fit_forecast, scales
    from olmeval.reports.ladder import write_ladder_report

    found = opened(options)
    targets = scales(found.file) if found.file.targets else []
    page, numbers = write_ladder_report(found, fit_forecast(found), targets, output)
    click.echo(numbers.read_text(encoding="utf-8") if as_json else f"'{page}' and '{numbers}'")


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


@ladder.command(epilog="Example: olmeval ladder plan --ladder olmo3 --tflops 3200 --budget 1e21")
@click.option("--ladder", "name", required=True, help="A ladder file, or a shipped one.")
@click.option("--budget", type=float, help="FLOPs, spent on the cheapest rungs first.")
@click.option("--tflops", type=click.FloatRange(0, min_open=True),
              help="Sustained by the whole machine (peak times utilization).")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def plan(name: str, budget: float | None, tflops: float | None, as_json: bool) -> None:
    """The rungs of a ladder: weights, tokens, FLOPs, hours, and what a budget pays for."""
    from dataclasses import asdict

    from olmeval.cli.ladder_print import print_rows
    from olmeval.ladders.rungs import plan as planned
    from olmeval.ladders.spec import load_ladder

    file, _ = load_ladder(name)
    rungs = planned(file, None if tflops is None else tflops * 1e12, budget)
    if as_json:
        print_rows([asdict(rung) for rung in rungs], True)
        return
    rows = []
    for rung in rungs:
        row = {"run": rung.name, "params": rung.params, "tokens": float(rung.tokens),
               "flops": rung.flops}  # fmt: skip
        if rung.hours is not None:
            row["hours"] = rung.hours
        role = "held out" if rung.held_out else "rung" if rung.within else "over the budget"
        rows.append({**row, "role": role})
    print_rows(rows, False)
    kept = [rung for rung in rungs if rung.within and not rung.held_out]
    hours = sum(rung.hours or 0.0 for rung in kept)
    click.echo(
        f"{len(kept)} rungs, {sum(rung.flops for rung in kept):.3g} FLOPs"
        + (f", {hours:.3g} hours" if tflops is not None else "")
    )


@ladder.command(
    epilog="Example: olmeval ladder run --ladder cpu-demo --corpus corpus --output runs/cpu-demo"
)
@click.option("--ladder", "name", required=True, help="A ladder file, or a shipped one.")
@click.option("--corpus", type=PATH, help="Token shards, in place of the recipe's data.root.")
@click.option(
    "--output", "-o", required=True, type=PATH, help="Folder; what is there is continued."
)
@placement("Where rungs are trained.")
@click.option("--no-target", is_flag=True, help="Leave the held-out target untrained.")
@click.option("--json", "as_json", is_flag=True, help="Print the prediction as JSON.")
@click.option("--quiet", is_flag=True, help="Show no progress.")
def run(
    name: str, corpus: Path | None, output: Path, executor: str, workers: int | None,
    gpus_per_worker: float | None, ray_address: str | None, no_target: bool, as_json: bool,
    quiet: bool,
) -> None:  # fmt: skip
    """Train and score the rungs, then predict the held-out target beside what it reached."""
    from olmeval.cli.ladder_print import print_predictions
    from olmeval.executors.registry import make_executor
    from olmeval.ladders.rungs import predict_target
    from olmeval.ladders.rungs import run as train
    from olmeval.ladders.spec import load_ladder

    file, _ = load_ladder(name)
    with make_executor(
        executor, workers, gpus_per_worker=gpus_per_worker, address=ray_address
    ) as workers_pool:
        table = train(file, corpus, output, workers_pool, target=not no_target, progress=not quiet)
    if not as_json:
        click.echo(f"scores of all rungs are in '{table}'")
    if file.training and file.training.target and not no_target:
        scale, rows, made = predict_target(file, table)
        print_predictions([(scale, rows)], made, as_json)
