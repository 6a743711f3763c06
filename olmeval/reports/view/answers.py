"""The requests of a few documents and their answers, out of files that hold millions.

Parquet keeps the least and greatest value of every column of a row group, of ``uses`` and of keys
too; only groups that can hold what is wanted are read.
"""

import json
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from olmeval.errors import CorruptFileError
from olmeval.requests import Request, Sampling
from olmeval.results.answers import Answers, Response, schema

CONDITIONED, UNCONDITIONAL = "conditioned", "unconditional"


@dataclass(frozen=True)
class Stored:
    """One request of a document, as ``requests.parquet`` has it."""

    doc_id: int
    choice: int
    role: str
    key: bytes | None
    request: Request
    context_tokens: int
    continuation_tokens: int
    truncated: bool
    seam: bool


def read_requests(
    path: Path, task: str, docs: Iterable[int], *, first: bool = False
) -> list[Stored]:
    """The requests of ``docs`` in ``task``, by document, role and choice.

    ``first``: of every document the first choice's alone. Raises :class:`CorruptFileError`.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    wanted = sorted(set(docs))
    found: list[Stored] = []
    try:
        with pq.ParquetFile(path, read_dictionary=["context"]) as file:
            columns = {
                file.metadata.row_group(0).column(k).path_in_schema: k
                for k in range(file.metadata.num_columns if file.metadata.num_row_groups else 0)
            }
            for group in range(file.metadata.num_row_groups):
                about = file.metadata.row_group(group)
                if not _may_hold(about, columns, task, wanted):
                    continue
                uses = file.read_row_group(group, columns=["uses"])["uses"].combine_chunks()
                of_use = uses.flatten()
                mask = pc.and_(
                    pc.equal(of_use.field("task"), task),
                    pc.is_in(of_use.field("doc_id"), pa.array(wanted, pa.int64())),
                )
                if first:
                    mask = pc.and_(mask, pc.equal(of_use.field("choice"), 0))
                    mask = pc.and_(mask, pc.equal(of_use.field("role"), CONDITIONED))
                rows = pc.list_parent_indices(uses).filter(mask)
                if not len(rows):
                    continue
                taken = file.read_row_group(group).drop_columns(["uses"]).take(rows).to_pylist()
                places = of_use.filter(mask).to_pylist()
                found += [_stored(row, use) for row, use in zip(taken, places, strict=True)]
    except (pa.ArrowException, OSError, KeyError) as error:
        raise _damaged(path, error) from None
    return sorted(found, key=lambda s: (s.doc_id, s.role, s.choice))


def read_responses(path: Path, keys: Sequence[bytes]) -> dict[bytes, Response]:
    """The answers that ``responses.parquet`` has to ``keys``. Raises :class:`CorruptFileError`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    found: dict[bytes, Response] = {}
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            about = file.metadata
            if not about.num_rows:
                return {}
            # Sorted by key: a key lies in the last group that does not begin after it.
            begins = [
                bytes(about.row_group(k).column(0).statistics.min)
                for k in range(about.num_row_groups)
            ]
            groups: dict[int, list[bytes]] = {}
            for key in keys:
                groups.setdefault(max(bisect_right(begins, key) - 1, 0), []).append(key)
            for group, inside in sorted(groups.items()):
                answers = Answers.from_table(file.read_row_group(group).cast(schema()))
                rows = answers.find(inside).tolist()
                found |= {
                    key: answers.response(row)
                    for key, row in zip(inside, rows, strict=True)
                    if row >= 0
                }
    except (pa.ArrowException, OSError, ValueError, AttributeError) as error:
        raise _damaged(path, error) from None
    return found


def _may_hold(about: Any, columns: dict[str, int], task: str, docs: list[int]) -> bool:
    """Whether a row group's statistics allow one of ``docs`` (sorted) of ``task``."""
    ranges = []
    for name in ("task", "doc_id"):
        statistics = about.column(columns[f"uses.list.element.{name}"]).statistics
        if statistics is None or not statistics.has_min_max:
            return True
        ranges.append((statistics.min, statistics.max))
    (low, high), (first, last) = ranges
    at = int(np.searchsorted(docs, first))
    return bool(low <= task <= high) and at < len(docs) and docs[at] <= last


def _stored(row: dict[str, Any], use: dict[str, Any]) -> Stored:
    sampling = json.loads(row["sampling"]) if row.get("sampling") else None
    if sampling is not None:
        sampling = Sampling(**{**sampling, "stop": tuple(sampling["stop"])})
    return Stored(
        doc_id=use["doc_id"],
        choice=use["choice"],
        role=use["role"],
        key=row["key"],
        request=Request(row["kind"], row["context"], row["continuation"], sampling),
        context_tokens=row["context_tokens"],
        continuation_tokens=row["continuation_tokens"],
        truncated=bool(row.get("truncated")),
        seam=bool(row.get("seam")),
    )


def _damaged(path: Path, error: Exception) -> CorruptFileError:
    first = (str(error).splitlines() or [type(error).__name__])[0]
    return CorruptFileError(
        f"'{path}' cannot be read ({first}); delete it and give the run's `olmeval run` command "
        "again"
    )
