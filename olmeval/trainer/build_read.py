"""Documents out of files: JSON Lines, Parquet, Arrow, plain text."""

import io
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from olmeval.errors import CorruptFileError, UserError, nearest
from olmeval.trainer.build_inputs import COMPRESSED, Part

ROWS = 256  # of a table at a time


@dataclass(frozen=True, slots=True)
class Document:
    """The fields asked for, and where they come from.

    ``place`` is a row, a line, or the byte at which the line begins; ``done`` says how many bytes
    of the file's part have been read.
    """

    values: tuple[Any, ...]
    place: int
    done: int


def read(part: Part, fields: Sequence[str]) -> Iterator[Document]:
    """The documents of a part, in order; nested fields are written ``metadata.topic``.

    Raises :class:`UserError` that names file and line for damage and missing fields.
    """
    try:
        if part.format == "jsonl":
            yield from _jsonl(part, fields)
        elif part.format == "text":
            yield Document((_text(part),), 0, part.size)
        else:
            yield from _table(part, fields)
    except UnicodeDecodeError as error:
        raise CorruptFileError(f"'{part.path}' is not UTF-8 text: {error}") from None
    except (OSError, pa.ArrowException) as error:
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
        raise CorruptFileError(f"cannot read '{part.path}': {reason}") from None


def where(part: Part, place: int) -> str:
    """What to call a document in a message: ``file:line`` or ``file, row n`` (from 1)."""
    if part.format == "text":
        return f"'{part.path}'"
    if part.format != "jsonl":
        return f"'{part.path}', row {place + 1}"
    if part.stop is None:
        return f"'{part.path}', line {place + 1}"
    before = 0
    with Path(part.path).open("rb") as file:
        while place > 0 and (block := file.read(min(place, 1 << 20))):
            before += block.count(b"\n")
            place -= len(block)
    return f"'{part.path}', line {before + 1}"


@contextmanager
def _open(path: str) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """A file to read, decompressed, and the same file as it is on disk."""
    codec = COMPRESSED.get(Path(path).suffix)
    with Path(path).open("rb") as raw:
        if codec is None:
            yield raw, raw
        else:
            stream = pa.CompressedInputStream(pa.PythonFile(raw), codec)
            yield io.BufferedReader(stream, 1 << 18), raw


def _jsonl(part: Part, fields: Sequence[str]) -> Iterator[Document]:
    whole = part.stop is None
    with _open(part.path) as (file, raw):
        offset = part.start
        if offset:  # a line belongs to the part in which it begins
            file.seek(offset - 1)
            offset += len(file.readline()) - 1
        number = 0
        while whole or offset < (part.stop or 0):
            line = file.readline()
            if not line:
                return
            place = number if whole else offset
            offset += len(line)
            number += 1
            if line.isspace():
                continue
            try:
                record = json.loads(line)
            except ValueError as error:
                raise UserError(f"{where(part, place)} is not JSON: {error}") from None
            values = tuple(_field(record, name, part, place) for name in fields)
            yield Document(values, place, raw.tell() if whole else offset - part.start)


def _table(part: Part, fields: Sequence[str]) -> Iterator[Document]:
    columns = _columns(part, fields)
    batches = _parquet(part, columns) if part.format == "parquet" else _arrow(part, columns)
    for done, first, batch in batches:
        for i, record in enumerate(batch.to_pylist()):
            values = tuple(_field(record, name, part, first + i) for name in fields)
            yield Document(values, first + i, done)


def _columns(part: Part, fields: Sequence[str]) -> list[str]:
    """The columns that hold the fields."""
    if part.format == "parquet":
        with pq.ParquetFile(part.path) as file:
            names = file.schema_arrow.names
    else:
        with pa.memory_map(part.path) as mapped, pa.ipc.open_stream(mapped) as stream:
            names = stream.schema.names
    return sorted({name if name in names else name.partition(".")[0] for name in fields})


def _parquet(part: Part, columns: list[str]) -> Iterator[tuple[int, int, Any]]:
    """(bytes done, number of the first row, rows)."""
    assert part.stop is not None
    with pq.ParquetFile(part.path) as file:
        first = sum(file.metadata.row_group(i).num_rows for i in range(part.start))
        for group in range(part.start, part.stop):
            done = part.size * (group + 1 - part.start) // (part.stop - part.start)
            for batch in file.iter_batches(ROWS, row_groups=[group], columns=columns):
                yield done, first, batch
                first += batch.num_rows


def _arrow(part: Part, columns: list[str]) -> Iterator[tuple[int, int, Any]]:
    """As :func:`_parquet`."""
    assert part.stop is not None
    with pa.memory_map(part.path) as mapped, pa.ipc.open_stream(mapped) as stream:
        first = 0
        for number, batch in enumerate(stream):
            if number >= part.stop:
                return
            if number >= part.start:
                done = part.size * (number + 1 - part.start) // (part.stop - part.start)
                chosen = batch.select(columns)
                for start in range(0, chosen.num_rows, ROWS):
                    yield done, first + start, chosen.slice(start, ROWS)
            first += batch.num_rows


def _text(part: Part) -> str:
    with _open(part.path) as (file, _):
        return file.read().decode("utf-8")


def _field(record: Any, name: str, part: Part, place: int) -> Any:
    if not isinstance(record, dict):
        raise UserError(f"{where(part, place)} is not an object with fields")
    if name in record:
        return record[name]
    value = record
    for key in name.split("."):
        if not isinstance(value, dict) or key not in value:
            hint = nearest(name, record) or "; it has " + ", ".join(map(str, record))
            raise UserError(f"{where(part, place)} has no field '{name}'{hint}")
        value = value[key]
    return value
