"""One piece of a build: documents to token shards, with a record once the shards are safe.

The record is what a resumed build trusts, after comparing the shards with it: a piece without one
is done again, and gives the same bytes.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from olmeval.config import Config
from olmeval.errors import CorruptFileError, UserError
from olmeval.files import read_json, sha256_file, write_json
from olmeval.trainer.build_inputs import Part
from olmeval.trainer.build_read import Document, read, where
from olmeval.trainer.build_spec import fill_template, parse_template, template_fields
from olmeval.trainer.build_tokenizer import load_tokenizer
from olmeval.trainer.shard_writer import DomainWriter
from olmeval.trainer.shards import BLOCK, OFFSET, Shard, inside, map_tokens

RECORDS = ".build"
BATCH_BYTES = 1 << 20  # of text to encode at a time; encodings take a hundred times as much
MOST_DOMAINS = 1000

Report = Callable[[int], None]


@dataclass(frozen=True)
class Job:
    """A piece, and all that a worker needs to know to do it. ``dtype`` is of token files."""

    root: Path
    index: int
    parts: tuple[Part, ...]
    text: str
    eos: str
    eos_id: int
    vocab_size: int
    dtype: str


class PieceRecord(Config):
    """What a piece became. ``empty`` counts documents without text, which are left out;
    ``repaired`` those with halves of surrogate pairs, replaced by U+FFFD."""

    shards: dict[str, tuple[Shard, ...]]
    empty: int = 0
    repaired: int = 0


@dataclass(frozen=True)
class PieceDone:
    """A record, and whether the piece had been ``kept`` from an earlier build."""

    record: PieceRecord
    kept: bool


def do_piece(job: Job, report: Report) -> PieceDone:
    """Does a piece, unless its record and shards are there; ``report`` gets bytes of input."""
    path = job.root / RECORDS / f"{job.index:05d}.json"
    if (record := _kept(path, job.root)) is not None:
        report(sum(part.size for part in job.parts))
        return PieceDone(record, kept=True)
    if job.parts[0].format == "tokens":
        record = _link(job, job.parts[0], report)
    else:
        record = _tokenize(job, report)
    write_json(path, record.model_dump())
    return PieceDone(record, kept=False)


def _kept(path: Path, root: Path) -> PieceRecord | None:
    """The record of a piece whose shards are as it says."""
    if not path.is_file():
        return None
    try:
        record = PieceRecord.model_validate(read_json(path))
        whole = all(_whole(root, s) for shards in record.shards.values() for s in shards)
    except (CorruptFileError, ValueError, OSError):
        return None
    return record if whole else None


def _whole(root: Path, shard: Shard) -> bool:
    path = root / shard.file
    index = path.with_suffix(".idx")
    indexed = path.is_symlink() or index.stat().st_size == shard.docs * OFFSET.itemsize
    return indexed and sha256_file(path) == shard.sha256


@dataclass
class _Counts:
    empty: int = 0
    repaired: int = 0


def _tokenize(job: Job, report: Report) -> PieceRecord:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # each worker has one core
    tokenizer = load_tokenizer(job.root, job.eos)
    counts = _Counts()
    writers: dict[str, DomainWriter] = {}
    with ExitStack() as stack:
        for batch in _batches(_texts(job, counts, report)):
            texts = [text for _, text, _ in batch]
            encodings = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
            for (domain, _, size), encoding in zip(batch, encodings, strict=True):
                if domain not in writers:
                    writers[domain] = stack.enter_context(_writer(job, domain, len(writers)))
                if encoding.ids:
                    writers[domain].add(encoding.ids, size)
                else:
                    counts.empty += 1
    shards = {domain: tuple(writers[domain].shards) for domain in sorted(writers)}
    return PieceRecord(
        shards={domain: found for domain, found in shards.items() if found},
        empty=counts.empty,
        repaired=counts.repaired,
    )


def _writer(job: Job, domain: str, others: int) -> DomainWriter:
    if others == MOST_DOMAINS:
        raise UserError(
            f"'{job.parts[0].domain}' gives more than {MOST_DOMAINS:,} domains in "
            f"'{job.parts[0].path}'; take a field with few values"
        )
    return DomainWriter(
        job.root,
        domain,
        vocab_size=job.vocab_size,
        eos_id=job.eos_id,
        prefix=f"{job.index:05d}-",
    )


def _batches(texts: Iterator[tuple[str, str, int]]) -> Iterator[list[tuple[str, str, int]]]:
    """Groups of about BATCH_BYTES."""
    batch, size = [], 0
    for item in texts:
        batch.append(item)
        size += item[2]
        if size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _texts(job: Job, counts: _Counts, report: Report) -> Iterator[tuple[str, str, int]]:
    """(domain, text, UTF-8 bytes) of every document that has text."""
    for part in job.parts:
        template = parse_template(part.domain)
        done = 0
        for document in read(part, (job.text, *template_fields(part.domain))):
            report(document.done - done)
            done = document.done
            text = document.values[0]
            if text is not None and not isinstance(text, str):
                raise UserError(
                    f"{where(part, document.place)}: the field '{job.text}' is not text but "
                    f"{type(text).__name__}"
                )
            if not text:
                counts.empty += 1
                continue
            try:
                size = len(text.encode())
            except UnicodeEncodeError:
                text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
                size = len(text.encode())
                counts.repaired += 1
            yield _domain(document, template, part), text, size
        report(part.size - done)


def _domain(document: Document, template: list[tuple[str, str | None]], part: Part) -> str:
    """The name of a document's domain, as a folder."""
    for value in document.values[1:]:
        if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
            raise UserError(
                f"{where(part, document.place)}: the domain '{part.domain}' needs text or a whole "
                f"number, not {value!r}"
            )
    name = fill_template(template, document.values[1:])
    try:
        return str(PurePosixPath(inside(name)))
    except ValueError as error:
        raise UserError(f"{where(part, document.place)}: domain {error}") from None


def _link(job: Job, part: Part, report: Report) -> PieceRecord:
    """Token files stay where they are: a link, once every token has been looked at."""
    source = Path(part.path).resolve()
    tokens = map_tokens(source, job.dtype)
    if len(tokens) == 0:
        raise UserError(f"'{source}' holds no token")
    if job.dtype == "uint16" and len(tokens) > 2 and not tokens[1 : 2 * BLOCK : 2].any():
        raise UserError(
            f"every other token of '{source}' is 0, as when uint32 is read as uint16; give "
            "'dtype: uint32'"
        )
    docs = 0
    for start in range(0, len(tokens), BLOCK):
        block = np.asarray(tokens[start : start + BLOCK])
        if int(block.max()) >= job.vocab_size:
            raise UserError(
                f"'{source}' holds token id {int(block.max())}, beyond the vocabulary of "
                f"{job.vocab_size}; it is of another tokenizer, or not {job.dtype}"
            )
        docs += int((block == job.eos_id).sum())
        report(block.nbytes)
    if tokens[-1] != job.eos_id:
        raise UserError(
            f"'{source}' does not end with the EOS token {job.eos_id} but with {tokens[-1]}; "
            "it is truncated or of another tokenizer"
        )
    domain = inside(fill_template(parse_template(part.domain), ()))
    file = f"{domain}/{job.index:05d}-00000.npy"
    _symlink(source, job.root / file)
    shard = Shard(
        file=file,
        dtype=job.dtype,
        tokens=len(tokens),
        docs=docs,
        bytes=None,
        sha256=sha256_file(source),
    )
    return PieceRecord(shards={domain: (shard,)})


def _symlink(source: Path, link: Path) -> None:
    tmp = link.with_name(f".{link.name}.tmp")
    try:
        link.parent.mkdir(parents=True, exist_ok=True)
        tmp.unlink(missing_ok=True)
        tmp.symlink_to(source)
        os.replace(tmp, link)
    except OSError as error:
        raise UserError(f"cannot link '{link}' to '{source}': {error.strerror}") from None
