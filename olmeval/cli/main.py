"""The ``olmeval`` command: a group whose subcommands are imported only when called."""

import sys
import traceback
import warnings
from importlib import import_module

import click

from olmeval import __version__
from olmeval.errors import UserError


class LazyGroup(click.Group):
    """A group whose commands are named as ``module:attribute`` and imported when called.

    ``commands_at`` maps a name to (target, one-line help), so that ``--help`` imports nothing.
    """

    def __init__(self, *args: object, commands_at: dict[str, tuple[str, str]], **kw: object):
        super().__init__(*args, **kw)  # type: ignore[arg-type]
        self.commands_at = commands_at

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*self.commands_at, *super().list_commands(ctx)])

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in self.commands_at:
            return super().get_command(ctx, name)
        module, attribute = self.commands_at[name][0].split(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def format_commands(self, _: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(name, self.commands_at[name][1]) for name in sorted(self.commands_at)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


COMMANDS = {
    "run": ("olmeval.cli.run:run", "Evaluate one checkpoint or many on tasks."),
    "results": (
        "olmeval.cli.results:results",
        "Scores with standard errors, as a table or a file.",
    ),
    "export": ("olmeval.cli.export:export", "Write runs in the files of OLMES or lm-eval."),
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
    "data": ("olmeval.cli.data:data", "Pull benchmark data, build corpora."),
    "ladder": ("olmeval.cli.ladder:ladder", "Predict large runs from small ones, with intervals."),
    "demo": ("olmeval.cli.demo:demo", "Train, evaluate and compare three tiny models."),
}


@click.group(
    cls=LazyGroup,
    commands_at=COMMANDS,
    epilog="Example: olmeval run --model checkpoints/ --tasks arc_easy:rc:5shot",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="olmeval")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(debug: bool) -> None:
    """Evaluate checkpoints of language models, with error bars on every number."""


def run_cli(group: click.Group, prog: str) -> None:
    """Runs a command group; a :class:`UserError` becomes one sentence and exit code 2."""
    warnings.formatwarning = lambda message, *_, **__: f"{prog}: {message}\n"
    try:
        group.main(prog_name=prog, standalone_mode=True)
    except UserError as error:
        if "--debug" in sys.argv:
            traceback.print_exc()
        click.echo(f"{prog}: {error}", err=True)
        sys.exit(2)


def main() -> None:
    """Entry point of the ``olmeval`` script."""
    run_cli(cli, "olmeval")


if __name__ == "__main__":
    main()
