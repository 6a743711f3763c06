"""``olmix priors`` and ``olmix swarm``: from domains to mixtures that are worth training."""

from pathlib import Path
from typing import Any

import click

from olmeval.cli.olmix_options import parse_number
from olmeval.mixing.names import short_names


@click.command(epilog="Example: olmix priors corpus --output domains.yaml")
@click.argument("root", type=click.Path(path_type=Path, file_okay=False))
@click.option("--domain", "domains", multiple=True, help="Of the folder's; default: all.")
@click.option(
    "--output",
    "-o",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="YAML file.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the counts as JSON.")
def priors(root: Path, domains: tuple[str, ...], output: Path, as_json: bool) -> None:
    """Measure the domains of ROOT, a folder of token shards, into a domains.yaml."""
    import json

    from olmeval.mixing.priors import measure_domains, save_domains

    measured = measure_domains(root, domains)
    save_domains(measured, output)
    if as_json:
        click.echo(json.dumps({name: node.tokens for name, node in measured.items()}, indent=2))
        return
    total = sum(node.tokens or 0 for node in measured.values())
    for name, node in measured.items():
        click.echo(f"{name}: {node.tokens:,} tokens, {(node.tokens or 0) / total:.4f}")
    click.echo(f"Written: {output}")


@click.command(epilog="Example: olmix swarm domains.yaml --runs 64 --output swarms/first")
@click.argument("domains", type=click.Path(path_type=Path))
@click.option(
    "--output",
    "-o",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for ratios.csv and swarm.json.",
)
@click.option(
    "--public", is_flag=True, help="DOMAINS is a generation configuration of the public olmix."
)
@click.option("--runs", type=int, help="Mixtures; default: as many as are advised.")
@click.option(
    "--design",
    type=click.Choice(["dirichlet", "sobol", "d-optimal"]),
    default="dirichlet",
    show_default=True,
    help="Random, evenly spread, or the draws of the nearer half that tell a log-linear law most.",
)
@click.option(
    "--strength",
    nargs=2,
    type=float,
    default=(0.1, 5.0),
    show_default=True,
    help="Range of Dirichlet strengths: low for mixtures of few domains, high for near natural.",
)
@click.option("--minimum-weight", default=0.002, show_default=True, help="Smaller shares become 0.")
@click.option("--temperature", default=1.0, show_default=True, help="< 1 evens out the natural.")
@click.option("--seed", type=click.IntRange(min=0), default=42, show_default=True)
@click.option("--proxy-tokens", help="Length of a proxy run, as 3B.")
@click.option("--proxy-epochs", type=float, help="Most passes of a proxy over a domain.")
@click.option(
    "--existing", type=click.Path(path_type=Path), help="ratios.csv of mixtures that were run."
)
@click.option("--prefix", default="mix", show_default=True, help="Of the runs' names.")
@click.option("--json", "as_json", is_flag=True, help="Print swarm.json.")
def swarm(domains: Path, output: Path, as_json: bool, **asked: Any) -> None:
    """Draw the mixtures of a swarm from DOMAINS, a domains.yaml, and say what they can tell.

    Nothing is trained: 'olmix launch' does that.
    """
    from olmeval.mixing.domains import build_domains, load_domains
    from olmeval.mixing.sampling import SwarmSettings, advised_runs
    from olmeval.mixing.swarm import REPORT, design_swarm, read_mixtures, save_swarm

    tokens = parse_number("--proxy-tokens", asked["proxy_tokens"])
    if asked["public"]:
        from olmeval.mixing.public import load_swarm_request

        request = load_swarm_request(domains)
        tree, settings = build_domains(request.domains, str(domains)), request.settings
        tokens = request.proxy_tokens if tokens is None else tokens
    else:
        tree = load_domains(domains)
        settings = SwarmSettings(
            runs=advised_runs(tree) if asked["runs"] is None else asked["runs"],
            design=asked["design"],
            strength=asked["strength"],
            minimum_weight=asked["minimum_weight"],
            temperature=asked["temperature"],
            seed=asked["seed"],
        )
    taken: tuple[str, ...] = ()
    existing = None
    if asked["existing"]:
        taken, existing = read_mixtures(asked["existing"], tree.names)
    designed = design_swarm(
        tree,
        settings,
        proxy_tokens=tokens,
        proxy_epochs=asked["proxy_epochs"],
        existing=existing,
        prefix=asked["prefix"],
        taken=taken,
    )
    save_swarm(designed, settings, output)
    if as_json:
        click.echo((output / REPORT).read_text(encoding="utf-8"), nl=False)
        return
    _print(output)


def _print(output: Path) -> None:
    from rich.table import Table

    from olmeval.cli.tables import console
    from olmeval.files import read_json
    from olmeval.mixing.swarm import RATIOS, REPORT

    value = read_json(output / REPORT)
    title = f"{value['runs']} mixtures ({value['advised']} advised)"
    table = Table(title=title)
    table.add_column("domain", overflow="fold")
    for column in ("natural", "least", "mean", "most", "runs", "± effect", "epochs"):
        table.add_column(column, justify="right")
    names = short_names([row["domain"] for row in value["domains"]])
    for name, row in zip(names, value["domains"], strict=True):
        shares = [f"{row[key]:.4f}" for key in ("natural", "least", "mean", "most")]
        effect = "?" if row["effect_error"] is None else f"{row['effect_error']:.2f}"
        epochs = "" if row["epochs"] is None else f"{row['epochs']:.2f}"
        table.add_row(name, *shares, f"{row['runs']}", effect, epochs)
    console().print(table)
    fill = value["fill_distance"]
    click.echo(
        f"A fresh mixture is {fill['median']:.2f} from the nearest (95 %: {fill['p95']:.2f}). "
        "± effect: standard error of a domain's linear effect, in units of the noise of one run."
    )
    for warning in value["warnings"]:
        click.echo(f"Note: {warning}.")
    click.echo(f"Written: {output / RATIOS}, {output / REPORT}")
