"""An error of a launch of several ranks is said once, and one that a single rank meets is, too."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from olmeval.cli import ranks
from olmeval.cli.ranks import say_error

Capture = pytest.CaptureFixture[str]
Patch = pytest.MonkeyPatch


@pytest.fixture
def launched(tmp_path: Path, monkeypatch: Patch) -> Path:
    """The folder of a launch as torchrun lays it out."""
    monkeypatch.setattr(ranks, "PATIENCE", 0.2)
    for rank in range(2):
        (tmp_path / "attempt_0" / str(rank)).mkdir(parents=True)
    return tmp_path / "attempt_0"


def become(monkeypatch: Patch, folder: Path | None, rank: int, local: int) -> None:
    monkeypatch.setenv("RANK", str(rank))
    monkeypatch.setenv("LOCAL_RANK", str(local))
    if folder is None:
        monkeypatch.delenv("TORCHELASTIC_ERROR_FILE", raising=False)
    else:
        monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(folder / str(local) / "error.json"))


def test_the_first_rank_speaks_for_those_who_say_the_same(
    launched: Path, monkeypatch: Patch, capsys: Capture
) -> None:
    become(monkeypatch, launched, 0, 0)
    say_error("olmeval: no such key")
    become(monkeypatch, launched, 1, 1)
    say_error("olmeval: no such key")
    assert capsys.readouterr().err == "olmeval: no such key\n"
    say_error("olmeval: this disk is full")
    assert capsys.readouterr().err == "rank 1: olmeval: this disk is full\n"


def test_a_rank_that_is_alone_with_its_error_speaks_after_a_while(
    launched: Path, monkeypatch: Patch, capsys: Capture
) -> None:
    become(monkeypatch, launched, 3, 1)
    begun = time.monotonic()
    say_error("olmeval: no such file")
    assert 0.2 <= time.monotonic() - begun < 2
    assert capsys.readouterr().err == "rank 3: olmeval: no such file\n"


@pytest.mark.parametrize("told", [None, Path("/nowhere/attempt_0")])
def test_where_ranks_cannot_hear_each_other_all_speak(
    told: Path | None, monkeypatch: Patch, capsys: Capture
) -> None:
    for rank, local in ((0, 0), (1, 1), (8, 0)):
        become(monkeypatch, told, rank, local)
        say_error("olmeval: no")
    assert capsys.readouterr().err == "olmeval: no\nrank 1: olmeval: no\nrank 8: olmeval: no\n"


def test_without_a_launcher_it_is_said_as_it_is(monkeypatch: Patch, capsys: Capture) -> None:
    for name in ("RANK", "LOCAL_RANK", "TORCHELASTIC_ERROR_FILE"):
        monkeypatch.delenv(name, raising=False)
    say_error("olmeval: no")
    assert capsys.readouterr().err == "olmeval: no\n"


def torchrun(argument: str, folder: Path) -> list[str]:
    """What ``olmeval train`` says on two ranks, the argument being one of the shell's."""
    command = f'exec "$0" -m olmeval.cli.main train cpu-0.7m {argument} --output {folder}'
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2",
         "--no-python", "sh", "-c", command, sys.executable],
        capture_output=True, text=True, timeout=200,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert "exitcode  : 2" in done.stderr
    return [line for line in done.stderr.splitlines() if "olmeval: " in line]


@pytest.mark.slow
def test_torchrun(tmp_path: Path) -> None:
    (key,) = torchrun("optimizer.lrr=1", tmp_path)  # before the ranks know of each other
    assert key.startswith("olmeval: ") and "unknown key 'optimizer.lrr'" in key
    (data,) = torchrun(f"data.root={tmp_path}/none train.device=cpu", tmp_path)  # and after
    assert data.startswith("olmeval: data.root") and "no manifest.json" in data
    # Rank 0 waits for the others meanwhile.
    (one,) = torchrun("train.device=cpu $([ $RANK = 0 ] || echo seeed=1)", tmp_path)
    assert one.startswith("rank 1: olmeval: ") and "unknown key 'seeed'" in one
