"""A warm interpreter in the jail that forks a fresh, isolated child for every program.

Starting Python and importing what programs import costs 20 ms and more; forking a process that
has done both costs 2. The zygote reads requests from its socket (standard input), watches each run
from outside of its namespaces, ends it at its limits, and answers with what it saw. It never
reads a payload: that is an open file which only the run's own process reads, so nothing of one
role, or one run, is in the memory that another starts with.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import struct
import sys
from contextlib import suppress
from importlib import import_module
from typing import Any

from olmeval.sandbox.inside import system
from olmeval.sandbox.inside.box import Jail, Start, run
from olmeval.sandbox.inside.spawner import Boxes
from olmeval.sandbox.inside.watch import Part, Watch

# What most programs of HumanEval and MBPP import, and what few import but is cheap to hold: every
# module more is more to copy in each fork, every one less is imported by some programs.
PRELOADED = (
    "abc ast bisect collections contextlib copy dataclasses datetime enum functools heapq inspect "
    "io itertools json math numbers operator random re string time traceback types typing"
)


def main(boxes: Boxes | None = None) -> None:
    """Serves requests until the host hangs up; without ``boxes``, runs have no namespaces."""
    config = json.loads(sys.argv[1])
    host = socket.socket(fileno=config["socket"])
    sys.path[:] = [*sys.path[1:], *config["path"], sys.path[0]]  # our own modules last
    sys.argv[:] = [""]
    _import_random()
    for name in [*PRELOADED.split(), *config["preload"]]:
        with suppress(ImportError):
            import_module(name)
    for name in config["runners"]:
        import_module("olmeval.sandbox.inside." + name)
    if boxes is None:
        system.prctl(system.PR_SET_CHILD_SUBREAPER, 1)
        system.prctl(system.PR_SET_NO_NEW_PRIVS, 1)  # which every run inherits
        # No namespace ends a run with this process: it does so itself, also when the host dies.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
        system.prctl(system.PR_SET_PDEATHSIG, signal.SIGTERM)
    zygote = Zygote(config, boxes)
    gc.collect()
    gc.freeze()
    gc.disable()  # a collection writes to memory that is shared with the next run until then
    send(host, {"ready": sys.version.split()[0]}, [])
    while True:
        request = receive(host)
        if request is None:
            return
        zygote.serve(host, *request)


def _import_random() -> None:
    """Imports ``random`` so that it does not seed itself at each fork: each run is given a seed."""
    register, os.register_at_fork = os.register_at_fork, lambda **_: None
    import_module("random")
    os.register_at_fork = register


def receive(host: socket.socket) -> Any:
    """One request and the open files that came with it; None when the host hung up."""
    data, ancillary, _, _ = host.recvmsg(4, socket.CMSG_SPACE(8 * 4))
    if not data:
        return None
    while len(data) < 4:
        data += host.recv(4 - len(data))
    files: list[int] = []
    for _, _, content in ancillary:
        files.extend(struct.unpack(f"{len(content) // 4}i", content))
    length = struct.unpack("I", data)[0]
    text = b""
    while len(text) < length:
        text += host.recv(length - len(text))
    return json.loads(text), files


def send(host: socket.socket, header: dict[str, Any], contents: list[bytearray]) -> None:
    """A header that gives the contents' lengths, then the contents."""
    text = json.dumps({**header, "lengths": [len(c) for c in contents]}).encode()
    host.sendall(struct.pack("I", len(text)) + text)
    for content in contents:
        host.sendall(content)


class Zygote:
    """The part that forks."""

    def __init__(self, config: dict[str, Any], boxes: Boxes | None) -> None:
        self.jail = Jail(config["jail"])
        self.boxes = boxes
        self.oom: int = config["oom_counter"]  # open file of the memory cgroup, or -1
        self.scratch: str = config["scratch"]  # where runs without a mount of their own live
        self.runs = 0

    def serve(self, host: socket.socket, request: dict[str, Any], files: list[int]) -> None:
        """One run, from request to answer."""
        watch = Watch(self.oom)
        tmps: list[str] = []
        parts = request["parts"]
        ends: Any = socket.socketpair() if len(parts) == 2 else (None,)
        # The second role waits until the first is there: it could use up all processes at once.
        gate = os.pipe() if len(parts) == 2 else ()
        try:
            # The trusted role last: nothing of it is here when the other is forked.
            for number in reversed(range(len(parts))):
                tmps.append(self._tmp())
                waits = gate if number else ()
                part = self._part(parts[number], files[number], ends[number], tmps[-1], waits)
                part.begin()
                watch.parts.insert(0, part)
                if ends[number] is not None:
                    # The other role hears the end of this one: nobody else holds its socket.
                    ends[number].close()
            for descriptor in gate:
                os.close(descriptor)
            watch.until_end()
        finally:
            watch.kill()
        for descriptor in files:
            os.close(descriptor)
        if self.boxes is None:
            for tmp in tmps:
                remove(tmp)
        header, contents = watch.answer()
        send(host, header, contents)
        for content in contents:
            content[:] = bytes(len(content))  # no later run finds it in memory

    def _tmp(self) -> str:
        if self.boxes is not None:
            return "/tmp"
        self.runs += 1
        path = os.path.join(self.scratch, f"run{self.runs}")
        os.mkdir(path, 0o700)
        return path

    def _part(
        self, request: dict[str, Any], payload: int, peer: Any, tmp: str, gate: tuple[int, ...]
    ) -> Part:
        box = None
        if self.boxes is not None:
            limits = request["limits"]
            # Compilers and other languages read more of /proc than Python does.
            box = self.boxes.make(limits["file_bytes"], limits["inodes"], "steps" in request)

        def fork(step: int) -> tuple[int, list[int]]:
            pipes = [os.pipe() for _ in range(3)]
            out, err, report = (write for _, write in pipes)
            descriptor = -1 if box is None else box.descriptor
            start = Start(
                self.jail, request, step if "steps" in request else None, payload,
                (out, err, report), peer, descriptor, tmp, gate,
            )  # fmt: skip
            if box is not None:
                system.setns(descriptor, system.CLONE_NEWPID)  # for children alone
            pid = os.fork()
            if pid == 0:
                run(start)
            for _, write in pipes:
                os.close(write)
            return pid, [read for read, _ in pipes]

        return Part(request, box, fork, tmp)


def remove(tmp: str) -> None:
    """Removes a run's folder, whatever the modes in it are; nobody writes to it any more."""
    import shutil  # which loads libraries that every fork would copy where there is no folder

    os.chmod(tmp, 0o700)
    for folder, names, _ in os.walk(tmp):
        for name in names:
            path = os.path.join(folder, name)
            if not os.path.islink(path):
                os.chmod(path, 0o700)
    shutil.rmtree(tmp)


if __name__ == "__main__":
    main()
