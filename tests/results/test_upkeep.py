"""Upkeep of the store: counts are those of what was put; only what may go is removed."""

import json
import os
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from olmeval.errors import UserError
from olmeval.results.answers import Answers, Sample
from olmeval.results.segments import HEADER, ModelStore, ResponseStore, segments
from olmeval.results.upkeep import parse_age, prune_store, stored_models, verify_store

DAY = 24 * 3600


def scored(n: int, first: int = 0) -> Answers:
    keys = [k.to_bytes(16, "big") for k in range(first, first + n)]
    logprobs = -np.arange(2 * n, dtype=np.float32)
    return Answers.scored(keys, np.arange(0, 2 * n + 1, 2), logprobs, logprobs > -1)


def generated(samples: int) -> Answers:
    return Answers.generated([b"g" * 16], [[Sample("text", 2, -1.0, "stop")] * samples])


def model(root: Path, digit: str, **about: str) -> ModelStore:
    """The store of the model whose key and fingerprint are of that hex digit."""
    named = {"fingerprint": digit * 64, "name": f"model-{digit}", "backend": "native"}
    return ResponseStore(root).model(digit * 32, {**named, "dtype": "float32", **about})


def put(root: Path, digit: str, *parts: Answers, **about: str) -> Path:
    """Puts answers and returns their segment."""
    with model(root, digit, **about) as store:
        for part in parts:
            store.put(part)
    return segments(store.path)[-1]


def age(root: Path, digit: str, seconds: float) -> None:
    """Makes a model look unused for so long."""
    for path in (root / (digit * 32)).iterdir():
        os.utime(path, (time.time() - seconds,) * 2)


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(bytes(data))


def test_models_are_listed_with_what_they_hold(tmp_path: Path) -> None:
    assert stored_models(tmp_path / "nowhere") == []
    put(tmp_path, "a", scored(5), generated(3))
    put(tmp_path, "a", scored(2, first=5))
    put(tmp_path, "b", generated(4), dtype="bfloat16")
    age(tmp_path, "a", 5 * DAY)
    (tmp_path / "notes").mkdir()
    b, a = stored_models(tmp_path)
    assert (a.name, a.fingerprint, a.backend, a.dtype) == (
        "model-a", "a" * 64, "native", "float32",
    )  # fmt: skip
    assert (a.answers, a.samples) == (8, 3)
    assert (b.name, b.dtype, b.answers, b.samples) == ("model-b", "bfloat16", 1, 4)
    assert a.bytes == sum(p.stat().st_size for p in Path(a.path).iterdir())
    assert a.last_used == pytest.approx(time.time() - 5 * DAY, abs=60)


def test_what_is_damaged_is_not_counted(tmp_path: Path) -> None:
    path = put(tmp_path, "a", scored(5), scored(7, first=5), scored(2, first=12))
    flip(path, 3)
    (tmp_path / ("a" * 32) / "model.json").write_text("{")
    (found,) = stored_models(tmp_path)
    assert found.answers == 9 and found.name is None
    path.write_bytes(path.read_bytes()[:-1])
    assert stored_models(tmp_path)[0].answers == 7


def test_ages() -> None:
    assert parse_age("36h") == timedelta(hours=36)
    assert parse_age("30d") == timedelta(days=30)
    assert parse_age("2w") == timedelta(days=14)
    for text in ("", "30", "d", "-1d", "1.5d", "30 days"):
        with pytest.raises(UserError, match="is not an age; write hours, days or weeks"):
            parse_age(text)


def names(root: Path) -> set[str | None]:
    return {m.name for m in stored_models(root)}


def test_prune_by_age_by_name_and_everything(tmp_path: Path) -> None:
    for digit, days in (("a", 40), ("b", 20), ("c", 1)):
        put(tmp_path, digit, scored(5))
        age(tmp_path, digit, days * DAY)
    size = stored_models(tmp_path)[0].bytes - (tmp_path / ("a" * 32) / "model.json").stat().st_size
    month = timedelta(days=30)
    assert prune_store(tmp_path, older_than=month, dry_run=True).bytes == size
    assert names(tmp_path) == {"model-a", "model-b", "model-c"}
    done = prune_store(tmp_path, older_than=month)
    assert (done.models, done.segments, done.bytes, done.in_use) == (1, 1, size, 0)
    assert names(tmp_path) == {"model-b", "model-c"}
    assert prune_store(tmp_path, model="model-c", older_than=month).models == 0
    assert prune_store(tmp_path, model="cccccc").models == 1
    assert not (tmp_path / ("c" * 32)).exists()
    assert prune_store(tmp_path).models == 1
    assert names(tmp_path) == set()
    assert prune_store(tmp_path).models == 0


def test_a_run_that_only_reads_keeps_its_model_young(tmp_path: Path) -> None:
    put(tmp_path, "a", scored(5))
    age(tmp_path, "a", 40 * DAY)
    with model(tmp_path, "a") as store:
        assert len(store.load()) == 5
    assert prune_store(tmp_path, older_than=timedelta(days=30)).models == 0


def test_an_unknown_model_is_an_error_with_its_neighbours(tmp_path: Path) -> None:
    put(tmp_path, "a", scored(1))
    with pytest.raises(UserError, match=r"no model called 'modl-a' .*did you mean 'model-a'"):
        prune_store(tmp_path, model="modl-a")
    with pytest.raises(UserError, match="no model called 'aaa' has stored answers"):
        prune_store(tmp_path, model="aaa")


def test_files_of_others_stay(tmp_path: Path) -> None:
    put(tmp_path, "a", scored(1))
    other = tmp_path / "photographs"
    other.mkdir()
    (other / "model.json").write_text("{}")
    guest = tmp_path / ("a" * 32) / "guest.txt"
    guest.write_text("mine")
    prune_store(tmp_path)
    assert guest.exists() and (other / "model.json").exists()
    assert list((tmp_path / ("a" * 32)).iterdir()) == [guest]


WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_upkeep import model, scored
store = model(Path(sys.argv[1]), "a")
store.put(scored(5, first=100))
print("ready", flush=True)
sys.stdin.readline()
store.put(scored(5, first=200))
store.close()
"""


def test_what_a_process_writes_is_neither_removed_nor_repaired(tmp_path: Path) -> None:
    put(tmp_path, "a", scored(5))
    command = [sys.executable, "-c", WRITER, str(tmp_path), str(Path(__file__).parent)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for dry_run in (True, False):
        done = prune_store(tmp_path, dry_run=dry_run)
        assert (done.models, done.segments, done.in_use) == (0, 1, 1)
    (held,) = segments(tmp_path / ("a" * 32))
    flip(held, HEADER.size + 3)
    (damage,) = verify_store(tmp_path, repair=True).damaged
    assert damage.path == str(held) and not damage.repaired
    process.communicate("go on\n")
    assert process.returncode == 0
    (damage,) = verify_store(tmp_path, repair=True).damaged
    assert damage.repaired and damage.lost_answers == 5
    with model(tmp_path, "a") as store:
        assert store.load().find(scored(5, first=200).keys).min() == 0
    assert prune_store(tmp_path).in_use == 0 and names(tmp_path) == set()


def test_a_writer_goes_on_after_its_model_was_pruned(tmp_path: Path) -> None:
    """The model's folder went while the run was at work and had put nothing yet."""
    put(tmp_path, "a", scored(5))
    with model(tmp_path, "a") as store:
        prune_store(tmp_path)
        store.put(scored(3))
    assert stored_models(tmp_path)[0].answers == 3 and names(tmp_path) == {"model-a"}


def test_verify_finds_every_damage_and_repair_keeps_the_rest(tmp_path: Path) -> None:
    path = put(tmp_path, "a", scored(5), scored(7, first=5), generated(2))
    put(tmp_path, "b", scored(3))
    found = verify_store(tmp_path)
    assert (found.models, found.segments, found.answers, found.damaged) == (2, 2, 16, [])
    assert found.bytes == sum(p.stat().st_size for p in tmp_path.rglob("*.seg"))
    size = path.stat().st_size
    flip(path, HEADER.size)
    about = tmp_path / ("b" * 32) / "model.json"
    about.write_text(json.dumps({"name": "b"})[:-3])
    found = verify_store(tmp_path)
    assert [(d.path, d.lost_answers, d.repaired) for d in found.damaged] == [
        (str(path), 5, False), (str(about), 0, False),
    ]  # fmt: skip
    assert found.answers == 11 and path.stat().st_size == size
    repaired = verify_store(tmp_path, repair=True)
    assert all(d.repaired for d in repaired.damaged) and len(repaired.damaged) == 2
    assert path.stat().st_size == size - found.damaged[0].lost_bytes
    assert not about.exists()
    assert verify_store(tmp_path).damaged == [] and verify_store(tmp_path).answers == 11
    with model(tmp_path, "a") as store:
        assert len(store.load()) == 8
    put(tmp_path, "b", scored(1, first=50))
    assert names(tmp_path) == {"model-a", "model-b"}


def test_a_segment_that_cannot_be_opened_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(tmp_path, "a", scored(1))
    flip(path, 0)
    system_open = os.open

    def refuse(file: str | Path, *args: int) -> int:
        if Path(file) == path:
            raise PermissionError(13, "Permission denied")
        return system_open(file, *args)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(UserError, match=f"cannot write '{path}': Permission denied"):
        verify_store(tmp_path, repair=True)
    with pytest.raises(UserError, match=r"cannot remove .*: Permission denied"):
        prune_store(tmp_path)
