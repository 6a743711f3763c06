"""``olmeval train``: a run from a recipe, or its plan."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from olmeval.trainer.recipe import Plan


@click.command(
    epilog="Example: olmeval train cpu-0.7m data.root=corpus train.tokens=2M --output runs/first"
)
@click.argument("recipe")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for checkpoints and metrics; a run that stopped there is continued.",
)
@click.option("--show", is_flag=True, help="Print the resolved plan and stop.")
@click.option("--json", "as_json", is_flag=True, help="Print the plan or the result as JSON.")
def train(
    recipe: str, overrides: tuple[str, ...], output: Path | None, show: bool, as_json: bool
) -> None:
    """Train a model from RECIPE: a YAML file, or the name of a shipped recipe.

    KEY=VALUE replaces one key of the recipe: optimizer.lr=3e-3, data.mixture=mix.yaml.
    """
    from olmeval.trainer.recipe import load_recipe, resolve

    loaded = load_recipe(recipe, _parse(overrides))
    if show:
        plan = resolve(loaded)
        _print(plan.describe()) if as_json else _print_plan(plan)
        return
    if output is None:
        raise click.UsageError("give --output, the folder for checkpoints, or --show")
    from dataclasses import asdict

    from olmeval.engine.inloop import watch_with
    from olmeval.trainer.loop import train as run

    watch = watch_with(loaded.evaluation) if loaded.evaluation else None
    result = run(loaded, output, watch=watch)
    if as_json:
        _print(asdict(result))
    else:
        click.echo(
            f"{result.steps} steps, {result.tokens:,} tokens, loss {result.loss:.4f}; "
            f"checkpoints in {result.output}: {len(result.checkpoints)}"
        )


def _evaluation(about: dict[str, Any] | None) -> str:
    if about is None:
        return "none"
    documents = "all" if about["limit"] is None else f"{about['limit']:,}"
    return f"{', '.join(about['tasks'])} every {about['every']:,} steps, {documents} documents each"


def _parse(overrides: tuple[str, ...]) -> dict[str, Any]:
    import yaml

    from olmeval.errors import UserError

    parsed = {}
    for item in overrides:
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise UserError(f"'{item}' is not KEY=VALUE")
        try:
            parsed[key] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise UserError(f"'{item}': the value is not valid YAML") from None
    return parsed


def _print(value: Any) -> None:
    import json

    click.echo(json.dumps(value, indent=2, default=str))


def _print_plan(plan: "Plan") -> None:
    from rich.console import Console
    from rich.table import Table

    about = plan.describe()
    console = Console()
    model = about["model"]
    table = Table(title=f"{about['run']} (family {about['family']})", show_header=False)
    schedule = about["schedule"]
    rows = {
        "model": f"width {model['hidden_size']}, {model['num_hidden_layers']} layers, "
        f"{model['num_attention_heads']} heads, vocabulary {model['vocab_size']:,}",
        "parameters": f"{about['params']:,} without input embedding, {about['params_total']:,} all",
        "tokens": f"{about['tokens']:,} in {about['steps']:,} steps of {about['batch_tokens']:,}",
        "FLOPs": f"{about['flops']:.3e}",
        "learning rate": f"{about['lr']:g}, {schedule['kind']}, warm-up {schedule['warmup']:,} "
        f"tokens, decay {schedule['decay']:,.0f} tokens, to {schedule['final']:g} of the peak",
        "checkpoints": f"{about['checkpoints']}",
        "evaluation": _evaluation(about["evaluation"]),
    }
    for name, value in rows.items():
        table.add_row(name, value)
    console.print(table)
    mix = Table("domain", "weight", "realised", "tokens", "epochs", title=f"mixture {about['mix']}")
    for row in about["domains"]:
        mix.add_row(
            row["domain"],
            f"{row['weight']:.4f}",
            f"{row['realised']:.4f}",
            f"{row['tokens']:,}",
            f"{row['epochs']:.2f}",
        )
    console.print(mix)
