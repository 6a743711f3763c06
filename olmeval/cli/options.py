"""Options that several commands share."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from olmeval.errors import UserError

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]
# Where a context notes the repeatable option whose values may go on.
OPEN = "olmeval.cli.open"


class GreedyCommand(click.Command):
    """A command whose repeatable options take all values that follow: ``--tasks a b c``.

    Click wants the flag before each value, so it is put there. Commas separate values, too, as in
    lm-evaluation-harness. ``known_as`` maps flags of other tools to ours.
    """

    def __init__(self, *args: Any, known_as: Mapping[str, str] | None = None, **kw: Any):
        super().__init__(*args, **kw)
        self.known_as = known_as or {}

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        repeatable = {
            flag
            for param in self.params
            if isinstance(param, click.Option) and param.multiple
            for flag in param.opts
        }
        spread: list[str] = []
        current = None
        for arg in args:
            flag, equals, value = arg.partition("=")
            if flag.startswith("--"):
                flag = self._ours(flag)
                arg = flag + equals + value
            if arg in repeatable:
                current = arg
            elif flag in repeatable and arg.startswith("--"):
                spread += [part for v in value.split(",") if v for part in (flag, v)]
                current = None
            elif current is not None and not arg.startswith("-"):
                spread += [part for v in arg.split(",") if v for part in (current, v)]
            else:
                current = None
                spread.append(arg)
        ctx.meta[OPEN] = current and current.split("=")[0]
        return super().parse_args(ctx, spread)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        for param in self.params:
            if ctx.meta.get(OPEN) in param.opts and not incomplete.startswith("-"):
                return param.shell_complete(ctx, incomplete)
        return super().shell_complete(ctx, incomplete)

    def _ours(self, flag: str) -> str:
        """A long flag with dashes, under our name."""
        flag = flag.replace("_", "-")
        return self.known_as.get(flag, flag)


def placement(where: str, *, default: str = "local", when: str = "") -> Decorator:
    """Adds the flags that say where jobs run: the arguments of ``make_executor``.

    ``where`` is the help of ``--executor``; ``when``, such as "With --swarm; ", begins every help
    where the flags count only then.
    """
    kinds = click.Choice(["process", "local", "ray"])
    flags: tuple[tuple[str, str, dict[str, Any]], ...] = (
        ("--executor", where, {"type": kinds, "default": default, "show_default": True}),
        (
            "--workers",
            "Default: one a GPU, else one a core.",
            {"type": click.IntRange(min=1), "metavar": "N"},
        ),
        ("--gpus-per-worker", "0.5 puts two on each GPU.", {"type": float, "metavar": "F"}),
        (
            "--ray-address",
            "Of a cluster: auto, ray://host:10001 …; default: a Ray of its own.",
            {"metavar": "ADDRESS"},
        ),
    )

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for flag, text, how in reversed(flags):
            said = f"{when}{text[0].lower()}{text[1:]}" if when else text
            command = click.option(flag, help=said, **how)(command)
        return command

    return decorate


def batch_size(value: str | int) -> int:
    """A number of sequences; ``auto`` (also ``auto:4``) is 0: as many as fit."""
    text = str(value)
    if text == "auto" or text.startswith("auto:"):
        return 0
    if not text.isdigit() or int(text) == 0:
        raise click.BadParameter(f"'{text}' is neither a number of one or more nor auto")
    return int(text)


def parse_limit(text: str | None) -> int | float | None:
    """``200`` documents, or the fraction ``0.1``."""
    if text is None:
        return None
    try:
        return int(text) if text.lstrip("-").isdigit() else float(text)
    except ValueError:
        raise UserError(f"--limit {text} is neither a count nor a fraction") from None


def parse_pairs(flag: str, items: Iterable[str]) -> dict[str, Any]:
    """``KEY=VALUE`` items as a dictionary; values are YAML, so numbers and booleans are such."""
    import yaml

    parsed = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise UserError(f"{flag} '{item}' is not KEY=VALUE")
        try:
            parsed[key] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise UserError(f"{flag} '{item}': the value is not valid YAML") from None
    return parsed


def with_shots(specs: Sequence[str], shots: int | None, task_paths: Sequence[Path]) -> list[str]:
    """``specs`` asked with so many examples, as ``--num-fewshot`` of lm-evaluation-harness does.

    Raises :class:`UserError` for a name that says its own number.
    """
    if shots is None:
        return list(specs)
    from olmeval.tasks.spec import parse, with_parts
    from olmeval.tasks.suites import load_suites

    suites = load_suites(task_paths)
    for spec in specs:
        if spec in suites or "::" in spec:
            raise UserError(
                f"--num-fewshot {shots}: '{spec}' says itself how many examples are shown; name "
                "tasks instead, such as arc_easy:rc"
            )
    return [str(with_parts(parse(spec), [f"{shots}shot"], spec)) for spec in specs]
