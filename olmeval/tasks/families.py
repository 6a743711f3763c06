"""Reading the catalogue: every family, group and alias that a spec can name."""

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import entry_points
from pathlib import Path

from olmeval.config import load_config
from olmeval.errors import UserError
from olmeval.tasks.schema import CatalogueFile, Family, Form

CATALOGUE = Path(__file__).parent / "catalogue"


@dataclass(frozen=True)
class Entry:
    """A family of the catalogue and the folder of the file that defines it."""

    name: str
    family: Family
    folder: Path


@dataclass(frozen=True)
class Catalogue:
    """Everything that can be named. ``aliases`` maps a name to the text of a spec."""

    entries: dict[str, Entry]
    groups: dict[str, tuple[str, ...]]
    aliases: dict[str, str]

    def names(self) -> list[str]:
        """Every name, for suggestions."""
        return [*self.entries, *self.groups, *self.aliases]


def forms_of(family: Family) -> dict[str, Form]:
    """A family's formats; every rc task has a bpb twin with the same prompts and shots."""
    forms: dict[str, Form] = {str(name): form for name, form in family.formats.items()}
    if "bpb" not in forms and "rc" in forms:
        forms["bpb"] = bpb_twin(forms["rc"])
    return forms


def bpb_twin(form: Form) -> Form:
    """The same prompts and shots, judged by bits per byte alone."""
    return form.model_copy(update={"primary": "bits_per_byte", "metrics": None})


@lru_cache(maxsize=1)
def entry_point_paths() -> tuple[Path, ...]:
    """Folders of task files that installed packages bring (entry points ``olmeval.tasks``).

    An entry point names a path, or a function that returns one or several. Raises
    :class:`UserError` that names the entry point.
    """
    found: list[Path] = []
    for point in entry_points(group="olmeval.tasks"):
        try:
            value = point.load()
            value = value() if callable(value) else value
            found += [Path(p) for p in ([value] if isinstance(value, str | Path) else value)]
        except Exception as error:  # anything can go wrong in another package
            raise UserError(
                f"the entry point '{point.name}' (olmeval.tasks, {point.value}) gives no folder of"
                f" task files: {type(error).__name__}: {error}"
            ) from None
    return tuple(found)


def offline(family: Family, form: Form, split: str | None = None) -> bool:
    """Whether the pulled data or a local file can serve ``split`` (by default the family's).

    The shots of ``form`` count, too. A task that is not offline needs the hub, or a person's own
    copy of the data (``OLMEVAL_DATA``).
    """

    def here(name: str) -> bool:
        names = [n for n in ("test", "validation", "train") if n in family.splits]
        return all(
            any(place.hub is None and place.copy_ is None for place in family.splits[part])
            for part in (names if name == "all" else [name])
        )

    sources = [s.sample or s.first or s.split for s in form.shots]
    shots = form.num_shots == 0 or any(source is None or here(source) for source in sources)
    return here(split or family.split) and shots


def load_catalogue(task_paths: Sequence[Path] = ()) -> Catalogue:
    """The catalogue of the package, of installed packages, and of the folders ``task_paths``.

    Raises :class:`UserError` for a folder without task files, a mistake in a file, or a name
    that is taken.
    """
    files: list[Path] = []
    for folder in dict.fromkeys((CATALOGUE, *entry_point_paths(), *map(Path, task_paths))):
        found = sorted(folder.glob("*.yaml"))
        if not found and not any((folder / "suites").glob("*.yaml")):
            raise UserError(f"'{folder}' holds no task file (*.yaml)")
        files += found
    return _load(tuple((path, path.stat().st_mtime_ns) for path in files))


@lru_cache(maxsize=8)
def _load(files: tuple[tuple[Path, int], ...]) -> Catalogue:
    entries: dict[str, Entry] = {}
    patterns: dict[str, list[str]] = {}
    aliases: dict[str, str] = {}
    for path, _ in files:
        content = load_config(path, CatalogueFile)
        for name, family in content.families.items():
            others = {alias: f"{name}:{rest}".strip(":") for alias, rest in family.aliases.items()}
            for new in (name, *others):
                if new in entries or new in aliases:
                    raise UserError(f"'{path}': the task name '{new}' is taken")
            entries[name] = Entry(name, family, path.parent)
            aliases.update(others)
        patterns.update(content.groups)
    groups = {}
    for group, members in patterns.items():
        if group in entries or group in aliases:
            raise UserError(f"the group '{group}' has the name of a task")
        groups[group] = _members(members, list(entries))
        if not groups[group]:
            raise UserError(f"the group '{group}' has no members")
    return Catalogue(entries, groups, aliases)


def _members(patterns: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    """The names that a pattern matches, in the order of the patterns, less those of a ``!`` one."""
    out = {n for p in patterns if p.startswith("!") for n in fnmatch.filter(names, p[1:])}
    return tuple(n for p in patterns for n in fnmatch.filter(names, p) if n not in out)
