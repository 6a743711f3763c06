"""The ``olmeval`` command: a group whose subcommands are imported only when called."""

from olmeval.cli.groups import root_group, run_cli

COMMANDS = {
    "sandbox": (
        "olmeval.cli.sandbox:sandbox",
        "Run programs that nobody trusts; what this machine can contain.",
    ),
    "run": ("olmeval.cli.run:run", "Evaluate one checkpoint or many on tasks."),
    "results": (
        "olmeval.cli.results:results",
        "Scores with standard errors, as a table or a file.",
    ),
    "export": (
        "olmeval.cli.export:export",
        "Scores for other tools, papers, trackers and model cards.",
    ),
    "tasks": ("olmeval.cli.tasks:tasks", "List, show, preview, write and check tasks."),
    "cache": ("olmeval.cli.cache:cache", "Stored answers that runs share: list, remove, verify."),
    "compare": ("olmeval.cli.compare:compare", "Paired differences of runs, with tests."),
    "decisions": (
        "olmeval.cli.decisions:decisions",
        "Do small runs rank models as large runs do?",
    ),
    "gate": ("olmeval.cli.gate:gate", "Stop a checkpoint that got worse: record, check."),
    "interventions": (
        "olmeval.cli.decisions_improve:interventions",
        "Make a benchmark decide better: metric, checkpoints, subtasks.",
    ),
    "snr": ("olmeval.cli.snr:snr", "Signal, noise and their ratio for every benchmark."),
    "table": ("olmeval.cli.table:table", "Import scores from other files; query them with SQL."),
    "train": ("olmeval.cli.train:train", "Train a model from a recipe."),
    "completion": ("olmeval.cli.completion:completion", "Complete words in bash, zsh or fish."),
    "data": ("olmeval.cli.data:data", "Pull benchmark data, build corpora."),
    "ladder": ("olmeval.cli.ladder:ladder", "Predict large runs from small ones, with intervals."),
    "report": ("olmeval.cli.report:report", "One page: which run is better, and how sure is it?"),
    "view": ("olmeval.cli.view:view", "Look at prompts, tokens and answers in a browser."),
    "doctor": ("olmeval.cli.doctor:doctor", "What works on this machine, and how to get more."),
    "demo": ("olmeval.cli.demo:demo", "Train, evaluate and compare three tiny models."),
}


@root_group("olmeval", COMMANDS, "olmeval run --model checkpoints/ --tasks arc_easy:rc:5shot")
def cli(debug: bool) -> None:
    """Evaluate checkpoints of language models, with error bars on every number."""


def main() -> None:
    """Entry point of the ``olmeval`` script."""
    run_cli(cli, "olmeval")


if __name__ == "__main__":
    main()
