"""Options that several commands share."""

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
