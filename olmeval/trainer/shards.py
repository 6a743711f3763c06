"""Token shards: the one on-disk format that the trainer reads, and its verification.

A data folder holds raw token arrays, one folder a domain, and a manifest that says what they are::

    <domain>/<shard>.bin   little-endian uint16 or uint32 tokens; every document ends with EOS
    <domain>/<shard>.idx   little-endian uint64: where each document ends, in tokens, EOS included
    manifest.json          per shard: dtype, tokens, documents, UTF-8 bytes, SHA-256; the tokenizer

Flat arrays are read through memory maps, so a batch costs one copy and a corpus costs no memory.
A shard is never trusted: sizes are compared with the manifest at every start, contents on demand.
The EOS token never occurs inside a document, so a lost ``.idx`` is found again by a scan.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from pathlib import Path, PurePosixPath
from typing import IO, Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator, Field, ValidationError, model_validator

from olmeval.config import Config
from olmeval.errors import CorruptFileError, UserError, nearest
from olmeval.files import atomic_path, read_json, sha256_file, write_json

MANIFEST = "manifest.json"
DTYPES: dict[str, np.dtype[Any]] = {"uint16": np.dtype("<u2"), "uint32": np.dtype("<u4")}
OFFSET = np.dtype("<u8")
# Documents are checked and written in blocks of this many tokens: few calls, little memory.
BLOCK = 1 << 20

Tokens = Sequence[int] | npt.NDArray[Any]


def _inside(path: str) -> str:
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\\" in path:
        raise ValueError(f"'{path}' must be a relative path inside the data folder")
    return path


RelativePath = Annotated[str, AfterValidator(_inside)]


class Shard(Config):
    """One token file, as the manifest describes it. ``bytes`` (UTF-8 text) is None if unknown."""

    file: RelativePath
    dtype: Literal["uint16", "uint32"]
    tokens: int = Field(gt=0)
    docs: int = Field(gt=0)
    bytes: int | None = Field(ge=0)
    sha256: str


class TokenizerInfo(Config):
    """The tokenizer of the shards: a name, the SHA-256 of ``<path>/tokenizer.json``, its folder."""

    id: str
    sha256: str
    path: RelativePath


class Manifest(Config):
    """What a data folder holds. ``bos_id`` is None where documents start without a BOS token."""

    version: Literal[1] = 1
    tokenizer: TokenizerInfo
    vocab_size: int = Field(gt=0)
    eos_id: int = Field(ge=0)
    bos_id: int | None = None
    domains: dict[str, tuple[Shard, ...]] = Field(min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> "Manifest":
        for name, token in (("eos_id", self.eos_id), ("bos_id", self.bos_id)):
            if token is not None and token >= self.vocab_size:
                raise ValueError(f"{name} {token} is beyond the vocabulary of {self.vocab_size}")
        for domain, shards in self.domains.items():
            _inside(domain)
            if not shards:
                raise ValueError(f"domain '{domain}' has no shards")
            for shard in shards:
                if shard.dtype == "uint16" and self.vocab_size > 1 << 16:
                    raise ValueError(
                        f"'{shard.file}' is uint16, too narrow for {self.vocab_size} tokens"
                    )
        return self

    def shards(self, domain: str) -> tuple[Shard, ...]:
        """The shards of a domain; :class:`UserError` with the nearest names if there is none."""
        if domain not in self.domains:
            raise UserError(f"unknown domain '{domain}'{nearest(domain, self.domains)}")
        return self.domains[domain]

    def tokens(self, domain: str) -> int:
        """Number of tokens of a domain, EOS included."""
        return sum(shard.tokens for shard in self.shards(domain))


def dtype_for(vocab_size: int) -> Literal["uint16", "uint32"]:
    """The narrowest type that holds every token id."""
    return "uint16" if vocab_size <= 1 << 16 else "uint32"


def write_domain(
    root: Path,
    domain: str,
    documents: Iterable[Tokens],
    *,
    vocab_size: int,
    eos_id: int,
    doc_bytes: Iterable[int] | None = None,
    shard_tokens: int = 1 << 28,
) -> tuple[Shard, ...]:
    """Writes ``documents`` (token ids, with or without the final EOS) as shards of ``domain``.

    ``doc_bytes`` gives each document's length in UTF-8 bytes, in the same order. A shard is closed
    at the first document end at or after ``shard_tokens``; names are consecutive numbers, so the
    same documents give the same files. Raises :class:`UserError` naming domain and document for an
    empty document, an id beyond ``vocab_size`` or an EOS inside a document.
    """
    try:
        _inside(domain)
    except ValueError as error:
        raise UserError(f"domain {error}") from None
    pairs: Iterator[tuple[Tokens, int | None]]
    if doc_bytes is None:
        pairs = zip(documents, repeat(None))
    else:
        pairs = zip(documents, doc_bytes, strict=True)
    writer = _Writer(domain, vocab_size, eos_id)
    shards: list[Shard] = []
    pending = next(pairs, None)
    while pending is not None:
        file = f"{domain}/{len(shards):05d}.bin"
        path = root / file
        with atomic_path(path) as tmp, atomic_path(path.with_suffix(".idx")) as tmp_idx:
            ends: list[npt.NDArray[Any]] = []
            tokens, size = 0, 0
            with tmp.open("wb") as out:
                while pending is not None and tokens < shard_tokens:
                    block: list[Tokens] = []
                    block_tokens = 0
                    while pending is not None and block_tokens < BLOCK:
                        block.append(pending[0])
                        block_tokens += len(pending[0]) + 1
                        size += pending[1] or 0
                        pending = next(pairs, None)
                        if tokens + block_tokens >= shard_tokens:
                            break
                    block_ends = writer.write(out, block)
                    ends.append(block_ends + tokens)
                    tokens += int(block_ends[-1])
            offsets = np.concatenate(ends).astype(OFFSET)
            offsets.tofile(tmp_idx)
        shards.append(
            Shard(
                file=file,
                dtype=dtype_for(vocab_size),
                tokens=tokens,
                docs=len(offsets),
                bytes=None if doc_bytes is None else size,
                sha256=sha256_file(path),
            )
        )
    if not shards:
        raise UserError(f"domain '{domain}' is empty: it needs at least one document")
    return tuple(shards)


class _Writer:
    """Checks and writes blocks of documents of one domain; counts them for messages."""

    def __init__(self, domain: str, vocab_size: int, eos_id: int):
        self.domain, self.vocab_size, self.eos_id = domain, vocab_size, eos_id
        self.dtype = DTYPES[dtype_for(vocab_size)]
        self.written = 0

    def write(self, out: IO[bytes], block: Sequence[Tokens]) -> npt.NDArray[np.int64]:
        """Appends documents to ``out``; returns where each ends, from the start of the block."""
        eos = np.array([self.eos_id], dtype=np.int64)
        parts: list[npt.NDArray[np.int64]] = []
        lengths = np.empty(len(block), dtype=np.int64)
        for i, document in enumerate(block):
            ids = np.asarray(document, dtype=np.int64)
            if len(ids) == 0 or (len(ids) == 1 and ids[0] == self.eos_id):
                raise UserError(f"{self._name(i)} is empty")
            parts.append(ids)
            lengths[i] = len(ids)
            if ids[-1] != self.eos_id:
                parts.append(eos)
                lengths[i] += 1
        ids = np.concatenate(parts)
        ends = np.cumsum(lengths)
        outside = np.flatnonzero((ids < 0) | (ids >= self.vocab_size))
        if len(outside):
            bad = outside[0]
            raise UserError(
                f"{self._name(int(np.searchsorted(ends, bad, side='right')))} holds token id "
                f"{ids[bad]}, beyond the vocabulary of {self.vocab_size}"
            )
        found = np.flatnonzero(ids == self.eos_id) + 1
        if len(found) != len(ends):
            inside = found[~np.isin(found, ends)][0] - 1
            i = int(np.searchsorted(ends, inside, side="right"))
            raise UserError(
                f"{self._name(i)} holds the EOS token {self.eos_id} before its end; "
                "encode text so that it cannot produce special tokens"
            )
        ids.astype(self.dtype).tofile(out)
        self.written += len(block)
        return ends

    def _name(self, i: int) -> str:
        return f"document {self.written + i} of domain '{self.domain}'"


def write_manifest(root: Path, manifest: Manifest) -> None:
    """Writes ``root/manifest.json``; do it last, so that a folder without one is unfinished."""
    write_json(root / MANIFEST, manifest.model_dump())


def load_manifest(root: Path, verify: Literal["size", "hash"] = "size") -> Manifest:
    """Reads and verifies a data folder.

    ``size`` compares every file's presence, size and last token with the manifest (milliseconds);
    ``hash`` also reads every byte: SHA-256, token ids within the vocabulary, document ends.
    Raises :class:`UserError` that names the file at fault.
    """
    path = root / MANIFEST
    value = read_json(path)
    try:
        manifest = Manifest.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise CorruptFileError(f"'{path}': {f'{key}: ' if key else ''}{message}") from None
    tokenizer = root / manifest.tokenizer.path / "tokenizer.json"
    if not tokenizer.is_file():
        raise CorruptFileError(f"'{tokenizer}' is missing, though '{path}' lists it")
    if verify == "hash" and sha256_file(tokenizer) != manifest.tokenizer.sha256:
        raise CorruptFileError(f"'{tokenizer}' is not the tokenizer that '{path}' was built with")
    for shards in manifest.domains.values():
        for shard in shards:
            _verify(root, manifest, shard, contents=verify == "hash")
    return manifest


def open_domain(root: Path, manifest: Manifest, domain: str) -> list[np.memmap[Any, Any]]:
    """Memory maps of a domain's shards, each a flat array of tokens."""
    return [open_tokens(root, shard) for shard in manifest.shards(domain)]


def open_tokens(root: Path, shard: Shard) -> np.memmap[Any, Any]:
    """Memory map of one shard; a ``.npy`` file may be raw or carry a numpy header."""
    path = root / shard.file
    dtype = DTYPES[shard.dtype]
    try:
        if _has_numpy_header(path):
            array: np.memmap[Any, Any] = np.load(path, mmap_mode="r")
        else:
            array = np.memmap(path, dtype=dtype, mode="r")
    except (OSError, ValueError) as error:
        raise CorruptFileError(f"cannot map '{path}': {error}") from None
    if array.dtype != dtype or array.ndim != 1:
        raise CorruptFileError(
            f"'{path}' holds {array.dtype} of shape {array.shape}, "
            f"though the manifest says flat {shard.dtype}"
        )
    return array


def document_ends(root: Path, shard: Shard, eos_id: int) -> npt.NDArray[np.uint64]:
    """Where each document of a shard ends, in tokens, from ``.idx`` or else by a scan for EOS."""
    path = (root / shard.file).with_suffix(".idx")
    if path.is_file():
        return np.fromfile(path, dtype=OFFSET)
    return (np.flatnonzero(open_tokens(root, shard) == eos_id) + 1).astype(OFFSET)


def _has_numpy_header(path: Path) -> bool:
    # dolma writes headerless arrays into files named .npy, so the name alone does not tell.
    if path.suffix != ".npy":
        return False
    with path.open("rb") as file:
        return file.read(6) == b"\x93NUMPY"


def _verify(root: Path, manifest: Manifest, shard: Shard, contents: bool) -> None:
    path = root / shard.file
    if not path.is_file():
        raise CorruptFileError(f"'{path}' is missing, though the manifest lists it")
    size, itemsize = path.stat().st_size, DTYPES[shard.dtype].itemsize
    if not _has_numpy_header(path) and size != shard.tokens * itemsize:
        other = next(name for name in DTYPES if name != shard.dtype)
        if size == shard.tokens * DTYPES[other].itemsize:
            raise CorruptFileError(f"'{path}' is {other}, though the manifest says {shard.dtype}")
        state = "truncated" if size < shard.tokens * itemsize else "too long"
        raise CorruptFileError(
            f"'{path}' is {state}: {size} bytes, though the manifest says {shard.tokens} tokens of "
            f"{shard.dtype} ({shard.tokens * itemsize} bytes)"
        )
    tokens = open_tokens(root, shard)
    if len(tokens) != shard.tokens:
        raise CorruptFileError(
            f"'{path}' holds {len(tokens)} tokens, though the manifest says {shard.tokens}"
        )
    if tokens[-1] != manifest.eos_id:
        raise CorruptFileError(f"'{path}' does not end with the EOS token {manifest.eos_id}")
    index = path.with_suffix(".idx")
    if index.is_file() and index.stat().st_size != shard.docs * OFFSET.itemsize:
        raise CorruptFileError(
            f"'{index}' has {index.stat().st_size} bytes, though the manifest says {shard.docs} "
            f"documents ({shard.docs * OFFSET.itemsize} bytes)"
        )
    if contents:
        _verify_contents(path, tokens, manifest, shard, document_ends(root, shard, manifest.eos_id))


def _verify_contents(
    path: Path,
    tokens: npt.NDArray[Any],
    manifest: Manifest,
    shard: Shard,
    ends: npt.NDArray[np.uint64],
) -> None:
    if sha256_file(path) != shard.sha256:
        raise CorruptFileError(f"'{path}' is corrupt: its SHA-256 is not the manifest's")
    docs = 0
    for start in range(0, len(tokens), BLOCK):
        block = np.asarray(tokens[start : start + BLOCK])
        if int(block.max()) >= manifest.vocab_size:
            raise CorruptFileError(
                f"'{path}' holds token id {int(block.max())}, beyond the vocabulary of "
                f"{manifest.vocab_size}"
            )
        found = np.flatnonzero(block == manifest.eos_id) + 1 + start
        if not np.array_equal(found, ends[docs : docs + len(found)]):
            raise CorruptFileError(
                f"'{path.with_suffix('.idx')}' does not match the ends of documents in '{path}'"
            )
        docs += len(found)
    if docs != shard.docs or docs != len(ends):
        raise CorruptFileError(
            f"'{path}' holds {docs} documents, though the manifest says {shard.docs}"
        )
