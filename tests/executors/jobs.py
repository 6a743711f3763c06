"""Jobs for the tests of executors; they run in other processes, which import them from here."""

import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from olmeval.errors import UserError

Report = Callable[[Any], None]

loaded: list[Any] = []  # what this process has done: lives as long as the worker is warm


def square(job: int, report: Report) -> int:
    report(1)
    return job * job


def where(job: Any, report: Report) -> tuple[int, list[Any]]:
    """The process, and all jobs that it has had."""
    loaded.append(job)
    time.sleep(0.02)
    return os.getpid(), list(loaded)


def environment(names: list[str], report: Report) -> dict[str, str | None]:
    return {name: os.environ.get(name) for name in names}


def device_of(job: int, report: Report) -> str | None:
    return os.environ.get("CUDA_VISIBLE_DEVICES")


def device_of_process(job: int, report: Report) -> tuple[int, str | None]:
    time.sleep(0.05)
    return os.getpid(), os.environ.get("CUDA_VISIBLE_DEVICES")


def on_main_thread(job: int, report: Report) -> bool:
    return threading.current_thread() is threading.main_thread()


def torch_threads(job: int, report: Report) -> int:
    import torch

    return torch.get_num_threads()


def mixed(job: tuple[str, int], report: Report) -> int:
    """Does what the job says: return a number, or fail in one way or another."""
    kind, value = job
    if kind == "user":
        raise UserError(f"the file of job {value} is empty; give it content")
    if kind == "bug":
        raise RuntimeError(f"broken {value}")
    if kind == "exit":
        sys.exit(value)
    return 3 * value + 1


def once(job: tuple[str, Path], report: Report) -> str:
    """Fails in the way named at the first attempt, succeeds at the second."""
    how, marker = job
    report(10)
    if marker.exists():
        report(5)
        return how
    marker.touch()
    time.sleep(0.3)
    report(1)  # a second message of the attempt that fails
    if how == "raise":
        raise RuntimeError("first time")
    die(how)
    return "alive"


def die(how: str) -> None:
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "exit":
        os._exit(7)
    if how == "segv":
        print("about to touch address zero", file=sys.stderr)
        os.kill(os.getpid(), signal.SIGSEGV)
    if how == "forked":
        # A child that holds the worker's files open, the connection to the driver among them.
        if os.fork() == 0:
            time.sleep(600)
        os.kill(os.getpid(), signal.SIGKILL)


def always_die(job: str, report: Report) -> None:
    print(f"last words of {job}", file=sys.stderr)
    die(job)


def deadly(job: int, report: Report) -> int:
    """Kills its process when the job is negative."""
    if job < 0:
        die("kill")
    return job


def nap(job: float, report: Report) -> float:
    time.sleep(job)
    return job


def warn(job: int, report: Report) -> int:
    warnings.warn(f"job {job % 2} found a damaged file", stacklevel=1)
    return job


def noisy(job: int, report: Report) -> int:
    print("x" * 100_000)
    print("y" * 100_000, file=sys.stderr, flush=True)
    return job


def big(job: bytes, report: Report) -> np.ndarray:
    """50 MB whose content depends on the job."""
    return np.arange(50 << 20, dtype=np.uint8) * np.uint8(len(job) % 251)


def unpicklable(job: int, report: Report) -> Any:
    if job == 1:
        return lambda: job
    return job


def counts(job: Path, report: Report) -> list[int]:
    """Reports until somebody has heard it and made the file, then 50 times more."""
    total = np.zeros(2, np.int64)
    deadline = time.monotonic() + 60
    left = 50
    while left and time.monotonic() < deadline:
        left -= job.exists()
        step = np.array([1, left], np.int64)
        total += step
        report(step)
        time.sleep(0.01)
    return total.tolist()


def sleep(job: tuple[Path, float], report: Report) -> None:
    """Notes its process and a child's in a file of its own, then works for so long."""
    folder, seconds = job
    child = subprocess.Popen(["sleep", "600"])
    file = folder / f"{os.getpid()}.tmp"
    file.write_text(str(child.pid))
    file.rename(file.with_suffix(".pids"))
    time.sleep(seconds)


def stubborn(job: tuple[Path, float], report: Report) -> None:
    """Like :func:`sleep`, and cannot be asked to end."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sleep(job, report)


def pids_in(folder: Path) -> list[int]:
    """The processes that :func:`sleep` noted."""
    return [
        pid for file in folder.glob("*.pids") for pid in (int(file.stem), int(file.read_text()))
    ]


def draw(job: int, report: Report) -> tuple[int, list[float]]:
    """The process, and floats that depend on the job alone, after a while."""
    time.sleep(0.005 * (job % 5))
    return os.getpid(), drawn(job)


def drawn(job: int) -> list[float]:
    return np.random.default_rng(job).normal(size=5).tolist()
