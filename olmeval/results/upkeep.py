"""Upkeep of the shared store of answers: what it holds, what may go, whether it is whole."""

import os
import re
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from olmeval.errors import CorruptFileError, UserError, nearest
from olmeval.files import atomic_path, locked, try_lock
from olmeval.results.segments import (
    ABOUT,
    HEADER,
    LOCK,
    model_folders,
    read_about,
    read_header,
    read_segment,
    scan,
    segments,
    store_dir,
)

AGE = re.compile(r"(\d+)([hdw])")
UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}


@dataclass(frozen=True)
class StoredModel:
    """One model's folder.

    ``answers`` and ``samples`` (generated texts) count what was written: a key that two runs
    asked at the same time counts twice. ``last_used`` is the time of the last run, in seconds
    since 1970. Fields that a missing or damaged ``model.json`` leaves open are None.
    """

    path: str
    name: str | None
    fingerprint: str | None
    backend: str | None
    dtype: str | None
    answers: int
    samples: int
    bytes: int
    last_used: float


@dataclass(frozen=True)
class Pruned:
    """What was removed (or would be), and the segments that stay since a process writes them."""

    models: int
    segments: int
    bytes: int
    in_use: int


@dataclass(frozen=True)
class Damage:
    """A damaged file: what is lost for good, and whether it was repaired."""

    path: str
    lost_bytes: int
    lost_answers: int
    repaired: bool


@dataclass(frozen=True)
class Verified:
    """What was read, and what is damaged."""

    models: int
    segments: int
    bytes: int
    answers: int
    damaged: list[Damage]


def stored_models(root: Path | None = None) -> list[StoredModel]:
    """Every model of the store, the last used first."""
    models = []
    for folder in model_folders(root or store_dir()):
        with suppress(FileNotFoundError):  # pruned a moment ago
            models.append(_stored(folder))
    return sorted(models, key=lambda m: (-m.last_used, m.path))


def _stored(folder: Path) -> StoredModel:
    about: dict[str, Any] = {}
    with suppress(UserError):
        about = read_about(folder / ABOUT)
    files = segments(folder)
    counts = [_count(path) for path in files]
    if (folder / ABOUT).exists():
        files.append(folder / ABOUT)
    stats = [path.stat() for path in files]
    return StoredModel(
        path=str(folder),
        name=about.get("name"),
        fingerprint=about.get("fingerprint"),
        backend=about.get("backend"),
        dtype=about.get("dtype"),
        answers=sum(answers for answers, _ in counts),
        samples=sum(samples for _, samples in counts),
        bytes=sum(s.st_size for s in stats),
        last_used=max((s.st_mtime for s in stats), default=folder.stat().st_mtime),
    )


def _count(path: Path) -> tuple[int, int]:
    """Answers and samples of a segment, by its headers alone while they follow each other."""
    headers, at = [], 0
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        while at < size:
            header = read_header(os.pread(file.fileno(), HEADER.size, at))
            if header is None or at + HEADER.size + header.size > size:
                headers = scan(read_segment(path)).headers
                break
            headers.append(header)
            at += HEADER.size + header.size
    return sum(h.answers for h in headers), sum(h.samples for h in headers)


def parse_age(text: str) -> timedelta:
    """``36h``, ``30d`` or ``8w``; :class:`UserError` otherwise."""
    match = AGE.fullmatch(text)
    if match is None:
        raise UserError(f"'{text}' is not an age; write hours, days or weeks as 36h, 30d or 8w")
    return int(match[1]) * UNITS[match[2]]


def prune_store(
    root: Path | None = None,
    *,
    model: str | None = None,
    older_than: timedelta | None = None,
    dry_run: bool = False,
) -> Pruned:
    """Removes models: those called ``model`` and not used for ``older_than``; None means any.

    ``model`` is a name, or a fingerprint or its beginning. Segments that a live process writes
    stay. ``dry_run`` removes nothing. Raises :class:`UserError` when no model is called so.
    """
    root = root or store_dir()
    chosen = stored_models(root)
    if model is not None:
        chosen = _called(chosen, model)
    if older_than is not None:
        limit = time.time() - older_than.total_seconds()
        chosen = [m for m in chosen if m.last_used < limit]
    if not chosen:
        return Pruned(0, 0, 0, 0)
    with locked(root / LOCK):
        done = [_remove(Path(m.path), dry_run) for m in chosen]
    return Pruned(
        models=sum(not d.in_use for d in done),
        segments=sum(d.segments for d in done),
        bytes=sum(d.bytes for d in done),
        in_use=sum(d.in_use for d in done),
    )


def _called(models: list[StoredModel], wanted: str) -> list[StoredModel]:
    found = [m for m in models if wanted == m.name]
    if not found and len(wanted) >= 6:
        found = [m for m in models if m.fingerprint and m.fingerprint.startswith(wanted)]
    if not found:
        near = nearest(wanted, sorted({m.name for m in models if m.name}))
        raise UserError(f"no model called '{wanted}' has stored answers{near}")
    return found


def _remove(folder: Path, dry_run: bool) -> Pruned:
    removed = freed = in_use = 0
    try:
        for path in segments(folder):
            descriptor = os.open(path, os.O_RDWR)
            try:
                if not try_lock(descriptor):
                    in_use += 1
                    continue
                removed += 1
                freed += os.fstat(descriptor).st_size
                if not dry_run:
                    path.unlink()
            finally:
                os.close(descriptor)
        if not dry_run and not in_use:
            for path in (folder / ABOUT, *folder.glob(".*.tmp")):
                path.unlink(missing_ok=True)
            with suppress(OSError):  # a file that somebody else put there stays
                folder.rmdir()
    except OSError as error:
        raise UserError(f"cannot remove '{folder}': {error.strerror}") from None
    return Pruned(1, removed, freed, in_use)


def verify_store(
    root: Path | None = None, *, repair: bool = False, progress: bool = False
) -> Verified:
    """Reads every byte of the store and checks it.

    ``repair`` rewrites damaged segments with their whole frames and removes a damaged
    ``model.json``, which the next run writes again. A segment that a live process writes cannot
    be repaired.
    """
    root = root or store_dir()
    folders = model_folders(root)
    files = [path for folder in folders for path in (folder / ABOUT, *segments(folder))]
    read = answers = count = 0
    damaged = []
    for path in _tracked(files, progress):
        if path.name == ABOUT:
            if path.exists() and not _is_about(path):
                size = path.stat().st_size
                if repair:
                    path.unlink()
                damaged.append(Damage(str(path), size, 0, repair))
            continue
        data = read_segment(path)
        found = scan(data)
        count += 1
        read += len(data)
        answers += sum(h.answers for h in found.headers)
        if found.lost_bytes:
            repaired = repair and _repair(root, path)
            damaged.append(Damage(str(path), found.lost_bytes, found.lost_answers, repaired))
    return Verified(len(folders), count, read, answers, damaged)


def _is_about(path: Path) -> bool:
    try:
        read_about(path)
    except CorruptFileError:
        return False
    return True


def _repair(root: Path, path: Path) -> bool:
    """Rewrites a segment with its whole frames; False when a process writes it."""
    with locked(root / LOCK):
        try:
            descriptor = os.open(path, os.O_RDWR)
        except OSError as error:
            raise UserError(f"cannot write '{path}': {error.strerror}") from None
        try:
            if not try_lock(descriptor):
                return False
            with atomic_path(path) as tmp:
                tmp.write_bytes(b"".join(scan(read_segment(path)).frames))
        finally:
            os.close(descriptor)
    return True


def _tracked(paths: list[Path], shown: bool) -> Iterable[Path]:
    if not shown or not sys.stderr.isatty():
        return paths
    from rich.console import Console
    from rich.progress import track

    return track(paths, "verifying", console=Console(stderr=True), transient=True)
