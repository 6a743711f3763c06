"""Atomic, durable writes; file locks; hashes; the cache folder.

A file written here is either absent, the old version or the new one, at whatever instant the
process dies: temporary file in the same folder, fsync, rename, fsync of the folder.
"""

import errno
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from olmeval.errors import CorruptFileError, UserError

# What a file system without hard links answers to one.
NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS}


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside ``path``; on success it becomes ``path``, durably.

    Raises :class:`UserError` when the folder cannot be written.
    """
    tmp = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield tmp
        fsync(tmp)
        os.replace(tmp, path)
        fsync(path.parent)
    except OSError as error:
        raise UserError(f"cannot write '{path}': {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            tmp.unlink(missing_ok=True)


@contextmanager
def atomic_dir(path: Path) -> Iterator[Path]:
    """Like :func:`atomic_path` for a folder; an existing ``path`` is replaced."""
    tmp = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        shutil.rmtree(tmp, ignore_errors=True)
        tmp.mkdir(parents=True)
        yield tmp
        for file in tmp.rglob("*"):
            fsync(file)
        fsync(tmp)
        if path.exists():
            shutil.rmtree(path)
        os.replace(tmp, path)
        fsync(path.parent)
    except OSError as error:
        raise UserError(f"cannot write '{path}': {error.strerror or error}") from error
    finally:
        shutil.rmtree(tmp, ignore_errors=True)


def make_dir(path: Path) -> Path:
    """Creates a folder that can be written to; raises :class:`UserError` when that fails."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write '{path}': {error.strerror or error}") from None
    if not os.access(path, os.W_OK):
        raise UserError(f"cannot write '{path}': permission denied")
    return path


@contextmanager
def locked(path: Path, busy: str | None = None) -> Iterator[None]:
    """Holds the lock file ``path``; the kernel releases it when the process dies.

    While another process holds it: waits, or raises :class:`UserError` with the sentence ``busy``.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise UserError(f"cannot write '{path.parent}': {error.strerror}") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (fcntl.LOCK_NB if busy else 0))
        except BlockingIOError:
            raise UserError(busy) from None
        except OSError as error:
            raise UserError(
                f"cannot lock '{path}': {error.strerror}; choose a folder on a file system that "
                "has locks"
            ) from None
        yield
    finally:
        os.close(descriptor)


def try_lock(descriptor: int) -> bool:
    """Locks an open file until it is closed; False when another process has it locked."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def fsync(path: Path) -> None:
    """Flushes one file or folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text atomically."""
    with atomic_path(path) as tmp:
        tmp.write_text(text, encoding="utf-8")


def write_new(path: Path, text: str) -> bool:
    """Writes UTF-8 text atomically where no file is; False, and nothing, where there is one.

    Of several processes that try at once, one succeeds.
    """
    tmp = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        tmp.write_text(text, encoding="utf-8")
        fsync(tmp)
        # A rename would replace what another process has written meanwhile.
        os.link(tmp, path)
        fsync(path.parent)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise UserError(f"cannot write '{path}': {error.strerror or error}") from error
        return _write_exclusively(path, text)
    finally:
        with suppress(OSError):
            tmp.unlink(missing_ok=True)
    return True


def _write_exclusively(path: Path, text: str) -> bool:
    """:func:`write_new` on a file system without links: exclusive, but not atomic."""
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        return False
    except OSError as error:
        raise UserError(f"cannot write '{path}': {error.strerror or error}") from error
    fsync(path)
    return True


def json_text(value: Any) -> str:
    """JSON as all files here have it; key order is kept, floats round-trip."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_json(path: Path, value: Any) -> None:
    """Writes JSON (:func:`json_text`) atomically."""
    write_text(path, json_text(value))


def read_json(path: Path) -> Any:
    """Reads JSON; raises :class:`UserError` that names the file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"'{path}' does not exist") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CorruptFileError(f"'{path}' is not valid JSON: {error}") from None


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_json(value: Any) -> str:
    """Hex SHA-256 of a value's canonical JSON."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def cache_dir() -> Path:
    """``$OLMEVAL_CACHE``, else ``$XDG_CACHE_HOME/olmeval``, else ``~/.cache/olmeval``."""
    if path := os.environ.get("OLMEVAL_CACHE"):
        return Path(path).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "olmeval"
