"""A warm interpreter in the jail that forks one fresh, isolated child for every program.

Starting Python and importing what programs import costs 20 ms and more; a fork of a process that
has done both costs 3. The zygote reads requests from its socket (standard input), watches each run
from outside of its namespaces, ends it at its limits, and answers with what it saw. It never
reads a payload: that is an open file which only the run's own process reads, so nothing of one
role, or one run, is in the memory that another starts with.
"""

from __future__ import annotations

import gc
import json
import os
import shutil
import socket
import struct
import sys
from contextlib import suppress
from importlib import import_module
from typing import Any

from olmeval.sandbox.inside import box as boxes
from olmeval.sandbox.inside import system
from olmeval.sandbox.inside.watch import Part, Watch

# What HumanEval's, MBPP's and BigCodeBench's programs import from the standard library.
PRELOADED = (
    "abc array ast base64 bisect cmath collections contextlib copy csv dataclasses datetime "
    "decimal enum fractions functools glob hashlib heapq inspect io itertools json math numbers "
    "operator os pathlib pickle random re shutil statistics string struct subprocess sys tempfile "
    "textwrap threading time traceback types typing unittest urllib.parse uuid warnings"
)


def main() -> None:
    """Serves requests until the host hangs up."""
    config = json.loads(sys.argv[1])
    host = socket.socket(fileno=config["socket"])
    host.set_inheritable(False)
    sys.path[:] = [*sys.path[1:], *config["path"], sys.path[0]]  # our own modules last
    sys.argv[:] = [""]
    for name in [*PRELOADED.split(), *config["preload"]]:
        with suppress(Exception):
            import_module(name)
    for name in config["runners"]:
        import_module("olmeval.sandbox.inside." + name)
    if config["jail"]["namespaces"]:
        system.mount("", "/", "", system.MS_REC | system.MS_PRIVATE)
    system.prctl(system.PR_SET_CHILD_SUBREAPER, 1)
    zygote = Zygote(config)
    gc.collect()
    gc.freeze()
    send(host, {"ready": sys.version.split()[0]}, [])
    while True:
        request = receive(host)
        if request is None:
            return
        zygote.serve(host, *request)


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

    def __init__(self, config: dict[str, Any]) -> None:
        self.jail = boxes.Jail(config["jail"])
        self.oom: int = config["oom_counter"]  # open file of the memory cgroup, or -1
        self.scratch: str = config["scratch"]  # where runs without a mount of their own live
        self.runs = 0

    def serve(self, host: socket.socket, request: dict[str, Any], files: list[int]) -> None:
        """One run, from request to answer."""
        watch = Watch(self.jail.namespaces, self.oom)
        tmps: list[str] = []
        parts = request["parts"]
        ends: Any = socket.socketpair() if len(parts) == 2 else (None,)
        try:
            # The trusted role last: nothing of it is here when the other is forked.
            for number in reversed(range(len(parts))):
                tmps.append(self._tmp())
                watch.start(
                    number, self._fork(parts[number], files[number], ends[number], tmps[-1])
                )
                if ends[number] is not None:
                    # The other role hears the end of this one: nobody else holds its socket.
                    ends[number].close()
            watch.until_end()
        finally:
            watch.kill()
            for descriptor in files:
                os.close(descriptor)
            if not self.jail.namespaces:
                for tmp in tmps:
                    remove(tmp)
        header, contents = watch.answer()
        send(host, header, contents)
        for content in contents:
            content[:] = bytes(len(content))  # no later run finds it in memory

    def _tmp(self) -> str:
        if self.jail.namespaces:
            return "/tmp"
        self.runs += 1
        path = os.path.join(self.scratch, f"run{self.runs}")
        os.mkdir(path, 0o700)
        return path

    def _fork(self, part: dict[str, Any], payload: int, peer: Any, tmp: str) -> Part:
        control, inner = socket.socketpair()
        pipes = [os.pipe() for _ in range(3)]
        out, err, report = (write for _, write in pipes)
        box = boxes.Box(self.jail, part, payload, (out, err, report), inner, peer, tmp)
        flags = system.CLONE_NEWPID | system.CLONE_NEWNS | system.CLONE_NEWIPC
        pid = system.fork(flags if self.jail.namespaces else 0)
        if pid == 0:
            boxes.run(box)
        inner.close()
        for _, write in pipes:
            os.close(write)
        return Part(part, pid, control, [read for read, _ in pipes])


def remove(tmp: str) -> None:
    """Removes a run's folder, whatever its modes are."""

    def permit(function: Any, path: str, _: Any) -> None:
        with suppress(OSError):
            os.chmod(os.path.dirname(path), 0o700)
            os.chmod(path, 0o700)
            function(path)

    shutil.rmtree(tmp, onerror=permit)


if __name__ == "__main__":
    main()
