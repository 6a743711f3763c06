"""Suites: named sets of tasks that give one number.

A suite is an entry of ``suites/*.yaml`` (the package's, or in a folder ``suites`` of a task path),
or a group of the catalogue with the parts of a spec (``mmlu:rc``), which is the average of its
tasks. Members may be suites themselves. Names are matched as a whole, before the grammar of specs
is, so that the names of OLMES suites stand as they are. How members become one number is the
business of ``olmeval.results.suites``; what it needs to know travels as plain data.
"""

import fnmatch
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from olmeval.config import Config, load_config
from olmeval.errors import UserError
from olmeval.metrics import HIGHER_IS_BETTER
from olmeval.tasks.families import Catalogue, load_catalogue
from olmeval.tasks.olmes import from_olmes
from olmeval.tasks.registry import expand, resolve
from olmeval.tasks.spec import Spec, parse

SUITES = Path(__file__).parent / "suites"

Aggregate = Literal["macro", "micro", "max"]


class SuiteEntry(Config):
    """A suite as a file defines it: ``members``, or the tasks of a catalogue's ``group``."""

    summary: str
    aggregate: Aggregate = "macro"
    members: tuple[str, ...] = ()
    group: str | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> "SuiteEntry":
        if bool(self.members) == bool(self.group):
            raise ValueError("give either 'members' or 'group'")
        return self


class SuiteFile(Config):
    """A whole file. ``aliases`` maps other names to suites.

    ``micro`` names the groups of the catalogue that are averaged by question, not by task.
    ``questions`` names sets of families (``*`` matches any text) that ask the same questions in
    different ways, so that their errors are not independent.
    """

    suites: dict[str, SuiteEntry] = Field(default_factory=dict)
    aliases: dict[str, str] = Field(default_factory=dict)
    micro: tuple[str, ...] = ()
    questions: dict[str, tuple[str, ...]] = Field(default_factory=dict)


class _SuiteError(UserError):
    """A mistake in a suite, with its file and name."""


@dataclass(frozen=True)
class Suite:
    """A checked suite.

    ``members`` are canonical task specs or names of suites; ``metrics`` the primary metrics of
    its tasks, each once; ``questions`` maps those of its own tasks that ask the questions of
    another family, too, to the name of the set.
    """

    name: str
    summary: str
    aggregate: Aggregate
    members: tuple[str, ...]
    tasks: tuple[str, ...]
    metrics: tuple[str, ...]
    questions: dict[str, str] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """What scoring needs, ready for JSON."""
        return {
            "summary": self.summary,
            "aggregate": self.aggregate,
            "members": list(self.members),
            "questions": dict(self.questions),
        }


def load_suites(task_paths: Sequence[Path] = ()) -> dict[str, Suite]:
    """Every suite of the package and of the folders ``suites`` in ``task_paths``, checked.

    The groups that they name are among them. Raises :class:`UserError` that names the file and
    the suite for: a member that is neither task nor suite or that has no primary metric, a suite
    that contains itself, a task that would count twice, metrics of opposite direction.
    """
    book = _Book(task_paths)
    for name in book.entries:
        book.suite(name)
    return dict(book.suites)


def suite_names(task_paths: Sequence[Path] = ()) -> list[str]:
    """The names and aliases of the suites in files, unchecked; groups are not among them."""
    book = _Book(task_paths)
    return [*book.entries, *book.aliases]


def suite_tasks(name: str, task_paths: Sequence[Path] = ()) -> list[str]:
    """The canonical specs of a suite's tasks, each once. Raises :class:`UserError`."""
    found = _Book(task_paths).find(name)
    if found is None:
        raise UserError(f"'{name}' is not a suite; see `olmeval tasks list`")
    return list(found.tasks)


def expand_suites(specs: Sequence[str], task_paths: Sequence[Path] = ()) -> list[str]:
    """``specs`` with every suite replaced by its tasks; everything else stays as it is."""
    book = _Book(task_paths)
    result: dict[str, None] = {}
    for spec in specs:
        found = book.find(spec)
        result.update(dict.fromkeys([spec] if found is None else found.tasks))
    return list(result)


def suites_in(specs: Sequence[str], task_paths: Sequence[Path] = ()) -> dict[str, dict[str, Any]]:
    """The suites among ``specs`` and those inside them, as :meth:`Suite.plain` data."""
    book = _Book(task_paths)
    result: dict[str, dict[str, Any]] = {}

    def add(suite: Suite) -> None:
        result[suite.name] = suite.plain()
        for member in suite.members:
            if member in book.suites:
                add(book.suites[member])

    for spec in specs:
        found = book.find(spec)
        if found is not None:
            add(found)
    return result


def higher_is_better(metric: str) -> bool:
    """The direction of a primary metric; of pass@k and maj@k for any k."""
    if re.fullmatch(r"(pass|maj)_at_\d+", metric):
        return True
    if metric not in HIGHER_IS_BETTER:
        raise UserError(f"the metric '{metric}' has no direction")
    return HIGHER_IS_BETTER[metric]


class _Book:
    """The suite files of some paths and the suites made of them so far."""

    def __init__(self, task_paths: Sequence[Path]):
        self.task_paths = tuple(map(Path, task_paths))
        self.catalogue: Catalogue = load_catalogue(self.task_paths)
        self.entries: dict[str, tuple[Path, SuiteEntry]] = {}
        self.aliases: dict[str, str] = {}
        self.micro: set[str] = set()
        self.sets: dict[str, str] = {}
        self.suites: dict[str, Suite] = {}
        files = list(_read(self.task_paths))
        for path, content in files:
            self._add(path, content)
        for path, content in files:
            for alias, name in content.aliases.items():
                if name not in self.entries:
                    raise UserError(f"'{path}': the alias '{alias}' stands for '{name}', no suite")

    def _add(self, path: Path, content: SuiteFile) -> None:
        for name, entry in content.suites.items():
            self._claim(name, path)
            self.entries[name] = (path, entry)
        for alias, name in content.aliases.items():
            self._claim(alias, path)
            self.aliases[alias] = name
        for group in content.micro:
            if group not in self.catalogue.groups:
                raise UserError(f"'{path}': 'micro' names '{group}', which is no group")
        self.micro.update(content.micro)
        for name, patterns in content.questions.items():
            for pattern in patterns:
                families = fnmatch.filter(self.catalogue.entries, pattern)
                if not families:
                    raise UserError(f"'{path}': '{pattern}' of the questions '{name}' is no task")
                self.sets.update(dict.fromkeys(families, name))

    def _claim(self, name: str, path: Path) -> None:
        taken = [*self.entries, *self.aliases, *self.catalogue.entries, *self.catalogue.groups]
        if name in taken:
            raise UserError(f"'{path}': the suite name '{name}' is taken")

    def find(self, text: str) -> Suite | None:
        """The suite that ``text`` names, or None when it names a task or nothing at all."""
        name = text.strip()
        name = self.aliases.get(name, name)
        if name in self.entries:
            return self.suite(name)
        spec, _ = from_olmes(name, self.catalogue.aliases)
        if spec.partition(":")[0] in self.catalogue.groups:
            return self._group(name)
        return None

    def suite(self, name: str, above: tuple[str, ...] = ()) -> Suite:
        """The checked suite of a file; ``above`` are the suites that are being made."""
        if name in above:
            raise UserError(f"'{name}' contains itself: {' -> '.join((*above, name))}")
        if name not in self.suites:
            path, entry = self.entries[name]
            try:
                members = (
                    self._group(entry.group).tasks
                    if entry.group is not None
                    else tuple(self._member(m, (*above, name)) for m in entry.members)
                )
                self.suites[name] = self._make(name, entry.summary, entry.aggregate, members)
            except _SuiteError:  # an inner suite has said where
                raise
            except UserError as error:
                raise _SuiteError(f"'{path}': suite '{name}': {error}") from None
        return self.suites[name]

    def _member(self, text: str, above: tuple[str, ...]) -> str:
        """The canonical name of a member: a suite, a group or a task."""
        name = self.aliases.get(text, text)
        if name in self.entries:
            return self.suite(name, above).name
        found = self.find(name)
        return found.name if found is not None else str(resolve(name, self.task_paths).spec)

    def _group(self, text: str) -> Suite:
        """A group of the catalogue as the average of its tasks, under its canonical name."""
        tasks = tuple(expand([text], self.task_paths))
        spec, _ = from_olmes(text, self.catalogue.aliases)
        group = parse(spec).family
        if group not in self.catalogue.groups:
            raise UserError(f"'{text}' is no group of tasks")
        name = _group_name(group, tasks) or text
        if name not in self.suites:
            summary = f"{len(tasks)} tasks of the group {group}"
            how: Aggregate = "micro" if group in self.micro else "macro"
            self.suites[name] = self._make(name, summary, how, tasks)
        return self.suites[name]

    def _make(
        self, name: str, summary: str, aggregate: Aggregate, members: tuple[str, ...]
    ) -> Suite:
        if aggregate == "max" and len(members) < 2:
            raise UserError("'max' needs two members or more")
        tasks = [task for m in members for task in self._tasks(m)]
        twice = {task for task in tasks if tasks.count(task) > 1}
        if twice:
            raise UserError(f"'{min(twice)}' is in it twice")
        metrics = {task: self._primary(task) for task in tasks}
        up = [t for t, metric in metrics.items() if higher_is_better(metric)]
        down = [t for t in metrics if t not in up]
        if up and down:
            raise UserError(
                f"more is better for '{up[0]}' ({metrics[up[0]]}) but less for '{down[0]}'"
                f" ({metrics[down[0]]}); they have no common average"
            )
        families = {m: m.partition(":")[0] for m in members if m not in self.suites}
        return Suite(
            name=name,
            summary=summary,
            aggregate=aggregate,
            members=members,
            tasks=tuple(tasks),
            metrics=tuple(dict.fromkeys(metrics.values())),
            questions={m: self.sets[f] for m, f in families.items() if f in self.sets},
        )

    def _tasks(self, member: str) -> tuple[str, ...]:
        return self.suites[member].tasks if member in self.suites else (member,)

    def _primary(self, task: str) -> str:
        definition = resolve(task, self.task_paths)
        primary = definition.primary
        if primary not in definition.metrics:
            raise UserError(
                f"'{task}' does not give its primary metric '{primary}'; it gives"
                f" {', '.join(definition.metrics)}"
            )
        return primary


def _group_name(group: str, tasks: Sequence[str]) -> str | None:
    """``mmlu:rc:5shot`` when all tasks agree in what follows the family; None otherwise."""
    specs = [parse(task) for task in tasks]
    names = {str(Spec(group, s.format, s.variants, s.shots, s.samples)) for s in specs}
    return names.pop() if len(names) == 1 else None


def _read(task_paths: Sequence[Path]) -> Iterator[tuple[Path, SuiteFile]]:
    for folder in (SUITES, *(path / "suites" for path in task_paths)):
        for path in sorted(folder.glob("*.yaml")):
            yield path, _read_file(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=64)
def _read_file(path: Path, _: int) -> SuiteFile:
    return load_config(path, SuiteFile)
