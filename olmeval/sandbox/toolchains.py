"""Finds compilers and interpreters on this machine, in a form that the jail can run.

Inside the jail there are ``/usr`` and the folders that a command mounts, and no home folder. So a
program is its real path, and a toolchain that lives elsewhere (rustup, SDKs under ``/opt``) names
the folder to mount. In tier T2 there are no mounts: such a folder must be readable by everybody
when this process is root, because programs run as another user.
"""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from olmeval.errors import UserError
from olmeval.files import atomic_dir, cache_dir, locked
from olmeval.sandbox import jail, tiers

VERSION = re.compile(r"\d+(?:\.\d+)+")


@dataclass(frozen=True)
class Tool:
    """A program that can run in the jail: its real path, and host folders it needs there."""

    path: str
    mounts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Missing:
    """A program that cannot run in the jail, and why, as the end of a sentence."""

    reason: str


@cache
def find(program: str) -> Tool | Missing:
    """The first of the places where ``program`` may be that the jail can reach.

    An absolute ``program`` (a library file, say) is looked for at that place alone.
    """
    places = _places(program)
    for path in places:
        folder = _mount_of(path)
        if folder is None:
            return Tool(str(path), _settings(path))
        if reaches(path):
            return Tool(str(path), (str(folder), *_settings(path)))
    if places:
        return Missing(f"'{places[0]}' cannot be read by the sandbox's user")
    return Missing(f"'{program}' is not installed")


def reaches(path: Path) -> bool:
    """Whether a mounted ``path`` can be read by programs in the tier that this machine has."""
    return os.geteuid() != 0 or jail.reachable(path) or tiers.probe().namespaces


@cache
def precompiled_header(compiler: str, flags: tuple[str, ...]) -> Path | None:
    """A folder with GCC's header of all headers, parsed once; None where that does not work.

    Reading ``bits/stdc++.h`` takes most of the time that a small program takes to compile. The
    folder is kept in the cache, one for each compiler and flags.
    """
    try:
        asked = subprocess.run(
            [compiler, "-xc++", *flags, "-M", "-include", "bits/stdc++.h", "/dev/null"],
            capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        header = next(w for w in asked.stdout.split() if w.endswith("bits/stdc++.h"))
        key = re.sub(r"\W+", "-", f"{compiler} {version(compiler)} {' '.join(flags)}").strip("-")
        folder = cache_dir() / "sandbox" / f"headers-{key}"
        with locked(folder.parent / f".{folder.name}.lock"):
            if not folder.is_dir():
                _parse_header(Path(header), folder, compiler, flags)
    except (OSError, subprocess.SubprocessError, StopIteration, UserError):
        return None
    return folder if reaches(folder) else None


def _parse_header(header: Path, folder: Path, compiler: str, flags: tuple[str, ...]) -> None:
    with atomic_dir(folder) as building:
        (building / "bits").mkdir()
        copy = building / "bits" / header.name
        shutil.copyfile(header, copy)
        subprocess.run(
            [compiler, *flags, "-xc++-header", str(copy), "-o", f"{copy}.gch"],
            capture_output=True, timeout=120, check=True,
        )  # fmt: skip


@cache
def version(path: str, arguments: tuple[str, ...] = ("--version",)) -> str:
    """The version number that a program prints; "unknown" where it prints none."""
    try:
        done = subprocess.run(
            [path, *arguments], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    found = VERSION.search(done.stdout) or VERSION.search(done.stderr)
    return found[0] if found else "unknown"


def _places(program: str) -> list[Path]:
    if os.path.isabs(program):
        return [Path(program).resolve()] if os.path.exists(program) else []
    places = []
    for folder in [*os.get_exec_path(), "/usr/bin", "/usr/local/bin"]:
        found = shutil.which(program, path=folder)
        if found is None:
            continue
        real = Path(found).resolve()
        # rustup puts one program under many names, which asks its own files in the home folder
        # what to run; the real programs are these.
        places += _rustup(program) if real.name == "rustup" else [real]
    return list(dict.fromkeys(places))


def _rustup(program: str) -> list[Path]:
    home = Path(os.environ.get("RUSTUP_HOME") or Path.home() / ".rustup")
    found = sorted(home.glob(f"toolchains/*/bin/{program}"))
    return [p.resolve() for p in sorted(found, key=lambda p: "stable" not in p.parts[-3])]


def _mount_of(path: Path) -> Path | None:
    """The folder to bring along for a program outside ``/usr``: its installation's root."""
    if path.is_relative_to("/usr"):
        return None
    return path.parent.parent if path.parent.name in ("bin", "lib") else path.parent


def _settings(path: Path) -> tuple[str, ...]:
    """Folders under ``/etc`` that Debian moves a program's own settings to."""
    roots = {
        "java": sorted(Path("/etc").glob("java-*-openjdk")), "javac": [],
        "R": [Path("/etc/R")], "mono-sgen": [Path("/etc/mono")],
        "racket": [Path("/etc/racket")],
    }  # fmt: skip
    return tuple(str(folder) for folder in roots.get(path.name, []) if folder.is_dir())
