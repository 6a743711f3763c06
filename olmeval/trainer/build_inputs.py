"""From sources to pieces: which files a build reads, and how the work is cut.

A piece is what one worker does at a time and what a resumed build keeps. The cuts depend on the
files alone and not on the number of workers, so neither do the shards: a large file is cut into
ranges that can be read alone (lines, row groups, record batches), small files share a piece.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from glob import glob, has_magic
from itertools import pairwise, takewhile
from pathlib import Path
from typing import Any, Literal

from olmeval.errors import UserError, nearest
from olmeval.trainer.build_dataset import hub_files, is_saved, saved_files
from olmeval.trainer.build_spec import HUB, BuildSpec, SourceSpec, literal, template_fields

# Bytes of input. Small enough to keep workers busy to the end and to lose little when killed; but
# a corpus of any size has about a thousand pieces, for each is at least a file in every domain.
PIECE_BYTES = 8 << 20
MOST_PIECES = 1000

SUFFIXES: dict[str, "FileFormat"] = {
    ".jsonl": "jsonl", ".json": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet",
    ".txt": "text", ".md": "text", ".npy": "tokens",
}  # fmt: skip
COMPRESSED = {".gz": "gzip", ".zst": "zstd"}
FileFormat = Literal["jsonl", "parquet", "arrow", "text", "tokens"]


@dataclass(frozen=True)
class Part:
    """Units ``start`` to ``stop`` (None: the end) of a file.

    Units are bytes of a plain JSON Lines file, row groups of Parquet, record batches of Arrow.
    ``domain`` is a template; ``size`` is the part's share of the file, in bytes.
    """

    path: str
    format: FileFormat
    domain: str
    size: int
    start: int = 0
    stop: int | None = None


@dataclass(frozen=True)
class Piece:
    """Parts of one source that are done together."""

    source: int
    parts: tuple[Part, ...]

    @property
    def size(self) -> int:
        """Bytes of input."""
        return sum(part.size for part in self.parts)


@dataclass(frozen=True)
class Inputs:
    """All that a build reads. ``files`` holds (path, size, time of change); ``ignored`` counts
    files in folders whose names say that they hold no documents."""

    pieces: tuple[Piece, ...]
    files: tuple[tuple[str, int, int], ...]
    ignored: int


def find_inputs(spec: BuildSpec) -> Inputs:
    """Finds the files of every source and cuts them into pieces.

    Raises :class:`UserError` for a source without files, an unknown kind of file, or a table that
    lacks a field.
    """
    found: list[list[Part]] = []
    stats: list[tuple[str, int, int]] = []
    ignored = 0
    for source in spec.sources:
        parts, others = _files(source)
        if not parts:
            raise UserError(
                f"'{source.path}' holds no file that a build reads ({', '.join(SUFFIXES)}); give "
                "'format' if the files are named differently"
            )
        found.append(parts)
        ignored += others
        for part in parts:
            status = Path(part.path).stat()
            stats.append((part.path, status.st_size, status.st_mtime_ns))
    total = sum(part.size for parts in found for part in parts)
    target = max(PIECE_BYTES, total // MOST_PIECES)
    pieces = [
        piece
        for i, (source, parts) in enumerate(zip(spec.sources, found, strict=True))
        for piece in _pack(i, [cut for part in parts for cut in _cut(part, source, target)], target)
    ]
    return Inputs(tuple(pieces), tuple(stats), ignored)


def _files(source: SourceSpec) -> tuple[list[Part], int]:
    """A source's files as whole parts, by path, and how many others its folder holds."""
    path = Path(source.path).expanduser()
    if source.path.startswith(HUB):
        return [
            _part(file, "arrow", source, hub_name(source.path)) for file in hub_files(source)
        ], 0
    if source.format == "dataset" or is_saved(path):
        return [
            _part(file, "arrow", source, path.resolve().name) for file in saved_files(source)
        ], 0
    if path.is_file():
        return [_part(path, _format(path, source), source, path.name.split(".")[0])], 0
    if path.is_dir():
        top, listed = path, _visible(path)
        kept = [file for file in listed if source.format or _suffix(file) in SUFFIXES]
        ignored = len(listed) - len(kept)
    elif has_magic(str(path)):
        top = Path(*takewhile(lambda name: not has_magic(name), path.parts))
        kept = sorted(Path(f) for f in glob(str(path), recursive=True) if Path(f).is_file())
        ignored = 0
    else:
        raise UserError(f"'{source.path}' does not exist")
    return [
        _part(file, _format(file, source), source, _folder(file, top)) for file in kept
    ], ignored


def _visible(folder: Path) -> list[Path]:
    """All files below a folder, by path, but for hidden ones."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return sorted(
        path
        for path in files
        if not any(name.startswith(".") for name in path.relative_to(folder).parts)
    )


def hub_name(path: str) -> str:
    """``name`` of ``hf://org/name@revision``."""
    return path.removeprefix(HUB).partition("@")[0].rpartition("/")[2]


def _folder(file: Path, top: Path) -> str:
    """The domain that a file's place says: its folder below ``top``, or ``top`` itself."""
    below = file.parent.relative_to(top).as_posix()
    return top.resolve().name if below == "." else below


def _suffix(file: Path) -> str:
    """The last suffix that says what is in a file, that of its compression aside."""
    suffixes = file.suffixes
    return suffixes[-2] if len(suffixes) > 1 and suffixes[-1] in COMPRESSED else file.suffix


def _format(file: Path, source: SourceSpec) -> FileFormat:
    if source.format is not None:
        assert source.format != "dataset", "taken care of by saved_files"
        return source.format
    if _suffix(file) not in SUFFIXES:
        raise UserError(
            f"'{file}' is none of {', '.join(SUFFIXES)}; give 'format' to say what it holds"
        )
    return SUFFIXES[_suffix(file)]


def _part(file: Path, format: FileFormat, source: SourceSpec, place: str) -> Part:
    domain = literal(place) if source.domain is None else source.domain
    if format in ("text", "tokens") and template_fields(domain):
        raise UserError(
            f"the domain '{domain}' is made of fields, but '{file}' is a {format} file, without any"
        )
    return Part(str(file), format, domain, file.stat().st_size)


def _cut(part: Part, source: SourceSpec, target: int) -> Iterator[Part]:
    """Parts of about ``target`` bytes; the file whole where it cannot be cut."""
    if part.format == "jsonl" and Path(part.path).suffix not in COMPRESSED:
        count = max(1, -(-part.size // target))
        bounds = [part.size * i // count for i in range(count + 1)]
    elif part.format in ("parquet", "arrow"):
        columns, units = _parquet(part.path) if part.format == "parquet" else _arrow(part.path)
        for field in (source.text, *template_fields(part.domain)):
            if field not in columns and field.partition(".")[0] not in columns:
                raise UserError(
                    f"'{part.path}' has no field '{field}'"
                    f"{nearest(field, columns) or '; it has ' + ', '.join(columns)}"
                )
        bounds, size = [0], 0
        for i, unit in enumerate(units, start=1):
            size += unit
            if size >= target:
                bounds.append(i)
                size = 0
        if bounds[-1] < len(units) or not units:
            bounds.append(len(units))
    else:
        yield part
        return
    for start, stop in pairwise(bounds):
        size = part.size * (stop - start) // max(1, bounds[-1])
        yield replace(part, size=size, start=start, stop=stop)


def _parquet(path: str) -> tuple[list[str], list[int]]:
    """Columns, and the size of each row group."""
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            about = file.metadata
            sizes = [about.row_group(i).total_byte_size for i in range(about.num_row_groups)]
            return file.schema_arrow.names, sizes
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None


def _arrow(path: str) -> tuple[list[str], list[int]]:
    """Columns, and the size of each record batch."""
    import pyarrow as pa

    try:
        with pa.memory_map(path) as file, pa.ipc.open_stream(file) as stream:
            return stream.schema.names, [batch.nbytes for batch in stream]
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: str, error: Any) -> UserError:
    return UserError(f"cannot read '{path}': {str(error).splitlines()[0]}")


def _pack(source: int, parts: list[Part], target: int) -> Iterator[Piece]:
    """Consecutive parts, as long as they are a piece. A file of tokens is one: it is a shard."""
    waiting: list[Part] = []
    size = 0
    for part in parts:
        if waiting and (size + part.size > target or "tokens" in (part.format, waiting[0].format)):
            yield Piece(source, tuple(waiting))
            waiting, size = [], 0
        waiting.append(part)
        size += part.size
    yield Piece(source, tuple(waiting))
