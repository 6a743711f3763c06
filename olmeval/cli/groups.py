"""What makes ``olmeval`` and ``olmix`` one kind of command: lazy groups, defaults, exit codes."""

import errno
import os
import sys
import traceback
import warnings
from collections.abc import Callable
from importlib import import_module
from io import StringIO
from typing import TYPE_CHECKING, Any

import click

from olmeval import __version__
from olmeval.cli.defaults import find_files, load_defaults
from olmeval.cli.ranks import say_error
from olmeval.errors import UserError, nearest

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

# Exit codes of every command; docs/cli.md explains them.
FAILED, BAD_INPUT, INTERNAL, INTERRUPTED = 1, 2, 3, 130
DISK_FULL = {errno.ENOSPC, errno.EDQUOT}


class LazyGroup(click.Group):
    """A group whose commands are named as ``module:attribute`` and imported when called.

    ``commands_at`` maps a name to (target, one-line help), so that ``--help`` imports nothing.
    """

    def __init__(self, *args: Any, commands_at: dict[str, tuple[str, str]], **kw: Any):
        super().__init__(*args, **kw)
        self.commands_at = commands_at

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*self.commands_at, *super().list_commands(ctx)])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.commands_at:
            return super().get_command(ctx, cmd_name)
        module, attribute = self.commands_at[cmd_name][0].split(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        known = self.list_commands(ctx)
        name = dashed(args[0])
        if name not in known and not name.startswith("-") and not ctx.resilient_parsing:
            ctx.fail(f"there is no command '{args[0]}'{nearest(name, known)}")
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list["CompletionItem"]:
        from click.shell_completion import CompletionItem

        found = [
            CompletionItem(name, help=text)
            for name, (_, text) in sorted(self.commands_at.items())
            if name.startswith(incomplete)
        ]
        return found + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, _: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(name, self.commands_at[name][1]) for name in sorted(self.commands_at)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


class RootGroup(LazyGroup):
    """The outermost group: ``--debug`` at any place, and the defaults of ``olmeval.toml``."""

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        if "--debug" in args:
            args = ["--debug", *(arg for arg in args if arg != "--debug")]
        completing = bool(extra.get("resilient_parsing"))
        if "default_map" not in extra and not completing:
            extra["default_map"] = load_defaults(self, self.name or "")
        return super().make_context(info_name, args, parent, **extra)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_epilog(ctx, formatter)
        files = find_files()
        with formatter.section("Defaults"):
            named = ", ".join(str(path) for path in reversed(files))
            formatter.write_text(named or "none: no olmeval.toml here or above")


def dashed(name: str) -> str:
    """``batch_size`` as ``batch-size``: flags and commands are known under both."""
    return name.replace("_", "-")


def root_group(
    prog: str, commands: dict[str, tuple[str, str]], example: str
) -> Callable[[Callable[..., None]], RootGroup]:
    """Decorator that makes a function's docstring the outermost group of a console script."""

    def decorate(function: Callable[..., None]) -> RootGroup:
        for decorator in (
            click.option("--debug", is_flag=True, help="Show the traceback of an error."),
            click.version_option(__version__, prog_name=prog),
        ):
            function = decorator(function)
        group: RootGroup = click.group(
            prog,
            cls=RootGroup,
            commands_at=commands,
            epilog=f"Example: {example}",
            context_settings={
                "help_option_names": ["-h", "--help"],
                "token_normalize_func": dashed,
            },
        )(function)
        return group

    return decorate


def run_cli(group: click.Group, prog: str) -> None:
    """Runs a command group and exits: 0, 1 a check failed, 2 bad input (one sentence), 3 a bug."""
    if f"_{prog.upper()}_COMPLETE" in os.environ:
        from olmeval.cli.shells import register

        register()
    warnings.formatwarning = lambda message, *_, **__: f"{prog}: {message}\n"
    try:
        code = group.main(prog_name=prog, standalone_mode=False)
    except UserError as error:
        if "--debug" in sys.argv:
            traceback.print_exc()
        say_error(f"{prog}: {error}")
        code = BAD_INPUT
    except click.ClickException as error:
        shown = StringIO()
        error.show(shown)
        say_error(shown.getvalue().rstrip("\n"))
        code = BAD_INPUT
    except (click.Abort, KeyboardInterrupt):
        say_error(f"{prog}: interrupted")
        code = INTERRUPTED
    except Exception as error:
        if isinstance(error, OSError) and error.errno in DISK_FULL:
            where = f"'{error.filename}'" if error.filename else "the output"
            say_error(f"{prog}: cannot write {where}: {error.strerror}; free space, and try again")
            code = BAD_INPUT
        else:
            traceback.print_exc()
            say_error(f"{prog}: this is a mistake in {prog} itself; please report it")
            code = INTERNAL
    sys.exit(code if isinstance(code, int) else 0)
