"""``olmeval doctor``: what works on this machine, and how to get what does not."""

from dataclasses import asdict

import click


@click.command(
    epilog="""\b
Examples:
  olmeval doctor
  olmeval doctor --json
"""
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(as_json: bool) -> None:
    """Say what works here: Python, devices, backends, sandbox, extras, data, disk, defaults.

    Each missing thing stands with the command that gets it. Exit code 1 if something is broken that
    every job needs.
    """
    from olmeval.cli.defaults import find_files
    from olmeval.engine.doctor import examine

    checks = examine()
    files = [str(path) for path in reversed(find_files())]
    broken = [check for check in checks if check.status == "broken"]
    if as_json:
        import json

        rows = [asdict(check) for check in checks]
        click.echo(json.dumps({"ok": not broken, "checks": rows, "defaults": files}, indent=2))
    else:
        from rich.console import Console
        from rich.table import Table

        marks = {
            "ok": "[green]✓[/green]",
            "missing": "[yellow]–[/yellow]",
            "broken": "[red]✗[/red]",
        }
        table = Table(box=None, pad_edge=False, show_header=False)
        for _ in range(3):
            table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        section = ""
        for check in checks:
            head = "" if check.section == section else f"[bold]{check.section}[/bold]"
            section = check.section
            table.add_row(head, marks[check.status], check.name, _escaped(check.detail))
            if check.fix:
                table.add_row("", "", "", f"[bold]{_escaped(check.fix)}[/bold]")
        named = "\n".join(files) or "no olmeval.toml here or above"
        table.add_row("[bold]defaults[/bold]", marks["ok"], "", _escaped(named))
        console = Console(highlight=False)
        Console(width=None if console.is_terminal else 120, highlight=False).print(table)
    if broken:
        raise SystemExit(1)


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)
