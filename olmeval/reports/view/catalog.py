"""The runs below the folders that a person named, found again as they are written."""

import json
import os
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from olmeval.errors import UserError

# A folder is looked through again at most so often, in seconds.
RESCAN = 2.0
# Weights and training states hold no runs and many files.
SKIPPED = ("train_state", "__pycache__", "node_modules")


@dataclass(frozen=True)
class Entry:
    """A run folder: ``id`` names it in links, ``info`` is its ``run.json``.

    ``error`` says why ``run.json`` cannot be read.
    """

    id: str
    path: Path
    info: dict[str, Any] = field(default_factory=dict)
    error: str | None = None

    @property
    def status(self) -> str:
        return "unreadable" if self.error else str(self.info["status"])

    @property
    def finished(self) -> bool:
        """Whether its instances can be shown."""
        return not self.error and all(
            (self.path / name).exists() for name in ("metrics.json", "instances.parquet")
        )

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """``metrics.json``. Raises :class:`UserError` when there is none."""
        value = _read(self.path / "metrics.json")
        if not isinstance(value, dict) or "tasks" not in value:
            raise UserError(
                f"'{self.path}' has no scores yet (status: {self.status}); they appear here when "
                "its `olmeval run` ends"
            )
        return value

    def about(self) -> dict[str, Any]:
        """What a list of runs shows of it."""
        if self.error:
            return {"id": self.id, "status": self.status, "error": self.error, "finished": False}
        model = self.info["model"]
        trained = model.get("metadata") or {}
        return {
            "id": self.id,
            "status": self.status,
            "finished": self.finished,
            "model": model.get("name"),
            "run": trained.get("run"),
            "step": trained.get("step"),
            "tokens": trained.get("tokens"),
            "tasks": len(self.info.get("tasks") or {}),
            "limit": (self.info.get("asked") or {}).get("limit"),
            "started": self.info.get("started"),
            "ended": self.info.get("finished"),
            "error": self.info.get("error"),
        }


class Catalog:
    """All runs at or below ``paths``; safe to use from many threads."""

    def __init__(self, paths: Sequence[Path]):
        for path in paths:
            if not path.exists():
                raise UserError(f"'{path}' does not exist; give a run folder or a folder of them")
        self.paths = [path.resolve() for path in paths]
        self._lock = threading.Lock()
        self._entries: dict[str, Entry] = {}
        self._stamps: dict[str, tuple[int, ...]] = {}
        self._scanned = -RESCAN

    def entries(self) -> list[Entry]:
        """Every run, in order of training run, step and path."""
        with self._lock:
            if time.monotonic() - self._scanned > RESCAN:
                self._scan()
                self._scanned = time.monotonic()
            return list(self._entries.values())

    def get(self, run: str) -> Entry:
        """The run that a link names. Only what :meth:`entries` found can be opened."""
        for again in (False, True):
            if again:
                self.entries()
            if run in self._entries:
                return self._entries[run]
        raise UserError(f"there is no run '{run}' here; it may have been deleted or renamed")

    def _scan(self) -> None:
        found = {}
        for run, path in self._folders():
            stamp = _stamp(path)
            if self._stamps.get(run) != stamp or run not in self._entries:
                entry = _entry(run, path)
                if entry is None:
                    continue
                found[run], self._stamps[run] = entry, stamp
            else:
                found[run] = self._entries[run]
        self._entries = dict(sorted(found.items(), key=lambda item: _order(item[1])))

    def _folders(self) -> Iterator[tuple[str, Path]]:
        names = [root.name for root in self.paths]
        for root in self.paths:
            label = root.name if names.count(root.name) == 1 else str(root)
            for folder, inside, files in os.walk(root):
                if "run.json" in files:
                    path = Path(folder)
                    below = path.relative_to(root).as_posix()
                    if below == ".":
                        yield label, path
                    else:
                        yield (below if len(names) == 1 else f"{label}/{below}"), path
                    # A training run keeps its run.json above folders that may hold runs.
                    if "metrics.json" in files or "requests.parquet" in files:
                        inside.clear()
                inside[:] = sorted(n for n in inside if n not in SKIPPED and n[0] != ".")


def _entry(run: str, path: Path) -> Entry | None:
    """The run in a folder; None when its ``run.json`` is of something else (a training run)."""
    info = _read(path / "run.json")
    if not isinstance(info, dict):
        return Entry(run, path, error=f"'{path / 'run.json'}' is not a JSON object")
    if not isinstance(info.get("model"), dict) or "asked" not in info or "status" not in info:
        return None
    return Entry(run, path, info)


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _stamp(path: Path) -> tuple[int, ...]:
    """Changes whenever a file of the run does."""
    stamp: list[int] = []
    for name in ("run.json", "metrics.json", "instances.parquet", "requests.parquet"):
        try:
            found = (path / name).stat()
            stamp += [found.st_mtime_ns, found.st_size, found.st_ino]
        except OSError:
            stamp += [0, 0, 0]
    return tuple(stamp)


def _order(entry: Entry) -> tuple[str, int, str]:
    trained = (entry.info.get("model") or {}).get("metadata") or {}
    try:
        step = int(trained.get("step") or 0)
    except (TypeError, ValueError):
        step = 0
    return str(trained.get("run") or entry.id), step, entry.id
