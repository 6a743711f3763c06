"""What the commands that read the long table share: options, and how numbers are printed."""

import json
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from olmeval.cli.grid import fit, listed

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

Function = Callable[..., Any]


def table_options(function: Function) -> Function:
    """PATHS, --map, --where, --task, --metric: which rows of which table."""
    options = [
        click.argument("paths", nargs=-1, type=click.Path(path_type=Path)),
        click.option(
            "--map", "mapping", type=click.Path(path_type=Path), help="YAML: their columns to ours."
        ),
        click.option("--where", metavar="SQL", help="Only rows of the long table that fulfil it."),
        click.option(
            "--task",
            "--tasks",
            "-t",
            "tasks",
            multiple=True,
            metavar="GLOB",
            help="Only such tasks.",
        ),
        click.option("--metric", "metrics", multiple=True, help="Default: the primary ones."),
    ]
    for option in reversed(options):
        function = option(function)
    return function


def number(value: float, digits: int = 3) -> str:
    """Three significant digits; a dash where there is no number."""
    return "—" if value != value else f"{value:#.{digits}g}".rstrip(".")


def interval(low: float, high: float, digits: int = 3) -> str:
    """``[low, high]``; nothing where there is none."""
    if low != low or high != high:
        return ""
    return f"[{number(low, digits)}, {number(high, digits)}]"


def print_or_write(
    table: "pd.DataFrame", as_json: bool, csv: Path | None, show: Callable[["pd.DataFrame"], None]
) -> None:
    """A table as CSV file, as JSON records (what is missing or infinite is null) or by ``show``."""
    from olmeval.files import atomic_path
    from olmeval.results.run import records

    if csv is not None:
        with atomic_path(csv) as tmp:
            table.to_csv(tmp, index=False)
    elif as_json:
        finite = table.replace([float("inf"), float("-inf")], float("nan"))
        click.echo(json.dumps(records(finite), indent=2, allow_nan=False, default=str))
    else:
        show(table)


def console() -> "Console":
    """Standard output: as wide as the terminal, and in a pipe as wide as any table is."""
    from rich.console import Console

    found = Console()
    return found if found.is_terminal else Console(width=1000)


def print_grid(
    heads: Sequence[str], rows: Sequence[Sequence[str]], texts: int | Collection[int]
) -> None:
    """A plain table that fits the terminal (:mod:`olmeval.cli.grid`), and is whole in a pipe.

    ``texts`` numbers the columns of text, or says how many of the first are; all others are
    numbers.
    """
    from rich.table import Table
    from rich.text import Text

    out = console()
    width = out.width if out.is_terminal else None
    numbered = range(texts) if isinstance(texts, int) else texts
    grid = fit(heads, rows, numbered, width)
    if width is not None and grid.width() > width:
        click.echo(listed(fit(heads, rows, numbered, None), width))
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for head, text in zip(grid.heads, grid.texts, strict=True):
        table.add_column(head, justify="left" if text else "right", overflow="fold")
    for row in grid.rows:
        table.add_row(*(Text(cell) for cell in row))
    if grid.same:
        click.echo(", ".join(f"{head}: {value}" for head, value in grid.same.items()))
    out.width = width or max(grid.width(), 1)
    out.print(table)
