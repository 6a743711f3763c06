"""Options that several commands share."""

from collections.abc import Iterable
from typing import Any

import click

from olmeval.errors import UserError


class GreedyCommand(click.Command):
    """A command whose repeatable options take all values that follow: ``--tasks a b c``.

    Click wants the flag before each value, so it is put there. Commas separate values, too, as in
    lm-evaluation-harness.
    """

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
            flag, _, value = arg.partition("=")
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
        return super().parse_args(ctx, spread)


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
