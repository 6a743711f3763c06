"""``olmeval sandbox``: run a program that nobody trusts; what this machine can contain."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from olmeval.sandbox.types import Outcome, Part


@click.group(epilog="Example: olmeval sandbox run program.py")
def sandbox() -> None:
    """Run programs that nobody trusts; see what this machine can contain."""


@sandbox.command(
    epilog="""\b
Examples:
  olmeval sandbox run program.py
  olmeval sandbox run solution.cpp --seconds 20 --json
"""
)
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--language", help="py, cpp, js, ...; by default what the file's name says.")
@click.option("--seconds", default=10.0, show_default=True, help="Wall time of each step.")
@click.option("--memory", type=click.IntRange(16), help="MiB; default: the language's own.")
@click.option("--unsafe-local", is_flag=True, help="Run even where nothing contains the program.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def run(
    file: Path,
    language: str | None,
    seconds: float,
    memory: int | None,
    unsafe_local: bool,
    as_json: bool,
) -> None:
    """Run FILE in the sandbox: no network, no files of yours, bounded time, memory and output.

    Its output is printed, then one line about how it ended. The exit code is the program's; 124
    after a timeout, 137 when out of memory, 128 + signal after a signal, 1 if the sandbox failed.
    """
    from olmeval.sandbox.file import run_file

    outcome = run_file(
        file,
        language=language,
        seconds=seconds,
        memory=memory and memory << 20,
        unsafe_local=unsafe_local,
    )
    if as_json:
        import json

        click.echo(json.dumps(_record(outcome), indent=2))
    else:
        for part in outcome.parts:
            sys.stdout.buffer.write(part.stdout)
            sys.stdout.buffer.flush()
            sys.stderr.buffer.write(part.stderr)
            sys.stderr.buffer.flush()
        click.echo(f"[{_ending(outcome)}]", err=True)
    sys.exit(_exit_code(outcome))


@sandbox.command(epilog="Example: olmeval sandbox doctor --run")
@click.option("--run", is_flag=True, help="Also run a program in every language that is there.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(run: bool, as_json: bool) -> None:
    """Print the tier, what it stands on, and which languages and environments are installed.

    Exit code 1 where nothing here can contain a program.
    """
    from olmeval.sandbox.doctor import report

    found = report(run=run)
    if as_json:
        import json

        click.echo(json.dumps(found.to_json(), indent=2))
    else:
        from rich.console import Console
        from rich.markup import escape
        from rich.table import Table

        table = Table(box=None, pad_edge=False, show_header=False)
        for _ in range(2):
            table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        table.add_row("[bold]tier[/bold]", "", f"{found.tier}: {escape(found.meaning)}")
        group = ""
        for row in found.rows:
            if row.group != group:
                table.add_row(f"[bold]{row.group}[/bold]")
            group = row.group
            mark = "[green]✓[/green]" if row.ok else "[yellow]–[/yellow]"
            table.add_row(f"  {escape(row.name)}", mark, escape(row.found))
            if row.fix:
                table.add_row("", "", f"[bold]{escape(row.fix)}[/bold]")
        console = Console(highlight=False)
        Console(width=None if console.is_terminal else 120, highlight=False).print(table)
    if found.tier == "T3":
        sys.exit(1)


@sandbox.group(epilog="Example: olmeval sandbox env create bigcodebench")
def env() -> None:
    """Python environments with the pinned libraries of a benchmark: list, create, remove."""


@env.command(name="list", epilog="Example: olmeval sandbox env list --json")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(as_json: bool) -> None:
    """Print every environment, and whether it has been made."""
    from olmeval.sandbox.environments import find, folder, names, pins

    rows = [
        {
            "name": name, "made": find(name) is not None, "python": pins(name).python,
            "folder": str(folder(name)), "summary": pins(name).summary,
        }
        for name in names()
    ]  # fmt: skip
    if as_json:
        import json

        click.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        state = f"made, in {row['folder']}" if row["made"] else "not made"
        click.echo(f"{row['name']}: {row['summary']} (Python {row['python']}; {state})")


@env.command(epilog="Example: olmeval sandbox env create ds1000 --python /usr/bin/python3.10")
@click.argument("name")
@click.option("--python", type=click.Path(path_type=Path), help="Interpreter of its version.")
def create(name: str, python: Path | None) -> None:
    """Make the environment NAME with pip; quick when it is there."""
    from olmeval.sandbox.environments import create as make

    made = make(name, python=python, say=lambda text: click.echo(text, err=True))
    click.echo(f"'{name}' is in {made.path}: Python {made.python}, {len(made.versions)} packages")


@env.command(epilog="Example: olmeval sandbox env remove ds1000")
@click.argument("name")
def remove(name: str) -> None:
    """Delete the environment NAME."""
    from olmeval.sandbox.environments import remove as delete

    click.echo(f"'{name}' is removed" if delete(name) else f"'{name}' was not there")


def _ending(outcome: "Outcome") -> str:
    if not outcome.parts:
        return f"the sandbox failed: {outcome.detail}"
    last = outcome.parts[-1]
    said = {
        "exited": f"exit code {last.code}",
        "timeout": "stopped at its time limit",
        "memory": "stopped at its memory limit",
        "signal": f"ended by signal {last.signal}",
        "blocked": "stopped by the sandbox for what it tried",
    }
    steps = f", step {len(outcome.parts)}" if len(outcome.parts) > 1 else ""
    how = said.get(outcome.status, outcome.status)
    return f"{how} after {last.seconds:.2f} s{steps}; tier {outcome.tier}"


def _exit_code(outcome: "Outcome") -> int:
    if outcome.status in ("timeout", "memory"):
        return 124 if outcome.status == "timeout" else 137
    if not outcome.parts or outcome.status == "infrastructure":
        return 1
    last = outcome.parts[-1]
    return 128 + last.signal if last.signal else last.code or 0


def _record(outcome: "Outcome") -> dict[str, Any]:
    return {
        "status": outcome.status, "tier": outcome.tier, "detail": outcome.detail,
        "steps": [_part(part) for part in outcome.parts],
    }  # fmt: skip


def _part(part: "Part") -> dict[str, Any]:
    return {
        "status": part.status, "code": part.code, "signal": part.signal,
        "seconds": part.seconds, "cpu_seconds": part.cpu_seconds, "max_rss": part.max_rss,
        "stdout": part.stdout.decode(errors="replace"),
        "stderr": part.stderr.decode(errors="replace"),
    }  # fmt: skip
