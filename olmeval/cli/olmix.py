"""The ``olmix`` command: data mixing."""

import click

from olmeval import __version__
from olmeval.cli.main import LazyGroup, run_cli


@click.group(
    cls=LazyGroup,
    commands_at={},
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="olmix")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(debug: bool) -> None:
    """Choose a data mixture. No subcommand is available in this version."""


def main() -> None:
    """Entry point of the ``olmix`` script."""
    run_cli(cli, "olmix")
