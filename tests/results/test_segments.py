"""The shared store: what was put comes back, whatever happens to writers, disks and files."""

import errno
import fcntl
import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from olmeval.errors import CorruptFileError, UserError
from olmeval.results.answers import Answers, Sample
from olmeval.results.segments import (
    HEADER,
    ModelStore,
    ResponseStore,
    encode,
    read_header,
    scan,
    segments,
    store_dir,
)

KEY = "0123456789abcdef" * 2
ABOUT = {"fingerprint": "f" * 64, "backend": "transformers", "dtype": "float32", "name": "tiny"}


def numbered(lo: int, hi: int) -> Answers:
    """Answers lo:hi; each is a function of its number, so that a wrong value is seen."""
    parts = []
    for k in range(lo, hi):
        key = k.to_bytes(16, "big")
        if k % 4 == 3:
            parts.append(Answers.generated([key], [[Sample(f"ünï {k}\n", k, -k / 3, "stop")]]))
        else:
            scores = np.linspace(-k - 1, 0, k % 5, dtype=np.float32)
            offsets = np.array([0, len(scores)])
            parts.append(Answers.scored([key], offsets, scores, np.full(k % 5, k % 3 == 0)))
    return Answers.concat(parts)


def numbers(answers: Answers) -> list[int]:
    """The numbers of answers, each of which must be the true answer of its number."""
    found = [int.from_bytes(key, "big") for key in answers.keys.tolist()]
    for row, k in enumerate(found):
        got, true = answers.response(row), numbered(k, k + 1).response(0)
        assert (got.logprob, got.tokens, got.greedy, got.samples) == (
            true.logprob, true.tokens, true.greedy, true.samples,
        )  # fmt: skip
        assert np.array_equal(got.token_logprobs, true.token_logprobs) or got.samples
    return found


def open_store(root: Path) -> ModelStore:
    return ResponseStore(root).model(KEY, ABOUT)


def filled(root: Path, frames: int = 4, size: int = 3) -> Path:
    """A segment of so many frames of so many answers."""
    with open_store(root) as store:
        for k in range(frames):
            store.put(numbered(k * size, k * size + size))
    (path,) = segments(root / KEY)
    return path


def ends(data: bytes) -> list[int]:
    """Where each frame of an undamaged segment ends, after a 0."""
    found = [0]
    while found[-1] < len(data):
        header = read_header(data, found[-1])
        assert header is not None
        found.append(found[-1] + HEADER.size + header.size)
    return found


def test_what_is_put_is_loaded_once_in_order(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        assert len(store.load()) == 0
        store.put(Answers.empty())
        assert not tmp_path.joinpath(KEY).exists()
        store.put(numbered(0, 30))
        store.put(numbered(20, 40))
        assert numbers(store.load()) == list(range(40))
        with open_store(tmp_path) as other:
            other.put(numbered(35, 45))
        assert numbers(store.load()) == list(range(45))
    assert len(segments(tmp_path / KEY)) == 2
    assert numbers(open_store(tmp_path).load()) == list(range(45))


def test_the_first_answer_to_a_key_stays(tmp_path: Path) -> None:
    with open_store(tmp_path) as one, open_store(tmp_path) as two:
        for store, value in ((one, -1.0), (two, -2.0), (one, -3.0)):
            scores = np.array([value], np.float32)
            store.put(Answers.scored([b"k" * 16], np.array([0, 1]), scores, scores > -1))
        assert two.load().logprob.tolist() == [-1.0]


def test_a_segment_is_older_than_one_made_later(tmp_path: Path) -> None:
    for k in range(12):
        with open_store(tmp_path) as store:
            store.put(numbered(k, k + 1))
    assert numbers(open_store(tmp_path).load()) == list(range(12))


def test_the_root_is_in_the_cache_or_where_the_environment_says(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("OLMEVAL_CACHE", str(tmp_path))
    monkeypatch.delenv("OLMEVAL_STORE")
    assert store_dir() == tmp_path / "responses"
    monkeypatch.setenv("OLMEVAL_STORE", str(tmp_path / "else"))
    assert store_dir() == ResponseStore().root == tmp_path / "else"


# What a model's folder stands for


def test_the_model_is_described_once_and_copies_share(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.put(numbered(0, 1))
    path = tmp_path / KEY / "model.json"
    before = path.read_bytes()
    assert json.loads(before) == ABOUT
    copy = {**ABOUT, "name": "copy", "path": "/elsewhere"}
    with ResponseStore(tmp_path).model(KEY, copy) as store:
        store.put(numbered(1, 2))
        assert numbers(store.load()) == [0, 1]
    assert path.read_bytes() == before


def test_a_model_that_disagrees_is_refused(tmp_path: Path) -> None:
    filled(tmp_path)
    with pytest.raises(CorruptFileError, match=r"model\.json' is of another model \(dtype is"):
        ResponseStore(tmp_path).model(KEY, {**ABOUT, "dtype": "float16"})
    with pytest.raises(CorruptFileError, match=r"\(backend is 'transformers', not None\)"):
        ResponseStore(tmp_path).model(KEY, {k: v for k, v in ABOUT.items() if k != "backend"})
    for damage in ("{", "[]"):
        (tmp_path / KEY / "model.json").write_text(damage)
        with pytest.raises(CorruptFileError, match=r"model\.json' is damaged; delete it"):
            open_store(tmp_path)
    (tmp_path / KEY / "model.json").unlink()
    assert len(open_store(tmp_path).load()) == 12
    with pytest.raises(ValueError, match="32 hex digits"):
        ResponseStore(tmp_path).model("../elsewhere", ABOUT)


def test_use_is_noted_for_pruning(tmp_path: Path) -> None:
    filled(tmp_path)
    path = tmp_path / KEY / "model.json"
    os.utime(path, (1, 1))
    open_store(tmp_path)
    assert time.time() - path.stat().st_mtime < 60


# Damage


def test_one_flipped_byte_costs_its_frame_and_no_other(tmp_path: Path) -> None:
    data = filled(tmp_path).read_bytes()
    bounds = ends(data)
    frames = [data[a:b] for a, b in pairwise(bounds)]
    random.seed(1)
    for at in range(len(data)):
        flipped = bytearray(data)
        flipped[at] ^= random.randrange(1, 256)
        hit = sum(at >= end for end in bounds[1:])
        found = scan(bytes(flipped))
        assert [bytes(f) for f in found.frames] == frames[:hit] + frames[hit + 1 :]
        assert found.lost_bytes == len(frames[hit])
        in_payload = at >= bounds[hit] + HEADER.size
        assert found.lost_answers == (3 if in_payload else 0)


def test_a_file_cut_anywhere_keeps_its_whole_frames_and_is_no_damage(tmp_path: Path) -> None:
    data = filled(tmp_path).read_bytes()
    bounds = ends(data)
    for cut in range(len(data) + 1):
        found = scan(data[:cut])
        assert len(found.frames) == sum(end <= cut for end in bounds[1:])
        assert found.lost_bytes == 0


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10**6), hits=st.integers(1, 4))
def test_whatever_happens_to_a_segment_no_wrong_answer_is_loaded(
    tmp_path_factory, seed, hits
) -> None:
    root = tmp_path_factory.mktemp("store")
    path = filled(root)
    chance = random.Random(seed)
    data = path.read_bytes()
    for _ in range(hits):
        at, n = chance.randrange(len(data)), chance.randrange(1, 300)
        data = chance.choice(
            [
                data[:at] + bytes([data[at] ^ chance.randrange(1, 256)]) + data[at + 1 :],
                data[:at] + bytes(n) + data[at + n :],  # a hole, as after a power cut
                data[:at] + data[at + n :],
                data[:at] + chance.randbytes(n) + data[at:],
                data[: at + 1],
            ]
        )
    path.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = numbers(open_store(root).load())
    assert set(found) <= set(range(12)) and len(set(found)) == len(found)


@given(data=st.binary(max_size=400))
def test_bytes_of_any_kind_between_frames_cost_nothing_else(data) -> None:
    one, two = encode(numbered(0, 3)), encode(numbered(3, 6))
    found = scan(one + data + two + data)
    assert [bytes(f) for f in found.frames] == [one, two]


def test_a_length_that_grew_huge_does_not_hide_what_follows(tmp_path: Path) -> None:
    path = filled(tmp_path)
    data = bytearray(path.read_bytes())
    data[8:16] = b"\xff" * 7 + b"\x7f"
    path.write_bytes(bytes(data))
    with pytest.warns(UserWarning, match=f"'{path}' has .* damaged bytes"):
        assert numbers(open_store(tmp_path).load()) == list(range(3, 12))


def test_a_damaged_frame_is_told_once_and_counted(tmp_path: Path) -> None:
    path = filled(tmp_path)
    data = bytearray(path.read_bytes())
    first, second = ends(bytes(data))[1:3]
    data[first + HEADER.size + 5] ^= 1
    path.write_bytes(bytes(data))
    expected = rf"'{path}' has {second - first:,} damaged bytes \(at least 3 answers\)"
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("default")
        for _ in range(2):
            assert numbers(open_store(tmp_path).load()) == [0, 1, 2, *range(6, 12)]
    assert len(told) == 1 and re.match(expected, str(told[0].message))


def test_an_unreadable_segment_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = filled(tmp_path)
    store = open_store(tmp_path)

    def broken(_: Path) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "read_bytes", broken)
    with pytest.raises(UserError, match=f"cannot read '{path}': Input/output error"):
        store.load()


# Several processes

WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[4])
from test_segments import numbered, open_store
first, count = int(sys.argv[2]), int(sys.argv[3])
with open_store(Path(sys.argv[1])) as store:
    for k in range(first, first + count * 4, 4):
        store.put(numbered(k, k + 4))
        print(k, flush=True)
"""


def writer(root: Path, first: int, count: int) -> "subprocess.Popen[str]":
    """A process that puts four answers at a time and prints the number of the first of them."""
    here = str(Path(__file__).parent)
    command = [sys.executable, "-c", WRITER, str(root), str(first), str(count), here]
    environment = {k: v for k, v in os.environ.items() if k != "OLMEVAL_STORE"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def last_put(printed: str) -> int:
    """The end of what a killed writer had put; its last line may be half-printed."""
    return int([line for line in printed.splitlines(keepends=True) if line.endswith("\n")][-1]) + 4


def test_several_processes_on_one_model_lose_and_corrupt_nothing(tmp_path: Path) -> None:
    """Three write, two of them the same answers; one is killed; this one reads meanwhile."""
    writers = [writer(tmp_path, 0, 60), writer(tmp_path, 0, 60)]
    doomed = writer(tmp_path, 10_000, 10**6)
    assert doomed.stdout is not None
    first = doomed.stdout.readline()
    seen: set[int] = set()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        reads = 0
        while any(w.poll() is None for w in writers):
            now = set(numbers(open_store(tmp_path).load()))
            assert seen <= now
            seen, reads = now, reads + 1
            if reads == 3:
                os.kill(doomed.pid, signal.SIGKILL)
        os.kill(doomed.pid, signal.SIGKILL)
        put = last_put(first + doomed.stdout.read())
        found = set(numbers(open_store(tmp_path).load()))
    assert [w.wait() for w in [*writers, doomed]] == [0, 0, -signal.SIGKILL]
    for w in [*writers, doomed]:
        assert w.stdout is not None
        w.stdout.close()
    assert found >= set(range(240)) | set(range(10_000, put))
    assert len(segments(tmp_path / KEY)) == 3


def test_a_killed_writer_leaves_what_it_put(tmp_path: Path) -> None:
    for delay in (0.0, 0.02, 0.05):
        root = tmp_path / str(delay)
        process = writer(root, 0, 10**6)
        assert process.stdout is not None
        first = process.stdout.readline()
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        put = last_put(first + process.stdout.read())
        process.wait()
        process.stdout.close()
        found = numbers(open_store(root).load())
        assert found == list(range(len(found))) and len(found) >= put and len(found) % 4 == 0


def test_a_forked_child_writes_to_a_file_of_its_own(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.put(numbered(0, 4))
        child = os.fork()
        if child == 0:
            try:
                store.put(numbered(4, 8))
                store.close()
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        store.put(numbered(8, 12))
    assert len(segments(tmp_path / KEY)) == 2
    assert sorted(numbers(open_store(tmp_path).load())) == list(range(12))


def test_a_segment_is_locked_while_it_is_open(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.put(numbered(0, 1))
        (path,) = segments(tmp_path / KEY)
        with path.open("r+b") as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with path.open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


# Disks


def fill(store: ModelStore) -> int:
    """Puts until it fails; returns how many answers were put before."""
    for k in range(0, 10**6, 50):
        try:
            store.put(numbered(k, k + 50))
        except UserError:
            return k
    raise AssertionError("never failed")


def test_a_write_cut_short_is_gone_on_with(tmp_path, monkeypatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, data: write(file, data[:100]))
    filled(tmp_path)
    assert numbers(open_store(tmp_path).load()) == list(range(12))


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_put_that_fails_leaves_nothing_and_the_next_one_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    write = os.write
    calls = 0

    def full(file: int, data: memoryview) -> int:
        nonlocal calls
        calls += 1
        if calls == 3:  # put 2 is written in part, and then fails
            return write(file, data[: len(data) // 2])
        if calls == 4:
            raise OSError(error, os.strerror(error))
        return write(file, data)

    with open_store(tmp_path) as store:
        store.put(numbered(0, 3))
        monkeypatch.setattr(os, "write", full)
        store.put(numbered(3, 6))
        store.put(numbered(6, 9))
        (path,) = segments(tmp_path / KEY)
        with pytest.raises(UserError) as told:
            store.put(numbered(9, 12))
        assert f"cannot write '{path}': {os.strerror(error)}" in str(told.value)
        assert ("free space and run" in str(told.value)) == (error != errno.EIO)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert path.stat().st_size == ends(path.read_bytes())[-1]
            assert numbers(store.load()) == list(range(9))
        store.put(numbered(9, 12))
    assert numbers(open_store(tmp_path).load()) == list(range(12))


def test_an_interrupted_put_leaves_nothing_and_the_next_one_works(tmp_path, monkeypatch) -> None:
    write = os.write

    def interrupted(file: int, data: memoryview) -> int:
        write(file, data[: len(data) // 2])
        raise KeyboardInterrupt

    with open_store(tmp_path) as store:
        store.put(numbered(0, 3))
        monkeypatch.setattr(os, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            store.put(numbered(3, 6))
        monkeypatch.setattr(os, "write", write)
        store.put(numbered(6, 9))
    (path,) = segments(tmp_path / KEY)
    assert scan(path.read_bytes()).lost_bytes == 0
    assert numbers(open_store(tmp_path).load()) == [0, 1, 2, 6, 7, 8]


def test_a_disk_that_refuses_the_flush_is_named(tmp_path, monkeypatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    store = open_store(tmp_path)
    store.put(numbered(0, 3))
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="No space left on device; free space and run the same"):
        store.close()


LIMITED = """
import resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_segments import fill, open_store
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
print(fill(open_store(Path(sys.argv[1]))))
"""


def test_a_limit_on_the_size_of_files_loses_nothing_that_was_put(tmp_path: Path) -> None:
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 50_000
    command = [sys.executable, "-c", LIMITED, str(tmp_path), str(Path(__file__).parent)]
    put = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert put > 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert numbers(open_store(tmp_path).load()) == list(range(put))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 200 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k", "olmeval-test", str(folder)],
        capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_named_and_freeing_space_is_enough(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(50_000))
    with open_store(small_disk) as store:
        put = fill(store)
        assert put > 0
        with pytest.raises(UserError, match="No space left on device; free space and run the same"):
            store.put(numbered(put, put + 50))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert numbers(store.load()) == list(range(put))
            ballast.unlink()
            store.put(numbered(put, put + 50))
            assert numbers(store.load()) == list(range(put + 50))
