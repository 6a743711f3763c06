"""Writes chosen tasks as a suite that ``olmeval run`` takes."""

from collections.abc import Mapping
from pathlib import Path

from olmeval.errors import UserError
from olmeval.files import write_text
from olmeval.tasks.registry import resolve


def write_suite(
    path: Path, name: str, summary: str, chosen: Mapping[str, str]
) -> tuple[list[str], list[str]]:
    """Writes the suite ``name`` of the tasks ``chosen`` (task to metric); returns what is in it.

    A task whose chosen metric is bits per byte takes its ``bpb`` format. As losses and accuracies
    have no common average, bits per byte make a suite of their own, ``<name>_bpb``, where both
    occur. The second list names tasks that this package does not know; they are in the file as
    comments, because a suite with an unknown task is refused.
    """
    import yaml

    members: dict[str, list[str]] = {}
    unknown = []
    for task, metric in chosen.items():
        spec = _in_bpb(task) if metric == "bits_per_byte" else task
        try:
            canonical = str(resolve(spec).spec)
        except UserError:
            unknown.append(task)
            continue
        of = members.setdefault("bpb" if metric == "bits_per_byte" else "", [])
        if canonical not in of:
            of.append(canonical)
    suites = {}
    for kind, specs in sorted(members.items()):
        label = f"{name}_{kind}" if kind and len(members) > 1 else name
        suites[label] = {"summary": summary, "members": specs}
    text = f"# {summary}\n"
    text += "".join(f"# not a task of this package: {task}\n" for task in unknown)
    text += yaml.safe_dump({"suites": suites}, sort_keys=False, allow_unicode=True)
    write_text(path, text)
    return list(suites), unknown


def _in_bpb(task: str) -> str:
    """The spec with its format replaced by ``bpb``."""
    family, *parts = task.split(":")
    formats = {"mc", "rc", "bpb", "genqa", "cot", "code", "fim", "ppl"}
    return ":".join([family, "bpb", *(p for p in parts if p not in formats)])
