"""Whole runs on one store: two at once, on a disk that fills up, with a byte that flips."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.private_tasks import write_boxes

FILES = ("metrics.json", "responses.parquet", "instances.parquet", "requests.parquet")


@pytest.fixture(scope="module")
def task_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_boxes(tmp_path_factory.mktemp("tasks"), 120)


def command(checkpoint: Path, task_dir: Path, output: Path, store: Path) -> list[str]:
    return [
        sys.executable, "-m", "olmeval.cli.main", "run", "--model", str(checkpoint), "--tasks",
        "boxes:rc", "boxes:bpb", "boxes:genqa", "--task-path", str(task_dir), "--device", "cpu",
        "--batch-size", "4", "--output", str(output), "--store", str(store),
    ]  # fmt: skip


def run(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(arguments, capture_output=True, text=True, check=False)


def files(output: Path) -> dict[str, bytes]:
    return {name: next(output.glob(f"*/{name}")).read_bytes() for name in FILES}


@pytest.fixture(scope="module")
def undisturbed(checkpoint: Path, task_dir: Path, tmp_path_factory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("undisturbed")
    done = run(command(checkpoint, task_dir, folder / "runs", folder / "store"))
    assert done.returncode == 0, done.stderr
    return files(folder / "runs")


@pytest.mark.slow
def test_two_runs_at_once_and_then_a_flipped_byte(
    checkpoint, task_dir, undisturbed, tmp_path
) -> None:
    store = tmp_path / "store"
    both = [
        subprocess.Popen(
            command(checkpoint, task_dir, tmp_path / name, store), stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True,
        )
        for name in "ab"
    ]  # fmt: skip
    for process in both:
        _, stderr = process.communicate()
        assert process.returncode == 0, stderr
    assert files(tmp_path / "a") == files(tmp_path / "b") == undisturbed

    segments = sorted(store.rglob("*.seg"))
    assert segments
    for segment in segments:
        data = bytearray(segment.read_bytes())
        data[len(data) // 2] ^= 0x10
        segment.write_bytes(data)
    checked = run(
        [sys.executable, "-m", "olmeval.cli.main", "cache", "verify", "--store", str(store)]
    )
    assert checked.returncode == 1, checked.stderr
    done = run(command(checkpoint, task_dir, tmp_path / "c", store))
    assert done.returncode == 0
    assert "damaged" in done.stderr
    assert "Traceback" not in done.stderr
    assert files(tmp_path / "c") == undisturbed


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    done = run(["mount", "-t", "tmpfs", "-o", "size=300k", "olmeval-test", str(folder)])
    if done.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.slow
def test_a_disk_that_fills_up_in_the_middle(
    checkpoint, task_dir, undisturbed, small_disk, tmp_path
) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(280_000))
    arguments = command(checkpoint, task_dir, tmp_path / "runs", small_disk)
    done = run(arguments)
    assert done.returncode == 2
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("runs/*/metrics.json"))
    ballast.unlink()
    done = run(arguments)
    assert done.returncode == 0, done.stderr
    assert files(tmp_path / "runs") == undisturbed
