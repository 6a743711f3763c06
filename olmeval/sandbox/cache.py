"""Verdicts on disk: the same program under the same tests is not run twice.

A verdict's key is a hash of all that decides it: program, tests, prompt, form, limits, environment
or toolchain, tier, and the source of the sandbox. Keys are spread over 256 files of JSON lines. A
line is added with one write under a lock of its file and ends with a checksum of itself, so that
several runs may write at once, and what a killed one leaves half-written is passed over.
"""

import fcntl
import hashlib
import json
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from functools import cache
from pathlib import Path
from typing import TypeVar

from olmeval.errors import UserError
from olmeval.files import cache_dir, make_dir
from olmeval.sandbox import languages, languages_judge, toolchains
from olmeval.sandbox.run import Progress
from olmeval.sandbox.tiers import probe
from olmeval.sandbox.verdict import Program, Verdict, judge

CHECK_DIGITS = 8
# Programs that are judged before their verdicts are written: what a kill can lose.
CHUNK = 1024
Item = TypeVar("Item", Program, tuple[str, str])


def judge_cached(
    programs: Sequence[Program],
    *,
    workers: int | None = None,
    unsafe_local: bool = False,
    progress: Progress | None = None,
    store: "VerdictCache | None" = None,
) -> list[Verdict]:
    """Like :func:`judge`, which it calls for programs without a verdict in ``store``.

    ``progress`` is called with (judged, all) programs, those that are known included.
    """

    def run(part: list[Program], tell: Progress) -> list[Verdict]:
        return judge(part, workers=workers, unsafe_local=unsafe_local, progress=tell)

    tier = probe().name
    keys = [key_of(program, tier) for program in programs]
    return _through(store or VerdictCache(), keys, programs, run, progress)


def judge_language_cached(
    name: str,
    programs: Sequence[tuple[str, str]],
    *,
    workers: int | None = None,
    unsafe_local: bool = False,
    progress: Progress | None = None,
    store: "VerdictCache | None" = None,
) -> list[Verdict]:
    """The same for (program, tests) pairs in another language than Python."""

    def run(part: list[tuple[str, str]], tell: Progress) -> list[Verdict]:
        return languages_judge.judge(
            name, part, workers=workers, unsafe_local=unsafe_local, progress=tell
        )

    common = {
        "language": name, "tier": probe().name, "runners": runners_hash(),
        "tools": state_of_toolchain(name),
    }  # fmt: skip
    keys = [_hash({**common, "program": p, "tests": t}) for p, t in programs]
    return _through(store or VerdictCache(), keys, programs, run, progress)


def _through(
    store: "VerdictCache",
    keys: list[str],
    programs: Sequence[Item],
    run: Callable[[list[Item], Progress], list[Verdict]],
    progress: Progress | None,
) -> list[Verdict]:
    """What the store knows, and of the others what ``run`` says, stored part by part."""
    found = store.get(keys)
    missing = {k: p for k, p in zip(keys, programs, strict=True) if k not in found}
    known = len(programs) - len(missing)
    order = list(missing)
    for at in range(0, len(order), CHUNK):
        part = order[at : at + CHUNK]
        tell = _scaled(progress, known + at, len(part), len(programs))
        made = dict(zip(part, run([missing[key] for key in part], tell), strict=True))
        store.put(made)
        found.update(made)
    return [found[key] for key in keys]


def _scaled(progress: Progress | None, before: int, size: int, total: int) -> Progress:
    """Turns runs of one part into programs of the whole."""

    def tell(done: int, runs: int) -> None:
        if progress is not None:
            progress(before + done * size // runs, total)

    return tell


@cache
def runners_hash() -> str:
    """Hash of this component's source: what is corrected in it must not be answered from before."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def key_of(program: Program, tier: str) -> str:
    """The key of a program's verdict in a tier."""
    return _hash(
        {
            **asdict(program),
            "tier": tier,
            "python": platform.python_version(),
            "runners": runners_hash(),
            "environment is of": _state_of_environment(program.environment),
        }
    )


def _state_of_environment(environment: str | None) -> list[tuple[str, int, int]]:
    """Differs once it is built anew, or a package in it comes, goes or changes its version."""
    if environment is None:
        return []
    folder = Path(environment)
    return _state([folder / "pyvenv.cfg", *sorted(folder.glob("lib/python3*/site-packages"))])


def state_of_toolchain(name: str) -> list[tuple[str, int, int]]:
    """Differs once another compiler or interpreter of a language is installed."""
    found = [toolchains.find(tool) for tool in languages.language(name).tools.values()]
    return _state([Path(tool.path) for tool in found if isinstance(tool, toolchains.Tool)])


def _state(paths: Sequence[Path]) -> list[tuple[str, int, int]]:
    stats = [(path, path.stat()) for path in paths if path.exists()]
    return [(str(path), stat.st_mtime_ns, stat.st_size) for path, stat in stats]


def _hash(value: dict[str, object]) -> str:
    # What models write may hold half a surrogate pair, which has no UTF-8.
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


class VerdictCache:
    """The folder of verdicts; by default ``verdicts`` in the cache folder."""

    def __init__(self, folder: Path | None = None):
        self.folder = make_dir(folder or cache_dir() / "verdicts")

    def get(self, keys: Sequence[str]) -> dict[str, Verdict]:
        """What is known of ``keys``."""
        wanted: dict[str, set[str]] = {}
        for key in keys:
            wanted.setdefault(key[:2], set()).add(key)
        found: dict[str, Verdict] = {}
        for shard, of_shard in wanted.items():
            found.update(self._read(self._file(shard), of_shard))
        return found

    def put(self, verdicts: Mapping[str, Verdict]) -> None:
        """Adds verdicts; those of a failed jail say nothing about a program and are left out."""
        lines: dict[str, list[str]] = {}
        for key, verdict in verdicts.items():
            if "infrastructure" not in (verdict.status, verdict.strict, verdict.compat):
                text = json.dumps({"key": key, **verdict.to_json()})
                lines.setdefault(key[:2], []).append(f"{text}\t{_check(text)}\n")
        for shard, of_shard in lines.items():
            _append(self._file(shard), "".join(of_shard).encode())

    def _file(self, shard: str) -> Path:
        return self.folder / f"{shard}.jsonl"

    @staticmethod
    def _read(path: Path, wanted: set[str]) -> dict[str, Verdict]:
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise UserError(f"cannot read '{path}': {error.strerror}") from None
        names = {f.name for f in fields(Verdict)}
        found = {}
        for line in text.split("\n"):
            # The key stands first; a line that is not wanted is not parsed.
            if line[9:73] not in wanted:
                continue
            body, _, check = line.rpartition("\t")
            if _check(body) != check:
                continue
            row = json.loads(body)
            key = row.pop("key")
            if row.keys() == names:
                found[key] = Verdict(**row)
        return found


def _check(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:CHECK_DIGITS]


def _append(path: Path, data: bytes) -> None:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                # A writer was killed in the middle of its line.
                data = b"\n" + data
            while data:
                data = data[os.write(descriptor, data) :]
        finally:
            os.close(descriptor)
    except OSError as error:
        raise UserError(f"cannot write '{path}': {error.strerror}") from None
