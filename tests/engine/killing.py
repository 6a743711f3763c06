"""Kills a command at random moments and runs it again, until it ends by itself."""

import os
import random
import signal
import subprocess
import time
from collections.abc import Sequence


def run_killed(command: Sequence[str], kills: int, longest: float, seed: int) -> int:
    """Runs ``command``, SIGKILLs it ``kills`` times after random delays, then lets it end.

    Returns how many kills hit it while it ran; the last run must exit with 0.
    """
    rng = random.Random(seed)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    hit = 0
    for _ in range(kills):
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip
        time.sleep(rng.uniform(0, longest))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            hit += 1
        process.communicate()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return hit
