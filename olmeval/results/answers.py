"""Answers of a model in columns, and the Parquet file that a finished run keeps of them.

A run asks up to a million questions: an object per answer would cost more memory and time than
the numbers. Every answer has a key, a 16-byte hash of exactly what was asked.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from olmeval.errors import CorruptFileError, UserError
from olmeval.files import atomic_path

if TYPE_CHECKING:
    import pyarrow as pa

KEY = np.dtype("V16")
Keys = NDArray[np.void]
Rows = NDArray[np.int64]
DIGEST = b"answers_sha256"
# Rows that are read together: few enough that one answer is found in milliseconds.
ROW_GROUP = 4096


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


@dataclass(frozen=True)
class Answers:
    """N answers.

    ``keys`` [N] 16 bytes each; ``logprob`` [N] natural log, summed over the continuation or over
    all samples; ``tokens`` [N] scored or generated; ``greedy`` [N]: every scored token was the arg
    max; ``token_logprobs`` float32, those of answer ``i`` at ``offsets[i]:offsets[i + 1]``, none
    for generations; ``samples`` [N]: JSON list of [text, tokens, logprob, finish], None where
    nothing was generated.
    """

    keys: Keys
    logprob: NDArray[np.float64]
    tokens: NDArray[np.int32]
    greedy: NDArray[np.bool_]
    token_logprobs: NDArray[np.float32]
    offsets: Rows
    samples: NDArray[np.object_]

    def __len__(self) -> int:
        return len(self.keys)

    @classmethod
    def empty(cls) -> "Answers":
        return cls.generated([], [])

    @classmethod
    def scored(
        cls,
        keys: Sequence[bytes] | Keys,
        offsets: Rows,
        token_logprobs: NDArray[np.float32],
        greedy: NDArray[np.bool_],
    ) -> "Answers":
        """Answers to N scored continuations.

        ``token_logprobs`` and ``greedy`` [T] hold one entry a scored token; ``offsets`` [N + 1]
        begins at 0 and ends at T. A continuation's log-probability is the sum of its tokens' in
        float64; a nan among them makes it nan.
        """
        counts = np.diff(offsets)
        # reduceat gives an empty stretch the value that follows it, so it sees the full ones only.
        full = counts > 0
        begins = offsets[:-1][full]
        logprob, every = np.zeros(len(counts)), np.ones(len(counts), np.bool_)
        if len(begins):
            with np.errstate(invalid="ignore"):  # inf - inf is nan, which the caller looks for
                logprob[full] = np.add.reduceat(token_logprobs.astype(np.float64), begins)
            every[full] = np.logical_and.reduceat(greedy, begins)
        return cls(
            as_keys(keys),
            logprob,
            counts.astype(np.int32),
            every,
            np.asarray(token_logprobs, np.float32),
            np.asarray(offsets, np.int64),
            np.full(len(counts), None, np.object_),
        )

    @classmethod
    def generated(
        cls, keys: Sequence[bytes] | Keys, samples: Sequence[Sequence[Sample]]
    ) -> "Answers":
        """Answers to N prompts, each with its samples."""
        n = len(samples)
        texts = np.full(n, None, np.object_)
        for i, group in enumerate(samples):
            # ASCII, since a server may send half of a surrogate pair, which UTF-8 has not.
            texts[i] = json.dumps([astuple(s) for s in group])
        return cls(
            as_keys(keys),
            np.array([sum(s.logprob for s in group) for group in samples], np.float64),
            np.array([sum(s.tokens for s in group) for group in samples], np.int32),
            np.zeros(n, np.bool_),
            np.empty(0, np.float32),
            np.zeros(n + 1, np.int64),
            texts,
        )

    @classmethod
    def concat(cls, parts: Iterable["Answers"]) -> "Answers":
        """All answers of ``parts``, in order."""
        items = [part for part in parts if len(part)]
        if not items:
            return cls.empty()
        if len(items) == 1:
            return items[0]
        counts = np.concatenate([np.diff(p.offsets) for p in items])
        return cls(
            np.concatenate([p.keys for p in items]),
            np.concatenate([p.logprob for p in items]),
            np.concatenate([p.tokens for p in items]),
            np.concatenate([p.greedy for p in items]),
            np.concatenate([p.token_logprobs for p in items]),
            _starts(counts),
            np.concatenate([p.samples for p in items]),
        )

    @cached_property
    def _index(self) -> tuple[Rows, NDArray[np.bytes_]]:
        """The stable order of the keys, and the keys in it."""
        keys = _sortable(self.keys)
        order = np.argsort(keys, kind="stable").astype(np.int64)
        return order, keys[order]

    def find(self, keys: Sequence[bytes] | Keys) -> Rows:
        """The row of each key [K]: the first that has it, or -1."""
        wanted = _sortable(as_keys(keys))
        if not len(self) or not len(wanted):
            return np.full(len(wanted), -1, np.int64)
        order, ordered = self._index
        at = np.minimum(np.searchsorted(ordered, wanted), len(self) - 1)
        return np.where(ordered[at] == wanted, order[at], -1)

    def take(self, rows: Rows | NDArray[np.bool_]) -> "Answers":
        """The answers at ``rows`` (numbers or a mask), in their order."""
        if rows.dtype == np.bool_:
            rows = np.flatnonzero(rows)
        counts = np.diff(self.offsets)[rows]
        offsets = _starts(counts)
        source = np.repeat(self.offsets[:-1][rows] - offsets[:-1], counts)
        source += np.arange(offsets[-1])
        return Answers(
            self.keys[rows],
            self.logprob[rows],
            self.tokens[rows],
            self.greedy[rows],
            self.token_logprobs[source],
            offsets,
            self.samples[rows],
        )

    def distinct(self) -> "Answers":
        """Without the later ones of answers that share a key."""
        order, ordered = self._index
        first = np.ones(len(self), np.bool_)
        first[1:] = ordered[1:] != ordered[:-1]
        return self if first.all() else self.take(np.sort(order[first]))

    def response(self, row: int) -> Response:
        """One answer as an object."""
        text = self.samples[row]
        return Response(
            self.keys[row].tobytes(),
            float(self.logprob[row]),
            int(self.tokens[row]),
            bool(self.greedy[row]),
            None if text else self.token_logprobs[self.offsets[row] : self.offsets[row + 1]],
            tuple(Sample(*s) for s in json.loads(text)) if text else (),
        )

    def to_batch(self) -> "pa.RecordBatch":
        """As an Arrow batch of the schema :func:`schema`."""
        import pyarrow as pa

        keys = pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(16), len(self), [None, pa.py_buffer(np.ascontiguousarray(self.keys))]
        )
        scores = pa.LargeListArray.from_arrays(self.offsets, pa.array(self.token_logprobs))
        columns = [
            keys,
            pa.array(self.logprob),
            pa.array(self.tokens),
            pa.array(self.greedy),
            scores.cast(schema().field("token_logprobs").type),
            pa.array(self.samples, pa.large_string()),
        ]
        return pa.RecordBatch.from_arrays(columns, schema=schema())

    @classmethod
    def from_table(cls, table: "pa.Table") -> "Answers":
        """From an Arrow table of the schema :func:`schema`."""
        columns = {name: table[name].combine_chunks() for name in table.column_names}
        keys, scores = columns["key"], columns["token_logprobs"]
        offsets = scores.offsets.to_numpy()
        return cls(
            # A slice shares the buffer of the whole.
            np.frombuffer(keys.buffers()[1] or b"", KEY)[keys.offset : keys.offset + len(keys)],
            columns["logprob"].to_numpy(),
            columns["tokens"].to_numpy(),
            columns["greedy"].to_numpy(zero_copy_only=False),
            scores.flatten().to_numpy(),
            offsets - offsets[0],
            columns["samples"].to_numpy(zero_copy_only=False),
        )


@cache
def schema() -> "pa.Schema":
    """The Arrow schema of answers, in segments and in Parquet."""
    import pyarrow as pa

    return pa.schema(
        [
            pa.field("key", pa.binary(16), nullable=False),
            pa.field("logprob", pa.float64(), nullable=False),
            pa.field("tokens", pa.int32(), nullable=False),
            pa.field("greedy", pa.bool_(), nullable=False),
            pa.field(
                "token_logprobs",
                pa.large_list(pa.field("item", pa.float32(), nullable=False)),
                nullable=False,
            ),
            pa.field("samples", pa.large_string()),
        ]
    )


def as_keys(keys: Sequence[bytes] | Keys) -> Keys:
    """Keys of 16 bytes each as an array [N]."""
    return keys if isinstance(keys, np.ndarray) else np.frombuffer(b"".join(keys), KEY)


def write_answers(path: Path, answers: Answers) -> None:
    """Writes Parquet, sorted by key and atomically; equal answers give equal bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    answers = answers.distinct()
    answers = answers.take(answers._index[0])
    table = pa.Table.from_batches([answers.to_batch()])
    table = table.replace_schema_metadata({DIGEST: _digest(answers)})
    with atomic_path(path) as tmp:
        # Keys are sorted, so that a reader of few answers needs few row groups; a dictionary of
        # values that are all different costs room.
        pq.write_table(
            table, tmp, compression="zstd", row_group_size=ROW_GROUP, write_page_checksum=True,
            use_dictionary=["tokens", "samples"],
        )  # fmt: skip


def read_answers(path: Path) -> Answers:
    """Reads what :func:`write_answers` wrote, sorted by key.

    Raises :class:`CorruptFileError` when the values are not those that were written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
        if table.schema.names != schema().names:
            raise ValueError(f"its columns are {', '.join(table.schema.names)}")
        answers = Answers.from_table(table.cast(schema()))
        if (table.schema.metadata or {}).get(DIGEST) != _digest(answers):
            raise ValueError("its values do not agree with their checksum")
    except FileNotFoundError:
        raise UserError(
            f"'{path}' does not exist; give the run's `olmeval run` command again"
        ) from None
    except (pa.ArrowException, OSError, ValueError, TypeError, MemoryError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise CorruptFileError(
            f"'{path}' is damaged ({first}); delete it and give the run's `olmeval run` command "
            "again"
        ) from None
    return answers


def _digest(answers: Answers) -> bytes:
    """Hex SHA-256 over all values: Parquet's own checksums leave out its footer."""
    digest = hashlib.sha256()
    for column in _columns(answers):
        digest.update(np.ascontiguousarray(column).view(np.uint8).data)
    digest.update("\n".join(text or "" for text in answers.samples).encode())
    return digest.hexdigest().encode()


def _columns(answers: Answers) -> Iterator[NDArray[Any]]:
    yield np.array([len(answers)], "<i8")
    yield answers.keys
    yield answers.logprob.astype("<f8", copy=False)
    yield answers.tokens.astype("<i4", copy=False)
    yield answers.greedy
    yield answers.offsets.astype("<i8", copy=False)
    yield answers.token_logprobs.astype("<f4", copy=False)


def _sortable(keys: Keys) -> NDArray[np.bytes_]:
    # Void has no fast search; bytes of a fixed width compare in the same order.
    return keys.view("S16")


def _starts(counts: NDArray[np.integer[Any]]) -> Rows:
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
