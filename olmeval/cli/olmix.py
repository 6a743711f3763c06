"""The ``olmix`` command: data mixing."""

import click

from olmeval import __version__
from olmeval.cli.main import LazyGroup, run_cli

COMMANDS = {
    "priors": ("olmeval.cli.olmix_swarm:priors", "Measure tokens and fingerprints of domains."),
    "swarm": ("olmeval.cli.olmix_swarm:swarm", "Draw the mixtures of a swarm."),
    "launch": ("olmeval.cli.olmix_launch:launch", "Train and score the mixtures of a swarm."),
    "collect": ("olmeval.cli.olmix_launch:collect", "Tables of proxies trained elsewhere."),
    "fit": ("olmeval.cli.olmix_fit:fit", "Fit laws from mixture to score to a swarm."),
    "optimize": (
        "olmeval.cli.olmix_optimize:optimize",
        "Choose the mixture of least predicted loss.",
    ),
    "upsample": ("olmeval.cli.olmix_upsample:upsample", "Repeat better data more often."),
    "report": ("olmeval.cli.olmix_report:report", "One page for a fit and its mixtures."),
    "reuse": ("olmeval.cli.olmix_reuse:reuse", "Domains changed: plan the smaller swarm."),
}


@click.group(
    cls=LazyGroup,
    commands_at=COMMANDS,
    epilog="Example: olmix fit swarm/ratios.csv swarm/metrics.csv --output fits/first",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="olmix")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(debug: bool) -> None:
    """Choose a data mixture from small runs, with error bars on every number."""


def main() -> None:
    """Entry point of the ``olmix`` script."""
    run_cli(cli, "olmix")


if __name__ == "__main__":
    main()
