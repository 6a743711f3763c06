"""What the ladder commands print: tables that fit a terminal, or JSON."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from olmeval.ladders.forecast import LadderForecast
    from olmeval.ladders.predict import Measured, Scale
    from olmeval.ladders.published import Chained


def _cell(value: Any) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{key}={item:.4g}" for key, item in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def print_rows(rows: Sequence[Mapping[str, Any]], as_json: bool) -> None:
    """Rows with the same keys as a table."""
    from rich import box
    from rich.table import Table

    from olmeval.cli.tables import console

    if as_json:
        click.echo(json.dumps(list(rows), indent=2))
        return
    table = Table(box=box.SIMPLE_HEAD)
    for name in rows[0] if rows else ():
        numeric = isinstance(rows[0][name], int | float)
        table.add_column(name.replace("_", " "), justify="right" if numeric else "left")
    for row in rows:
        table.add_row(*(_cell(value) for value in row.values()))
    console().print(table)


def named(law_name: str, theta: Iterable[float]) -> dict[str, float]:
    """Parameters of a law by name."""
    from olmeval.ladders.laws import law

    return dict(zip(law(law_name).parameters, map(float, theta), strict=True))


def print_published(
    found: "Sequence[tuple[Chained, list[tuple[Scale, dict[str, float]]]]]", as_json: bool
) -> None:
    """The published fits and what they say of every target."""
    if as_json:
        value: list[dict[str, Any]] = [
            {"task": chain.task, "feature": chain.feature,
             "loss": {**asdict(chain.loss), "theta": named(chain.loss.law, chain.loss.theta)},
             "accuracy": {**asdict(chain.accuracy),
                          "theta": named(chain.accuracy.law, chain.accuracy.theta)},
             "targets": {scale.target or "": at for scale, at in targets}}
            for chain, targets in found
        ]  # fmt: skip
        click.echo(json.dumps(value, indent=2))
        return
    for chain, _ in found:
        for what, fit in (("L", chain.loss), ("Acc", chain.accuracy)):
            click.echo(
                f"{chain.task} {what}: {_cell(named(fit.law, fit.theta))} "
                f"(error {fit.error:.2%} on {fit.points})"
            )
    rows = []
    for chain, targets in found:
        for scale, at in targets:
            row = {"task": chain.task, "target": scale.target or ""}
            for what in ("loss", "accuracy"):
                error = at.get(f"{what}_error")
                row[what] = f"{at[what]:.4f}"
                row[f"{what} error"] = "-" if error is None else f"{error:+.2%}"
            rows.append(row)
    print_rows(rows, False)


def print_predictions(
    found: "Sequence[tuple[Scale, list[Measured]]]", made: "LadderForecast", as_json: bool
) -> None:
    """One table a target; errors where the target is known."""
    from olmeval.ladders.predict import shared_once

    if as_json:
        value = {
            "level": made.level,
            "targets": [
                {**asdict(scale), "predictions": [
                    {**asdict(row.prediction), "actual": row.actual, "error": row.error}
                    for row in rows
                ]}
                for scale, rows in found
            ],
            "back_test": {q: c.coverage for q, c in made.calibration_.items()},
            "warnings": made.warnings_,
        }  # fmt: skip
        click.echo(json.dumps(value, indent=2))
        return
    for scale, rows in found:
        click.echo(
            f"{scale.target or 'run'}: N {scale.params:.4g}, D {scale.tokens:.4g}, "
            f"C {scale.flops:.4g}; {made.level:.0%} intervals"
        )
        print_rows(
            [
                {"task": r.prediction.task, "quantity": r.prediction.quantity,
                 "predicted": f"{r.prediction.value:.3f}",
                 "interval": f"{r.prediction.low:.3f}..{r.prediction.high:.3f}",
                 "measured": "-" if r.actual is None else f"{r.actual:.3f}",
                 "error": "-" if r.error is None else f"{r.error:+.1%}"}
                for r in shared_once(rows)
            ],
            False,
        )  # fmt: skip
    for quantity, calibration in made.calibration_.items():
        coverage = "unknown" if calibration.coverage is None else f"{calibration.coverage:.0%}"
        click.echo(
            f"back-test of {quantity}: nominal {made.level:.0%}, held {coverage} of "
            f"{calibration.tests}"
        )
    for line in made.warnings_:
        click.echo(line, err=True)


def print_backtest(made: "LadderForecast", as_json: bool) -> None:
    """Errors by held-out run, and coverage."""
    rows = [row for held in made.backtests_.values() for row in held]
    if as_json:
        value = {
            "level": made.level,
            "coverage": {q: c.coverage for q, c in made.calibration_.items()},
            "weights": {
                q: dict(zip(c.members, map(float, c.weights), strict=True))
                for q, c in made.calibration_.items()
            },
            "rows": [{**asdict(row), "error": row.error} for row in rows],
        }
        click.echo(json.dumps(value, indent=2))
        return
    groups: dict[tuple[str, str, str], list[Any]] = {}
    for row in rows:
        groups.setdefault((row.quantity, ", ".join(row.fitted), row.run), []).append(row)
    table = []
    for (quantity, fitted, run), held in groups.items():
        inside = [row.inside for row in held if row.inside is not None]
        table.append(
            {"quantity": quantity, "fitted": fitted, "held out": run, "tasks": len(held),
             "mean |error|": f"{sum(abs(row.error) for row in held) / len(held):.1%}",
             "worst": f"{max((row.error for row in held), key=abs):+.1%}",
             "inside": f"{sum(inside)} of {len(inside)}" if inside else "-"}
        )  # fmt: skip
    print_rows(table, False)
    for quantity, calibration in made.calibration_.items():
        coverage = "unknown" if calibration.coverage is None else f"{calibration.coverage:.0%}"
        weights = ", ".join(
            f"{name} {weight:.2f}"
            for name, weight in zip(calibration.members, calibration.weights, strict=True)
        )
        click.echo(f"{quantity}: nominal {made.level:.0%}, actual {coverage}; weights {weights}")
