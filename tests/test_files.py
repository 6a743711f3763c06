"""Locks between processes, and files that one of several writes."""

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from olmeval.errors import UserError
from olmeval.files import locked, try_lock, write_new

COUNT = """
import sys
from pathlib import Path
from olmeval.files import locked
number = Path(sys.argv[1])
for _ in range(200):
    with locked(number.with_name(".lock")):
        number.write_text(str(int(number.read_text()) + 1))
"""


def test_processes_take_turns(tmp_path: Path) -> None:
    number = tmp_path / "number"
    number.write_text("0")
    command = [sys.executable, "-c", COUNT, str(number)]
    processes = [subprocess.Popen(command) for _ in range(3)]
    assert [p.wait() for p in processes] == [0, 0, 0]
    assert number.read_text() == "600"


def test_a_lock_in_use_is_refused_and_free_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "folder" / ".lock"
    with locked(path):
        with pytest.raises(UserError, match="busy"), locked(path, "busy"):
            pass
        with path.open("w") as file:
            assert not try_lock(file.fileno())
    with pytest.raises(ZeroDivisionError), locked(path, "busy"):
        raise ZeroDivisionError
    with path.open("w") as file:
        assert try_lock(file.fileno())


def test_folders_without_writing_or_locks_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write '.*file'"), locked(tmp_path / "file/lock"):
        pass

    def unsupported(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", unsupported)
    expected = r"cannot lock '.*lock': No locks available; choose a folder"
    with pytest.raises(UserError, match=expected), locked(tmp_path / "lock"):
        pass


CLAIM = """
import sys, time
from pathlib import Path
from olmeval.files import write_new
while not Path("go").exists():
    time.sleep(0.001)
print([write_new(Path(f"{k}.json"), sys.argv[1]) for k in range(100)])
"""


def test_each_new_file_is_written_by_one_process(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen([sys.executable, "-c", CLAIM, str(k) * 5000], cwd=tmp_path,
                         stdout=subprocess.PIPE, text=True)
        for k in range(3)
    ]  # fmt: skip
    (tmp_path / "go").write_text("")
    written = [eval(process.communicate()[0]) for process in processes]
    for k, by in enumerate(zip(*written, strict=True)):
        assert sum(by) == 1
        assert (tmp_path / f"{k}.json").read_text() == str(by.index(True)) * 5000
    assert len(list(tmp_path.iterdir())) == 101


def test_a_new_file_without_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr("os.link", refused)
    assert write_new(tmp_path / "a", "first") and not write_new(tmp_path / "a", "second")
    assert [file.name for file in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "first"
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write '.*file/a'"):
        write_new(tmp_path / "file" / "a", "text")
