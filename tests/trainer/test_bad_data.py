"""Data that are not what they should be: one sentence at the start, not an accident later."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.trainer.test_cli_train import FAST, call


def set_first(root: Path, **changes: object) -> None:
    """Has the manifest say something else of the first shard of "low"."""
    manifest = json.loads((root / "manifest.json").read_text())
    manifest["domains"]["low"][0].update(changes)
    (root / "manifest.json").write_text(json.dumps(manifest))


def wider(root: Path) -> None:
    file = root / "low/00000.bin"
    np.fromfile(file, "<u2").astype("<u4").tofile(file)


def beyond(root: Path) -> None:
    """Where no sample would look, and written down as if it belonged there."""
    file = root / "low/00000.bin"
    tokens = np.fromfile(file, "<u2")
    tokens = np.concatenate([tokens, np.tile(tokens, 4)])
    tokens[2500] = 300
    tokens.tofile(file)
    ends = np.flatnonzero(tokens == 0) + 1
    ends.astype("<u8").tofile(file.with_suffix(".idx"))
    set_first(root, tokens=len(tokens), docs=len(ends),
              sha256=hashlib.sha256(tokens.tobytes()).hexdigest())  # fmt: skip


def domain_without_shards(root: Path) -> None:
    manifest = json.loads((root / "manifest.json").read_text())
    manifest["domains"]["low"] = []
    (root / "manifest.json").write_text(json.dumps(manifest))


CASES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "another dtype": (wider, "low/00000.bin' is uint32, though the manifest says uint16"),
    "ids beyond": (beyond, "low/00000.bin' holds token id 300, beyond the vocabulary of 300"),
    "no shards": (domain_without_shards, "manifest.json': domain 'low' has no shards"),
    "no bytes": (lambda r: (r / "low/00000.bin").write_bytes(b""), "low/00000.bin' is truncated"),
    "no file": (lambda r: (r / "low/00000.bin").unlink(), "low/00000.bin' is missing"),
    "documents": (lambda r: set_first(r, docs=3), "low/00000.idx' has "),
    "length": (lambda r: set_first(r, tokens=1000), "low/00000.bin' is too long"),
    "contents": (lambda r: set_first(r, sha256="0" * 64), "low/00000.bin' is corrupt"),
    "tokenizer": (lambda r: (r / "tokenizer/tokenizer.json").write_text("{}"),
                  "tokenizer.json' is not the tokenizer that"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_is_wrong_is_named_before_anything_is_trained(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    damage, message = CASES[case]
    root, output = tmp_path / "bad", tmp_path / "run"
    shutil.copytree(corpus, root)
    damage(root)
    code, _, err = call(capsys, "cpu-0.7m", *FAST, f"data.root={root}", "--output", str(output))
    assert (code, err.count("\n")) == (2, 1), err
    assert message in err, err
    assert not output.exists()


def test_a_file_that_cannot_be_read(
    corpus: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As if on a broken disk, since whoever is root may read everything."""
    root = tmp_path / "bad"
    shutil.copytree(corpus, root)
    real = np.memmap

    def refusing(path: Path, *args: Any, **options: Any) -> Any:
        if Path(path) == root / "mid/00000.bin":
            raise OSError(5, "Input/output error")
        return real(path, *args, **options)

    monkeypatch.setattr(np, "memmap", refusing)
    code, _, err = call(capsys, "cpu-0.7m", *FAST, f"data.root={root}", "--output", "unused")
    assert (code, err.count("\n")) == (2, 1), err
    assert "cannot map" in err and "mid/00000.bin': [Errno 5] Input/output error" in err
