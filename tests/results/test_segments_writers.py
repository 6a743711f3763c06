"""The shared store: several processes, killed writers, and disks that fail or are full."""

import errno
import fcntl
import os
import resource
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from olmeval.errors import UserError
from olmeval.results.segments import scan, segments
from tests.results.segment_files import KEY, ends, fill, filled, numbered, numbers, open_store

WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[4])
from segment_files import numbered, open_store
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
from segment_files import fill, open_store
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
