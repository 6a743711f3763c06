"""``olmeval demo``: the main jobs on a small scale."""

from collections.abc import Hashable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from olmeval.stats.mean import Z95

if TYPE_CHECKING:
    from olmeval.reports.demo import Demo
    from olmeval.reports.demo_story import Story


@click.command(epilog="Example: olmeval demo --quick --output demo")
@click.option(
    "--output",
    "-o",
    default="demo",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Folder for corpus, checkpoints, runs and the page.",
)
@click.option("--quick", is_flag=True, help="Three mixtures, trained and compared; nothing more.")
@click.option(
    "--workers",
    default=2,
    show_default=True,
    type=click.IntRange(1),
    help="Processes of one thread each.",
)
@click.option(
    "--tokens",
    type=click.IntRange(1),
    help="Training tokens of each model, about; default: 500,000, with --quick 1,000,000.",
)
def demo(output: Path, quick: bool, workers: int, tokens: int | None) -> None:
    """The main jobs on a small scale, on two cores.

    A corpus, a swarm of proxies, the mixture that they ask for, trained beside the natural one, a
    ladder that forecasts a larger model, the noise of the checkpoints, a gate, and one page: under
    ten minutes. With --quick three mixtures, trained, evaluated and compared: under four. A demo
    that was stopped goes on from there.
    """

    def say(line: str) -> None:
        click.echo(f"· {line}", err=True)

    if quick:
        from olmeval.reports.demo import TOKENS, run_demo

        print_demo(run_demo(output, tokens=tokens or TOKENS, workers=workers, say=say), output)
        return
    from olmeval.reports.demo_story import TOKENS as OF_A_PROXY
    from olmeval.reports.demo_story import tell_story

    story = tell_story(output, tokens=tokens or OF_A_PROXY, workers=workers, say=say)
    print_story(story, output)


def print_story(story: "Story", output: Path) -> None:
    """What every stage found, in the order in which one would ask."""
    from rich.console import Console

    from olmeval.cli.tables import number, print_grid

    console = Console(width=None if Console().is_terminal else 120)

    def title(text: str, note: str) -> None:
        console.print(f"\n[bold]{text}[/bold], {note}")

    title("Mixture", "shares before and after")
    natural, mixture = story.proposal.natural.weights, story.proposal.mixture.weights
    print_grid(
        ["domain", "natural", "optimized"],
        [(d, f"{natural[d]:.3f}", f"{w:.3f}") for d, w in mixture.items()],
        1,
    )
    for warning in story.proposal.warnings:
        console.print(f"Note: {warning}.")
    c = story.comparison
    title("Trained anew", "mean over tasks in bits per byte, one column a seed; lower is better")
    rows = [(mix, *(f"{v:.4f}" for v in values)) for mix, values in c.scores.items()]
    print_grid(["mixture", *(f"seed {k}" for k in range(1, len(rows[0])))], rows, 1)
    low, high = story.proposal.uncertainty.gain if story.proposal.uncertainty else (None, None)
    promised = "" if low is None else f"; refits promised {low:.4f} to {high:.4f}"
    console.print(f"optimized is better by {c.gain:.4f} ± {c.halfwidth:.4f} (95 %){promised}")
    title("Ladder", "the larger model's loss, forecast before it counted")
    print_grid(
        ["quantity", "forecast", "95 % interval", "measured"],
        [
            (f"{r.prediction.task} {r.prediction.quantity}", number(r.prediction.value, 4),
             f"{number(r.prediction.low, 4)} to {number(r.prediction.high, 4)}",
             "" if r.actual is None else number(r.actual, 4))
            for r in story.forecast
        ],
        1,
    )  # fmt: skip
    title("Signal and noise", "of the checkpoints above, smallest difference that can be resolved")
    print_grid(
        ["task", "SNR", "resolves"],
        [
            (str(r["task"]), number(r["snr"]), number(r["resolvable"]))
            for r in story.snr.to_dict("records")
        ],
        1,
    )
    console.print(
        f"\ngate         {story.gate.run} against {story.gate.baseline}: {story.gate.summary}\n"
        f"page         {story.page}\n"
        f"mixture      {output / 'swarm/optimized/mix.yaml'}, {output / 'swarm/mixture.html'}\n"
        f"ladder       {output / 'ladder/ladder.html'}\n"
        f"runs         {output / 'runs'}   (olmeval results {output / 'runs'})\n"
        f"done in {sum(story.seconds.values()):.0f} s: "
        + ", ".join(f"{name} {seconds:.0f}" for name, seconds in story.seconds.items())
    )


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
