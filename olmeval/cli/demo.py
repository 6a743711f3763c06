"""``olmeval demo``: the main job on a small scale."""

from collections.abc import Hashable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from olmeval.stats.mean import Z95

if TYPE_CHECKING:
    from olmeval.reports.demo import Demo


@click.command(epilog="Example: olmeval demo --output demo")
@click.option(
    "--output",
    "-o",
    default="demo",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Folder for corpus, checkpoints, runs and the page.",
)
@click.option(
    "--workers",
    default=2,
    show_default=True,
    type=click.IntRange(1),
    help="Processes of one thread each.",
)
@click.option(
    "--tokens",
    default=1_000_000,
    show_default=True,
    type=click.IntRange(1),
    help="Training tokens of each model, about.",
)
def demo(output: Path, workers: int, tokens: int) -> None:
    """Train three tiny models on three mixtures, evaluate every checkpoint, compare.

    Takes about five minutes on two cores; a demo that was stopped goes on from there.
    """
    from olmeval.reports.demo import run_demo

    result = run_demo(
        output, tokens=tokens, workers=workers, say=lambda line: click.echo(f"· {line}", err=True)
    )
    print_demo(result, output)


def print_demo(result: "Demo", output: Path) -> None:
    """Final scores by task and mixture, which is better, and where the files are."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if Console().is_terminal else 120)
    last = result.table[result.table["step"] == result.table["step"].max()]
    last = last[last["primary"]]
    mixes = sorted(last["run"].unique())
    grid = Table(box=None, header_style="bold", pad_edge=False)
    grid.add_column("task")
    for mix in mixes:
        grid.add_column(f"{mix}", justify="right", no_wrap=True)
    grid.add_column("better, by more than 1.96 standard errors")
    for task, rows in last.groupby("task", sort=False):
        scores = rows.set_index("run")
        arrow = "↑" if scores["higher_is_better"].iloc[0] else "↓"
        pairs = result.comparison[result.comparison["task"] == task]
        grid.add_row(
            f"{task} {arrow}",
            *(f"{scores.loc[m, 'value']:.3f} ± {scores.loc[m, 'stderr']:.3f}" for m in mixes),
            _verdict(pairs.to_dict("records")),
        )
    console.print(
        "\n[bold]Final checkpoints[/bold], ± one standard error; ↑ higher is better, ↓ lower"
    )
    console.print(grid)
    console.print(
        "Errors are those of the questions; another training seed would move the scores, too.",
        style="dim",
    )
    console.print(
        f"\npage         {result.page}\n"
        f"runs         {output / 'runs'}   (olmeval results {output / 'runs'})\n"
        f"checkpoints  {output / 'train'}\n"
        f"done in {result.seconds:.0f} s"
    )


def _verdict(pairs: list[dict[Hashable, Any]]) -> str:
    """The pairs that differ by more than their error, in words."""
    clear = []
    for pair in pairs:
        gain = pair["difference"] if pair["higher_is_better"] else -pair["difference"]
        if abs(gain) > Z95 * pair["stderr"]:
            clear.append((pair["a"], pair["b"]) if gain > 0 else (pair["b"], pair["a"]))
    losers: dict[str, list[str]] = {}
    for better, worse in clear:
        losers.setdefault(better, []).append(worse)
    ranked = sorted(losers.items(), key=lambda item: -len(item[1]))
    return "; ".join(f"{a} > {', '.join(b)}" for a, b in ranked) or "cannot tell"
