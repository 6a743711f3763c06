"""Workers on the host's side: started, fed, watched, restarted, and never believed to be alive.

One thread serves all of them. A worker that dies, or says nothing for longer than its run's
limits allow, is killed and replaced, and its run is started again; after :data:`TRIES` such deaths
the run's outcome is "infrastructure".
"""

import contextlib
import json
import os
import selectors
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from olmeval.errors import UserError
from olmeval.sandbox import cgroup, jail
from olmeval.sandbox.inside.watch import CROWDED
from olmeval.sandbox.types import MIB, Command, Job, Limits, Outcome, Part, Status

TRIES = 3
START_SECONDS = 60.0  # for a worker to be ready: environments import large libraries
GRACE = 10.0  # seconds beyond its limits until a silent worker is given up
OWN_MEMORY = 128 * MIB  # for the zygote, and so that one process hears of its limit first
OWN_PROCESSES = 16
SEVERITY: tuple[Status, ...] = ("infrastructure", "memory", "timeout", "blocked", "signal")


class WorkerLost(Exception):
    """A worker died or fell silent."""


@dataclass(frozen=True)
class Kind:
    """What a worker is started for: jobs of one kind share workers."""

    environment: str | None = None
    mounts: tuple[str, ...] = ()


def kind_of(run: Job | Command) -> Kind:
    if isinstance(run, Job):
        return Kind(environment=run.environment)
    return Kind(mounts=run.mounts)


class Worker:
    """One launched zygote."""

    def __init__(
        self, wall: jail.Wall, slot: int, kind: Kind, runners: Sequence[str], preload: Sequence[str]
    ) -> None:
        """Starts it; :meth:`ready` waits for it. Raises :class:`WorkerLost` or UserError."""
        self.group = cgroup.create() if wall.memory_group else cgroup.Group()
        self.scratch = tempfile.mkdtemp(prefix="olmeval-sandbox-") if not wall.namespaces else ""
        self.tier = wall.name
        self._limits: tuple[int, int] | None = None
        self.run: int | None = None  # index of the run it is at
        self.busy = True  # starting, or at a run: it must speak before the deadline
        self.deadline = time.monotonic() + START_SECONDS
        mine, its = socket.socketpair()
        counter = -1
        try:
            if self.group.counter is not None:
                counter = os.open(self.group.counter, os.O_RDONLY)
            orders = jail.orders(
                wall, slot=slot, host_socket=its.fileno(), oom_counter=counter,
                cgroups=self.group.procs, scratch=self.scratch, runners=runners,
                environment=kind.environment, mounts=kind.mounts, preload=preload,
            )  # fmt: skip
            if self.scratch and orders["uid"] is not None:
                os.chown(self.scratch, orders["uid"], orders["uid"])
            self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the worker
            home = str(jail.INSIDE.parent.parent.parent)
            start = jail.START.format(home=home, module="launch")
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-B", "-c", start, json.dumps(orders)],
                stdin=subprocess.DEVNULL, stdout=self._errors, stderr=self._errors, cwd="/",
                pass_fds=[its.fileno(), *([counter] if counter >= 0 else [])],
            )  # fmt: skip
        except BaseException:
            mine.close()
            self._remove()
            raise
        finally:
            its.close()
            if counter >= 0:
                os.close(counter)
        self.socket = mine
        self.socket.settimeout(START_SECONDS)

    def ready(self) -> None:
        """Waits until it can serve. Raises :class:`WorkerLost` with its last words."""
        self.receive()

    def send(self, index: int, run: Job | Command) -> None:
        """Starts a run. Raises :class:`WorkerLost`."""
        request, payloads, limits = frame(run)
        self._set_limits(limits)
        self.group.mark()
        text = json.dumps(request).encode()
        files: list[int] = []
        try:
            files.extend(map(_memory_file, payloads))
            socket.send_fds(self.socket, [struct.pack("I", len(text))], files)
            self.socket.sendall(text)
        except OSError as error:
            # Either there is no room for the payload here, or nobody there to take it.
            why = self._last_words() if len(files) == len(payloads) else str(error)
            raise WorkerLost(why) from error
        finally:
            for file in files:
                os.close(file)
        self.run, self.busy = index, True
        seconds = sum(limit.seconds for limit in limits) * CROWDED
        self.deadline = time.monotonic() + seconds + GRACE

    def outcome(self, run: Job | Command, header: dict[str, Any], contents: list[bytes]) -> Outcome:
        """What its answer says of the run that it was sent."""
        found = outcome(run, header, contents, self.tier)
        if found.status == "memory" and not self.group.full():
            why = "killed because the machine, not the program, was out of memory"
            return replace(found, status="infrastructure", detail=why)
        return found

    def _set_limits(self, limits: Sequence[Limits]) -> None:
        wanted = (
            max(limit.memory for limit in limits) + OWN_MEMORY,
            max(limit.processes for limit in limits) + OWN_PROCESSES,
        )
        if wanted != self._limits:
            with contextlib.suppress(OSError):
                self.group.limit(*wanted)
            self._limits = wanted

    def receive(self) -> tuple[dict[str, Any], list[bytes]]:
        """Its answer. Raises :class:`WorkerLost`."""
        try:
            header = json.loads(self._read(struct.unpack("I", self._read(4))[0]))
            return header, [self._read(length) for length in header["lengths"]]
        except (OSError, ValueError) as error:
            raise WorkerLost(self._last_words()) from error

    def _read(self, length: int) -> bytes:
        data = bytearray()
        while len(data) < length:
            piece = self.socket.recv(min(length - len(data), 1 << 20))
            if not piece:
                raise ConnectionResetError("hung up")
            data += piece
        return bytes(data)

    def _last_words(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(1.0)
        self._errors.seek(0)
        lines = self._errors.read()[-4000:].decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"it ended with code {self.process.returncode}"

    def close(self) -> None:
        """Ends it and everything that it started."""
        self.socket.close()
        if self.scratch:
            self.process.terminate()  # it ends its run
        else:
            self.process.kill()  # bubblewrap's end is that of its namespaces
        try:
            self.process.wait(GRACE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._errors.close()
        self._remove()

    def _remove(self) -> None:
        for procs in self.group.procs:  # tier T2: whoever outlived the zygote
            _empty(procs)
        self.group.close()
        if self.scratch:
            shutil.rmtree(self.scratch, ignore_errors=True)


def _empty(procs: str) -> None:
    """Kills what is in a control group until nothing is."""
    until = time.monotonic() + GRACE
    with contextlib.suppress(OSError):
        while time.monotonic() < until:
            with open(procs) as file:
                pids = [int(line) for line in file]
            if not pids:
                return
            for pid in pids:
                if pid > 1 and pid != os.getpid():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            time.sleep(0.005)


def _memory_file(content: bytes) -> int:
    file = os.memfd_create("payload", os.MFD_CLOEXEC)
    view = memoryview(content)
    while view:
        view = view[os.write(file, view) :]
    return file


def frame(run: Job | Command) -> tuple[dict[str, Any], list[bytes], list[Limits]]:
    """The zygote's request, the contents of its files, and the limits that hold together."""
    seed = zlib.crc32(run.key.encode())
    if isinstance(run, Job):
        limits = asdict(run.limits)
        parts = [
            # Where memory is short, the kernel takes the candidate before the one that judges it.
            {"runner": role.runner, "limits": limits, "seed": seed,
             "oom": 500 if number == 0 and len(run.roles) > 1 else 1000}
            for number, role in enumerate(run.roles)
        ]  # fmt: skip
        return {"parts": parts}, [role.payload for role in run.roles], [run.limits]
    steps = [{"argv": list(step.argv), "limits": asdict(step.limits)} for step in run.steps]
    room = {
        "file_bytes": max(step.limits.file_bytes for step in run.steps),
        "inodes": max(step.limits.inodes for step in run.steps),
    }
    variables = {**jail.VARIABLES, **run.variables}
    part = {"steps": steps, "limits": room, "variables": variables, "oom": 1000}
    index = {
        "files": [[name, len(content)] for name, content in run.files.items()],
        "stdins": [len(step.stdin) for step in run.steps],
    }
    payload = b"".join(
        [json.dumps(index).encode(), b"\n", *run.files.values(), *(s.stdin for s in run.steps)]
    )
    return {"parts": [part]}, [payload], [step.limits for step in run.steps]


def outcome(
    run: Job | Command, header: dict[str, Any], contents: list[bytes], tier: str
) -> Outcome:
    """What an answer says."""
    parts = tuple(
        Part(
            status=part["status"], code=part["code"], signal=part["signal"],
            seconds=part["seconds"], cpu_seconds=part["cpu"], max_rss=part["rss"],
            stdout=contents[3 * number], stderr=contents[3 * number + 1],
            report=contents[3 * number + 2],
        )
        for number, part in enumerate(header["parts"])
    )  # fmt: skip
    found = {part.status for part in parts}
    worst: Status = next((status for status in SEVERITY if status in found), "exited")
    failed = next((part for part in parts if part.status == "infrastructure"), None)
    words = [] if failed is None else failed.stderr.decode(errors="replace").strip().splitlines()
    detail = f"a program could not be started: {words[-1]}" if words else ""
    return Outcome(run.key, worst, parts, tier, detail)


def failure(run: Job | Command, tier: str, detail: str) -> Outcome:
    """Where the jail could not do its part."""
    return Outcome(run.key, "infrastructure", tier=tier, detail=detail)


class Pool:
    """``workers`` jails of one kind; close it, or use it in a ``with`` statement."""

    def __init__(
        self, wall: jail.Wall, workers: int, kind: Kind = Kind(), *,
        runners: Sequence[str] = (), preload: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self._wall, self._kind, self._runners, self._preload = wall, kind, runners, preload
        self._workers: list[Worker | None] = [None] * workers

    def _start(self, slot: int) -> Worker:
        try:
            return Worker(self._wall, slot, self._kind, self._runners, self._preload)
        except OSError as error:
            raise UserError(f"the sandbox cannot start a worker here: {error}") from None

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *_: object) -> None:
        for number, worker in enumerate(self._workers):
            if worker is not None:
                worker.close()
                self._workers[number] = None

    def run(self, runs: Sequence[Job | Command], finished: Callable[[int, Outcome], None]) -> None:
        """Calls ``finished(index, outcome)`` once for every run, in the order they end in.

        Raises :class:`UserError` when no worker can be started.
        """
        todo = deque(range(len(runs)))
        tries = [0] * len(runs)
        failed_starts = 0
        left = len(runs)
        with selectors.DefaultSelector() as selector:

            def begin(number: int) -> None:
                """Gives a slot its next run, starting its worker where there is none."""
                worker = self._workers[number]
                if worker is None:
                    worker = self._workers[number] = self._start(number)
                    selector.register(worker.socket, selectors.EVENT_READ, number)
                    return  # it says when it is ready
                if todo:
                    index = todo.popleft()
                    try:
                        worker.send(index, runs[index])
                    except WorkerLost as error:
                        worker.run = index
                        lost(number, str(error))

            def lost(number: int, why: str) -> None:
                nonlocal failed_starts, left
                worker = self._workers[number]
                assert worker is not None
                with contextlib.suppress(KeyError, ValueError):
                    selector.unregister(worker.socket)
                index = worker.run
                worker.close()
                self._workers[number] = None
                if index is None:
                    failed_starts += 1
                    if failed_starts >= TRIES:
                        raise UserError(f"the sandbox's worker does not start: {why}")
                else:
                    tries[index] += 1
                    if tries[index] >= TRIES:
                        detail = f"the worker died {TRIES} times; the last time: {why}"
                        finished(index, failure(runs[index], self._wall.name, detail))
                        left -= 1
                    else:
                        todo.appendleft(index)
                if todo:
                    begin(number)

            for number, worker in enumerate(self._workers):
                if worker is not None:
                    selector.register(worker.socket, selectors.EVENT_READ, number)
                if number < len(runs):
                    begin(number)
            while left:
                now = time.monotonic()
                deadlines = [w.deadline for w in self._workers if w is not None and w.busy]
                wait = min(deadlines, default=now + 1) - now
                for key, _ in selector.select(max(0.0, wait)):
                    number = key.data
                    worker = self._workers[number]
                    assert worker is not None
                    try:
                        header, contents = worker.receive()
                    except WorkerLost as error:
                        lost(number, str(error))
                        continue
                    worker.busy = False
                    if worker.run is not None:
                        index, worker.run = worker.run, None
                        finished(index, worker.outcome(runs[index], header, contents))
                        left -= 1
                    failed_starts = 0
                    begin(number)
                for number, worker in enumerate(self._workers):
                    if worker is not None and worker.busy:
                        if worker.deadline < time.monotonic():
                            lost(number, "it did not answer in time")
                    elif worker is None and todo:
                        begin(number)
