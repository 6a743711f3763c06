"""``olmeval train``: a run or a swarm from a recipe, its plan, or a look at the devices."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from olmeval.cli.options import parse_pairs, placement

if TYPE_CHECKING:
    from olmeval.trainer.loop import TrainResult
    from olmeval.trainer.recipe import Recipe


@click.command(
    epilog="Examples: olmeval train cpu-0.7m data.root=corpus train.tokens=2M --output runs/first; "
    "olmeval train ladder model.preset=190m data.root=corpus --show --gpu h100 --gpus 8; "
    "olmeval train swarm.yaml --swarm --output runs/swarm; "
    "torchrun --nproc-per-node 8 -m olmeval.cli.main train my.yaml --output runs/big"
)
@click.argument("recipe", required=False)
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for checkpoints and metrics; a run that stopped there is continued.",
)
@click.option("--show", is_flag=True, help="Print the resolved plan and stop.")
@click.option("--gpu", metavar="NAME", help="With --show: estimate hours on such cards (h100).")
@click.option("--gpus", type=int, default=1, show_default=True, help="With --show: how many.")
@click.option("--mfu", type=float, help="With --show: the model FLOPs utilization to assume.")
@click.option("--peak-tflops", type=float, help="Of one device, where no table has it.")
@click.option(
    "--max-minutes", type=float, help="Stop with a checkpoint after so long; go on next time."
)
@click.option(
    "--preflight", is_flag=True, help="Measure devices and links, name the slow or wrong, and stop."
)
@click.option("--swarm", is_flag=True, help="RECIPE is a swarm: a run for each mixture and seed.")
@placement("Where its runs are trained.", when="With --swarm; ")
@click.option("--retries", type=int, default=2, show_default=True, help="With --swarm, of a run.")
@click.option("--json", "as_json", is_flag=True, help="Print the plan or the result as JSON.")
@click.option("--quiet", is_flag=True, help="Show no progress.")
def train(
    recipe: str | None,
    overrides: tuple[str, ...],
    output: Path | None,
    show: bool,
    preflight: bool,
    swarm: bool,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Train a model from RECIPE: a YAML file, or the name of a shipped recipe.

    KEY=VALUE replaces one key of the recipe: optimizer.lr=3e-3, data.mixture=mix.yaml. The same
    command goes on with a run that was stopped or killed.
    """
    keys = parse_pairs("override", overrides)
    if recipe is None:
        if not preflight:
            raise click.UsageError(
                "give a RECIPE: a YAML file, or a shipped recipe; or --preflight"
            )
        _preflight("auto", as_json)
    elif swarm:
        from olmeval.trainer.swarm import load_swarm

        recipes = load_swarm(Path(recipe), keys)
        if show:
            _show_swarm(recipes, as_json, options)
        else:
            _run_swarm(recipes, _required(output), as_json, quiet, options)
    else:
        from olmeval.trainer.recipe import load_recipe

        loaded = load_recipe(recipe, keys)
        if preflight:
            _preflight(loaded.train.device, as_json)
        elif show:
            _show(loaded, as_json, options)
        else:
            _run(loaded, _required(output), as_json, quiet, options)


def _required(output: Path | None) -> Path:
    if output is None:
        raise click.UsageError("give --output, the folder for checkpoints, or --show")
    return output


def _preflight(device: str, as_json: bool) -> None:
    from dataclasses import asdict

    from olmeval.trainer.preflight import preflight

    report = preflight(device)
    if report is None:
        return
    _print(asdict(report)) if as_json else click.echo(report.text())
    if report.suspects:
        raise SystemExit(1)


def _show(recipe: "Recipe", as_json: bool, options: dict[str, Any]) -> None:
    from olmeval.trainer.recipe import resolve
    from olmeval.trainer.throughput import estimate

    plan = resolve(recipe)
    about = plan.describe()
    about["estimate"] = estimate(
        plan, options["gpu"], options["gpus"], options["mfu"], options["peak_tflops"]
    )
    if as_json:
        _print(about)
    else:
        from olmeval.cli.train_tables import print_plan

        print_plan(about)


def _run(
    recipe: "Recipe", output: Path, as_json: bool, quiet: bool, options: dict[str, Any]
) -> None:
    from dataclasses import asdict

    from olmeval.cli.groups import INTERRUPTED
    from olmeval.engine.inloop import watch_with
    from olmeval.trainer.loop import train

    watch = watch_with(recipe.evaluation) if recipe.evaluation else None
    result = train(
        recipe,
        output,
        watch=watch,
        progress=not quiet,
        max_minutes=options["max_minutes"],
        peak_tflops=options["peak_tflops"],
    )
    if os.environ.get("RANK", "0") == "0":
        _print(asdict(result)) if as_json else _say(result)
    if result.stopped == "SIGINT":
        raise SystemExit(INTERRUPTED)  # what a script has behind `&&` is not for half a run


def _say(result: "TrainResult") -> None:
    stopped = f"stopped ({result.stopped}) after " if result.stopped else ""
    click.echo(
        f"{stopped}{result.steps} steps, {result.tokens:,} tokens, loss {result.loss:.4f}; "
        f"{result.seconds:.0f} s, goodput {result.goodput:.0%}; "
        f"checkpoints in {result.output}: {len(result.checkpoints)}"
    )


def _show_swarm(recipes: list["Recipe"], as_json: bool, options: dict[str, Any]) -> None:
    from olmeval.trainer.swarm import plan_swarm
    from olmeval.trainer.throughput import estimate

    plans = plan_swarm(recipes)
    rows = [plan.describe() for plan in plans]
    args = options["gpu"], 1, options["mfu"], options["peak_tflops"]
    for plan, row in zip(plans, rows, strict=True):
        row["estimate"] = estimate(plan, *args)
    if as_json:
        _print(rows)
    else:
        from olmeval.cli.train_tables import print_swarm_plan

        print_swarm_plan(rows)


def _run_swarm(
    recipes: list["Recipe"], output: Path, as_json: bool, quiet: bool, options: dict[str, Any]
) -> None:
    from dataclasses import asdict

    from olmeval.engine.inloop import watch_with
    from olmeval.executors.registry import make_executor
    from olmeval.trainer.swarm import run_swarm

    if options["max_minutes"] is not None:
        raise click.UsageError("--max-minutes is for one run; end a swarm with Ctrl-C or SIGTERM")
    executor = make_executor(
        options["executor"],
        options["workers"],
        gpus_per_worker=options["gpus_per_worker"],
        address=options["ray_address"],
    )
    with executor:
        result = run_swarm(
            recipes,
            output,
            executor=executor,
            retries=options["retries"],
            evaluate=watch_with,
            progress=not quiet,
        )
    if as_json:
        _print(asdict(result))
    else:
        from olmeval.cli.train_tables import print_swarm

        print_swarm(asdict(result))
    if result.failed:
        raise SystemExit(1)


def _print(value: Any) -> None:
    import json

    click.echo(json.dumps(value, indent=2, default=str))
