"""Responses on disk while a run is under way, and after it.

``responses.sqlite`` (write-ahead log) is append-only: one row per request key, committed batch by
batch, so a killed run loses at most one batch. A finished run is compacted to
``responses.parquet``, which then answers in its place.
"""

import json
import sqlite3
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from olmeval.errors import CorruptFileError, UserError
from olmeval.files import atomic_path

SCHEMA = """
CREATE TABLE IF NOT EXISTS responses (
    key BLOB PRIMARY KEY,    -- 16 bytes
    logprob REAL,            -- natural log, summed over the continuation or the sample
    tokens INTEGER,          -- tokens scored or generated
    greedy INTEGER,          -- every scored token was the arg max
    token_logprobs BLOB,     -- float32 little-endian, one per scored token
    samples TEXT,            -- JSON list of [text, tokens, logprob, finish], for generations
    checksum INTEGER         -- CRC-32 of the columns before it
) WITHOUT ROWID
"""
COLUMNS = ("key", "logprob", "tokens", "greedy", "token_logprobs", "samples", "checksum")


@dataclass(frozen=True, slots=True)
class Sample:
    """One generated text; ``finish`` is "stop" or "length"."""

    text: str
    tokens: int
    logprob: float
    finish: str


@dataclass(frozen=True, slots=True)
class Response:
    """The answer to one request: scores of a continuation, or samples."""

    key: bytes
    logprob: float
    tokens: int
    greedy: bool = False
    token_logprobs: NDArray[np.float32] | None = None
    samples: tuple[Sample, ...] = ()

    def row(self) -> tuple[Any, ...]:
        """The values of :data:`COLUMNS`."""
        blob = None if self.token_logprobs is None else self.token_logprobs.astype("<f4").tobytes()
        texts = [[s.text, s.tokens, s.logprob, s.finish] for s in self.samples]
        samples = json.dumps(texts, ensure_ascii=False) if self.samples else None
        values = (self.key, self.logprob, self.tokens, int(self.greedy), blob, samples)
        return (*values, _checksum(values))

    @classmethod
    def from_row(cls, row: Sequence[Any]) -> "Response":
        """Inverse of :meth:`row`; ValueError when the checksum does not agree."""
        *values, checksum = row
        if _checksum(values) != checksum:
            raise ValueError("a row's checksum does not agree with its values")
        key, logprob, tokens, greedy, blob, samples = values
        return cls(
            key,
            logprob,
            tokens,
            bool(greedy),
            None if blob is None else np.frombuffer(blob, "<f4"),
            tuple(Sample(*s) for s in json.loads(samples)) if samples else (),
        )


def _checksum(values: Sequence[Any]) -> int:
    key, logprob, tokens, greedy, blob, samples = values
    numbers = struct.pack("<dqb", logprob, tokens, greedy)
    return crc32((samples or "").encode(), crc32(blob or b"", crc32(numbers, crc32(key))))


class ResponseStore:
    """The responses of one run folder."""

    def __init__(self, folder: Path):
        self.sqlite = folder / "responses.sqlite"
        self.parquet = folder / "responses.parquet"
        self._db: sqlite3.Connection | None = None

    def __enter__(self) -> "ResponseStore":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _connect(self) -> sqlite3.Connection:
        if self._db is None:
            try:
                self._db = sqlite3.connect(self.sqlite, timeout=60, isolation_level=None)
                self._db.execute("PRAGMA journal_mode=WAL")
                # Safe against a killed process; a power cut may lose the last batches, no more.
                self._db.execute("PRAGMA synchronous=NORMAL")
                self._db.execute(SCHEMA)
            except sqlite3.OperationalError as error:
                raise UserError(f"cannot write '{self.sqlite}': {error}") from None
            except sqlite3.DatabaseError as error:
                raise _damaged(self.sqlite, error) from None
        return self._db

    def put(self, responses: Iterable[Response]) -> None:
        """Adds responses in one transaction; a key that is there already keeps its response."""
        db = self._connect()
        rows = [response.row() for response in responses]
        try:
            db.execute("BEGIN IMMEDIATE")
            db.executemany("INSERT OR IGNORE INTO responses VALUES (?,?,?,?,?,?,?)", rows)
            db.execute("COMMIT")
        except sqlite3.OperationalError as error:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise UserError(
                f"cannot write '{self.sqlite}': {error}; free space and resume"
            ) from None
        except sqlite3.DatabaseError as error:
            raise _damaged(self.sqlite, error) from None

    def load(self) -> dict[bytes, Response]:
        """Every response that is there, by key."""
        found: dict[bytes, Response] = {}
        if self.parquet.exists():
            found.update((r.key, r) for r in self._read_parquet())
        if self.sqlite.exists():
            try:
                rows = self._connect().execute("SELECT * FROM responses").fetchall()
                found.update((r.key, r) for r in map(Response.from_row, rows))
            except (sqlite3.DatabaseError, ValueError, TypeError) as error:
                raise _damaged(self.sqlite, error) from None
        return found

    def _read_parquet(self) -> list[Response]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            columns = pq.read_table(self.parquet, columns=list(COLUMNS)).to_pydict()
            return [Response.from_row(row) for row in zip(*columns.values(), strict=True)]
        except (pa.ArrowException, OSError, ValueError, TypeError, struct.error) as error:
            raise _damaged(self.parquet, error) from None

    def compact(self) -> None:
        """Moves every response to ``responses.parquet``, sorted by key."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        found = self.load()
        rows = [found[key].row() for key in sorted(found)]
        types = (
            pa.binary(16),
            pa.float64(),
            pa.int32(),
            pa.int8(),
            pa.binary(),
            pa.string(),
            pa.int64(),
        )
        arrays = [pa.array([row[k] for row in rows], type=t) for k, t in enumerate(types)]
        with atomic_path(self.parquet) as tmp:
            pq.write_table(pa.table(arrays, names=list(COLUMNS)), tmp, compression="zstd")
        self.close()
        for suffix in ("", "-wal", "-shm"):
            self.sqlite.with_name(self.sqlite.name + suffix).unlink(missing_ok=True)

    def close(self) -> None:
        """Closes the database; the store reopens it when needed."""
        if self._db is not None:
            self._db.close()
            self._db = None


def _damaged(path: Path, error: Exception) -> CorruptFileError:
    first = (str(error).splitlines() or [type(error).__name__])[0]
    return CorruptFileError(f"'{path}' is damaged ({first}); delete it to score its requests again")
