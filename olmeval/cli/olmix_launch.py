"""``olmix launch`` and ``olmix collect``: a swarm's mixtures and scores as two tables."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from olmeval.cli.completion import complete_tasks
from olmeval.cli.options import GreedyCommand, parse_limit, parse_pairs, placement

if TYPE_CHECKING:
    from olmeval.mixing.launch import Launched

DIR = click.Path(path_type=Path, file_okay=False)


@click.command(
    cls=GreedyCommand,
    epilog="Example: olmix launch swarms/a/ratios.csv cpu-0.7m data.root=corpus "
    "--tasks arc_easy:bpb --output swarms/a",
)
@click.argument("ratios", type=click.Path(path_type=Path))
@click.argument("recipe")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option(
    "--tasks",
    "-t",
    multiple=True,
    required=True,
    shell_complete=complete_tasks,
    help="To score; BPB suites suit best.",
)
@click.option("--output", "-o", required=True, type=DIR, help="Folder for the tables.")
@click.option("--domains", type=click.Path(path_type=Path), help="domains.yaml, if it has blocks.")
@click.option("--seed", "seeds", multiple=True, type=int, default=(0,), help="Of each mixture.")
@click.option("--limit", help="Documents of each task: a count or a fraction.")
@click.option(
    "--task-path",
    "task_paths",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Folder with further task files.",
)
@placement("Where proxies are trained and scored.")
@click.option("--retries", default=2, show_default=True, help="Of a proxy that failed.")
@click.option("--quiet", is_flag=True, help="No progress.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def launch(
    ratios: Path, recipe: str, overrides: tuple[str, ...], output: Path, **asked: Any
) -> None:
    """Train every mixture of RATIOS by RECIPE and score it.

    Writes ratios.csv and metrics.csv for 'olmix fit', and the long table. Stopped, it goes on when
    it is called again. Exit code 1 if a mixture failed, after the others are done.
    """
    from olmeval.engine.settings import Execution
    from olmeval.executors.registry import make_executor
    from olmeval.mixing.domains import load_domains
    from olmeval.mixing.launch import launch as run
    from olmeval.trainer.recipe import load_recipe

    place = {"gpus_per_worker": asked["gpus_per_worker"]}
    launched = run(
        ratios,
        load_recipe(recipe, parse_pairs("KEY=VALUE", overrides)),
        asked["tasks"],
        output,
        executor=make_executor(
            asked["executor"], asked["workers"], address=asked["ray_address"], **place
        ),
        execution=Execution(
            executor=asked["executor"], workers=asked["workers"],
            ray_address=asked["ray_address"], **place,
        ),
        tree=load_domains(asked["domains"]) if asked["domains"] else None,
        seeds=asked["seeds"],
        limit=parse_limit(asked["limit"]),
        task_paths=asked["task_paths"],
        retries=asked["retries"],
        progress=not asked["quiet"],
    )  # fmt: skip
    _print(launched, asked["as_json"])
    if launched.failed:
        raise SystemExit(1)


@click.command(epilog="Example: olmix collect ratios.csv runs/ --output swarms/elsewhere")
@click.argument("mixtures", type=click.Path(path_type=Path))
@click.argument("evaluations", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--output", "-o", required=True, type=DIR, help="Folder for the tables.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def collect(mixtures: Path, evaluations: tuple[Path, ...], output: Path, as_json: bool) -> None:
    """Write the tables of proxies that were trained elsewhere.

    MIXTURES is a ratios.csv whose runs are named like the models, or the folder of a swarm;
    EVALUATIONS are run folders of 'olmeval run', or folders of them.
    """
    from olmeval.mixing.launch import collect as run

    _print(run(mixtures, evaluations, output), as_json)


def _print(launched: "Launched", as_json: bool) -> None:
    import json
    from dataclasses import asdict

    if as_json:
        click.echo(json.dumps(asdict(launched), indent=2, default=str))
        return
    for name, reason in sorted(launched.failed.items()):
        click.echo(f"No row for '{name}': {reason}")
    higher = "".join(f" --higher {target}" for target in launched.higher)
    click.echo(f"{launched.rows} runs, {len(launched.targets)} targets. Next:")
    folder = launched.output
    click.echo(f"olmix fit {folder}/ratios.csv {folder}/metrics.csv{higher} --output {folder}/fit")
