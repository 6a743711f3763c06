"""A control group for each worker: the memory and the number of its whole tree of processes.

Limits of a process (setrlimit) do not see that twenty children use 200 MB each; a control group
does. Version 1 and 2 are both used, wherever this process may create a group; where it may not,
the zygote looks at the tree's memory every 30 ms instead.
"""

import itertools
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PREFIX = "olmeval-sandbox-"
NEARLY = 1 << 20  # bytes: memory is charged to a group in pieces
_numbers = itertools.count()


@dataclass(frozen=True)
class Parent:
    """A folder of a hierarchy in which groups can be created."""

    controllers: frozenset[str]
    folder: Path
    version: int


@dataclass
class Group:
    """The group, or groups (version 1 has one for each controller), of one worker."""

    memory: Path | None = None
    pids: Path | None = None
    version: int = 0
    _refused: int | None = None

    @property
    def procs(self) -> list[str]:
        """The files that a process writes 0 to in order to join."""
        return [str(f / "cgroup.procs") for f in dict.fromkeys((self.memory, self.pids)) if f]

    @property
    def counter(self) -> Path | None:
        """The file that counts processes killed for memory."""
        if self.memory is None:
            return None
        return self.memory / ("memory.events" if self.version == 2 else "memory.oom_control")

    def mark(self) -> None:
        """From here on :meth:`full` looks."""
        if self.version == 2:
            self._refused = self._refusals()
        elif self.memory is not None:
            with suppress(OSError):
                (self.memory / "memory.max_usage_in_bytes").write_text("0")

    def full(self) -> bool:
        """Whether it came to its limit of memory since :meth:`mark`; true where nothing tells.

        A process that is killed for memory in a group that did not was killed because the machine
        had none left.
        """
        if self.version == 2:
            return self._refused is None or self._refusals() != self._refused
        if self.memory is None:
            return True
        try:
            most, limit = (
                int((self.memory / f"memory.{name}_in_bytes").read_text())
                for name in ("max_usage", "limit")
            )
        except (OSError, ValueError):
            return True
        return most >= limit - NEARLY

    def _refusals(self) -> int | None:
        """Version 2: how often memory had to be refused at the group's own limit."""
        lines = _read(self.memory / "memory.events").splitlines() if self.memory else []
        events = dict(line.split() for line in lines)
        return int(events["oom"]) if "oom" in events else None

    def limit(self, memory: int, processes: int) -> None:
        """Sets both limits; raises :class:`OSError`."""
        if self.memory is not None:
            if self.version == 2:
                (self.memory / "memory.max").write_text(str(memory))
                with suppress(OSError):
                    (self.memory / "memory.swap.max").write_text("0")
            else:
                _limit_version_1(self.memory, memory)
        if self.pids is not None:
            (self.pids / "pids.max").write_text(str(processes))

    def close(self) -> None:
        """Removes the group; its processes are gone."""
        for folder in dict.fromkeys((self.memory, self.pids)):
            if folder is not None:
                with suppress(OSError):
                    folder.rmdir()


def _limit_version_1(folder: Path, memory: int) -> None:
    both = folder / "memory.memsw.limit_in_bytes"  # memory and swap: never below memory alone
    with suppress(OSError):
        both.write_text("-1")
    (folder / "memory.limit_in_bytes").write_text(str(memory))
    with suppress(OSError):
        both.write_text(str(memory))


def parents(mountinfo: str | None = None, own: str | None = None) -> list[Parent]:
    """Where groups may be created; read from ``/proc/self`` unless its files' texts are given."""
    mountinfo = _read("/proc/self/mountinfo") if mountinfo is None else mountinfo
    own = _read("/proc/self/cgroup") if own is None else own
    paths: dict[str, str] = {}
    for line in own.splitlines():
        _, controllers, path = line.split(":", 2)
        paths.update(dict.fromkeys(controllers.split(","), path))
    found = []
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        kind, _, options = right.split(" ", 2)
        root, mount_point = (_unescape(word) for word in left.split(" ")[3:5])
        if kind == "cgroup":
            held = frozenset(options.split(",")) & {"memory", "pids"}
            for controller in held:
                folder = _below(mount_point, root, paths.get(controller, "/"))
                if folder is not None and _writable(folder):
                    found.append(Parent(held, folder, 1))
                    break
        elif kind == "cgroup2":
            folder = _below(mount_point, root, paths.get("", "/"))
            # A group with processes cannot hand its controllers down: look further up.
            while folder is not None and str(folder).startswith(mount_point):
                held = frozenset(_read(folder / "cgroup.subtree_control").split())
                if "memory" in held and _writable(folder):
                    found.append(Parent(held & {"memory", "pids"}, folder, 2))
                    break
                folder = folder.parent
    return found


def create(where: list[Parent] | None = None) -> Group:
    """A new group; one without folders where none can be created."""
    group = Group()
    name = f"{PREFIX}{os.getpid()}-{next(_numbers)}"
    for parent in parents() if where is None else where:
        folder = parent.folder / name
        _remove_stale(parent.folder)
        try:
            folder.mkdir(exist_ok=True)
        except OSError:
            continue
        used = False
        if "memory" in parent.controllers and group.memory is None:
            group.memory, group.version, used = folder, parent.version, True
        if "pids" in parent.controllers and group.pids is None:
            group.pids, used = folder, True
        if not used:
            folder.rmdir()
    return group


def _remove_stale(folder: Path) -> None:
    """Removes groups of processes that were killed before they could."""
    for old in folder.glob(PREFIX + "*"):
        owner = re.match(rf"{PREFIX}(\d+)-", old.name)
        if owner and not Path(f"/proc/{owner[1]}").exists():
            with suppress(OSError):
                old.rmdir()


def _below(mount_point: str, root: str, path: str) -> Path | None:
    """Where the group ``path`` lies, in a mount that shows the hierarchy from ``root`` on."""
    if root != "/" and not (path + "/").startswith(root + "/"):
        return None
    return Path(mount_point) / path[len(root.rstrip("/")) :].lstrip("/")


def _writable(folder: Path) -> bool:
    return folder.is_dir() and os.access(folder, os.W_OK)


def _read(path: str | Path) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _unescape(word: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), word)
