"""The process that runs what nobody trusts: from fork to the first line of a program.

The zygote forks it into the namespaces of a box (tier T1), or into nothing but its own process
group (T2). It puts on every limit itself, gives up every privilege, closes every file, and then
calls a runner or becomes another program.
"""

from __future__ import annotations

import fcntl
import gc
import json
import os
import resource
import signal
import socket
import sys
import traceback
from contextlib import suppress
from importlib import import_module
from typing import Any, NoReturn

from olmeval.sandbox.inside import landlock, seccomp, system
from olmeval.sandbox.inside.watch import STARTED

_exit = os._exit  # before a program can replace it
REPORT, PEER = 3, 4  # file descriptors of a runner
WORK = "work"  # folder of a command, in the run's /tmp
ROOM = 64 << 20  # address space for loading modules, beyond what a runner may allocate


class Jail:
    """How a zygote isolates: fixed when it starts."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.namespaces: bool = config["namespaces"]
        self.landlock: int = config["landlock"]  # version to use, 0 for none
        self.read: list[str] = config["read"]  # for Landlock
        self.write: list[str] = config["write"]
        self.processes: int = config["processes"]  # of this user's that exist beside a run's
        self.address_space = _address_space()  # of the zygote, which every runner starts with
        self.null = os.open(os.devnull, os.O_RDWR)
        # Where signals cannot be confined otherwise, a candidate may signal only itself.
        self.silence = not self.namespaces and self.landlock < 6
        # Without namespaces a compiler's filter is another than a program's. Where nothing contains
        # programs, there may be none.
        self.alone = None if self.namespaces else self.landlock
        self.filters: list[bytes] = []
        if seccomp.supported():
            self.filters = [seccomp.program(landlock=self.alone, compiler=c) for c in (False, True)]


def _address_space() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


class Start:
    """What one process is forked for.

    ``request`` is a part of the frame that the host sent; ``step`` the number of a command's step,
    or None for a runner; ``box`` an open pidfd of the namespaces to join, or -1. ``gate``: both
    ends of a pipe at whose end the process goes on, or nothing to wait for.
    """

    def __init__(
        self, jail: Jail, request: dict[str, Any], step: int | None, payload: int,
        streams: tuple[int, int, int], peer: socket.socket | None, box: int, tmp: str,
        gate: tuple[int, ...],
    ) -> None:  # fmt: skip
        self.jail, self.request, self.step, self.payload = jail, request, step, payload
        self.out, self.err, self.report = streams
        self.peer, self.box, self.tmp, self.gate = peer, box, tmp, gate


def run(start: Start) -> NoReturn:
    """The candidate's process, from fork to end."""
    code = 1
    try:
        payload, stdin = _enter(start)
        if start.gate:
            reader, writer = start.gate
            os.close(writer)
            os.read(reader, 1)
        _place_descriptors(start, stdin)
        _confine(start)
        os.write(REPORT, STARTED)
        if start.step is not None:
            os.close(REPORT)
            _execute(start, start.request["steps"][start.step]["argv"])
        code = _call_runner(start, payload)
    except BaseException:
        _say(traceback.format_exc())
    finally:
        _exit(code)


def _enter(start: Start) -> tuple[bytes, int]:
    """Joins the box; what the runner is to read, and the file that is standard input."""
    with suppress(OSError):
        adjust = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
        os.write(adjust, b"%d" % start.request["oom"])
        os.close(adjust)
    if start.jail.namespaces:
        system.setns(start.box, system.CLONE_NEWNS | system.CLONE_NEWIPC)
    else:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # A signal to "my group" reaches the whole group, and so the zygote, across namespaces.
    os.setpgid(0, 0)
    system.drop_capabilities()
    if start.step is None:
        return _read_all(start.payload), start.jail.null
    return b"", _unpack(start.payload, start.tmp, start.step)


def _unpack(payload: int, tmp: str, step: int) -> int:
    """Writes a command's files to its folder, for its first step; a file with the step's input."""
    with os.fdopen(os.dup(payload), "rb") as file:
        file.seek(0)
        index = json.loads(file.readline())
        work = os.path.join(tmp, WORK)
        if step == 0:
            os.mkdir(work)
        for name, size in index["files"]:
            content = file.read(size)
            if step == 0:
                path = os.path.join(work, name)
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with open(path, "wb") as out:
                    out.write(content)
        for size in index["stdins"][:step]:
            file.read(size)
        stdin = os.memfd_create("stdin")
        with os.fdopen(os.dup(stdin), "wb") as out:
            out.write(file.read(index["stdins"][step]))
        os.lseek(stdin, 0, os.SEEK_SET)
    return stdin


def _place_descriptors(start: Start, stdin: int) -> None:
    """0, 1, 2, REPORT (which a command does not keep), for a runner PEER, and no other."""
    wanted = [stdin, start.out, start.err, start.report]
    if start.peer:
        wanted.append(start.peer.fileno())
    held = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, 64) for descriptor in wanted]
    for number, descriptor in enumerate(held):
        os.dup2(descriptor, number)
    os.closerange(len(held), 4096)


def _confine(start: Start) -> None:
    """Limits, Landlock, and the filter of system calls."""
    jail, step = start.jail, start.step
    limits = (start.request if step is None else start.request["steps"][step])["limits"]
    seconds = int(limits["seconds"]) + 1
    _put(resource.RLIMIT_CPU, seconds, seconds + 1)
    _put(resource.RLIMIT_CORE, 0)
    _put(resource.RLIMIT_FSIZE, limits["file_bytes"])
    _put(resource.RLIMIT_NOFILE, 256 if step is None else 1024)
    _put(resource.RLIMIT_NPROC, limits["processes"] + jail.processes)
    _put(resource.RLIMIT_MSGQUEUE, 0)
    _put(resource.RLIMIT_STACK, 8 << 20, 1 << 30)
    _put(resource.RLIMIT_MEMLOCK, 1 << 20)
    _put(resource.RLIMIT_SIGPENDING, 1024)
    if limits["address_space"]:
        already = jail.address_space if step is None else 0
        _put(resource.RLIMIT_AS, limits["memory"] + already + ROOM)
    if jail.landlock:
        landlock.restrict(jail.read, [*jail.write, start.tmp], jail.landlock)
    compiles = step is not None and step + 1 < len(start.request["steps"])
    if jail.filters and jail.silence:
        filter_ = seccomp.program(landlock=jail.alone, own_pid=os.getpid(), compiler=compiles)
        seccomp.install(filter_)
    elif jail.filters:
        seccomp.install(jail.filters[compiles])


def _put(what: int, soft: int, hard: int | None = None) -> None:
    """Sets a limit, or the nearest below that is allowed."""
    ceiling = resource.getrlimit(what)[1]
    hard = soft if hard is None else hard
    if ceiling != resource.RLIM_INFINITY:
        soft, hard = min(soft, ceiling), min(hard, ceiling)
    resource.setrlimit(what, (soft, hard))


def _execute(start: Start, argv: list[str]) -> NoReturn:
    os.chdir(os.path.join(start.tmp, WORK))
    try:
        # Where runs share the host's /tmp, theirs is another folder.
        os.execvpe(
            argv[0], argv, {**start.request["variables"], "HOME": start.tmp, "TMPDIR": start.tmp}
        )
    except OSError as error:
        _say(f"cannot run '{argv[0]}': {error.strerror}\n")
        os._exit(127)


def _call_runner(start: Start, payload: bytes) -> int:
    import random  # the zygote has loaded it, in its own way

    gc.enable()
    os.chdir(start.tmp)
    os.environ.update(HOME=start.tmp, TMPDIR=start.tmp)
    random.seed(start.request["seed"])  # the same choices whenever and wherever a program runs
    runner = import_module("olmeval.sandbox.inside." + start.request["runner"])
    peer = socket.socket(fileno=PEER) if start.peer else None
    try:
        runner.main(payload, REPORT, peer)
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    for stream in (sys.stdout, sys.stderr):
        with suppress(BaseException):
            stream.flush()
    return code & 255


def _read_all(descriptor: int) -> bytes:
    os.lseek(descriptor, 0, os.SEEK_SET)
    pieces: list[bytes] = []
    while True:
        piece = os.read(descriptor, 1 << 20)
        if not piece:
            return b"".join(pieces)
        pieces.append(piece)


def _say(text: str) -> None:
    with suppress(BaseException):
        os.write(2, text.encode(errors="replace"))
