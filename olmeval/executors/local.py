"""The pool of worker processes on this machine.

Workers are fresh interpreters on a socket pair: nothing is forked from a process that may hold a
device or threads, and nothing of the caller's main module runs again. What a worker must know
before torch is imported (threads, devices) is in its environment. Each leads a session of its own,
so that Ctrl-C at the terminal reaches the driver alone and that a worker's own children (an
engine's, a grader's) end with it. The end of the socket tells a worker that its driver is gone,
whatever killed it, and the driver that its worker is.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import wait
from pathlib import Path

from olmeval.executors.pool import Event, Pool, Slot
from olmeval.executors.resources import cores, gpus, slots_on, split, thread_settings

WAIT = 1.0  # seconds until workers are looked at whose pipe a child of theirs holds open
GRACE = 2.0  # seconds for a worker and its children to end by themselves
LAST_WORDS = 2000  # bytes of a dead worker's output that its error quotes
BOOT = (
    "import sys; sys.path[:] = sys.argv[2:]; "
    "from olmeval.executors.worker import main; main(int(sys.argv[1]))"
)


class LocalPool(Pool["LocalWorker"]):
    """``workers`` processes of ``threads`` threads and ``gpus_per_worker`` GPUs each."""

    def __init__(
        self,
        workers: int | None = None,
        *,
        gpus_per_worker: float | None = None,
        threads: int | None = None,
    ) -> None:
        """Defaults: one GPU a worker where there are any; as many workers as GPUs, else cores;
        the cores shared out as threads. Raises :class:`UserError` when the GPUs do not suffice.
        """
        devices = gpus()
        share = min(1, len(devices)) if gpus_per_worker is None else gpus_per_worker
        if workers is None:
            workers = max(1, slots_on(len(devices), share)) if share else cores()
        super().__init__(workers)
        self._devices = split(devices, workers, share)
        self._threads = thread_settings(threads or max(1, cores() // workers))

    def _start(self, number: int) -> "LocalWorker":
        devices = {"CUDA_VISIBLE_DEVICES": self._devices[number]}
        return LocalWorker({**os.environ, **self._threads, **devices})

    def _wait(
        self, slots: Sequence["Slot[LocalWorker]"]
    ) -> Iterator[tuple["Slot[LocalWorker]", Event]]:
        by_connection = {slot.worker.connection: slot for slot in slots}
        heard = wait(list(by_connection), timeout=WAIT)
        for connection, slot in by_connection.items():
            if connection in heard:
                yield slot, slot.worker.receive()
            elif slot.worker.is_dead():
                yield slot, Event("died", slot.worker.obituary())

    def _stop(self, slots: Sequence["Slot[LocalWorker]"]) -> None:
        for slot in slots:  # all of them at once, before waiting for any
            slot.worker.connection.close()
        super()._stop(slots)


class LocalWorker:
    """A running ``olmeval.executors.worker``; raises :class:`OSError` when it cannot be started."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.connection, theirs = Pipe()
        # Its output would tear the driver's progress bar; the end of it explains a death. The
        # file is opened for appending: the worker writes at its end, wherever we read.
        self._output = tempfile.TemporaryFile("a+b", buffering=0)  # noqa: SIM115
        try:
            path = [str(Path(entry or ".").resolve()) for entry in sys.path]
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-u", "-c", BOOT, str(theirs.fileno()), *path],
                stdin=subprocess.DEVNULL, stdout=self._output, stderr=self._output,
                env=environment, pass_fds=[theirs.fileno()], start_new_session=True,
            )  # fmt: skip
        except OSError:
            self.connection.close()
            self._output.close()
            raise
        finally:
            theirs.close()

    def submit(self, function: bytes | None, job: bytes) -> None:
        os.ftruncate(self._output.fileno(), 0)
        with suppress(OSError):  # dead; the next receive says so
            self.connection.send((function, job))

    def receive(self) -> Event:
        """What the worker sent, or its death."""
        try:
            return Event(*self.connection.recv())
        except (EOFError, OSError):
            return Event("died", self.obituary())

    def is_dead(self) -> bool:
        return self._process.poll() is not None and not self.connection.poll()

    def obituary(self) -> str:
        """How the process ended, with its last output on further lines."""
        try:
            code = self._process.wait(GRACE)
        except subprocess.TimeoutExpired:
            return self._quoted("the worker closed its connection")
        if code == -signal.SIGKILL:
            how = "was killed (SIGKILL, as the kernel does when memory runs out)"
        elif code < 0:
            how = f"died of {signal.Signals(-code).name}"
        else:
            how = f"exited with code {code}"
        return self._quoted(f"the worker {how}")

    def stop(self) -> None:
        self.connection.close()
        # The children get a moment, too: multiprocessing's tracker removes shared memory.
        deadline = time.monotonic() + GRACE
        while self._lives() and time.monotonic() < deadline:
            time.sleep(0.005)
        if self._lives():
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()  # should it have left its group
        self._process.wait()
        self._output.close()

    def _lives(self) -> bool:
        """Whether the process or any of its children is there."""
        self._process.poll()
        try:
            os.killpg(self._process.pid, 0)
        except (ProcessLookupError, PermissionError):
            return False
        return True

    def _quoted(self, sentence: str) -> str:
        size = os.fstat(self._output.fileno()).st_size
        tail = os.pread(self._output.fileno(), LAST_WORDS, max(0, size - LAST_WORDS))
        words = tail.decode(errors="replace").strip()
        return f"{sentence}; its last output:\n{words}" if words else sentence
