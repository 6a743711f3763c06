"""``olmix optimize``: the mixture that a fitted swarm asks for."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from olmeval.cli.olmix_options import notes, parse_group, parse_number, parse_numbers, parse_values
from olmeval.mixing.names import short_names

if TYPE_CHECKING:
    from olmeval.mixing.proposal import Outlook, Proposal
    from olmeval.mixing.sweeps import Cell, FrontPoint


@click.command(
    epilog="Example: olmix optimize fits/a --priors priors.yaml --tokens 1T --output mixes/a"
)
@click.argument("fit", type=click.Path(path_type=Path))
@click.option(
    "--output",
    "-o",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for mix.yaml and proposal.json.",
)
@click.option(
    "--priors",
    type=click.Path(path_type=Path),
    help="YAML with relative_sizes and token_counts; see 'olmix priors'.",
)
@click.option(
    "--domains",
    type=click.Path(path_type=Path),
    help="domains.yaml: the natural mixture, tokens, ends of shares, groups, the run.",
)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="Fit configuration of the public olmix: priors, caps, KL strength, weights.",
)
@click.option("--tokens", help="Length of the run, as 100B; bounds repetition.")
@click.option("--max-epochs", type=float, help="Most passes over a domain; default: 4.")
@click.option("--kl", type=float, help="Pull towards the natural mixture; default: 0.05.")
@click.option("--weight", multiple=True, metavar="TARGET=W", help="Of a target; default: equal.")
@click.option("--min", "minimum", multiple=True, metavar="DOMAIN=SHARE", help="Smallest share.")
@click.option("--max", "maximum", multiple=True, metavar="DOMAIN=SHARE", help="Largest share.")
@click.option("--fix", multiple=True, metavar="DOMAIN=SHARE", help="Pinned share.")
@click.option(
    "--group", multiple=True, metavar="NAME=A,B:LOW..HIGH", help="Ends of the sum of shares."
)
@click.option("--worst", is_flag=True, help="Minimise the worst target, relative to natural.")
@click.option("--limit", multiple=True, metavar="TARGET=SCORE", help="Worst score allowed.")
@click.option(
    "--refits", type=click.IntRange(min=0), help="On resampled swarms, for uncertainty; 0: none."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--sweep-tokens", help="Further run lengths to solve for, as 1T,6T.")
@click.option("--sweep-epochs", help="Further numbers of passes, as 1,4,8.")
@click.option("--sweep-kl", help="Further strengths, as 0,0.05,0.2.")
@click.option("--pareto", nargs=2, metavar="A,B C,D", help="Front between two families of targets.")
@click.option("--json", "as_json", is_flag=True, help="Print proposal.json.")
def optimize(fit: Path, output: Path, as_json: bool, **asked: Any) -> None:
    """Choose the mixture of least predicted loss under constraints.

    FIT is the fit.json of 'olmix fit', or its folder. Train on the result with
    'olmeval train RECIPE data.mixture=OUTPUT/mix.yaml'.
    """
    from olmeval.errors import UserError
    from olmeval.mixing.asked import ask
    from olmeval.mixing.fitting import load_fit
    from olmeval.mixing.output import PROPOSAL, save_proposal
    from olmeval.mixing.proposal import KL, propose
    from olmeval.mixing.sweeps import pareto_front, sweep

    fitted = load_fit(fit)
    domains = fitted.table.domains
    tokens = parse_number("--tokens", asked["tokens"])
    weights = parse_values("--weight", asked["weight"])
    epochs = asked["max_epochs"]
    given = None
    if asked["config"]:
        from olmeval.mixing.public import load_fit_request

        request = load_fit_request(asked["config"])
        given, tokens = request.priors, request.run_tokens if tokens is None else tokens
        weights = weights or dict(request.weights)
        asked |= {"max_epochs": asked["max_epochs"] or request.max_epochs}
        asked |= {"kl": request.kl if asked["kl"] is None else asked["kl"]}
    asked["kl"] = KL if asked["kl"] is None else asked["kl"]
    problem = ask(
        domains,
        priors=given or asked["priors"],
        tree=asked["domains"],
        minimum=parse_values("--min", asked["minimum"]),
        maximum=parse_values("--max", asked["maximum"]),
        fixed=parse_values("--fix", asked["fix"]),
        run_tokens=tokens,
        max_epochs=asked["max_epochs"],
        groups=[parse_group(text) for text in asked["group"]],
        contents=fitted.table.contents,
    )
    constraints, prior = problem.constraints, problem.prior
    if epochs is not None and constraints.run_tokens is None:
        raise UserError("--max-epochs bounds nothing without the length of the run; give --tokens")
    proposal = propose(
        fitted,
        constraints,
        prior=prior,
        weights=weights,
        kl=asked["kl"],
        worst=asked["worst"],
        limits=parse_values("--limit", asked["limit"]),
        refits=asked["refits"],
        seed=asked["seed"],
    )
    grid = {
        k: parse_numbers(f"--sweep-{k}", asked[f"sweep_{k}"]) for k in ("tokens", "epochs", "kl")
    }
    cells: list[Cell] = []
    if any(grid.values()):
        cells = sweep(
            fitted, constraints, run_tokens=grid["tokens"], max_epochs=grid["epochs"],
            kl=grid["kl"] or (asked["kl"],), prior=prior, weights=weights,
        )  # fmt: skip
    front: list[FrontPoint] = []
    if asked["pareto"]:
        first, second = (names.split(",") for names in asked["pareto"])
        front = pareto_front(fitted, constraints, first, second, kl=asked["kl"], prior=prior)
    about = {"fit": str(fit), **{k: str(v) if isinstance(v, Path) else v for k, v in asked.items()}}
    save_proposal(proposal, output, about=about, cells=cells, front=front, tree=problem.tree)
    if as_json:
        click.echo((output / PROPOSAL).read_text(encoding="utf-8"), nl=False)
        return
    _print(proposal, fitted.level)
    _print_cells(cells, domains)
    _print_front(front)
    click.echo(f"Written: {output / 'mix.yaml'}, {output / PROPOSAL}")


def _print(p: "Proposal", level: float) -> None:
    from rich.table import Table

    from olmeval.cli.tables import console
    from olmeval.mixing.uncertainty import span

    spread = p.uncertainty.shares if p.uncertainty else {}
    refits = f"{span(p.uncertainty.refits, 0.9)} of refits" if p.uncertainty else "refits"
    table = Table(title="mixture")
    table.add_column("domain", overflow="fold")
    for column in ("natural", "best run", "proposed", refits, "epochs", "held by"):
        table.add_column(column, justify="right")
    held = {b.domain: b for b in p.binding}
    names = short_names(list(p.mixture.weights))
    for name, (domain, share) in zip(names, p.mixture.weights.items(), strict=True):
        low, high = spread.get(domain, (None, None))
        binding = held.get(domain)
        table.add_row(
            name,
            f"{p.natural.weights[domain]:.4f}",
            f"{p.best_row.weights[domain]:.4f}",
            f"{share:.4f}",
            "" if low is None else f"{low:.3f}‥{high:.3f}",
            "" if p.epochs is None else f"{p.epochs[domain]:.2f}",
            "" if binding is None else binding.kind,
        )
    console().print(table)

    def line(label: str, o: "Outlook") -> None:
        low, high = o.interval
        ends = f"{100 * level:g} % interval {low:.4f} to {high:.4f}"
        if high == float("inf"):
            ends = f"too few runs for a {100 * level:g} % interval"
        click.echo(
            f"{label}: predicted {o.objective:.4f}, {ends}; {o.distance:.2f} from the nearest run"
        )

    line("Proposed", p.mixture)
    line("Natural ", p.natural)
    line("Best run", p.best_row)
    click.echo(f"The best run measured {p.measured_best:.4f}.")
    click.echo(f"Gain over natural: {p.gain:.4f}; KL to natural {p.kl:.3f} nats.")
    if u := p.uncertainty:
        low, high = u.gain
        click.echo(
            f"Over {u.refits} refits on resampled runs the gain is {low:.4f} to {high:.4f} "
            f"({span(u.refits, 0.95)}); "
            f"{100 * u.beats_natural:.0f} % put it before natural, {100 * u.beats_best_row:.0f} % "
            "before the best run."
        )
    click.echo(f"Runs near the mixture measure {p.local_error:+.4f} against held-out predictions.")
    for b in p.binding:
        if b.gain is not None:
            click.echo(
                f"Held by {b.kind} at {b.at:.4f}: {b.domain}; free it would take {b.share:.4f} "
                f"and gain {b.gain:.4f}."
            )
    notes(p.warnings)


def _print_cells(cells: "list[Cell]", domains: tuple[str, ...]) -> None:
    from rich.table import Table

    from olmeval.cli.tables import console

    if not cells:
        return
    names = dict(zip(domains, short_names(domains), strict=True))
    table = Table("tokens", "passes", "KL", "objective", "held", "largest shares", title="sweep")
    for c in cells:
        run = "" if c.run_tokens is None else f"{c.run_tokens:.3g}"
        if c.weights is None:
            table.add_row(run, f"{c.max_epochs:g}", f"{c.kl:g}", "", "", "nothing obeys")
            continue
        top = sorted(c.weights, key=lambda d: -c.weights[d] if c.weights else 0)[:3]
        shown = ", ".join(f"{names[d]} {c.weights[d]:.2f}" for d in top)
        cost = "" if c.objective is None else f"{c.objective:.4f}"
        table.add_row(run, f"{c.max_epochs:g}", f"{c.kl:g}", cost, f"{c.held}", shown)
    console().print(table)


def _print_front(front: "list[FrontPoint]") -> None:
    from rich.table import Table

    from olmeval.cli.tables import console

    if not front:
        return
    table = Table("emphasis on the first", "first", "second", title="front")
    for point in front:
        table.add_row(f"{point.emphasis:.2f}", f"{point.first:.4f}", f"{point.second:.4f}")
    console().print(table)
