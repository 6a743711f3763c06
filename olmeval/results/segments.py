"""The shared store of answers: any number of processes and machines write, nothing is lost.

::

    <root>/<model key>/model.json     what the key stands for
    <root>/<model key>/<time>-<host>-<pid>-<random>.seg

A model's folder holds one append-only segment per writing process, so writers never meet, on
network file systems neither. A segment is a sequence of frames (header, Arrow batch), each with
its CRC-32: a reader takes the whole ones, whatever happens to the file. What a killed writer left
half-written at the end is no damage; anything else is reported, and its requests asked again.
"""

import errno
import json
import os
import re
import secrets
import socket
import struct
import time
import warnings
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

from olmeval.errors import CorruptFileError, UserError
from olmeval.files import cache_dir, locked, read_json, try_lock, write_json
from olmeval.results.answers import Answers, schema

# The first byte is never part of UTF-8, so that no generated text holds the magic.
MAGIC = b"\xf9OLMANS1"
# magic, payload bytes, answers, generated samples, CRC-32 of the payload, CRC-32 of all before
HEADER = struct.Struct("<8sQIIII")
SUFFIX = ".seg"
ABOUT = "model.json"
LOCK = ".lock"
MODEL_KEY = re.compile("[0-9a-f]{32}")
SYNC_SECONDS = 5.0
# Equal weights under two names or paths share their answers; the first name stays.
LABELS = ("name", "path")


class Header(NamedTuple):
    """What a frame says of its payload."""

    size: int
    answers: int
    samples: int
    crc: int


@dataclass
class Scan:
    """The whole frames of a segment (headers and all bytes), and what was lost between them.

    ``lost_answers`` counts those of damaged frames whose header is whole.
    """

    headers: list[Header] = field(default_factory=list)
    frames: list[memoryview] = field(default_factory=list)
    lost_bytes: int = 0
    lost_answers: int = 0


def encode(answers: Answers) -> bytes:
    """One frame."""
    payload = memoryview(answers.to_batch().serialize())
    samples = sum(len(json.loads(text)) for text in answers.samples if text is not None)
    head = HEADER.pack(MAGIC, len(payload), len(answers), samples, crc32(payload), 0)[:-4]
    return b"".join([head, crc32(head).to_bytes(4, "little"), payload])


def read_header(data: bytes, at: int = 0) -> Header | None:
    """The header at ``at``, if a whole one is there."""
    head = data[at : at + HEADER.size]
    if len(head) < HEADER.size or crc32(head[:-4]) != int.from_bytes(head[-4:], "little"):
        return None
    magic, *fields, _ = HEADER.unpack(head)
    return Header(*fields) if magic == MAGIC else None


def scan(data: bytes) -> Scan:
    """Every whole frame of a segment's bytes; never raises, whatever the bytes are."""
    found, view, at = Scan(), memoryview(data), 0
    while at < len(data):
        header = read_header(data, at)
        payload = view[at + HEADER.size :][: header.size if header else 0]
        if header and len(payload) == header.size and crc32(payload) == header.crc:
            end = at + HEADER.size + header.size
            found.headers.append(header)
            found.frames.append(view[at:end])
            at = end
            continue
        following = data.find(MAGIC, at + 1)
        if following < 0:
            if _is_torn(data[at : at + HEADER.size], header, len(payload)):
                break
            following = len(data)
        found.lost_bytes += following - at
        found.lost_answers += header.answers if header else 0
        at = following
    return found


def _is_torn(head: bytes, header: Header | None, size: int) -> bool:
    """Whether the end of a file is a frame of which only the first part was written."""
    if header is not None:
        return size < header.size
    return len(head) < HEADER.size and head[: len(MAGIC)] == MAGIC[: len(head)]


class Segment:
    """This process's own file in a model's folder, locked for as long as it is open."""

    def __init__(self, folder: Path):
        host = re.sub(r"\W+", "_", socket.gethostname())[:40]
        name = f"{time.time_ns():020d}-{host}-{os.getpid()}-{secrets.token_hex(4)}{SUFFIX}"
        self.path = folder / name
        self.pid = os.getpid()
        self._synced = time.monotonic()
        self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
        try_lock(self._file)

    def append(self, frame: bytes) -> None:
        """Adds a frame, or leaves the file as it was and raises what came between."""
        rest, end = memoryview(frame), os.fstat(self._file).st_size
        try:
            while rest:  # a full disk takes a part, and says why when asked to take the rest
                rest = rest[os.write(self._file, rest) :]
        except BaseException:  # Ctrl-C among them
            with suppress(OSError):
                os.ftruncate(self._file, end)
            raise
        if time.monotonic() - self._synced > SYNC_SECONDS:
            self.sync()

    def sync(self) -> None:
        os.fsync(self._file)
        self._synced = time.monotonic()

    def close(self) -> None:
        os.close(self._file)


class ModelStore:
    """The answers of one model. Of use to one thread of a process at a time."""

    def __init__(self, root: Path, key: str, about: dict[str, Any]):
        self.root, self.path = root, root / key
        self.about = about
        self._segment: Segment | None = None
        self._check_about()

    def __enter__(self) -> "ModelStore":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def load(self) -> Answers:
        """Every answer that is there, each key once: the first in order of segments.

        Damaged frames are left out with a warning. Raises :class:`UserError` when a file cannot
        be read.
        """
        import pyarrow as pa

        tables = [schema().empty_table()]
        for path in segments(self.path):
            found = scan(read_segment(path))
            if found.lost_bytes:
                warnings.warn(
                    f"'{path}' has {found.lost_bytes:,} damaged bytes (at least "
                    f"{found.lost_answers:,} answers); they are left out and asked again, and "
                    "`olmeval cache verify --repair` removes them",
                    stacklevel=1,  # one place, so that Python says it once however often we load
                )
            # An Arrow batch takes 6 KB of memory beside its content, so a few are joined at a time.
            for at in range(0, len(found.frames), 1000):
                batches = [
                    pa.ipc.read_record_batch(pa.py_buffer(frame[HEADER.size :]), schema())
                    for frame in found.frames[at : at + 1000]
                ]
                tables.append(pa.Table.from_batches(batches).combine_chunks())
        return Answers.from_table(pa.concat_tables(tables)).distinct()

    def put(self, answers: Answers) -> None:
        """Appends answers, in one write; they survive this process, whatever becomes of it.

        Raises :class:`UserError` when they cannot be written; what was put before stays.
        """
        if not len(answers):
            return
        # A forked child has its parent's file open, but must not write to it.
        if self._segment is None or self._segment.pid != os.getpid():
            self._segment = self._open()
        try:
            self._segment.append(encode(answers))
        except OSError as error:
            segment, self._segment = self._segment, None
            segment.close()
            raise _cannot_write(segment.path, error) from None

    def close(self) -> None:
        """Flushes to the disk and releases the segment; the next put begins another one."""
        segment, self._segment = self._segment, None
        if segment is None or segment.pid != os.getpid():
            return
        try:
            segment.sync()
        except OSError as error:
            raise _cannot_write(segment.path, error) from None
        finally:
            segment.close()

    def _open(self) -> Segment:
        # Under the lock, so that no prune removes the folder between these steps.
        with locked(self.root / LOCK):
            if not (self.path / ABOUT).exists():
                write_json(self.path / ABOUT, self.about)
            try:
                return Segment(self.path)
            except OSError as error:
                raise _cannot_write(self.path, error) from None

    def _check_about(self) -> None:
        """Compares ``model.json`` with what the caller says, and notes that it is in use."""
        path = self.path / ABOUT
        if not path.exists():
            return
        there = read_about(path)
        here = json.loads(json.dumps(self.about))
        for name in sorted((here.keys() | there.keys()) - set(LABELS)):
            if there.get(name) != here.get(name):
                raise CorruptFileError(
                    f"'{path}' is of another model ({name} is {there.get(name)!r}, not "
                    f"{here.get(name)!r}); delete it if this model's answers lie beside it"
                )
        with suppress(OSError):  # a store may be there to be read alone
            os.utime(path)


class ResponseStore:
    """The folder of all models' answers; ``root`` defaults to :func:`store_dir`."""

    def __init__(self, root: Path | None = None):
        self.root = root or store_dir()

    def model(self, key: str, about: dict[str, Any]) -> ModelStore:
        """The answers of the model with that key: 32 hex digits, of weights and engine settings.

        ``about`` says in JSON what the key stands for: fingerprint, backend, dtype …, which all
        users of the key must agree on, and ``name`` and ``path``, which need not agree. Raises
        :class:`CorruptFileError` when the store says otherwise.
        """
        if not MODEL_KEY.fullmatch(key):
            raise ValueError(f"a model's key is 32 hex digits, not {key!r}")
        return ModelStore(self.root, key, about)


def store_dir() -> Path:
    """``$OLMEVAL_STORE``, else ``responses`` in the cache folder."""
    if path := os.environ.get("OLMEVAL_STORE"):
        return Path(path).expanduser()
    return cache_dir() / "responses"


def read_about(path: Path) -> dict[str, Any]:
    """A ``model.json``; :class:`CorruptFileError` when it is not one."""
    try:
        about = read_json(path)
        if isinstance(about, dict):
            return about
    except CorruptFileError:
        pass
    raise CorruptFileError(f"'{path}' is damaged; delete it, and the next run writes it again")


def model_folders(root: Path) -> list[Path]:
    """The folders of all models, by key; whatever else lies there is not ours."""
    return sorted(p for p in root.glob("*") if MODEL_KEY.fullmatch(p.name) and p.is_dir())


def segments(folder: Path) -> list[Path]:
    """The segments of a model's folder, oldest first."""
    return sorted(folder.glob(f"*{SUFFIX}"))


def read_segment(path: Path) -> bytes:
    """A segment's bytes; none when it was pruned a moment ago."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise UserError(f"cannot read '{path}': {error.strerror}") from None


def _cannot_write(path: Path, error: OSError) -> UserError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    fix = "free space and run the same command again" if full else "run the same command again"
    return UserError(f"cannot write '{path}': {error.strerror}; {fix}")
