"""Remembers which token files were read through and found whole, so that it happens once.

Beside the manifest, in ``.verified.json``: size and time of change of every file. What has changed
since, or belongs to another manifest, is read again.
"""

from contextlib import suppress
from pathlib import Path

from olmeval.errors import UserError
from olmeval.files import read_json, write_json

NAME = ".verified.json"
Signatures = dict[str, list[int]]


def signature(path: Path) -> list[int]:
    """What changes when a file does: sizes and times (ns) of it and its index."""
    files = [file for file in (path, path.with_suffix(".idx")) if file.exists()]
    return [value for file in files for value in (file.stat().st_size, file.stat().st_mtime_ns)]


def remembered(root: Path, manifest: str) -> Signatures:
    """Signatures of the files in ``root`` that were verified against ``manifest`` (its hash)."""
    with suppress(UserError, OSError):
        found = read_json(root / NAME)
        if isinstance(found, dict) and found.get("manifest") == manifest:
            return dict(found["files"])
    return {}


def remember(root: Path, manifest: str, files: Signatures) -> None:
    """Writes them down. Where the folder cannot be written, they are verified again next time."""
    with suppress(UserError, OSError):
        write_json(root / NAME, {"manifest": manifest, "files": files})
