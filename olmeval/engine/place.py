"""Which folder a run goes to, so that one model may be asked one set of tasks after another.

A folder holds one question: weights, tasks with their data, settings. Another set of tasks, or
another limit, goes to a numbered folder beside it. Anything else that differs is refused, since
rows of one run whose settings differ would be compared as if they were one measurement.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from olmeval.errors import UserError
from olmeval.files import read_json

# What may differ between numbered folders of one model.
QUESTIONS = ("tasks", "suites", "limit")


@dataclass(frozen=True)
class Place:
    """The folder of a run.

    ``earlier``: its ``run.json`` where the same question was begun in it. ``run``: what the long
    table calls a run in a numbered folder. ``passed``: the model's own folder where that is
    another one, and ``why`` it could not be taken.
    """

    path: Path
    earlier: dict[str, Any] | None = None
    run: str | None = None
    passed: Path | None = None
    why: str = ""


def find_place(
    output: Path, name: str, run: str, asked: Mapping[str, Any], beside: bool = True
) -> Place:
    """The first of ``output/name``, ``output/name-2``, … that is free or holds this question.

    ``run``: the trained run's name, or the model's. The long table gives it to all folders that
    have the first one's limit; others have theirs appended, since they answer a task's name with
    another number of questions. Nothing is written. Raises :class:`UserError` when a folder of the
    model has other weights, data or settings, and for other tasks unless ``beside``.
    """
    passed, why, limits = None, "", list[Any]()
    for number in count(1):
        path = output / (name if number == 1 else f"{name}-{number}")
        earlier = read_json(path / "run.json") if (path / "run.json").exists() else None
        same = earlier is not None and _is_of(earlier, name) and earlier["asked"] == asked
        if earlier is None or same:
            if number == 1:
                return Place(path, earlier)
            alike = not limits or limits[0] == asked["limit"]
            called = run if alike else f"{run}-{_named(asked['limit'])}"
            return Place(path, earlier, called, passed, why)
        held = "is not a run of this model"
        if _is_of(earlier, name):
            held = _held(path, earlier["asked"], asked)
            limits.append(earlier["asked"].get("limit"))
        if not beside:
            raise UserError(f"'{path}' {held}; choose another --output, or delete it")
        passed, why = passed or path, why or held
    raise AssertionError("count() has no end")


def moves(places: Sequence[Place]) -> str:
    """One line on the runs that are not in their models' own folders; empty where all are."""
    moved = [place for place in places if place.passed is not None]
    if not moved:
        return ""
    first = moved[0]
    why = f"'{first.path}', since '{first.passed}' {first.why}"
    if len(places) == 1:
        return f"the run is in {why}"
    return f"{len(moved)} of {len(places)} runs are in numbered folders, the first in {why}"


def _is_of(earlier: Any, name: str) -> bool:
    """Whether a ``run.json`` is that of an evaluation of the model ``name``."""
    return isinstance(earlier, dict) and "asked" in earlier and earlier["model"].get("name") == name


def _held(path: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What differs, where it is the tasks alone. Raises :class:`UserError` where it is not."""
    fix = f"choose another --output, or delete '{path}'"
    if before["fingerprint"] != now["fingerprint"]:
        raise UserError(f"'{path}' holds a run of other weights under the same name; {fix}")
    for key in {**before, **now}:
        if key not in QUESTIONS and before.get(key) != now.get(key):
            raise UserError(
                f"'{path}' holds a run with {key} = {before.get(key)} instead of {now.get(key)}; "
                f"{fix}, or give the same settings"
            )
    limits = before.get("limit"), now["limit"]
    theirs, ours = before["tasks"], now["tasks"]
    if limits[0] == limits[1]:
        for task in ours:
            if theirs.get(task, ours[task]) != ours[task]:
                raise UserError(
                    f"'{path}' holds a run with other data, or another definition, of the task "
                    f"'{task}'; {fix}"
                )
    if theirs.keys() != ours.keys():
        others = [task for task in theirs if task not in ours] or list(theirs)
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        only = "" if theirs.keys() - ours.keys() else "only "
        return f"holds {only or 'other tasks: '}{others[0]}{more}"
    if limits[0] != limits[1]:
        return f"holds the same tasks with {_limit_in_words(limits[0])}"
    return "holds the same tasks in other suites"


def _limit_in_words(limit: Any) -> str:
    return "no --limit" if limit is None else f"--limit {limit}"


def _named(limit: Any) -> str:
    return "full" if limit is None else f"limit{limit}"
