"""Building a data folder: documents of any kind to verified token shards, on all cores.

:func:`build_data` cuts the input into pieces, lets worker processes do them in any order, and
writes the manifest when all are done. The same input gives the same bytes, whatever the number of
workers and however often the build was stopped: a piece is a function of its input alone, and the
settings that decide the bytes are written first and compared when a build goes on.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from olmeval.errors import UserError
from olmeval.executors.registry import make_executor
from olmeval.executors.resources import cores
from olmeval.files import locked, make_dir, read_json, sha256_json, write_json
from olmeval.trainer.build_inputs import Inputs, Piece, find_inputs
from olmeval.trainer.build_spec import BuildSpec, fill_template, parse_template, template_fields
from olmeval.trainer.build_tokenizer import BuildTokenizer, find_tokenizer
from olmeval.trainer.build_work import RECORDS, Job, PieceDone, PieceRecord, do_piece
from olmeval.trainer.data_stats import DomainStats, domain_stats
from olmeval.trainer.shards import Manifest, Shard, dtype_for, load_manifest, write_manifest

SETTINGS = "build.json"
CHANGES = {
    "tokenizer": "another tokenizer",
    "eos": "another end-of-document token",
    "tokenizers": "another version of the tokenizers library",
    "sources": "other sources",
    "inputs": "input files that have changed since",
}


@dataclass(frozen=True)
class BuildResult:
    """A finished build. ``kept`` of its ``pieces`` were there before this call; ``empty`` documents
    without text were left out; ``repaired`` ones held halves of surrogate pairs; ``ignored`` files
    of the folders are of no kind that a build reads."""

    root: Path
    domains: tuple[DomainStats, ...]
    pieces: int
    kept: int
    empty: int
    repaired: int
    ignored: int
    seconds: float


def build_data(
    spec: BuildSpec, root: Path, *, workers: int | None = None, progress: bool = True
) -> BuildResult:
    """Builds the data folder ``root``, or goes on with a build that stopped there.

    ``workers`` processes of one thread each; default: one a core. A folder that is complete is
    verified, and what is damaged in it made again. Raises :class:`UserError` for sources that
    cannot be read, domains without text, or a folder that holds something else.
    """
    started = time.perf_counter()
    tokenizer = find_tokenizer(spec.tokenizer, spec.eos)
    _check_dtypes(spec, tokenizer)
    inputs = find_inputs(spec)
    _refuse_other_contents(root)
    busy = f"another process is building in '{root}'; wait for it or choose another --output"
    with locked(root / RECORDS / "lock", busy):
        _refuse_other_build(root, _settings(spec, tokenizer, inputs))
        for leftover in root.rglob(".*.tmp"):  # what a killed build had begun
            leftover.unlink(missing_ok=True)
        info = tokenizer.copy_to(root)
        done = _do_pieces(_jobs(root, spec, tokenizer, inputs.pieces), workers, progress)
        domains = _domains(spec, inputs.pieces, [piece.record for piece in done])
        manifest = Manifest(
            tokenizer=info,
            vocab_size=tokenizer.vocab_size,
            eos_id=tokenizer.eos_id,
            domains=domains,
        )
        write_manifest(root, manifest)
        load_manifest(root)
    return BuildResult(
        root=root,
        domains=tuple(domain_stats(domains)),
        pieces=len(done),
        kept=sum(piece.kept for piece in done),
        empty=sum(piece.record.empty for piece in done),
        repaired=sum(piece.record.repaired for piece in done),
        ignored=inputs.ignored,
        seconds=time.perf_counter() - started,
    )


def _check_dtypes(spec: BuildSpec, tokenizer: BuildTokenizer) -> None:
    for source in spec.sources:
        if source.dtype == "uint16" and dtype_for(tokenizer.vocab_size) != "uint16":
            raise UserError(
                f"'{source.path}' cannot be uint16: the tokenizer has {tokenizer.vocab_size:,} ids"
            )


def _settings(spec: BuildSpec, tokenizer: BuildTokenizer, inputs: Inputs) -> dict[str, Any]:
    """All that decides the bytes. Input counts by path, size and time of change."""
    import tokenizers

    pieces = [
        [(part.path, part.format, part.domain, part.start, part.stop) for part in piece.parts]
        for piece in inputs.pieces
    ]
    return {
        "tokenizer": tokenizer.sha256,
        "eos": tokenizer.eos,
        "tokenizers": tokenizers.__version__,
        "sources": [source.model_dump(exclude_defaults=True) for source in spec.sources],
        "inputs": sha256_json([inputs.files, pieces]),
    }


def _refuse_other_contents(root: Path) -> None:
    if root.exists() and not root.is_dir():
        raise UserError(f"'{root}' is a file; choose a folder as --output")
    if root.is_dir() and any(root.iterdir()) and not (root / SETTINGS).is_file():
        others = [path.name for path in root.iterdir() if path.name != RECORDS]
        if others:
            raise UserError(
                f"'{root}' holds something that is not a build ('{min(others)}'); choose another "
                "--output"
            )
    make_dir(root)


def _refuse_other_build(root: Path, settings: dict[str, Any]) -> None:
    path = root / SETTINGS
    if not path.is_file():
        write_json(path, settings)
        return
    before = read_json(path)
    for key, change in CHANGES.items():
        if not isinstance(before, dict) or before.get(key) != settings[key]:
            raise UserError(
                f"the build in '{root}' was begun with {change}; choose another --output, or "
                "delete that folder"
            )


def _jobs(
    root: Path, spec: BuildSpec, tokenizer: BuildTokenizer, pieces: tuple[Piece, ...]
) -> list[Job]:
    return [
        Job(
            root=root.resolve(),
            index=i,
            parts=piece.parts,
            text=spec.sources[piece.source].text,
            eos=tokenizer.eos,
            eos_id=tokenizer.eos_id,
            vocab_size=tokenizer.vocab_size,
            dtype=spec.sources[piece.source].dtype or dtype_for(tokenizer.vocab_size),
        )
        for i, piece in enumerate(pieces)
    ]


def _do_pieces(jobs: list[Job], workers: int | None, progress: bool) -> list[PieceDone]:
    """The results, by piece. The largest begin first, so that no worker is left with one."""
    sizes = [sum(part.size for part in job.parts) for job in jobs]
    order = sorted(range(len(jobs)), key=lambda i: -sizes[i])
    results: dict[int, PieceDone] = {}
    count = min(cores() if workers is None else workers, len(jobs))
    with (
        _bar(progress, sum(sizes)) as advance,
        make_executor("local", count, gpus_per_worker=0, threads=1) as executor,
    ):
        for done in executor.map(
            do_piece, [jobs[i] for i in order], on_report=lambda _, n: advance(n)
        ):
            if done.error is not None:
                raise UserError(done.error)
            assert done.result is not None
            results[order[done.index]] = done.result
    return [results[i] for i in range(len(jobs))]


def _domains(
    spec: BuildSpec, pieces: tuple[Piece, ...], records: list[PieceRecord]
) -> dict[str, tuple[Shard, ...]]:
    """The shards of every domain, in the order of the pieces.

    Raises :class:`UserError` for a domain that a source names, or a source, without any text.
    """
    domains: dict[str, list[Shard]] = {}
    filled: set[int] = set()
    for piece, record in zip(pieces, records, strict=True):
        for domain, shards in record.shards.items():
            domains.setdefault(domain, []).extend(shards)
            filled.add(piece.source)
    for piece in pieces:
        path = spec.sources[piece.source].path
        if piece.source not in filled:
            raise UserError(f"'{path}' holds no document with text; take it out of the sources")
        for part in piece.parts:
            if not template_fields(part.domain):
                domain = fill_template(parse_template(part.domain), ())
                if domain not in domains:
                    raise UserError(
                        f"the domain '{domain}' is empty: '{part.path}' holds no document with "
                        f"text; take it out of '{path}'"
                    )
    return {domain: tuple(domains[domain]) for domain in sorted(domains)}


@contextmanager
def _bar(shown: bool, total: int) -> Iterator[Callable[[int], None]]:
    """A bar over bytes of input."""
    if not shown:
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("building"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda n: bar.advance(task, n)
