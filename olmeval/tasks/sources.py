"""Rows from wherever they are: the pulled data, local files, Hugging Face data sets.

Each reader returns the rows (plain dictionaries, shared between callers: never changed) and the
provenance of what was read. Arrow, Parquet and JSONL files are read directly with pyarrow, which
takes milliseconds; ``datasets`` is imported only for a hub place.
"""

import gzip
import json
import os
import socket
import urllib.parse
import urllib.request
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from olmeval.errors import CorruptFileError, UserError
from olmeval.files import sha256_file
from olmeval.tasks.pull import find_pulled
from olmeval.tasks.schema import Place

Row = dict[str, Any]
UNCONDITIONAL_OFFSET = 1_000_000
PULL_HINT = "run 'olmeval data pull olmes'"


@dataclass(frozen=True)
class Rows:
    """What a place holds, and where it came from."""

    rows: tuple[Row, ...]
    provenance: dict[str, Any]


class Absent(UserError):
    """The place is not at hand on this machine; another one may be."""


def read_first(places: Sequence[Place], split: str, folder: Path, what: str) -> tuple[Rows, Place]:
    """The rows of the first place at hand.

    ``folder`` is where relative ``file`` places start; ``what`` names the task and split.
    Raises :class:`UserError` with every reason and what to run when no place is at hand.
    """
    reasons = []
    for place in places:
        try:
            return read_place(place, split, folder), place
        except Absent as reason:
            reasons.append(str(reason))
    raise Absent(f"no data for {what}: {'; '.join(reasons) or 'the task names no place'}")


def read_place(place: Place, split: str, folder: Path) -> Rows:
    """All rows of one place; raises :class:`Absent` or :class:`UserError`."""
    if place.requests is not None:
        path = pulled("oe_eval_tasks", place.requests) / "requests.jsonl.gz"
        return _local(path, "pulled requests", place.requests, _read_requests)
    if place.table is not None:
        path = pulled("hf_datasets", place.table)
        return _local(path, "pulled table", place.table, _read_arrow_folder)
    if place.file is not None:
        path = folder / place.file
        if not path.exists():
            raise Absent(f"'{path}' does not exist")
        return _local(path, "file", str(path), read_file)
    root = os.environ.get("OLMEVAL_DATA")
    if place.copy_ is not None:
        path = Path(root or "") / place.copy_
        if root is None or not path.exists():
            raise Absent(
                f"'{place.copy_}' is on no hub: get it from {place.origin} and put it below the"
                " folder that OLMEVAL_DATA names"
            )
        return _local(path, "local copy", place.copy_, read_file)
    if root is not None and (found := local_copy(Path(root), place, split)) is not None:
        return _local(found, "local copy", str(found.relative_to(root)), read_file)
    return _read_hub(place, split)


def local_copy(root: Path, place: Place, split: str) -> Path | None:
    """A person's own copy of a hub data set: ``<root>/<owner>/<name>[/<config>]/<split>.<ending>``.

    None when there is none; the endings are those of :func:`read_file`.
    """
    name = place.split or split
    folder = root / str(place.hub)
    for base in ([folder / place.config] if place.config else []) + [folder]:
        for ending in (".jsonl", ".jsonl.gz", ".parquet", ".arrow"):
            if (path := base / f"{name}{ending}").exists():
                return path
    return None


def pulled(kind: str, name: str) -> Path:
    """The folder ``name`` of the pulled data; raises :class:`Absent`."""
    root = find_pulled()
    if root is None:
        raise Absent(f"the benchmark data has not been pulled ({PULL_HINT})")
    path = root / kind / name
    if not path.exists():
        raise Absent(f"the pulled data has no '{kind}/{name}'")
    return path


def _local(path: Path, kind: str, name: str, reader: Any) -> Rows:
    files = sorted(path.glob("data-*.arrow")) if path.is_dir() else [path]
    stamps = tuple((str(f), f.stat().st_mtime_ns, f.stat().st_size) for f in files)
    provenance = {"kind": kind, "name": name, "sha256": _sha256(stamps)}
    return Rows(_cached(reader, path, stamps), provenance)


@lru_cache(maxsize=256)
def _sha256(stamps: tuple[tuple[str, int, int], ...]) -> str:
    digests = [sha256_file(Path(name)) for name, _, _ in stamps]
    return digests[0] if len(digests) == 1 else ",".join(digests)


@lru_cache(maxsize=64)
def _cached(reader: Any, path: Path, stamps: tuple[tuple[str, int, int], ...]) -> tuple[Row, ...]:
    # Part of the key, so that a file that changes is read again.
    del stamps
    return tuple(reader(path))


def read_file(path: Path) -> list[Row]:
    """The rows of a ``.jsonl``, ``.jsonl.gz``, ``.parquet`` or ``.arrow`` file.

    A ``.txt`` file is one row with the whole ``text``.
    """
    name = path.name
    if name.endswith((".jsonl", ".jsonl.gz")):
        return _read_jsonl(path)
    if name.endswith(".parquet"):
        return _table_rows(path, parquet=True)
    if name.endswith(".arrow"):
        return _table_rows(path, parquet=False)
    if name.endswith(".txt"):
        return [{"text": path.read_text(encoding="utf-8")}]
    raise UserError(f"'{path}': expected a .jsonl, .jsonl.gz, .parquet or .arrow file")


def _read_jsonl(path: Path) -> list[Row]:
    rows = []
    for number, line in enumerate(_lines(path), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise CorruptFileError(f"'{path}' line {number} is not valid JSON: {error}") from None
        if not isinstance(row, dict):
            raise UserError(f"'{path}' line {number}: expected an object with named fields")
        rows.append(row)
    if not rows:
        raise UserError(f"'{path}' holds no documents")
    return rows


def _lines(path: Path) -> list[bytes]:
    try:
        data = path.read_bytes()
        if path.suffix == ".gz":
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise CorruptFileError(f"cannot read '{path}': {error}; {PULL_HINT} again") from None
    return data.split(b"\n")


def _table_rows(path: Path, parquet: bool) -> list[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if parquet:
            table = pq.read_table(path)
        else:
            with pa.memory_map(str(path)) as source:
                try:
                    table = pa.ipc.open_stream(source).read_all()
                except pa.ArrowInvalid:
                    source.seek(0)
                    table = pa.ipc.open_file(source).read_all()
        rows: list[Row] = table.to_pylist()
    except (pa.ArrowInvalid, OSError) as error:
        kind = "Parquet" if parquet else "Arrow"
        raise CorruptFileError(f"'{path}' is not a valid {kind} file: {error}") from None
    return rows


def _read_arrow_folder(path: Path) -> list[Row]:
    files = sorted(path.glob("data-*.arrow"))
    if not files:
        raise Absent(f"'{path}' holds no Arrow file")
    return [row for file in files for row in _table_rows(file, parquet=False)]


def _read_requests(path: Path) -> list[Row]:
    """The documents inside rendered requests: the first conditioned request of each."""
    rows = []
    for line in _lines(path):
        # Most lines are further choices of a document already seen; do not parse those.
        if b'"idx": 0,' not in line:
            continue
        request = json.loads(line)
        if request["idx"] == 0 and request["doc_id"] < UNCONDITIONAL_OFFSET:
            rows.append(request["doc"])
    return rows


def read_requests(name: str) -> list[Row]:
    """Every rendered request of the pulled folder ``name``, as stored, in order."""
    path = pulled("oe_eval_tasks", name) / "requests.jsonl.gz"
    return [json.loads(line) for line in _lines(path) if line]


@lru_cache(maxsize=512)
def first_context(name: str) -> str:
    """The context of the first rendered request of the pulled folder ``name``."""
    path = pulled("oe_eval_tasks", name) / "requests.jsonl.gz"
    try:
        with gzip.open(path) as file:
            context: str = json.loads(file.readline())["request"]["context"]
    except (OSError, EOFError, zlib.error, json.JSONDecodeError, KeyError) as error:
        raise CorruptFileError(f"cannot read '{path}': {error}; {PULL_HINT} again") from None
    return context


def _read_hub(place: Place, split: str) -> Rows:
    name = str(place.hub)
    local = Path(name).expanduser()
    wanted = place.split or split
    provenance = {
        "kind": "hub",
        "name": name,
        "config": place.config,
        "split": wanted,
        "revision": place.revision or "unpinned",
    }
    from datasets import DatasetDict, load_dataset, load_from_disk

    offline = not (local.exists() or _hub_answers())
    try:
        if (local / "dataset_dict.json").exists() or (local / "state.json").exists():
            data = load_from_disk(str(local))
            if isinstance(data, DatasetDict):
                data = data[wanted]
        else:
            with _hub_offline() if offline else nullcontext():
                data = load_dataset(name, place.config, split=wanted, revision=place.revision)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        why = "no connection to the hub" if offline else first
        raise Absent(f"the data set '{name}' could not be loaded: {why}") from None
    provenance["fingerprint"] = data._fingerprint
    return Rows(tuple(data), provenance)


@contextmanager
def _hub_offline() -> Iterator[None]:
    """Only local copies are read inside: without this, every look-up retries for 20 seconds."""
    import datasets
    import huggingface_hub

    places = [(datasets.config, "HF_HUB_OFFLINE"), (huggingface_hub.constants, "HF_HUB_OFFLINE")]
    before = [getattr(module, name) for module, name in places]
    for module, name in places:
        setattr(module, name, True)
    try:
        yield
    finally:
        for (module, name), value in zip(places, before, strict=True):
            setattr(module, name, value)


@lru_cache(maxsize=1)
def _hub_answers() -> bool:
    """Whether the hub can be connected to; a proxy is trusted to know the way."""
    from huggingface_hub import constants

    if urllib.request.getproxies():
        return True
    address = urllib.parse.urlsplit(constants.ENDPOINT)
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        socket.create_connection((address.hostname, port), timeout=5).close()
    except OSError:
        return False
    return True
