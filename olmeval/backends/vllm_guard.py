"""Ends an engine's processes when this process is killed.

vLLM's processes outlive a parent that had no time to stop them (``kill -9``, the out-of-memory
killer) and keep their memory, so the run that continues would find no room. A shell, which costs
next to nothing, waits for the end of a pipe that closes when this process dies.
"""

import contextlib
import multiprocessing
import subprocess
import threading
from collections.abc import Iterator

# Reads process ids until the pipe ends; asks them to stop, and ten seconds later makes them.
_SCRIPT = """
while read -r pid; do pids="$pids $pid"; done
[ -z "$pids" ] || { kill $pids; sleep 10; kill -9 $pids; }
"""
_POLL_SECONDS = 0.05


class Guard:
    """Watches over processes of ``multiprocessing`` that are started within :meth:`watching`."""

    def __init__(self) -> None:
        # In a session of its own, so that Ctrl-C does not end it before its time.
        self._shell = subprocess.Popen(
            ["/bin/sh", "-c", _SCRIPT], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        self._told = set(multiprocessing.active_children())

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Takes note of processes as they start, since starting an engine takes long."""
        done = threading.Event()

        def watch() -> None:
            while not done.wait(_POLL_SECONDS):
                self._tell()

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
            self._tell()

    def _tell(self) -> None:
        assert self._shell.stdin is not None
        for process in set(multiprocessing.active_children()) - self._told:
            self._told.add(process)
            with contextlib.suppress(BrokenPipeError):  # somebody killed the shell
                self._shell.stdin.write(b"%d\n" % (process.pid or 0))
                self._shell.stdin.flush()

    def dismiss(self) -> None:
        """The processes have ended."""
        self._shell.kill()
        self._shell.communicate()
