"""What the commands of ``olmix`` share."""

from collections.abc import Sequence
from math import isfinite
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from olmeval.mixing.problem import Group


def notes(lines: Sequence[str]) -> None:
    """Prints what a reader must know, in red where nothing could be predicted."""
    from olmeval.mixing.fitting import UNPREDICTABLE

    for line in lines:
        loud = line.startswith(UNPREDICTABLE)
        click.echo(click.style(f"Note: {line}.", fg="red", bold=True) if loud else f"Note: {line}.")


def parse_numbers(flag: str, text: str | None) -> list[float]:
    """``1T,6T`` as numbers; K, M, B and T are thousands to billions of thousands."""
    from olmeval.errors import UserError

    scales = {"k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}
    numbers = []
    for item in (text or "").split(","):
        cell = item.strip().lower()
        if not cell:
            continue
        scale = scales.get(cell[-1], 1.0)
        try:
            number = float(cell[:-1] if scale > 1 else cell) * scale
        except ValueError:
            number = float("nan")
        if not isfinite(number):
            raise UserError(f"{flag} {item} is not a number such as 0.5, 1e11 or 100B")
        numbers.append(number)
    return numbers


def parse_number(flag: str, text: str | None) -> float | None:
    """One number such as 100B, or None."""
    from olmeval.errors import UserError

    numbers = parse_numbers(flag, text)
    if len(numbers) > 1:
        raise UserError(f"{flag} takes one number, not {len(numbers)}")
    return numbers[0] if numbers else None


def parse_values(flag: str, items: Sequence[str]) -> dict[str, float]:
    """``NAME=NUMBER`` items, every name once."""
    from olmeval.errors import UserError

    values: dict[str, float] = {}
    for item in items:
        # Names of targets may have a "=", numbers have none.
        name, equals, text = item.rpartition("=")
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not (equals and name and isfinite(value)):
            raise UserError(f"{flag} {item} is not NAME=NUMBER, as in {flag} {name or 'code'}=0.2")
        if name in values:
            raise UserError(f"{flag} {name} is given twice; keep one")
        values[name] = value
    return values


def parse_group(text: str) -> "Group":
    """``code=python,java:0.1..0.3`` as a group of domains with ends; either end may be left out."""
    from olmeval.errors import UserError
    from olmeval.mixing.problem import Group

    name, equals, rest = text.partition("=")
    members, colon, ends = rest.rpartition(":")
    low, dots, high = ends.partition("..")
    if not (equals and colon and dots and name and members):
        raise UserError(f"--group {text} is not NAME=DOMAIN,DOMAIN:LOW..HIGH")
    try:
        return Group(name, tuple(members.split(",")), float(low or 0), float(high or 1))
    except ValueError:
        raise UserError(f"--group {text}: the ends '{ends}' are not numbers") from None


def parse_members(items: Sequence[str]) -> dict[str, list[str]]:
    """``code=humaneval,mbpp`` as targets by the name of their mean."""
    from olmeval.errors import UserError

    groups: dict[str, list[str]] = {}
    for item in items:
        name, equals, members = item.partition("=")
        columns = [member.strip() for member in members.split(",")]
        if not equals or not name or not all(columns):
            raise UserError(f"--group {item} is not NAME=COLUMN,COLUMN")
        if name in groups:
            raise UserError(f"--group {name} is given twice; list all its columns once")
        groups[name] = columns
    return groups
