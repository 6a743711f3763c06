"""Worker processes for graders: one request at a time each, a hard limit, death and replacement.

The workers are fresh interpreters that talk JSON over pipes: nothing is forked from a process
that may hold a device or threads, and nothing of the caller's main module is imported again.
"""

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue

START_LIMIT = 60.0  # seconds for the imports, on a busy machine
GRACE = 1.0  # seconds after the limit until a worker that ignores its alarm is killed


@dataclass(frozen=True)
class Job:
    """One comparison: name of the worker's function, gold and answer."""

    grader: str
    gold: str
    answer: str


class WorkerDiedError(Exception):
    """The process ended or its pipe broke."""


class _StuckError(Exception):
    """No answer within the hard limit."""


class Worker:
    """A running grader process; raises :class:`WorkerDiedError` when it cannot be started."""

    def __init__(self) -> None:
        path = [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path), "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "olmeval.metrics.gradeworker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        try:
            if self._receive(START_LIMIT) != "ready":
                raise WorkerDiedError
        except (WorkerDiedError, _StuckError):
            self.close()
            raise WorkerDiedError from None

    def grade(self, job: Job, timeout: float) -> str:
        """The status of one comparison; raises when the process dies or must be killed."""
        request = {
            "grader": job.grader, "gold": job.gold, "answer": job.answer, "limit": timeout,
        }  # fmt: skip
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise WorkerDiedError from None
        return self._receive(timeout + GRACE)

    def _receive(self, limit: float) -> str:
        assert self._process.stdout is not None
        descriptor, line = self._process.stdout.fileno(), b""
        deadline = time.monotonic() + limit
        poll = select.poll()
        poll.register(descriptor, select.POLLIN | select.POLLHUP)
        while not line.endswith(b"\n"):
            # poll, for select() refuses descriptors over 1023.
            if not poll.poll(1000 * max(0.0, deadline - time.monotonic())):
                raise _StuckError
            part = os.read(descriptor, 65536)
            if not part:
                raise WorkerDiedError
            line += part
        status: str = json.loads(line)["status"]
        return status

    def close(self) -> None:
        """Kills the process and frees its pipes."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                # A request that a dead process never read is lost on purpose.
                try:
                    pipe.close()
                except OSError:
                    continue


def run_jobs(jobs: Sequence[Job], workers: int, timeout: float) -> Iterator[tuple[Job, str]]:
    """Every job with its status, in any order.

    "timeout" when it took longer than ``timeout`` seconds; "crashed" when it killed two workers
    that had just proven to work; "error" when no worker can be started.
    """
    if not jobs:
        return
    queue: SimpleQueue[Job] = SimpleQueue()
    for job in jobs:
        queue.put(job)
    count = max(1, min(workers, len(jobs)))
    with ThreadPoolExecutor(count) as threads:
        for done in [threads.submit(_serve, queue, timeout) for _ in range(count)]:
            yield from done.result()
    # Left over only when no thread could start a worker any more.
    while not queue.empty():
        yield queue.get(), "error"


def _serve(queue: "SimpleQueue[Job]", timeout: float) -> list[tuple[Job, str]]:
    """Works off the queue with one worker process at a time; stops when none can be started."""
    done: list[tuple[Job, str]] = []
    worker: Worker | None = None
    try:
        while True:
            try:
                worker = worker or Worker()
                job = queue.get_nowait()
            except (Empty, WorkerDiedError, OSError):
                return done
            status = _attempt(worker, job, timeout)
            if status in ("stuck", "died"):
                worker.close()
                worker = None
            if status == "died":
                # Once more, alone with a fresh worker: was it the answer or the machine?
                try:
                    worker = Worker()
                except (WorkerDiedError, OSError):
                    done.append((job, "error"))
                    return done
                status = _attempt(worker, job, timeout)
                if status in ("stuck", "died"):
                    worker.close()
                    worker = None
            done.append((job, {"stuck": "timeout", "died": "crashed"}.get(status, status)))
    finally:
        if worker is not None:
            worker.close()


def _attempt(worker: Worker, job: Job, timeout: float) -> str:
    try:
        return worker.grade(job, timeout)
    except _StuckError:
        return "stuck"
    except WorkerDiedError:
        return "died"
