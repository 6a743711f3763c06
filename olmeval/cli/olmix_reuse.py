"""``olmix reuse``: domains changed, and most of the old mixture can stay."""

from pathlib import Path

import click


@click.command(
    epilog="Example: olmix reuse old.yaml new.yaml --mix mixes/a/mix.yaml --output updates/1"
)
@click.argument("old", type=click.Path(path_type=Path))
@click.argument("new", type=click.Path(path_type=Path))
@click.option("--mix", required=True, type=click.Path(path_type=Path), help="The old mix.yaml.")
@click.option(
    "--output",
    "-o",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for domains.yaml and the plan.",
)
@click.option("--release", multiple=True, help="Unchanged domain to search anew nevertheless.")
@click.option("--fit", type=click.Path(path_type=Path), help="Of the old swarm, for couplings.")
@click.option("--history", type=click.Path(path_type=Path), help="history.json to continue.")
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
def reuse(
    old: Path,
    new: Path,
    mix: Path,
    output: Path,
    release: tuple[str, ...],
    fit: Path | None,
    history: Path | None,
    as_json: bool,
) -> None:
    """Plan the smaller swarm that is needed when domains OLD become NEW.

    Both are domains.yaml files. Unchanged domains are frozen into one block of a new domains.yaml,
    on which 'olmix swarm', 'launch', 'fit' and 'optimize --domains' work as on any other.
    """
    import json
    from dataclasses import asdict

    from olmeval.config import load_config
    from olmeval.mixing.domains import load_domains
    from olmeval.mixing.fitting import load_fit
    from olmeval.mixing.reuse import plan_reuse, save_reuse
    from olmeval.trainer.recipe import MixFile

    domains = load_domains(new)
    plan = plan_reuse(
        load_domains(old),
        load_config(mix, MixFile).mixture,
        domains,
        release=release,
        fit=load_fit(fit) if fit else None,
    )
    save_reuse(plan, domains, output, history=history)
    if as_json:
        click.echo(json.dumps({**asdict(plan), "saved": plan.saved}, indent=2))
        return
    for label, names in (
        ("added", plan.change.added),
        ("removed", plan.change.removed),
        ("revised", plan.change.revised),
        ("released", plan.released),
    ):
        if names:
            click.echo(f"{label}: {', '.join(names)}")
    click.echo(f"frozen: {', '.join(f'{d} {p:.4f}' for d, p in plan.frozen.items())}")
    if plan.change.unproved:
        click.echo(
            f"Note: without fingerprints, taken for unchanged: {', '.join(plan.change.unproved)}."
        )
    kept_out = sorted({*plan.change.unchanged} - {*plan.frozen, *plan.released})
    if kept_out:
        click.echo(
            f"Note: the old mixture has none of {', '.join(kept_out)}, and neither will the new "
            "one; --release takes them along."
        )
    if plan.coupling:
        most = sorted(plan.coupling, key=lambda d: -(plan.coupling or {})[d])[:3]
        click.echo(
            f"Coupling kappa {plan.kappa:.3g}. Of the frozen domains {', '.join(most)} share most "
            "with the changed ones; --release takes them along."
        )
    if plan.mixture is not None:
        click.echo(f"Nothing to train: the shares left are scaled. Written: {output / 'mix.yaml'}")
        return
    click.echo(
        f"{plan.proxies} proxies instead of {plan.full_proxies}, {100 * plan.saved:.0f} % saved. "
        f"Written: {output / 'domains.yaml'}"
    )
