"""Token shards: the one on-disk format that the trainer reads, and its verification.

A data folder holds raw token arrays, one folder a domain, and a manifest that says what they are::

    <domain>/<shard>.bin   little-endian uint16 or uint32 tokens; every document ends with EOS
    <domain>/<shard>.idx   little-endian uint64: where each document ends, in tokens, EOS included
    manifest.json          per shard: dtype, tokens, documents, UTF-8 bytes, SHA-256; the tokenizer

Flat arrays are read through memory maps, so a batch costs one copy and a corpus costs no memory.
A shard is never trusted: sizes are compared with the manifest at every start, contents once.
The EOS token never occurs inside a document, so a lost ``.idx`` is found again by a scan.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator, Field, ValidationError, model_validator

from olmeval.config import Config
from olmeval.errors import CorruptFileError, UserError, nearest
from olmeval.files import read_json, sha256_file, sha256_json, write_json
from olmeval.trainer.verified import remember, remembered, signature

MANIFEST = "manifest.json"
DTYPES: dict[str, np.dtype[Any]] = {"uint16": np.dtype("<u2"), "uint32": np.dtype("<u4")}
OFFSET = np.dtype("<u8")
# Tokens that are checked at a time: few calls, little memory.
BLOCK = 1 << 20
Verify = Literal["size", "once", "hash"]
SAMPLE = 1024  # tokens at the start, the middle and the end of a shard that every start looks at


def inside(path: str) -> str:
    """``path`` if it is relative and stays inside its folder, else :class:`ValueError`."""
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\\" in path:
        raise ValueError(f"'{path}' must be a relative path inside the data folder")
    return path


RelativePath = Annotated[str, AfterValidator(inside)]


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
            inside(domain)
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


def write_manifest(root: Path, manifest: Manifest) -> None:
    """Writes ``root/manifest.json``; do it last, so that a folder without one is unfinished."""
    write_json(root / MANIFEST, manifest.model_dump())


def load_manifest(
    root: Path,
    verify: Verify = "size",
    on_shard: Callable[[Shard], None] | None = None,
) -> Manifest:
    """Reads and verifies a data folder.

    ``size`` compares every file's presence, size and type with the manifest and looks at a sample
    of its tokens (a fraction of a millisecond a shard); ``hash`` also reads every byte: SHA-256,
    token ids within the vocabulary, document ends; ``once`` does so for what nobody has found whole
    before (:mod:`olmeval.trainer.verified`). ``on_shard`` is told of each shard that is done.
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
    if verify != "size" and sha256_file(tokenizer) != manifest.tokenizer.sha256:
        raise CorruptFileError(f"'{tokenizer}' is not the tokenizer that '{path}' was built with")
    every = [shard for shards in manifest.domains.values() for shard in shards]
    key = sha256_json(value)
    whole = remembered(root, key) if verify == "once" else {}

    def check(shard: Shard) -> None:
        known = shard.file in whole and whole[shard.file] == signature(root / shard.file)
        _verify(root, manifest, shard, contents=verify != "size" and not known)

    # Hashing and comparing release the interpreter's lock; waiting for a slow disk does, too.
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        try:
            checks = [pool.submit(check, shard) for shard in every]
            for shard, checked in zip(every, checks, strict=True):
                checked.result()
                if on_shard:
                    on_shard(shard)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    if verify != "size":
        now = {shard.file: signature(root / shard.file) for shard in every}
        if now != whole:
            remember(root, key, now)
    return manifest


def open_domain(root: Path, manifest: Manifest, domain: str) -> list[np.memmap[Any, Any]]:
    """Memory maps of a domain's shards, each a flat array of tokens."""
    return [open_tokens(root, shard) for shard in manifest.shards(domain)]


def open_tokens(root: Path, shard: Shard) -> np.memmap[Any, Any]:
    """Memory map of one shard; a ``.npy`` file may be raw or carry a numpy header."""
    return map_tokens(root / shard.file, shard.dtype)


def map_tokens(path: Path, dtype: str) -> np.memmap[Any, Any]:
    """As :func:`open_tokens`, for a file and the name of its dtype."""
    try:
        if _has_numpy_header(path):
            array: np.memmap[Any, Any] = np.load(path, mmap_mode="r")
        else:
            array = np.memmap(path, dtype=DTYPES[dtype], mode="r")
    except (OSError, ValueError) as error:
        raise CorruptFileError(f"cannot map '{path}': {error}") from None
    if array.dtype != DTYPES[dtype] or array.ndim != 1:
        raise CorruptFileError(
            f"'{path}' holds {array.dtype} of shape {array.shape}, where flat {dtype} is expected"
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
    try:
        _verify_size(path, shard)
        tokens = open_tokens(root, shard)
        _verify_sample(path, tokens, manifest, shard)
        if contents:
            ends = document_ends(root, shard, manifest.eos_id)
            _verify_contents(path, tokens, manifest, shard, ends)
    except OSError as error:
        raise CorruptFileError(f"cannot read '{path}': {error.strerror or error}") from None


def _verify_size(path: Path, shard: Shard) -> None:
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
    index = path.with_suffix(".idx")
    if index.is_file() and index.stat().st_size != shard.docs * OFFSET.itemsize:
        raise CorruptFileError(
            f"'{index}' has {index.stat().st_size} bytes, though the manifest says {shard.docs} "
            f"documents ({shard.docs * OFFSET.itemsize} bytes)"
        )


def _verify_sample(path: Path, tokens: npt.NDArray[Any], manifest: Manifest, shard: Shard) -> None:
    if len(tokens) != shard.tokens:
        raise CorruptFileError(
            f"'{path}' holds {len(tokens)} tokens, though the manifest says {shard.tokens}"
        )
    if tokens[-1] != manifest.eos_id:
        raise CorruptFileError(f"'{path}' does not end with the EOS token {manifest.eos_id}")
    for start in (0, max(0, len(tokens) // 2 - SAMPLE), max(0, len(tokens) - SAMPLE)):
        _verify_ids(path, tokens[start : start + SAMPLE], manifest.vocab_size)


def _verify_ids(path: Path, tokens: npt.NDArray[Any], vocab_size: int) -> None:
    largest = int(tokens.max())
    if largest >= vocab_size:
        raise CorruptFileError(
            f"'{path}' holds token id {largest}, beyond the vocabulary of {vocab_size}"
        )


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
        _verify_ids(path, block, manifest.vocab_size)
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
