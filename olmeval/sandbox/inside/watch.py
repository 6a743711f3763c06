"""One run seen from outside of its namespaces: its clock, its memory, its output, its end."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from olmeval.sandbox.inside.spawner import Box

# First in every report, written when all limits are in place and before anything that a program
# says can be: where it is missing, the jail failed and not the program.
STARTED = b"+"
REPORT_BYTES = 4 << 20  # of a runner's report; what is beyond is dropped
CROWDED = 3.0  # a run gets at most so many times its wall limit where it waits for a core
# Seconds between looks at memory and files, where nothing counts them.
FIRST_LOOK, EVERY = 0.02, 0.03


class Capture:
    """The first and last half of ``limit`` bytes; ``dropped`` counts those between."""

    def __init__(self, limit: int, tail: bool = True) -> None:
        self._head, self._tail = bytearray(), bytearray()
        self._room, self._keep, self.dropped = limit, 0, 0
        if tail:
            self._room, self._keep = limit - limit // 2, limit // 2

    def add(self, data: bytes) -> None:
        room = self._room - len(self._head)
        if room > 0:
            self._head += data[:room]
            data = data[room:]
        self._tail += data
        if len(self._tail) > 2 * self._keep:
            self._trim()

    def _trim(self) -> None:
        excess = max(0, len(self._tail) - self._keep)
        del self._tail[:excess]
        self.dropped += excess

    def take(self) -> bytearray:
        """All that is kept, with a line that says what is not."""
        self._trim()
        result = self._head
        if self.dropped and self._keep:
            result += f"\n[{self.dropped} bytes dropped]\n".encode()
        return result + self._tail


class Part:
    """A role, or a command with its steps: one tree of processes at a time.

    ``fork(step)`` starts a step's process: its id and the pipes of stdout, stderr, report.
    """

    def __init__(
        self, request: dict[str, Any], box: Box | None,
        fork: Callable[[int], tuple[int, list[int]]], tmp: str,
    ) -> None:  # fmt: skip
        self.request, self.box, self._fork, self.tmp = request, box, fork, tmp
        self.steps: list[dict[str, Any]] = request.get("steps", [request])
        self.answers: list[tuple[dict[str, Any], list[bytearray]]] = []
        self.ended = False

    def begin(self) -> None:
        """Starts the next step."""
        limits = self.steps[len(self.answers)]["limits"]
        self.seconds, self.memory, self.delay = float(limits["seconds"]), limits["memory"], 0.0
        keep = limits["output_bytes"]
        self.captures = [Capture(keep), Capture(keep), Capture(REPORT_BYTES, tail=False)]
        self.cause: str | None = None  # why the outside ended it
        self.stopped = False  # whether it did
        self.pid, self.pipes = self._fork(len(self.answers))
        self.start = time.monotonic()
        self.descriptor = os.pidfd_open(self.pid)
        for pipe in self.pipes:
            os.set_blocking(pipe, False)

    def deadline(self) -> float:
        return self.start + self.seconds + self.delay

    def drain(self, number: int, pieces: float = 8) -> None:
        """Reads what a pipe holds; not for ever from one that is filled as fast as it is read."""
        with suppress(BlockingIOError):
            while pieces > 0:
                data = os.read(self.pipes[number], 1 << 16)
                if not data:
                    return
                self.captures[number].add(data)
                pieces -= 1

    def kill(self, cause: str | None = None) -> None:
        """Ends the tree, at once and wherever its processes have gone."""
        self.cause, self.stopped = self.cause or cause, True
        if self.box is not None:
            self.box.kill()
        else:
            for signal_it in (os.kill, os.killpg):  # it may not lead its group yet
                with suppress(ProcessLookupError):
                    signal_it(self.pid, signal.SIGKILL)

    def finish_step(self) -> bool:
        """The step's process has ended: collects what it left; whether another step follows."""
        seconds, stopped = time.monotonic() - self.start, self.stopped
        _, status, usage = os.wait4(self.pid, 0)
        more = status == 0 and self.cause is None and len(self.answers) + 1 < len(self.steps)
        if self.box is None:
            self.kill()
            with suppress(ChildProcessError):
                while True:
                    os.waitpid(-self.pid, 0)
        elif more:
            self.box.clean()
        else:
            self.box.kill()
            select.select([self.box.descriptor], [], [])  # everything inside is gone
            os.close(self.box.descriptor)
        for number in range(3):
            self.drain(number, float("inf"))  # whoever wrote is dead
        for descriptor in (*self.pipes, self.descriptor):
            os.close(descriptor)
        answer: dict[str, Any] = {
            "code": None if os.WIFSIGNALED(status) else os.WEXITSTATUS(status),
            "signal": os.WTERMSIG(status) if os.WIFSIGNALED(status) else None,
            "seconds": seconds, "cpu": usage.ru_utime + usage.ru_stime,
            "rss": usage.ru_maxrss * 1024,
        }  # fmt: skip
        answer["status"] = self.cause or _meaning(answer, self.seconds)
        contents = [capture.take() for capture in self.captures]
        if contents[2][:1] == STARTED:
            del contents[2][:1]
        elif not stopped:
            answer["status"] = "infrastructure"
        self.answers.append((answer, contents))
        self.ended = not more
        return more


def _meaning(answer: dict[str, Any], limit: float) -> str:
    ended_by = answer["signal"]
    if ended_by is None:
        return "exited"
    if ended_by == signal.SIGSYS:
        return "blocked"
    if ended_by in (signal.SIGXCPU, signal.SIGKILL) and answer["cpu"] >= limit:
        return "timeout"
    return "signal"


class Watch:
    """The one or two parts of a run."""

    def __init__(self, oom_counter: int) -> None:
        """``oom_counter``: open file that counts a cgroup's kills for memory, or -1."""
        self.oom = oom_counter
        self.parts: list[Part] = []
        self._kills = self._count()
        self._look = time.monotonic() + FIRST_LOOK
        self._base = _resident(os.getpid()) if oom_counter < 0 else 0

    def until_end(self) -> None:
        """Follows the run until its processes are gone."""
        poll = select.poll()
        owners: dict[int, tuple[Part, int]] = {}

        def listen(part: Part) -> None:
            for number, descriptor in enumerate([*part.pipes, part.descriptor]):
                owners[descriptor] = (part, number)
                poll.register(descriptor, select.POLLIN)

        def forget(descriptor: int) -> None:
            if owners.pop(descriptor, None):
                poll.unregister(descriptor)

        for part in self.parts:
            listen(part)
        while not all(part.ended for part in self.parts):
            for descriptor, event in poll.poll(self._timeout() * 1000):
                if descriptor not in owners:
                    continue  # of a part that ended in this round
                part, number = owners[descriptor]
                if number < 3:
                    part.drain(number)
                    if not event & select.POLLIN:
                        forget(descriptor)  # hung up
                    continue
                for old in (*part.pipes, part.descriptor):
                    forget(old)
                if part.finish_step():
                    part.begin()
                    listen(part)
                elif part is self.parts[0]:  # the trusted role's end is the run's
                    self._stop(None)
            self._check_time()
            self._check_memory_and_files()

    def _running(self) -> list[Part]:
        return [part for part in self.parts if not part.ended]

    def _timeout(self) -> float:
        until = min(part.deadline() for part in self._running())
        if self._looks():
            until = min(until, self._look)
        return max(0.0, until - time.monotonic()) + 0.001

    def _check_time(self) -> None:
        running = self._running()
        for part in running:
            if part.cause is None and part.deadline() <= time.monotonic():
                waited = max(_waited(p.pid) for p in running)
                delay = min(waited, (CROWDED - 1) * part.seconds)
                if delay > part.delay + 0.01:
                    part.delay = delay
                else:
                    self._stop("timeout")

    def _looks(self) -> bool:
        """Whether no cgroup counts memory, or no mount bounds files."""
        return self.oom < 0 or any(part.box is None for part in self.parts)

    def _check_memory_and_files(self) -> None:
        now = time.monotonic()
        if now < self._look or not self._looks():
            return
        self._look = now + EVERY
        running = self._running()
        if self.oom < 0:
            used = sum(
                max(0, _resident(pid) - self._base)
                for part in running
                for pid in _tree(part.pid if part.box is None else part.box.pid, part.pid)
            )
            if running and used > max(part.memory for part in running):
                self._stop("memory")
        for part in running:
            limits = part.request["limits"]
            if part.box is None and _fills(part.tmp, limits["file_bytes"], limits["inodes"]):
                self._stop("blocked")

    def _stop(self, cause: str | None) -> None:
        for part in self._running():
            part.kill(cause)

    def kill(self) -> None:
        """Ends what still runs; for a zygote that cannot go on with a run."""
        for part in self._running():
            part.kill()

    def _count(self) -> int:
        if self.oom < 0:
            return 0
        for line in os.pread(self.oom, 4096, 0).splitlines():
            if line.startswith(b"oom_kill "):
                return int(line.split()[1])
        return 0

    def answer(self) -> tuple[dict[str, Any], list[bytearray]]:
        """What the host is told: a header, and stdout, stderr and report of every part."""
        answers = [answer for part in self.parts for answer in part.answers]
        if self._count() > self._kills:
            answers[-1][0]["status"] = "memory"
        header = {"parts": [answer for answer, _ in answers]}
        return header, [content for _, contents in answers for content in contents]


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children") as file:
                found += [int(word) for word in file.read().split()]
    return found


def _tree(*roots: int) -> list[int]:
    """Processes and their descendants; orphans are children of a box's first process."""
    found = list(dict.fromkeys(roots))
    for process in found:
        found += _children(process)
    return found


def _fills(folder: str, most: int, inodes: int) -> bool:
    """Whether there are more bytes or more files in a folder than allowed."""
    size = count = 0
    for path, folders, files in os.walk(folder):
        count += len(folders) + len(files)
        for name in files:
            with suppress(OSError):
                size += os.lstat(os.path.join(path, name)).st_blocks * 512
        if size > most or count > inodes:
            return True
    return False


def _resident(pid: int) -> int:
    """Bytes of memory of a process that no file stands behind."""
    kilobytes = 0
    with suppress(OSError), open(f"/proc/{pid}/status") as file:
        for line in file:
            if line.startswith(("RssAnon:", "RssShmem:")):
                kilobytes += int(line.split()[1])
    return kilobytes * 1024


def _waited(pid: int) -> float:
    """Seconds that a process was ready to run and had no core."""
    with suppress(OSError, IndexError), open(f"/proc/{pid}/schedstat") as file:
        return int(file.read().split()[1]) / 1e9
    return 0.0
