"""``olmeval cache``: the answers that runs share."""

import sys
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from olmeval.results.upkeep import Verified


at_store = click.option(
    "--store",
    envvar="OLMEVAL_STORE",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder; default: $OLMEVAL_STORE, else in the cache folder.",
)


@click.group(epilog="Example: olmeval cache stats")
def cache() -> None:
    """Answers that runs share: what is there, remove, verify."""


@cache.command(epilog="Example: olmeval cache stats --json")
@at_store
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def stats(store: Path | None, as_json: bool) -> None:
    """Print every model whose answers are stored, the last used first."""
    from olmeval.results.segments import store_dir
    from olmeval.results.upkeep import stored_models

    root = store or store_dir()
    models = stored_models(root)
    if as_json:
        import json

        click.echo(json.dumps([asdict(m) for m in models], indent=2))
        return
    if not models:
        click.echo(f"no answers are stored in '{root}'")
        return
    from rich.table import Table

    from olmeval.cli.tables import console

    table = Table("model", "backend", "dtype", box=None, pad_edge=False)
    for name in ("answers", "samples", "size", "last used"):
        table.add_column(name, justify="right")
    for m in models:
        used = datetime.fromtimestamp(m.last_used).strftime("%Y-%m-%d %H:%M")
        named = (m.name or "?", m.backend or "?", m.dtype or "?")
        table.add_row(*named, f"{m.answers:,}", f"{m.samples:,}", _size(m.bytes), used)
    console().print(table)
    click.echo(f"{_size(sum(m.bytes for m in models))} in '{root}'")


@cache.command(epilog="Example: olmeval cache prune --older-than 30d --dry-run")
@at_store
@click.option("--older-than", metavar="AGE", help="Models not used for so long: 36h, 30d, 8w.")
@click.option("--model", metavar="NAME", help="Models of that name or fingerprint.")
@click.option("--all", "everything", is_flag=True, help="Every model.")
@click.option("--dry-run", is_flag=True, help="Remove nothing, say what would be removed.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def prune(
    store: Path | None,
    older_than: str | None,
    model: str | None,
    everything: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Remove models' answers; conditions given together must all hold.

    Answers that a running process writes stay.
    """
    from olmeval.errors import UserError
    from olmeval.results.upkeep import parse_age, prune_store

    if not (older_than or model or everything):
        raise UserError("say what to remove: --older-than 30d, --model NAME or --all")
    age = parse_age(older_than) if older_than else None
    done = prune_store(store, model=model, older_than=age, dry_run=dry_run)
    if as_json:
        import json

        click.echo(json.dumps({**asdict(done), "dry_run": dry_run}, indent=2))
        return
    verb = "would free" if dry_run else "freed"
    click.echo(f"{verb} {_size(done.bytes)} (models: {done.models}, files: {done.segments})")
    if done.in_use:
        click.echo(f"files kept since a running process writes them: {done.in_use}")


@cache.command(epilog="Example: olmeval cache verify --repair")
@at_store
@click.option("--repair", is_flag=True, help="Rewrite damaged files with what is whole.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--quiet", is_flag=True, help="Show no progress.")
def verify(store: Path | None, repair: bool, as_json: bool, quiet: bool) -> None:
    """Read and check every stored answer. Exit code 1 while anything is damaged.

    Damaged answers are never used: their questions are asked again.
    """
    from olmeval.results.upkeep import verify_store

    found = verify_store(store, repair=repair, progress=not (quiet or as_json))
    if as_json:
        import json

        click.echo(json.dumps(asdict(found), indent=2))
    else:
        _print_verified(found, repair)
    if not all(d.repaired for d in found.damaged):
        sys.exit(1)


def _print_verified(found: "Verified", repair: bool) -> None:
    for d in found.damaged:
        outcome = "repaired" if d.repaired else "in use, not repaired" if repair else "damaged"
        click.echo(
            f"{outcome}: '{d.path}': {d.lost_bytes:,} bytes, at least {d.lost_answers:,} answers"
        )
    click.echo(
        f"{found.answers:,} answers of {found.models} models are whole "
        f"({_size(found.bytes)} in {found.segments} files)"
    )
    if found.damaged and not repair:
        click.echo("`olmeval cache verify --repair` removes what is damaged")


def _size(n: int) -> str:
    from rich.filesize import decimal

    return decimal(n)
