"""``olmeval tasks``: list, show, preview, write and check tasks; compare prompts."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from olmeval.cli.completion import complete_tasks
from olmeval.cli.export import export
from olmeval.errors import UserError, nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.text import Text

    from olmeval.tasks.preview import Piece

task_path = click.option(
    "--task-path",
    "task_paths",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="A folder with further task files (may be given more than once).",
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(epilog="Example: olmeval tasks preview arc_easy:rc:5shot")
def tasks() -> None:
    """List, show and preview tasks."""


@tasks.command("list", epilog="Example: olmeval tasks list basic")
@click.argument("pattern", default="")
@task_path
@as_json
def list_command(pattern: str, task_paths: tuple[Path, ...], as_json: bool) -> None:
    """List the tasks and suites with PATTERN in their name or starting a word about them."""
    from olmeval.tasks.describe import list_tasks
    from olmeval.tasks.suites import load_suites

    rows = list_tasks(pattern, task_paths)
    suites = [s for s in load_suites(task_paths).values() if pattern.lower() in s.name.lower()]
    if as_json:
        named = [{"suite": s.name, "aggregate": s.aggregate, "summary": s.summary} for s in suites]
        click.echo(json.dumps({"tasks": rows, "suites": named}, indent=2))
        return
    if not rows and not suites:
        known = [row["task"] for row in list_tasks("", task_paths)]
        raise UserError(
            f"no task and no suite has '{pattern}' in its name or its summary"
            f"{nearest(pattern, known)}"
        )
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if Console().is_terminal else 200)
    cells = [(r["task"], ",".join(r["formats"]), r["summary"]) for r in rows]
    cells += [(s.name, "suite", s.summary) for s in suites]
    table = Table(box=None, header_style="bold", pad_edge=False)
    # On a narrow terminal, what a task is about is cut, and never its name.
    names = sum(max((len(row[k]) for row in cells), default=0) + 2 for k in range(2))
    room = max(console.width - names, 12)
    for column in ("task", "formats", "what"):
        table.add_column(column, overflow="fold")
    for name, formats, what in cells:
        table.add_row(name, formats, what if len(what) <= room else f"{what[: room - 1]}…")
    console.print(table)


@tasks.command(epilog="Example: olmeval tasks show arc_challenge:rc::olmes:full")
@click.argument("spec", shell_complete=complete_tasks)
@task_path
@as_json
def show(spec: str, task_paths: tuple[Path, ...], as_json: bool) -> None:
    """Show what SPEC means: definition, data, shots, deviations worth knowing."""
    from olmeval.tasks.describe import describe, describe_definition
    from olmeval.tasks.registry import load_task, resolve
    from olmeval.tasks.sources import Absent

    try:
        description = describe(load_task(spec, task_paths=task_paths))
    except Absent as error:
        description = {
            **describe_definition(resolve(spec, task_paths)),
            "not here": str(error),
        }
    if as_json:
        click.echo(json.dumps(description, indent=2, ensure_ascii=False))
        return
    from rich.console import Console

    console = Console(highlight=False)
    for key, value in description.items():
        for line, text in enumerate(_lines(value)):
            head = f"[bold]{key:<16}[/bold]" if line == 0 else " " * 16
            console.print(head, end=" ")
            console.print(text, markup=False, soft_wrap=True)


def _lines(value: Any) -> list[str]:
    """A value of a description as lines of text; templates keep their newlines as ``\\n``."""
    if isinstance(value, dict):
        return [
            f"{k}: {v if isinstance(v, str | int) else json.dumps(v)}" for k, v in value.items()
        ]
    if isinstance(value, list | tuple):
        return [line for item in value for line in _lines(item)] or ["none"]
    return [str(value)]


@tasks.command(epilog="Example: olmeval tasks preview winogrande -n 2 --model checkpoints/step100")
@click.argument("spec", shell_complete=complete_tasks)
@click.option("-n", "count", default=1, show_default=True, help="Documents to show.")
@click.option(
    "--model",
    "--tokenizer",
    "tokenizer",
    type=click.Path(path_type=Path, exists=True),
    help="A folder with tokenizer.json, or the file; default: a tokenizer of the pulled data.",
)
@task_path
@as_json
def preview(
    spec: str, count: int, tokenizer: Path | None, task_paths: tuple[Path, ...], as_json: bool
) -> None:
    """Print the exact prompts of SPEC with white space and token borders made visible."""
    from rich.console import Console
    from rich.text import Text

    from olmeval.tasks.preview import load_tokenizer, visible
    from olmeval.tasks.preview import preview as preview_task
    from olmeval.tasks.registry import load_task

    loaded, name = load_tokenizer(tokenizer)
    task = load_task(spec, task_paths=task_paths)
    if as_json:
        views = [asdict(view) for view in preview_task(task, loaded, count)]
        click.echo(json.dumps(views, indent=2, ensure_ascii=False))
        return
    console = Console(highlight=False)
    console.print(f"{task.name}  ({len(task.documents)} documents, tokenizer {name})", style="bold")
    console.print("· space  → tab  ↵ newline  │ token border", style="dim")
    for view in preview_task(task, loaded, count):
        console.print(f"\ndocument {view.native_id}", style="bold")
        context = None
        for number, request in enumerate(view.requests):
            if request.context != context:
                context = request.context
                console.print(f"context, {len(context)} tokens", style="bold cyan")
                console.print(_styled(context, "cyan"), soft_wrap=True)
            if view.sampling is not None:
                break
            gold = "  gold" if request.is_gold else ""
            label = f"continuation {number}, {len(request.continuation)} tokens{gold}"
            console.print(label, style="bold green" if gold else "bold magenta")
            console.print(
                _styled(request.continuation, "green" if gold else "magenta"), soft_wrap=True
            )
            if request.crossing:
                crossing = f"one token spans context and continuation: {visible(request.crossing)}"
                console.print(Text(crossing, style="red"))
        if view.sampling is not None:
            console.print(Text(f"the model goes on: {view.sampling}", style="magenta"))
            console.print(Text(f"accepted: {view.references}", style="green"))
        if view.unconditional:
            prompt = visible(view.unconditional[0].context)
            console.print(Text(f"every continuation is also scored after: {prompt}", style="dim"))


def _styled(pieces: "Sequence[Piece]", color: str) -> "Text":
    from rich.text import Text

    from olmeval.tasks.preview import visible

    text = Text()
    for number, piece in enumerate(pieces):
        if number:
            text.append("│", style="dim")
        text.append(visible(piece.text), style=color)
    return text


@tasks.command(epilog="Example: olmeval tasks new quiz --from quiz.jsonl --task-path my_tasks")
@click.argument("name")
@click.option(
    "--from",
    "source",
    required=True,
    type=click.Path(path_type=Path),
    help="Documents: JSON lines, Parquet or Arrow.",
)
@click.option(
    "--task-path",
    "folder",
    default=".",
    show_default=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="The folder of task files to write to.",
)
@as_json
def new(name: str, source: Path, folder: Path, as_json: bool) -> None:
    """Write the task file NAME.yaml over your own documents, for you to edit."""
    from olmeval.tasks.authoring import new_task

    path = new_task(name, source, folder)
    if as_json:
        click.echo(json.dumps({"path": str(path)}, indent=2))
        return
    click.echo(f"wrote {path}; edit it, then: olmeval tasks preview {name} --task-path {folder}")


@tasks.command(epilog="Example: olmeval tasks validate --task-path my_tasks")
@task_path
@as_json
def validate(task_paths: tuple[Path, ...], as_json: bool) -> None:
    """Check every task of the task files: resolve it and render documents where data is at hand.

    Without --task-path, the whole catalogue. Exits with 1 when a task is wrong.
    """
    from rich.console import Console
    from rich.progress import Progress

    from olmeval.tasks.authoring import count_specs
    from olmeval.tasks.authoring import validate as validate_tasks

    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("checking tasks", total=count_specs(task_paths))
        checks = validate_tasks(task_paths, lambda _: progress.advance(bar))
    count = {s: sum(c.status == s for c in checks) for s in ("ok", "unchecked", "error")}
    if as_json:
        click.echo(json.dumps({**count, "checks": [vars(c) for c in checks]}, indent=2))
    else:
        for check in checks:
            # Of files of one's own, what is not found is a slip; of the catalogue, a hub's data.
            if check.status == "error" or (check.status == "unchecked" and task_paths):
                click.echo(f"{check.spec}: {check.message}")
        click.echo(
            f"{count['ok']} tasks are right, {count['error']} are wrong,"
            f" {count['unchecked']} not checked because their data is not here"
        )
    if count["error"]:
        raise SystemExit(1)


@tasks.command(epilog="Example: olmeval tasks parity --json > parity.json")
@click.option(
    "--write", type=click.Path(path_type=Path, dir_okay=False), help="Write the table as Markdown."
)
@as_json
def parity(write: Path | None, as_json: bool) -> None:
    """Rebuild the pulled rendered requests and count how many are equal, byte for byte."""
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table

    from olmeval.cli.tables import console
    from olmeval.files import write_text
    from olmeval.tasks.parity import as_markdown, compare_all, count_folders

    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("comparing folders", total=count_folders())
        results = compare_all(lambda _: progress.advance(bar))
    equal, total = sum(r.equal for r in results), sum(r.total for r in results)
    if write is not None:
        write_text(write, as_markdown(results))
    if as_json:
        rows = [vars(result) for result in results]
        click.echo(json.dumps({"equal": equal, "total": total, "folders": rows}, indent=2))
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("folder", no_wrap=True)
    table.add_column("task", overflow="fold")
    table.add_column("equal", justify="right")
    table.add_column("total", justify="right")
    table.add_column("reason", overflow="fold")
    for result in results:
        table.add_row(
            result.folder,
            result.spec or "",
            f"{result.equal:,}",
            f"{result.total:,}",
            result.reason or "",
            style="" if result.equal == result.total else "red",
        )
    table.add_row("all", "", f"{equal:,}", f"{total:,}", "", style="bold")
    console().print(table)


tasks.add_command(export)
