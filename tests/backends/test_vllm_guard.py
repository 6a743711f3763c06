"""Processes end with the one that started them, however it ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = """
import multiprocessing, os, sys, time
from olmeval.backends.vllm_guard import Guard

def stubborn(ready):
    import signal
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ready.set()
    time.sleep(100)

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    other = context.Process(target=time.sleep, args=(100,))
    other.start()
    guard = Guard()
    with guard.watching():
        children = [context.Process(target=time.sleep, args=(100,))]
        if sys.argv[1] == "stubborn":
            children.append(context.Process(target=stubborn, args=(ready,)))
        for child in children:
            child.start()
        if sys.argv[1] == "stubborn":
            ready.wait()
        print(other.pid, *(child.pid for child in children), flush=True)
        if sys.argv[1] == "early":
            time.sleep(0.3)  # an engine takes longer than that to start
            os.kill(os.getpid(), 9)
    if sys.argv[1] == "dismissed":
        guard.dismiss()
    os.kill(os.getpid(), 9)
"""


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"  # nobody may be there to collect it


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="there is no /proc")
@pytest.mark.parametrize(
    ("how", "seconds", "ends"),
    [("early", 5, True), ("late", 5, True), ("stubborn", 15, True), ("dismissed", 2, False)],
)
def test_children_of_a_killed_process(tmp_path: Path, how: str, seconds: int, ends: bool) -> None:
    file = tmp_path / "parent.py"
    file.write_text(SCRIPT)
    # To a file: a pipe would stay open until the last child has ended.
    with (tmp_path / "out").open("w") as out:
        done = subprocess.run(
            [sys.executable, file, how], stdout=out, stderr=subprocess.DEVNULL, check=False,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}, timeout=60,
        )  # fmt: skip
    assert done.returncode == -signal.SIGKILL
    other, *children = map(int, (tmp_path / "out").read_text().split())
    try:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and any(map(alive, children)):
            time.sleep(0.1)
        assert [alive(pid) for pid in children] == [not ends] * len(children)
        assert alive(other)  # not the guard's business
    finally:
        for pid in [other, *filter(alive, children)]:
            os.kill(pid, signal.SIGKILL)
