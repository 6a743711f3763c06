"""What can be told of tasks: the list of all, and everything about one."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from olmeval.tasks.families import forms_of, load_catalogue, offline
from olmeval.tasks.registry import Definition, Task


def list_tasks(pattern: str = "", task_paths: Sequence[Path] = ()) -> list[dict[str, Any]]:
    """What there is: tasks, then groups, with ``pattern`` in the name or starting a word about it.

    Keys: task, formats, variants, primary_metric (of the default format), aliases, offline
    (whether the default task needs no hub), summary.
    """
    catalogue = load_catalogue(task_paths)
    rows: list[dict[str, Any]] = []
    for name, entry in catalogue.entries.items():
        family = entry.family
        rows.append(
            {
                "task": name,
                "formats": sorted(forms_of(family)),
                "variants": list(family.variants),
                "primary_metric": family.formats[family.default].primary,
                "aliases": list(family.aliases),
                "offline": offline(family, family.formats[family.default]),
                "summary": family.summary,
            }
        )
    for name, members in catalogue.groups.items():
        first = catalogue.entries[members[0]].family
        rows.append(
            {
                "task": name,
                "formats": sorted(forms_of(first)),
                "variants": list(first.variants),
                "primary_metric": first.formats[first.default].primary,
                "aliases": [],
                "offline": all(
                    offline(f, f.formats[f.default])
                    for f in (catalogue.entries[member].family for member in members)
                ),
                "summary": f"group of {len(members)} tasks",
            }
        )
    word = re.compile(rf"\b{re.escape(pattern)}", re.IGNORECASE)
    return [row for row in rows if pattern in str(row["task"]) or word.search(str(row["summary"]))]


_SHOWN = ("description", "prompt", "answer_prefix", "target", "shot", "references", "unconditional")


def describe(task: Task) -> dict[str, Any]:
    """Everything that determines the numbers of ``task``, as plain values."""
    about = describe_definition(task.definition)
    return {
        "task": about.pop("task"),
        "summary": about.pop("summary"),
        "hash": task.hash,
        **about,
        "metrics": ", ".join(task.metrics),
        "documents": f"{len(task.documents)} of {task.provenance['documents_available']}",
        "data": task.provenance["data"],
        "shots": {"count": task.provenance["num_shots"], **task.shots.provenance},
    }


def describe_definition(definition: Definition) -> dict[str, Any]:
    """What can be said of a task whose data is not at hand."""
    form, family = definition.form, definition.entry.family
    about: dict[str, Any] = {
        "task": str(definition.spec),
        "summary": family.summary,
        "primary metric": definition.primary,
        "metrics": ", ".join(definition.metrics),
        "prompt": {
            key: repr(getattr(form, key))
            for key in _SHOWN
            if getattr(form, key) and not (key == "target" and form.sampling is not None)
        },
    }
    if form.sampling is not None:
        about |= {"sampling": form.sampling.model_dump(), "grader": form.grader}
    places = family.splits.get(definition.split, [])
    return {
        **about,
        "places": [p.model_dump(exclude_none=True, by_alias=True) for p in places],
        "shots": {"count": definition.spec.shots},
        "deviations": list(definition.notes),
        "variants": {name: variant.summary for name, variant in family.variants.items()},
    }
