"""``olmeval completion`` and ``olmix completion``: what the shell needs to complete words."""

import click
from click.shell_completion import CompletionItem

from olmeval.cli.shells import SHELLS


@click.command(
    epilog="""\b
Examples:
  eval "$(olmeval completion bash)"
  olmix completion fish | source
"""
)
@click.argument("shell", type=click.Choice(list(SHELLS)))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script that teaches SHELL to complete commands, flags and task names.

    For good, put the line of the example into the file that your shell reads when it starts.
    """
    root = ctx.find_root()
    name = root.command.name or "olmeval"
    click.echo(SHELLS[shell](root.command, {}, name, f"_{name.upper()}_COMPLETE").source())


def complete_tasks(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of tasks, groups and suites that begin with ``incomplete``, as click asks for them.

    After a colon, the formats and variants of the task follow, each as a whole spec.
    """
    from olmeval.tasks.families import forms_of, load_catalogue
    from olmeval.tasks.suites import suite_names

    catalogue = load_catalogue(
        tuple(ctx.params.get("task_path") or ctx.params.get("task_paths") or ())
    )
    family, colon, *_rest = incomplete.partition(":")
    names = [*catalogue.entries, *catalogue.groups, *suite_names()]
    if colon and family in catalogue.entries:
        found = catalogue.entries[family].family
        names += [f"{family}:{part}" for part in (*sorted(forms_of(found)), *found.variants)]
    return [CompletionItem(name) for name in sorted(set(names)) if name.startswith(incomplete)]
