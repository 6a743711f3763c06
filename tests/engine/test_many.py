"""A hundred checkpoints in one command: killed and resumed, spread over workers, in flat memory."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from olmeval.backends.base import COUNTS, ModelInfo
from olmeval.engine.evaluate import _joined
from tests.conftest import make_checkpoint
from tests.engine.killing import run_killed
from tests.engine.private_tasks import write_boxes

SPECS = ("boxes:rc", "boxes:bpb", "boxes:mc", "boxes:genqa")
FILES = ("metrics.json", "responses.parquet", "instances.parquet", "requests.parquet")


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory, tokenizer_dir: Path) -> Path:
    """A folder of a hundred steps with weights of their own."""
    folder = tmp_path_factory.mktemp("many") / "steps"
    for seed in range(100):
        make_checkpoint(folder / f"step{seed}", tokenizer_dir, seed=seed)
    return folder


@pytest.fixture(scope="module")
def task_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_boxes(tmp_path_factory.mktemp("tasks"), 12)


def command(models: Path, task_dir: Path, output: Path, *more: str) -> list[str]:
    return [
        sys.executable, "-m", "olmeval.cli.main", "run", "--model", str(models), "--tasks", *SPECS,
        "--task-path", str(task_dir), "--device", "cpu", "--output", str(output / "runs"),
        "--store", str(output / "store"), *more,
    ]  # fmt: skip


def files(output: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(output)): file.read_bytes()
        for name in FILES
        for file in sorted(output.glob(f"runs/*/{name}"))
    }


@pytest.fixture(scope="module")
def undisturbed(checkpoints: Path, task_dir: Path, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("undisturbed")
    peak = _peak_rss(command(checkpoints, task_dir, output))
    assert len(files(output)) == 100 * len(FILES)
    (output / "peak").write_text(str(peak))
    return output


@pytest.mark.slow
def test_killed_three_times_and_resumed(checkpoints, task_dir, undisturbed, tmp_path) -> None:
    seen = [0]

    def at_work() -> bool:
        """A few more models are finished."""
        count = len(list(tmp_path.glob("runs/*/metrics.json")))
        fresh = count >= seen[0] + 10
        if fresh:
            seen[0] = count
        return fresh

    hit = run_killed(command(checkpoints, task_dir, tmp_path), 3, at_work, 2.0, seed=5)
    assert hit == 3
    assert files(tmp_path) == files(undisturbed)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_models(
    checkpoints, task_dir, undisturbed, tmp_path
) -> None:
    few = tmp_path / "few"
    for step in range(10):
        shutil.copytree(checkpoints / f"step{step}", few / f"step{step}")
    of_few = _peak_rss(command(few, task_dir, tmp_path))
    of_all = int((undisturbed / "peak").read_text())
    print(f"{of_few / 2**20:.0f} MiB for 10, {of_all / 2**20:.0f} MiB for 100")
    assert of_all < 1.05 * of_few


def _peak_rss(arguments: list[str]) -> int:
    """Peak resident memory of a command in bytes."""
    code = (
        "import json, resource, subprocess, sys\n"
        "subprocess.run(json.loads(sys.argv[1]), check=True, stdout=subprocess.DEVNULL)\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(arguments)], check=True, capture_output=True,
        text=True,
    )  # fmt: skip
    return int(done.stdout) * 1024


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["local", "ray"])
def test_workers_give_the_same_numbers_though_one_is_killed(
    executor, checkpoints, task_dir, undisturbed, tmp_path
) -> None:
    if executor == "ray":
        pytest.importorskip("ray")
    few = tmp_path / "steps"
    for step in range(6):
        shutil.copytree(checkpoints / f"step{step}", few / f"step{step}")
    mark = f"OLMEVAL_TEST={uuid.uuid4().hex}"
    name, value = mark.split("=")
    driver = subprocess.Popen(
        command(few, task_dir, tmp_path, "--executor", executor, "--workers", "2"),
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        env={**os.environ, name: value},
    )  # fmt: skip
    while driver.poll() is None and not list(tmp_path.glob("store/*/*.seg")):
        time.sleep(0.05)
    victims = [pid for pid in processes(mark) if is_worker(pid, driver.pid)]
    assert victims, "no worker is at work"
    os.kill(victims[0], signal.SIGKILL)
    _, stderr = driver.communicate()
    assert driver.returncode == 0, stderr
    ours = files(tmp_path)
    assert len(ours) == 6 * len(FILES)
    assert ours == {name: data for name, data in files(undisturbed).items() if name in ours}


def processes(mark: str) -> list[int]:
    """Processes whose environment holds ``mark``."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
        except OSError:  # it has ended, or is another user's
            continue
    return found


def is_worker(pid: int, driver: int) -> bool:
    """Whether a process is a Ray actor, or a pool's worker below ``driver``."""
    title = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return title.startswith("ray::Actor") or (pid != driver and "olmeval.executors" in title)


def test_what_workers_found_is_joined() -> None:
    def told(scoring: dict[str, str], n: int, again: int) -> ModelInfo:
        settings = {"scoring": scoring, "n": n, COUNTS: {"asked_again": again}}
        return ModelInfo("m", "m", "f", None, None, 64, settings=settings)

    opened = replace(told({}, 0, 0), settings={"n": 0})
    info = _joined(opened, told({"one": "grouped"}, 1, 3))
    info = _joined(info, told({"several": "forced"}, 2, 4))
    assert info.settings == {
        "scoring": {"one": "grouped", "several": "forced"}, "n": 2, COUNTS: {"asked_again": 7}
    }  # fmt: skip
