"""Prints what a run would ask and how long it would take (``olmeval run --dry-run``)."""

from dataclasses import asdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from olmeval.engine.dry_run import Asked, DryRun
    from olmeval.engine.probe import Estimate


def print_dry_run(result: "DryRun") -> None:
    """One line a task and one for the run: requests, tokens, time, and what to be careful of."""
    from rich.console import Console
    from rich.table import Table

    lines = list(result.tasks)
    if len(lines) > 1:
        lines.append(result.total)
    generates = any(line.generation.prompts for line in lines)
    columns = ["task", "requests", "naive", "planned", "tree", "saved"]
    columns += ["prompts", "new tokens"] if generates else []
    columns += ["time"] if result.speed is not None else []
    grid = Table(box=None, header_style="bold", pad_edge=False)
    for name in columns:
        right = name != "task"
        grid.add_column(name, justify="right" if right else "left", no_wrap=right, overflow="fold")
    grid.add_column("notes", overflow="fold")
    for line in lines:
        if line is result.total and len(lines) > 1:
            grid.add_section()
        grid.add_row(*_cells(line, generates))
    console = Console()
    if not console.is_terminal:
        console = Console(width=140)
    console.print(grid)
    console.print(_summary(result), highlight=False, soft_wrap=True)


def _cells(line: "Asked", generates: bool) -> list[str]:
    cells = [line.name, f"{line.requests:,}"]
    scored = line.tokens_planned > 0
    tokens = (line.tokens_naive, line.tokens_planned, line.tokens_tree)
    cells += [count(n) if scored else "" for n in tokens]
    cells.append(f"{line.tokens_naive / line.tokens_planned:.1f}x" if scored else "")
    if generates:
        some = line.generation
        cells += [f"{some.prompts:,}", f"≤ {count(some.new_tokens)}"] if some.prompts else ["", ""]
    if line.estimate is not None:
        # Generations may end before they have to.
        cells.append(("≤ " if line.generation.prompts else "") + duration(line.estimate.seconds))
    named = {name.replace("_", " "): n for name, n in asdict(line.cautions).items() if n}
    return [*cells, ", ".join(f"{n:,} {name}" for name, n in named.items())]


def _summary(result: "DryRun") -> str:
    parts = [f"{result.total.distinct:,} distinct requests"]
    if result.total.estimate is not None and result.speed is not None:
        parts.append(f"{_range(result.total.estimate)} by a probe of this model")
        costs = {
            "tokens scored in rows": result.speed.row,
            "on paths to them": result.speed.path,
            "read in prompts": result.speed.read,
        }
        parts += [f"{count(1 / cost)}/s {name}" for name, cost in costs.items() if cost]
    return "; ".join(parts)


def _range(estimate: "Estimate") -> str:
    return f"{duration(estimate.low)} to {duration(estimate.high)}"


def count(n: float) -> str:
    """A count in three digits: 512, 4.21k, 31.7M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if n >= 0.9995 * size:
            value = n / size
            return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f}{unit}"
    return f"{n:.0f}"


def duration(seconds: float) -> str:
    """Seconds in words of two units: 4.2 s, 1 min 05 s, 3 h 20 min."""
    if seconds < 59.5:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02} min"
