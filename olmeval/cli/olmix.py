"""The ``olmix`` command: data mixing."""

from olmeval.cli.groups import root_group, run_cli

COMMANDS = {
    "priors": ("olmeval.cli.olmix_swarm:priors", "Measure tokens and fingerprints of domains."),
    "swarm": ("olmeval.cli.olmix_swarm:swarm", "Draw the mixtures of a swarm."),
    "launch": ("olmeval.cli.olmix_launch:launch", "Train and score the mixtures of a swarm."),
    "collect": ("olmeval.cli.olmix_launch:collect", "Tables of proxies trained elsewhere."),
    "completion": ("olmeval.cli.completion:completion", "Complete words in bash, zsh or fish."),
    "fit": ("olmeval.cli.olmix_fit:fit", "Fit laws from mixture to score to a swarm."),
    "predict": ("olmeval.cli.olmix_predict:predict", "Predict other mixtures with a saved fit."),
    "optimize": (
        "olmeval.cli.olmix_optimize:optimize",
        "Choose the mixture of least predicted loss.",
    ),
    "upsample": ("olmeval.cli.olmix_upsample:upsample", "Repeat better data more often."),
    "report": ("olmeval.cli.olmix_report:report", "One page for a fit and its mixtures."),
    "reuse": ("olmeval.cli.olmix_reuse:reuse", "Domains changed: plan the smaller swarm."),
}


@root_group("olmix", COMMANDS, "olmix fit swarm/ratios.csv swarm/metrics.csv --output fits/first")
def cli(debug: bool) -> None:
    """Choose a data mixture from small runs, with error bars on every number."""


def main() -> None:
    """Entry point of the ``olmix`` script."""
    run_cli(cli, "olmix")


if __name__ == "__main__":
    main()
