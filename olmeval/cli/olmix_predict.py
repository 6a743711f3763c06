"""``olmix predict``: what a saved fit says of other mixtures, and how right it was."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from olmeval.cli.olmix_options import notes, parse_members
from olmeval.mixing.names import short_names

if TYPE_CHECKING:
    from olmeval.mixing.predicting import Predictions, RowScore


@click.command(
    epilog="Example: olmix predict fits/a new/ratios.csv new/metrics.csv --output predicted.csv"
)
@click.argument("fit", type=click.Path(path_type=Path))
@click.argument("ratios", type=click.Path(path_type=Path))
@click.argument("metrics", required=False, type=click.Path(path_type=Path))
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path, dir_okay=False),
    help="CSV: run, target, predicted, low, high, measured.",
)
@click.option("--level", type=float, help="Of prediction intervals; default: the fit's.")
@click.option(
    "--group", multiple=True, metavar="NAME=COLUMN,...", help="Columns of a mean, as for the fit."
)
@click.option("--json", "as_json", is_flag=True, help="Print scores and predictions as JSON.")
def predict(
    fit: Path,
    ratios: Path,
    metrics: Path | None,
    output: Path | None,
    level: float | None,
    group: tuple[str, ...],
    as_json: bool,
) -> None:
    """Predict the mixtures of RATIOS with a saved FIT.

    With METRICS, what these mixtures scored, at any size: how right the predictions are, by rank
    correlation with its interval, R2, mean absolute error, bias and coverage. Columns and runs are
    matched by name; nothing is fitted.
    """
    from olmeval.mixing.fitting import load_fit
    from olmeval.mixing.predicting import predict_rows

    fitted = load_fit(fit)
    found = predict_rows(fitted, ratios, metrics, level=level, groups=parse_members(group))
    if output is not None:
        found.save(output)
    if as_json:
        _print_json(found)
        return
    asked = fitted.level if level is None else level
    if found.scores:
        _print_scores(found, asked)
    else:
        _print_ranges(found)
    notes(found.notes)
    if output is not None:
        click.echo(f"Written: {output}")


def _print_json(found: "Predictions") -> None:
    import json
    from dataclasses import asdict

    value = {
        "runs": len(found.runs),
        "seen": found.seen,
        "scores": [asdict(score) for score in found.scores],
        "mean": found.mean and asdict(found.mean),
        "choice": found.choice and asdict(found.choice),
        "notes": found.notes,
        "predictions": json.loads(found.frame().to_json(orient="records", double_precision=15)),
    }
    click.echo(json.dumps(value, indent=2))


def _print_scores(found: "Predictions", level: float) -> None:
    from rich.table import Table

    from olmeval.cli.tables import console

    every = [*found.scores, *([found.mean] if found.mean else [])]
    counts = sorted({s.runs for s in every})
    measured = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    table = Table(title=f"{len(found.runs)} mixtures, {measured} of them measured")
    table.add_column("target", overflow="fold")
    for column in ("rank", "95 %", "R2", "MAE", "bias", f"in {100 * level:g} %"):
        table.add_column(column, justify="right", no_wrap=True)

    def row(name: str, s: "RowScore") -> None:
        ends = s.rank_interval
        table.add_row(
            name,
            _number(s.rank_correlation),
            "?" if ends is None else f"{ends[0]:.3f}‥{ends[1]:.3f}",
            _number(s.r2),
            f"{s.mae:.4f}",
            f"{s.bias:+.4f}",
            "?" if s.covered is None else f"{100 * s.covered:.0f} %",
        )

    names = short_names([s.target for s in found.scores])
    for name, score in zip(names, found.scores, strict=True):
        row(name, score)
    if found.mean is not None:
        table.add_section()
        row("mean", found.mean)
    console().print(table)
    ranks = [s.rank_correlation for s in found.scores if s.rank_correlation is not None]
    if ranks:
        click.echo(f"Mean rank correlation of {len(ranks)} targets: {sum(ranks) / len(ranks):.4f}.")
    if choice := found.choice:
        click.echo(
            f"By the mean of losses '{choice.run}' is predicted best and came out as number "
            f"{choice.place} of {choice.runs}, {choice.regret:.4f} above '{choice.best}'."
        )


def _number(value: float | None) -> str:
    return "?" if value is None else f"{value:.3f}"


def _print_ranges(found: "Predictions") -> None:
    from rich.table import Table

    from olmeval.cli.tables import console

    table = Table(title=f"{len(found.runs)} mixtures; nothing measured")
    table.add_column("target", overflow="fold")
    for column in ("least", "mean", "most", "±"):
        table.add_column(column, justify="right")
    for j, name in enumerate(short_names(found.targets)):
        p, half = found.predicted[:, j], (found.high[:, j] - found.low[:, j]).mean() / 2
        width = f"{half:.4f}" if half < float("inf") else "?"
        table.add_row(name, f"{p.min():.4f}", f"{p.mean():.4f}", f"{p.max():.4f}", width)
    console().print(table)
