"""Interrupts a driver at work and looks for what is left of its workers."""

import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.executors import jobs

ROOT = Path(__file__).parents[2]


def interrupt(
    executor: str, function: str, how: signal.Signals, folder: Path
) -> tuple[float, list[int]]:
    """Sends ``how`` to a driver whose two workers are busy.

    Returns the seconds that it took to end, and the processes that its workers were: theirs and
    their children's.
    """
    with (folder / "stderr").open("wb") as stderr:
        driver = subprocess.Popen(
            [sys.executable, "-m", "tests.executors.driver", executor, function, str(folder)],
            cwd=ROOT, stdout=subprocess.DEVNULL, stderr=stderr, start_new_session=True,
        )  # fmt: skip
    deadline = time.monotonic() + 60
    while len(jobs.pids_in(folder)) < 4 and driver.poll() is None:
        assert time.monotonic() < deadline, "the workers did not start"
        time.sleep(0.05)
    assert driver.poll() is None, (folder / "stderr").read_text()
    started = time.monotonic()
    driver.send_signal(how)
    driver.wait(30)
    return time.monotonic() - started, jobs.pids_in(folder)


def ended(pids: list[int], within: float) -> bool:
    """Whether all processes are gone, or about to be buried, so soon."""
    deadline = time.monotonic() + within
    while any(_alive(pid) for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    # The state follows the command in parentheses; a zombie waits for its parent's attention.
    return stat.rpartition(")")[2].split()[0] != "Z"
