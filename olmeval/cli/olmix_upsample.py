"""``olmix upsample``: how often each quality bucket is repeated under a token budget."""

from pathlib import Path

import click

from olmeval.cli.olmix_options import parse_number


@click.command(
    epilog="Example: olmix upsample domains.yaml web:low web:mid web:high --tokens 30B "
    "--output web.yaml"
)
@click.argument("domains", type=click.Path(path_type=Path))
@click.argument("buckets", nargs=-1, required=True)
@click.option("--tokens", required=True, help="Budget to draw from the buckets, as 30B.")
@click.option("--drop", default=0.4, show_default=True, help="Fraction left out, from the worst.")
@click.option("--most", default=7.0, show_default=True, help="Repetition of the best bucket.")
@click.option("--power", default=1.0, show_default=True, help="Of the curve above what is dropped.")
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Mixture of the buckets.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
def upsample(
    domains: Path,
    buckets: tuple[str, ...],
    tokens: str,
    drop: float,
    most: float,
    power: float,
    output: Path | None,
    as_json: bool,
) -> None:
    """Spread a budget over quality BUCKETS of DOMAINS, a domains.yaml, worst bucket first.

    Repetition rises smoothly with quality as C (x - drop)^power e^(l (x - drop)); the budget sets
    C, --most sets l. OUTPUT is a mixture that 'olmeval train' takes.
    """
    import json
    from dataclasses import asdict

    from olmeval.mixing.domains import load_domains
    from olmeval.mixing.output import save_mix
    from olmeval.mixing.upsampling import tokens_of
    from olmeval.mixing.upsampling import upsample as plan_of

    budget = parse_number("--tokens", tokens)
    if budget is None:
        raise click.UsageError("--tokens takes one number")
    held = tokens_of(load_domains(domains), buckets)
    plan = plan_of(held, budget, drop=drop, most=most, power=power)
    if output is not None:
        save_mix({name: n / budget for name, n in plan.tokens.items()}, output, output.stem)
    if as_json:
        click.echo(json.dumps(asdict(plan), indent=2))
        return
    for name, times in plan.repetition.items():
        share = plan.tokens[name] / budget
        click.echo(
            f"{name}: {times:.3f} times {held[name]:,.0f}, {plan.tokens[name]:,.0f} tokens, "
            f"{share:.4f}"
        )
    click.echo(f"C {plan.scale:.4g}, power {plan.power:.3g}, l {plan.steepness:.3g}")
    if output is not None:
        click.echo(f"Written: {output}")
