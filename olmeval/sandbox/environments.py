"""Python environments with pinned libraries, for benchmarks whose tests depend on versions.

An environment is a virtual environment in the cache, made from a list of pins that comes with this
package (``pins/<name>.yaml``) by pip, once, outside the jail; programs see it read-only. A score
made in it records its fingerprint: interpreter and versions of everything installed.
"""

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from olmeval.config import Config, load_config
from olmeval.errors import UserError, nearest
from olmeval.files import cache_dir, locked, make_dir, write_json

PINS = Path(__file__).parent / "pins"
RECORD = "olmeval-environment.json"


class Pins(Config):
    """What an environment is made of."""

    summary: str
    python: str  # "3.10"
    packages: tuple[str, ...]  # pip's requirement specifiers
    preload: tuple[str, ...] = ()  # modules that a warm interpreter imports before any program

    @property
    def key(self) -> str:
        """A hash of what is installed; preloading changes no result."""
        text = json.dumps([self.python, sorted(self.packages)])
        return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Environment:
    """One that exists and is whole."""

    name: str
    path: Path
    python: str  # full version
    versions: dict[str, str]  # distribution -> version, of everything that is installed

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What a result records of the environment that it was made in."""
        return {"name": self.name, "python": self.python, "packages": self.versions}


def names() -> list[str]:
    """Environments that can be made."""
    return sorted(path.stem for path in PINS.glob("*.yaml"))


@cache
def pins(name: str) -> Pins:
    """The pins of ``name``; :class:`UserError` for another name."""
    if name not in names():
        raise UserError(
            f"there is no environment '{name}'; known: {', '.join(names())}"
            + nearest(name, names())
        )
    return load_config(PINS / f"{name}.yaml", Pins)


def folder(name: str) -> Path:
    """Where ``name`` is, or will be: a change of pins is another folder."""
    return cache_dir() / "sandbox" / "environments" / f"{name}-{pins(name).key}"


def find(name: str) -> Environment | None:
    """The environment, or None until :func:`create` has made all of it."""
    path = folder(name)
    try:
        record = json.loads((path / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not (path / "bin" / "python").exists():
        return None  # the interpreter that it was made with has been removed
    return Environment(name, path, record["python"], record["packages"])


def require(name: str) -> Environment:
    """The environment; :class:`UserError` with the command that makes it."""
    found = find(name)
    if found is None:
        raise UserError(
            f"programs of this task need the Python environment '{name}' "
            f"({pins(name).summary}), which is not here: run `olmeval sandbox env create {name}`"
        )
    return found


def preload_of(path: str | None) -> list[str]:
    """What a warm interpreter of the environment at ``path`` imports before any program."""
    if path is None:
        return []
    try:
        return list(json.loads((Path(path) / RECORD).read_text(encoding="utf-8"))["preload"])
    except (OSError, ValueError, KeyError):
        return []  # a virtual environment that somebody else made


def create(
    name: str,
    *,
    python: Path | None = None,
    pip_arguments: tuple[str, ...] = (),
    say: Callable[[str], None] = lambda _: None,
) -> Environment:
    """Makes the environment with pip and returns it; quick when it is there.

    pip takes indexes and proxies from its own configuration, and ``pip_arguments`` on top.

    Raises :class:`UserError` without an interpreter of the pinned version, when pip fails, and
    when the cache cannot be written.
    """
    wanted, path = pins(name), folder(name)
    make_dir(path.parent)
    with locked(path.parent / f".{path.name}.lock"):
        existing = find(name)
        if existing is not None:
            return existing
        interpreter = interpreter_of(wanted.python, python)
        # What a killed run has left; only a folder with a record is an environment.
        shutil.rmtree(path, ignore_errors=True)
        say(f"making '{name}' in {path} with {interpreter}")
        _run([str(interpreter), "-m", "venv", str(path)], name)
        say(f"installing {len(wanted.packages)} pinned packages and what they need")
        pip = [str(path / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
        _run([*pip, "install", "--quiet", *pip_arguments, *wanted.packages], name)
        listed = json.loads(_run([*pip, "list", "--format", "json"], name))
        record = {
            "python": version_of(path / "bin" / "python") or "",
            "packages": {one["name"]: one["version"] for one in listed},
            "preload": list(wanted.preload),
        }
        write_json(path / RECORD, record)
    return require(name)


def remove(name: str) -> bool:
    """Deletes the environment; whether there was one."""
    path = folder(name)
    make_dir(path.parent)
    with locked(path.parent / f".{path.name}.lock"):
        present = path.is_dir()
        shutil.rmtree(path, ignore_errors=True)
    return present


def interpreter_of(version: str, given: Path | None = None) -> Path:
    """A Python of that version (``given``, or found); :class:`UserError` where there is none."""
    if given is not None:
        found = version_of(given)
        if found is None or not _is(found, version):
            said = f"is Python {found}" if found else "is not a Python that runs"
            raise UserError(f"'{given}' {said}; the environment needs Python {version}")
        return given
    for path in _interpreters(version):
        found = version_of(path)
        if found is not None and _is(found, version):
            return path
    raise UserError(
        f"Python {version} is not installed: get it (`uv python install {version}`, "
        f"`pyenv install {version}`, or your system's packages) or name it with --python"
    )


def version_of(python: Path) -> str | None:
    """The full version that an interpreter reports; None where it does not run."""
    try:
        done = subprocess.run(
            [str(python), "-c", "import platform, venv; print(platform.python_version())"],
            capture_output=True, text=True, timeout=20, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def _is(full: str, version: str) -> bool:
    return full == version or full.startswith(f"{version}.")


def _interpreters(version: str) -> list[Path]:
    home = Path.home()
    pyenv = Path(os.environ.get("PYENV_ROOT") or home / ".pyenv")
    on_path = shutil.which(f"python{version}")
    return [
        *([Path(on_path)] if on_path else []),
        *sorted(pyenv.glob(f"versions/{version}*/bin/python")),
        *sorted(home.glob(f".local/share/uv/python/cpython-{version}*/bin/python{version}")),
    ]


def _run(command: list[str], name: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise UserError(f"cannot make the environment '{name}': {error}") from None
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        telling = [line for line in lines if "error" in line.lower()] or lines or ["no message"]
        raise UserError(
            f"cannot make the environment '{name}': {Path(command[0]).name} says: {telling[-1]}"
        )
    return done.stdout
