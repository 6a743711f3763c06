"""Defaults of options from ``olmeval.toml``: a table a command, a key an option.

The command line beats the environment (``OLMEVAL_RUN_BATCH_SIZE=8``), which beats the project's
file (in the current folder, or above it up to the repository's root), which beats the user's own.
"""

import os
import tomllib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from olmeval.errors import UserError, nearest

NAME = "olmeval.toml"
VARIABLE = "OLMEVAL_CONFIG"
# What takes a protection away is said each time: a file may come with somebody else's repository.
SAID_EACH_TIME = {"unsafe-local"}


@dataclass(frozen=True)
class Place:
    """A table of a file, as messages name it."""

    file: Path
    names: tuple[str, ...]

    def below(self, name: str) -> "Place":
        """The table ``name`` in this one."""
        return Place(self.file, (*self.names, name))

    def __str__(self) -> str:
        return f"'{self.file}': [{'.'.join(self.names)}]"


def find_files(start: Path | None = None) -> list[Path]:
    """The files in force, the weakest first: the user's, then the project's.

    ``$OLMEVAL_CONFIG`` names the only file to read; set to nothing, none is read.
    """
    only = os.environ.get(VARIABLE)
    if only is not None:
        return [Path(only).expanduser()] if only else []
    home = Path(os.path.expanduser("~"))  # stays '~' for a user who has none
    base = os.environ.get("XDG_CONFIG_HOME")
    user = (Path(base) if base else home / ".config") / "olmeval" / NAME
    found = [user] if user.is_file() else []
    try:
        here = (start or Path.cwd()).resolve()
    except FileNotFoundError:  # the current folder was removed
        return found
    for folder in (here, *here.parents):
        if (folder / NAME).is_file():
            return [*found, folder / NAME]
        if (folder / ".git").exists() or folder == home:
            break
    return found


def load_defaults(root: click.Group, prog: str) -> dict[str, Any]:
    """Click's ``default_map`` for ``root``, the group of ``prog`` (``olmeval`` or ``olmix``).

    Files first, then variables such as ``OLMEVAL_RUN_BATCH_SIZE`` or ``OLMIX_FIT_FAMILY``.

    Tables name commands of olmeval (``[run]``, ``[gate.check]``) or, below ``[olmix]``, of olmix.
    Raises :class:`UserError` for a table or key that does not exist, or a value that its option
    refuses.
    """
    merged: dict[str, Any] = {}
    for path in find_files():
        tables = _read(path)
        mixing = tables.pop("olmix", {})
        if prog != "olmix":
            _merge(merged, _of_group(tables, root, Place(path, ())))
        elif isinstance(mixing, dict):
            _merge(merged, _of_group(mixing, root, Place(path, ("olmix",))))
        else:
            raise UserError(f"'{path}': olmix is not a table; write [olmix.fit] and its keys")
    prefix = prog.upper() + "_"
    for variable in sorted(os.environ):
        if variable.startswith(prefix):
            _merge(merged, _of_variable(variable, variable.removeprefix(prefix), root))
    return merged


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"'{path}', which ${VARIABLE} names, does not exist") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read '{path}': {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"'{path}' is not valid TOML: {error}") from None


def _of_group(tables: Mapping[str, Any], group: click.Group, at: Place) -> dict[str, Any]:
    ctx = click.Context(group)
    known = group.list_commands(ctx)
    found: dict[str, Any] = {}
    for table, content in tables.items():
        here = at.below(table.replace("_", "-"))
        name = here.names[-1]
        command = group.get_command(ctx, name) if name in known else None
        if command is None:
            raise UserError(f"{here} is no command{nearest(name, known)}")
        if not isinstance(content, dict):
            raise UserError(f"{here} must be a table of options")
        if isinstance(command, click.Group):
            found[name] = _of_group(content, command, here)
        else:
            found[name] = _of_command(content, command, here)
    return found


def _of_variable(variable: str, rest: str, group: click.Group) -> dict[str, Any]:
    """What an environment variable sets below ``group``; ``rest`` is its name from there on."""
    ctx = click.Context(group)
    for name in group.list_commands(ctx):
        start = name.replace("-", "_").upper() + "_"
        if not rest.startswith(start):
            continue
        command = group.get_command(ctx, name)
        flag = rest.removeprefix(start)
        if isinstance(command, click.Group):
            found = _of_variable(variable, flag, command)
            return {name: found} if found else {}
        assert command is not None
        option = _options(command).get(flag.lower().replace("_", "-"))
        if option is None or option.name is None:
            warnings.warn(f"{variable} sets no option of '{name}'", stacklevel=2)
            return {}
        text = os.environ[variable]
        return {name: {option.name: text.split() if option.multiple else text}}
    return {}


def _options(command: click.Command) -> dict[str, click.Option]:
    """A command's options by their long names, without dashes in front."""
    return {
        name.removeprefix("--"): param
        for param in command.params
        if isinstance(param, click.Option)
        for name in param.opts
        if name.startswith("--") and name.removeprefix("--") not in SAID_EACH_TIME
    }


def _of_command(content: Mapping[str, Any], command: click.Command, at: Place) -> dict[str, Any]:
    options = _options(command)
    found: dict[str, Any] = {}
    for key, value in content.items():
        if key.replace("_", "-") in SAID_EACH_TIME:
            raise UserError(f"{at}: {key} must stand on the command line, each time")
        option = options.get(key.replace("_", "-"))
        if option is None or option.name is None:
            raise UserError(f"{at}: unknown key '{key}'{nearest(key, options)}")
        try:
            found[option.name] = _value(value, option, at.file.parent)
            if not isinstance(option.type, click.Path):
                option.type_cast_value(click.Context(command), found[option.name])
        except click.BadParameter as error:
            raise UserError(f"{at}: {key} = {value!r}: {error.message.rstrip('.')}") from None
    return found


def _value(value: Any, option: click.Option, folder: Path) -> Any:
    """A TOML value as the option takes it; paths are made relative to the current folder."""
    if option.is_flag:
        if not isinstance(value, bool):
            raise click.BadParameter("write true or false")
        return value
    if isinstance(value, dict) and option.multiple and "=" in (option.metavar or ""):
        value = [f"{k}={v}" for k, v in value.items()]
    if option.multiple and not isinstance(value, list):
        value = [value]
    items = value if isinstance(value, list) else [value]
    if isinstance(value, list) != (option.multiple or option.nargs != 1) or any(
        isinstance(item, dict | list | bool) for item in items
    ):
        raise click.BadParameter("that is not a value of this option")
    is_path = isinstance(option.type, click.Path)
    placed = [_placed(item, is_path, folder) for item in items]
    return placed if isinstance(value, list) else placed[0]


def _placed(value: Any, is_path: bool, folder: Path) -> Any:
    """A relative path of the file's folder, seen from here; './' marks one where names may be."""
    if not isinstance(value, str) or not (is_path or value.startswith(("./", "../"))):
        return value
    path = Path(value).expanduser()
    return str(path) if path.is_absolute() else os.path.relpath(folder / path)


def _merge(weak: dict[str, Any], strong: Mapping[str, Any]) -> None:
    for key, value in strong.items():
        if isinstance(value, dict) and isinstance(weak.get(key), dict):
            _merge(weak[key], value)
        else:
            weak[key] = value
