"""One run seen from outside of its namespaces: its clock, its memory, its output, its end."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import time
from contextlib import suppress
from typing import Any

REPORT_BYTES = 4 << 20  # of a runner's report; what is beyond is dropped
CROWDED = 3.0  # a run gets at most so many times its wall limit where it waits for a core
FIRST_LOOK, EVERY = 0.02, 0.03  # seconds between looks at memory, where no cgroup counts it


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
    """A role, or a command with its steps."""

    def __init__(
        self, request: dict[str, Any], pid: int, control: socket.socket, pipes: list[int]
    ) -> None:
        self.request, self.pid, self.control, self.pipes = request, pid, control, pipes
        for pipe in pipes:
            os.set_blocking(pipe, False)
        self.limits: list[dict[str, Any]] = [
            step["limits"] for step in request.get("steps", [request])
        ]
        self.answers: list[tuple[dict[str, Any], list[bytearray]]] = []
        self.group = 0
        self.failed: str | None = None
        self.ended = False
        self._heard = b""
        self._begin()

    def _begin(self) -> None:
        limits = self.limits[len(self.answers)]
        self.start, self.delay, self.seconds = time.monotonic(), 0.0, float(limits["seconds"])
        self.memory: int = limits["memory"]
        self.cause: str | None = None  # why the outside ended it
        self.told: dict[str, Any] | None = None
        keep = limits["output_bytes"]
        self.captures = [Capture(keep), Capture(keep), Capture(REPORT_BYTES, tail=False)]

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

    def hear(self) -> bool:
        """Reads what the first process says; False at its end."""
        try:
            data = self.control.recv(4096)
        except ConnectionResetError:
            return False
        self._heard += data
        *lines, self._heard = self._heard.split(b"\n")
        for line in lines:
            message = json.loads(line)
            self.group = message.get("group", self.group)
            self.failed = message.get("failed", self.failed)
            if "status" in message:
                self.told = message
            if "ended" in message:
                self.finish_step()
                self._begin()
                self.control.sendall(b"+")
        return bool(data)

    def main_process(self) -> int | None:
        """The candidate's id, as seen from here."""
        children = _children(self.pid)
        return children[0] if children else None

    def finish_step(self) -> None:
        for number in range(3):
            self.drain(number, float("inf"))  # whoever wrote is dead
        seconds = time.monotonic() - self.start
        told = self.told or {"status": None, "cpu": 0.0, "rss": 0}
        answer = {"seconds": seconds, "cpu": told["cpu"], "rss": told["rss"], "code": None,
                  "signal": None, "status": self.cause}  # fmt: skip
        status = told["status"]
        if status is not None:
            if os.WIFSIGNALED(status):
                answer["signal"] = os.WTERMSIG(status)
            else:
                answer["code"] = os.WEXITSTATUS(status)
        if self.cause is None:
            answer["status"] = _meaning(answer, self.seconds)
        self.answers.append((answer, [c.take() for c in self.captures]))
        self.told = None


def _meaning(answer: dict[str, Any], limit: float) -> str:
    ended_by = answer["signal"]
    if ended_by is None:
        return "infrastructure" if answer["code"] is None else "exited"
    if ended_by == signal.SIGSYS:
        return "blocked"
    if ended_by in (signal.SIGXCPU, signal.SIGKILL) and answer["cpu"] >= limit:
        return "timeout"
    return "signal"


class Watch:
    """The one or two parts of a run."""

    def __init__(self, namespaces: bool, oom_counter: int) -> None:
        """``oom_counter``: open file that counts a cgroup's kills for memory, or -1."""
        self.namespaces, self.oom = namespaces, oom_counter
        self.parts: dict[int, Part] = {}
        self._kills = self._count()
        self._look = time.monotonic() + FIRST_LOOK
        self._base = _resident(os.getpid())

    def start(self, number: int, part: Part) -> None:
        self.parts[number] = part

    def until_end(self) -> None:
        """Follows the run until its processes are gone."""
        poll = select.poll()
        owners = {}
        for part in self.parts.values():
            for number, pipe in enumerate(part.pipes):
                owners[pipe] = (part, number)
                poll.register(pipe, select.POLLIN)
            owners[part.control.fileno()] = (part, -1)
            poll.register(part.control, select.POLLIN)
        while any(not part.ended for part in self.parts.values()):
            for descriptor, event in poll.poll(self._timeout() * 1000):
                part, number = owners[descriptor]
                if number == -1:
                    if not part.hear():
                        poll.unregister(descriptor)
                        self._end(part)
                        if part is self.parts[0]:  # the trusted role's end is the run's
                            self._stop(self.parts.values(), None)
                elif event & select.POLLIN:
                    part.drain(number)
                else:
                    poll.unregister(descriptor)
            self._check_time()
            self._check_memory()

    def _timeout(self) -> float:
        running = [part for part in self.parts.values() if not part.ended]
        until = min(part.deadline() for part in running)
        if self.oom < 0:
            until = min(until, self._look)
        return max(0.0, until - time.monotonic()) + 0.001

    def _check_time(self) -> None:
        late = [p for p in self.parts.values() if not p.ended and p.deadline() <= time.monotonic()]
        for part in late:
            waited = max(_waited(p.main_process()) for p in self.parts.values() if not p.ended)
            delay = min(waited, (CROWDED - 1) * part.seconds)
            if delay > part.delay + 0.01:
                part.delay = delay
            else:
                self._stop(self.parts.values(), "timeout")

    def _check_memory(self) -> None:
        now = time.monotonic()
        if self.oom >= 0 or now < self._look:
            return
        self._look = now + EVERY
        running = [part for part in self.parts.values() if not part.ended]
        used = sum(
            max(0, _resident(pid) - self._base) for part in running for pid in _tree(part.pid)
        )
        if running and used > max(part.memory for part in running):
            self._stop(running, "memory")

    def _stop(self, parts: Any, cause: str | None) -> None:
        for part in parts:
            if not part.ended:
                part.cause = part.cause or cause
                self._kill(part)

    def _kill(self, part: Part) -> None:
        with suppress(ProcessLookupError):
            os.kill(part.pid, signal.SIGKILL)
        if part.group:
            with suppress(ProcessLookupError):
                os.killpg(part.group, signal.SIGKILL)

    def _end(self, part: Part) -> None:
        """The first process has hung up, so it is dying: waits until all of its tree is gone."""
        self._kill(part)
        os.waitpid(part.pid, 0)
        part.ended = True
        if part.group:
            with suppress(ChildProcessError):
                while True:
                    os.waitpid(-part.group, 0)
        part.finish_step()
        for descriptor in part.pipes:
            os.close(descriptor)
        part.control.close()

    def kill(self) -> None:
        """Ends what still runs; for a zygote that cannot go on with a run."""
        for part in self.parts.values():
            if not part.ended:
                self._end(part)

    def _count(self) -> int:
        if self.oom < 0:
            return 0
        for line in os.pread(self.oom, 4096, 0).splitlines():
            if line.startswith(b"oom_kill "):
                return int(line.split()[1])
        return 0

    def answer(self) -> tuple[dict[str, Any], list[bytearray]]:
        """What the host is told: a header, and report, stdout and stderr of every part."""
        answers = [answer for _, part in sorted(self.parts.items()) for answer in part.answers]
        if self._count() > self._kills:
            answers[-1][0]["status"] = "memory"
        failed = next((part.failed for part in self.parts.values() if part.failed), None)
        header = {"parts": [answer for answer, _ in answers], "failed": failed}
        return header, [content for _, contents in answers for content in contents]


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children") as file:
                found += [int(word) for word in file.read().split()]
    return found


def _tree(pid: int) -> list[int]:
    found = [pid]
    for process in found:
        found += _children(process)
    return found


def _resident(pid: int) -> int:
    """Bytes of memory of a process that no file stands behind."""
    kilobytes = 0
    with suppress(OSError), open(f"/proc/{pid}/status") as file:
        for line in file:
            if line.startswith(("RssAnon:", "RssShmem:")):
                kilobytes += int(line.split()[1])
    return kilobytes * 1024


def _waited(pid: int | None) -> float:
    """Seconds that a process was ready to run and had no core."""
    with suppress(OSError, IndexError), open(f"/proc/{pid}/schedstat") as file:
        return int(file.read().split()[1]) / 1e9
    return 0.0
