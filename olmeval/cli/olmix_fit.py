"""``olmix fit``: laws from mixture to score, fitted to a swarm."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from olmeval.cli.olmix_options import notes, parse_members
from olmeval.mixing.names import short_names

if TYPE_CHECKING:
    from olmeval.mixing.fitting import MixtureFit

FAMILIES = (
    "log-linear", "power-law", "bimix", "autoscale", "gp", "lightgbm", "linear", "nearest", "blend",
    "auto",
)  # fmt: skip


@click.command(epilog="Example: olmix fit swarm/ratios.csv swarm/metrics.csv --output fits/first")
@click.argument("ratios", required=False, type=click.Path(path_type=Path))
@click.argument("metrics", required=False, type=click.Path(path_type=Path))
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="Fit configuration of the public olmix, in place of all but --output.",
)
@click.option(
    "--output",
    "-o",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for fit.json, which 'olmix optimize' reads.",
)
@click.option(
    "--family",
    type=click.Choice(FAMILIES),
    help="Law to fit, log-linear by default; 'auto' chooses for every target by cross-validation, "
    "'blend' weighs several.",
)
@click.option("--target", "targets", multiple=True, help="Column to fit; default: all.")
@click.option("--drop", multiple=True, help="Column to leave out.")
@click.option("--higher", multiple=True, help="Column of which more is better.")
@click.option(
    "--group", "groups", multiple=True, metavar="NAME=COLUMN,...", help="Fit the columns' mean."
)
@click.option("--level", default=0.95, show_default=True, help="Of prediction intervals.")
@click.option(
    "--domains",
    type=click.Path(path_type=Path),
    help="domains.yaml as it is now: a swarm of other contents is refused.",
)
@click.option("--curve/--no-curve", default=True, help="Measure how errors fall with runs.")
@click.option("--json", "as_json", is_flag=True, help="Print scores and warnings as JSON.")
def fit(
    ratios: Path | None,
    metrics: Path | None,
    config: Path | None,
    output: Path,
    family: str | None,
    targets: tuple[str, ...],
    drop: tuple[str, ...],
    higher: tuple[str, ...],
    groups: tuple[str, ...],
    level: float,
    domains: Path | None,
    curve: bool,
    as_json: bool,
) -> None:
    """Fit a law from mixture to score for every target.

    RATIOS and METRICS are CSV files with one row a run, joined by the column run, run_id, name or
    index. Every other column is a domain's share or a target. All scores shown are out of fold.
    """
    from rich.console import Console

    from olmeval.mixing.fitting import fit_swarm
    from olmeval.mixing.tables import read_swarm

    averaged = parse_members(groups)
    if config is not None:
        from olmeval.mixing.public import load_fit_request

        if ratios or targets or drop or groups:
            raise click.UsageError("--config says what to fit; leave out files, targets and groups")
        asked = load_fit_request(config)
        ratios, metrics, targets, drop = asked.ratios, asked.metrics, asked.targets, asked.drop
        averaged = {name: list(members) for name, members in asked.groups.items()}
        family = family or asked.family
        for note in asked.notes:
            click.echo(f"Note: {note}.", err=True)
    if ratios is None or metrics is None:
        raise click.UsageError("give RATIOS and METRICS, or --config")
    family = family or "log-linear"
    table = read_swarm(ratios, metrics, targets=targets, drop=drop, higher=higher)
    if domains is not None:
        from olmeval.mixing.domains import load_domains
        from olmeval.mixing.evidence import check_contents

        now = load_domains(domains).fingerprints()
        check_contents(table.contents, now, f"'{ratios}'", f"'{domains}'")
    if averaged:
        table = table.grouped(averaged)
    with Console(stderr=True).status(f"fitting {len(table.targets)} targets"):
        fitted = fit_swarm(table, family, level=level, curve=curve)
    path = fitted.save(output)
    if as_json:
        _print_json(fitted, path)
    else:
        _print(fitted, path)


def _print_json(fitted: "MixtureFit", path: Path) -> None:
    import json
    from dataclasses import asdict

    value = {
        "fit": str(path),
        "runs": len(fitted.table.runs),
        "domains": len(fitted.table.domains),
        "scores": [asdict(score) for score in fitted.scores],
        "curve": fitted.curve and asdict(fitted.curve),
        "warnings": fitted.warnings,
    }
    click.echo(json.dumps(value, indent=2))


def _print(fitted: "MixtureFit", path: Path) -> None:
    from rich.table import Table

    from olmeval.cli.tables import console

    out = console()
    title = f"{len(fitted.table.runs)} runs, {len(fitted.table.domains)} domains; out of fold"
    table = Table(title=title)
    table.add_column("target", overflow="fold")
    table.add_column("family")
    for column in ("rank", "R2", "MAE", f"±{100 * fitted.level:g} %", "noise", "predicted"):
        table.add_column(column, justify="right")
    names = short_names(fitted.table.targets)
    for name, s in zip(names, fitted.scores, strict=True):
        half = "?" if s.halfwidth is None else f"{s.halfwidth:.4f}"
        noise = "?" if s.noise is None else f"{s.noise:.4f}"
        r2 = "?" if s.r2 is None else f"{s.r2:.3f}"
        values = (f"{s.rank_correlation:.3f}", r2, f"{s.mae:.4f}", half, noise)
        table.add_row(name, s.family, *values, "yes" if s.predictable else "[bold red]NO[/]")
    out.print(table)
    if curve := fitted.curve:
        steps = ", ".join(f"{p.rows} runs {p.error:.3f}" for p in curve.points)
        click.echo(f"Error in standard deviations of the swarm: {steps}.")
        click.echo(
            f"{curve.more} more runs would lower it from about {curve.error_now:.3f} "
            f"to {curve.error_then:.3f}, by {100 * curve.gain:.0f} %."
        )
    notes(fitted.warnings)
    click.echo(f"Written: {path}")
