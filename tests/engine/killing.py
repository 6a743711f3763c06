"""Kills a command at random moments of its work and runs it again, until it ends by itself."""

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Sequence


def run_killed(
    command: Sequence[str], kills: int, at_work: Callable[[], bool], longest: float, seed: int
) -> int:
    """Runs ``command``, SIGKILLs it ``kills`` times, then lets it end.

    Each kill comes up to ``longest`` seconds after ``at_work`` turned true. Returns how many kills
    hit the command while it ran; the last run must exit with 0.
    """
    rng = random.Random(seed)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    hit = 0
    for _ in range(kills):
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        while process.poll() is None and not at_work():
            time.sleep(0.005)
        time.sleep(rng.uniform(0, longest))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            hit += 1
        process.wait()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return hit
