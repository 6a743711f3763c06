"""Writing token shards: documents in, checked files out."""

import hashlib
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from olmeval.errors import UserError
from olmeval.files import atomic_path
from olmeval.trainer.shards import DTYPES, OFFSET, Shard, dtype_for, inside

Tokens = Sequence[int] | npt.NDArray[Any]

BLOCK = 1 << 16  # tokens checked and written at a time; a build may have a thousand domains open
SHARD_TOKENS = 1 << 28


def write_domain(
    root: Path,
    domain: str,
    documents: Iterable[Tokens],
    *,
    vocab_size: int,
    eos_id: int,
    doc_bytes: Iterable[int] | None = None,
    shard_tokens: int = SHARD_TOKENS,
) -> tuple[Shard, ...]:
    """Writes ``documents`` (token ids, with or without the final EOS) as shards of ``domain``.

    ``doc_bytes`` gives each document's length in UTF-8 bytes, in the same order. See
    :class:`DomainWriter`; raises :class:`UserError` when there is no document, too.
    """
    with DomainWriter(
        root, domain, vocab_size=vocab_size, eos_id=eos_id, shard_tokens=shard_tokens
    ) as writer:
        if doc_bytes is None:
            for document in documents:
                writer.add(document)
        else:
            for document, size in zip(documents, doc_bytes, strict=True):
                writer.add(document, size)
    if not writer.shards:
        raise UserError(f"domain '{domain}' is empty: it needs at least one document")
    return tuple(writer.shards)


class DomainWriter:
    """Appends documents to shards of one domain; a context manager, whose end completes the last.

    A shard is closed at the first document end at or after ``shard_tokens`` and appears whole or
    not at all; it is named by ``prefix`` and a number, so that the same documents give the same
    files. Raises :class:`UserError` naming domain and document for an empty document, an id beyond
    ``vocab_size`` or an EOS inside a document.
    """

    def __init__(
        self,
        root: Path,
        domain: str,
        *,
        vocab_size: int,
        eos_id: int,
        prefix: str = "",
        shard_tokens: int = SHARD_TOKENS,
    ):
        try:
            inside(domain)
        except ValueError as error:
            raise UserError(f"domain {error}") from None
        self.shards: list[Shard] = []
        self._root, self._domain, self._prefix = root, domain, prefix
        self._vocab_size, self._eos_id = vocab_size, eos_id
        self._shard_tokens = shard_tokens
        self._written = 0
        self._begin()

    def _begin(self) -> None:
        self._open = ExitStack()  # the files of a shard, from its first block on
        self._out: IO[bytes] | None = None
        self._ends: list[npt.NDArray[np.int64]] = []
        self._tokens = 0
        self._bytes: int | None = 0
        self._sha256 = hashlib.sha256()
        self._block: list[npt.NDArray[Any]] = []
        self._block_tokens = 0

    def __enter__(self) -> "DomainWriter":
        return self

    def __exit__(self, *error: Any) -> None:
        if error[0] is not None:
            self._open.__exit__(*error)
        elif self._block or self._tokens:
            self._finish()

    def add(self, document: Tokens, size: int | None = None) -> None:
        """Appends one document, whose text has ``size`` UTF-8 bytes."""
        self._block.append(np.asarray(document, dtype=np.int64))
        self._block_tokens += len(document) + 1
        self._bytes = None if size is None or self._bytes is None else self._bytes + size
        if self._block_tokens >= min(BLOCK, self._shard_tokens - self._tokens):
            self._flush()
        if self._tokens >= self._shard_tokens:
            self._finish()

    def _finish(self) -> None:
        """Completes the shard."""
        path = self._path()
        with self._open:
            self._flush()
            offsets = np.concatenate(self._ends).astype(OFFSET)
            with atomic_path(path.with_suffix(".idx")) as tmp:
                offsets.tofile(tmp)
        shard = Shard(
            file=path.relative_to(self._root).as_posix(),
            dtype=dtype_for(self._vocab_size),
            tokens=self._tokens,
            docs=len(offsets),
            bytes=self._bytes,
            sha256=self._sha256.hexdigest(),
        )
        self.shards.append(shard)
        self._begin()

    def _path(self) -> Path:
        return self._root / self._domain / f"{self._prefix}{len(self.shards):05d}.bin"

    def _flush(self) -> None:
        """Checks and writes the documents that wait for it."""
        if not self._block:
            return
        ids, ends = self._checked()
        if self._out is None:
            tmp = self._open.enter_context(atomic_path(self._path()))
            self._out = self._open.enter_context(tmp.open("wb"))
        data = ids.astype(DTYPES[dtype_for(self._vocab_size)]).tobytes()
        self._out.write(data)
        self._sha256.update(data)
        self._ends.append(ends + self._tokens)
        self._tokens += len(ids)
        self._written += len(ends)
        self._block, self._block_tokens = [], 0

    def _checked(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The waiting documents as one array, each with its EOS, and where each ends."""
        eos = np.array([self._eos_id])
        parts: list[npt.NDArray[np.int64]] = []
        lengths = np.empty(len(self._block), dtype=np.int64)
        for i, ids in enumerate(self._block):
            if len(ids) == 0 or (len(ids) == 1 and ids[0] == self._eos_id):
                raise UserError(f"{self._name(i)} is empty")
            parts.append(ids)
            lengths[i] = len(ids)
            if ids[-1] != self._eos_id:
                parts.append(eos)
                lengths[i] += 1
        ids = np.concatenate(parts)
        ends = np.cumsum(lengths)
        outside = np.flatnonzero((ids < 0) | (ids >= self._vocab_size))
        if len(outside):
            bad = outside[0]
            raise UserError(
                f"{self._name(int(np.searchsorted(ends, bad, side='right')))} holds token id "
                f"{ids[bad]}, beyond the vocabulary of {self._vocab_size}"
            )
        found = np.flatnonzero(ids == self._eos_id) + 1
        if len(found) != len(ends):
            inside = found[~np.isin(found, ends)][0] - 1
            i = int(np.searchsorted(ends, inside, side="right"))
            raise UserError(
                f"{self._name(i)} holds the EOS token {self._eos_id} before its end; "
                "encode text so that it cannot produce special tokens"
            )
        return ids, ends

    def _name(self, i: int) -> str:
        return f"document {self._written + i} of domain '{self._domain}'"
