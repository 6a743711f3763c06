"""Verdicts on disk: the same program under the same tests is not run twice.

A verdict's key is a hash of all that decides it: program, tests, prompt, form, limits, environment,
tier, and the source of the runners. Keys are spread over 256 files of JSON lines. A line is added
with one write under a lock of its file and ends with a checksum of itself, so that several runs may
write at once, and what a killed one leaves half-written is passed over.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from functools import cache
from pathlib import Path

from olmeval.errors import UserError
from olmeval.files import cache_dir, make_dir, sha256_json
from olmeval.sandbox.verdict import Program, Verdict

CHECK_DIGITS = 8


@cache
def runners_hash() -> str:
    """Hash of all that runs inside: a corrected runner must not be answered from before."""
    digest = hashlib.sha256()
    for path in sorted((Path(__file__).parent / "inside").glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def key_of(program: Program, tier: str) -> str:
    """The key of a program's verdict in a tier."""
    environment = program.environment
    marker = Path(environment, "pyvenv.cfg") if environment else None
    return sha256_json(
        {
            **asdict(program),
            "tier": tier,
            "runners": runners_hash(),
            # An environment that is built anew may hold other versions.
            "built": marker.stat().st_mtime_ns if marker and marker.exists() else None,
        }
    )


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
