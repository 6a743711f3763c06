"""``olmix report``: one page for a fitted swarm and the mixtures proposed from it."""

from pathlib import Path

import click


@click.command(epilog="Example: olmix report fits/a mixes/a mixes/long --output report.html")
@click.argument("fit", type=click.Path(path_type=Path))
@click.argument("proposals", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path, dir_okay=False),
    default="mixture.html",
    show_default=True,
    help="The page; its numbers go beside it as .json.",
)
@click.option("--title", default="Data mixture", show_default=True, help="Of the page.")
@click.option("--refits", type=int, help="On resampled swarms, for intervals of effects.")
@click.option("--json", "as_json", is_flag=True, help="Print the numbers.")
def report(
    fit: Path,
    proposals: tuple[Path, ...],
    output: Path,
    title: str,
    refits: int | None,
    as_json: bool,
) -> None:
    """One page: the swarm, the fit, effects of domains on tasks, the mixture and what it rests on.

    FIT is the fit.json of 'olmix fit' or its folder, PROPOSALS the folders of 'olmix optimize',
    of which the first says what is natural.
    """
    from olmeval.errors import UserError
    from olmeval.mixing.fitting import load_fit
    from olmeval.mixing.output import load_proposal
    from olmeval.reports.mixing import write_mixing_report

    given = {path.resolve().name: load_proposal(path) for path in proposals}
    if len(given) < len(proposals):
        raise UserError("two proposals have folders of one name; rename one to tell them apart")
    page, numbers = write_mixing_report(
        load_fit(fit),
        output,
        proposals=given,
        title=title,
        refits=refits,
    )
    click.echo(numbers.read_text(encoding="utf-8") if as_json else f"'{page}' and '{numbers}'")
