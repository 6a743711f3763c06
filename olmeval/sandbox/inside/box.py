"""One isolated tree of processes, seen from within: its walls, its first process, the candidate.

The first process (pid 1 where there is a pid namespace) builds the walls, gives up every
privilege, and then runs each step in a child of its own, whose fate it reports over a socket that
no candidate holds. When it ends, the kernel ends everything in its namespace.
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import resource
import signal
import socket
import sys
import traceback
from contextlib import suppress
from importlib import import_module
from typing import Any, NoReturn

from olmeval.sandbox.inside import landlock, seccomp, system

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


class Box:
    """One tree of processes; filled by the zygote before the fork."""

    def __init__(
        self, jail: Jail, request: dict[str, Any], payload: int, streams: tuple[int, int, int],
        control: socket.socket, peer: socket.socket | None, tmp: str,
    ) -> None:  # fmt: skip
        self.jail, self.request, self.payload, self.tmp = jail, request, payload, tmp
        self.out, self.err, self.report = streams
        self.control, self.peer = control, peer
        self.steps: list[dict[str, Any]] = request.get("steps", [])


def _address_space() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


def run(box: Box) -> NoReturn:
    """The first process, from fork to end."""
    code = 1
    try:
        _first_process(box)
        code = 0
    except BaseException:
        with suppress(BaseException):
            box.control.sendall(json.dumps({"failed": traceback.format_exc(limit=-2)}).encode())
    finally:
        os._exit(code)


def _first_process(box: Box) -> None:
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write(str(box.request["oom"]))
    if box.jail.namespaces:
        _walls(box)
    else:
        system.prctl(system.PR_SET_CHILD_SUBREAPER, 1)
    stdins = _unpack(box.payload, box.tmp) if box.steps else []
    system.prctl(system.PR_SET_NO_NEW_PRIVS, 1)
    if box.jail.namespaces:
        system.drop_capabilities()
    # Nobody but the kernel looks into this process.
    system.prctl(system.PR_SET_DUMPABLE, 0)
    count = len(box.steps) or 1
    for number in range(count):
        pid = os.fork()
        if pid == 0:
            _candidate(box, number, stdins)
        if box.peer is not None:
            box.peer.close()  # so that the other role hears when this one's process ends
        if not box.jail.namespaces:
            with suppress(OSError):  # the child has done it, or is gone
                os.setpgid(pid, pid)
            _tell(box, {"group": pid})
        status, usage = _wait_for(pid)
        cpu = usage.ru_utime + usage.ru_stime
        _tell(box, {"status": status, "cpu": cpu, "rss": usage.ru_maxrss * 1024})
        if number + 1 == count or status != 0:
            return
        _end_all(box, pid)
        _tell(box, {"ended": True})
        if box.control.recv(1) != b"+":
            return


def _tell(box: Box, message: dict[str, Any]) -> None:
    box.control.sendall(json.dumps(message).encode() + b"\n")


def _walls(box: Box) -> None:
    """Fresh /tmp (which is /dev/shm, too) and /proc, in a mount namespace of this run's own."""
    limits, flags = box.request["limits"], system.MS_NOSUID | system.MS_NODEV
    size = "size={},nr_inodes={},mode=0700".format(limits["file_bytes"], limits["inodes"] + 1)
    system.mount("tmpfs", "/tmp", "tmpfs", flags, size)
    hidden = flags | system.MS_NOEXEC
    if not box.steps:
        with suppress(OSError):  # Linux 5.8: the processes alone, without /proc/sys
            return system.mount("proc", "/proc", "proc", hidden, "subset=pid")
    system.mount("proc", "/proc", "proc", hidden)
    system.mount("/proc/sys", "/proc/sys", "", system.MS_BIND)
    system.mount(
        "", "/proc/sys", "", system.MS_BIND | system.MS_REMOUNT | system.MS_RDONLY | hidden
    )
    return None


def _unpack(payload: int, tmp: str) -> list[int]:
    """Writes a command's files to its folder; one open file of standard input for each step."""
    with os.fdopen(os.dup(payload), "rb") as file:
        file.seek(0)
        index = json.loads(file.readline())
        work = os.path.join(tmp, WORK)
        os.mkdir(work)
        for name, size in index["files"]:
            path = os.path.join(work, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as out:
                out.write(file.read(size))
        stdins = []
        for size in index["stdins"]:
            stdin = os.memfd_create("stdin")
            content = file.read(size)
            while content:
                content = content[os.write(stdin, content) :]
            os.lseek(stdin, 0, os.SEEK_SET)
            stdins.append(stdin)
    return stdins


def _wait_for(main: int) -> Any:
    """Reaps whatever ends here until ``main`` does; its wait status and resource usage."""
    while True:
        pid, status, usage = os.wait4(-1, 0)
        if pid == main:
            return status, usage


def _end_all(box: Box, group: int) -> None:
    """Kills what a step left behind."""
    with suppress(ProcessLookupError):
        os.kill(-1 if box.jail.namespaces else -group, signal.SIGKILL)
    with suppress(ChildProcessError):
        while True:
            os.wait()


def _limit(box: Box, limits: dict[str, Any]) -> None:
    def put(what: int, soft: int, hard: int | None = None) -> None:
        ceiling = resource.getrlimit(what)[1]
        hard = soft if hard is None else hard
        if ceiling != resource.RLIM_INFINITY:
            soft, hard = min(soft, ceiling), min(hard, ceiling)
        resource.setrlimit(what, (soft, hard))

    seconds = int(limits["seconds"]) + 1
    put(resource.RLIMIT_CPU, seconds, seconds + 1)
    put(resource.RLIMIT_CORE, 0)
    put(resource.RLIMIT_FSIZE, limits["file_bytes"])
    put(resource.RLIMIT_NOFILE, 1024 if box.steps else 256)
    put(resource.RLIMIT_NPROC, limits["processes"] + box.jail.processes)
    put(resource.RLIMIT_MSGQUEUE, 0)
    put(resource.RLIMIT_STACK, 8 << 20, 1 << 30)
    put(resource.RLIMIT_MEMLOCK, 1 << 20)
    put(resource.RLIMIT_SIGPENDING, 1024)
    if limits["address_space"]:
        start = 0 if box.steps else box.jail.address_space
        put(resource.RLIMIT_AS, limits["memory"] + start + ROOM)


def _candidate(box: Box, number: int, stdins: list[int]) -> NoReturn:
    """The process that runs what nobody trusts."""
    code = 1
    try:
        if not box.jail.namespaces:
            os.setpgid(0, 0)
        system.prctl(system.PR_SET_DUMPABLE, 1)
        payload = b"" if box.steps else _read_all(box.payload)
        _place_descriptors(box, stdins[number] if box.steps else box.jail.null)
        _limit(box, (box.steps[number] if box.steps else box.request)["limits"])
        if box.jail.landlock:
            landlock.restrict(box.jail.read, [*box.jail.write, box.tmp], box.jail.landlock)
        seccomp.install(
            seccomp.program(
                stay_in_group=not box.jail.namespaces,
                own_pid=os.getpid() if box.jail.silence else None,
            )
        )
        if box.steps:
            _execute(box, box.steps[number]["argv"])
        code = _call_runner(box, payload)
    except BaseException:
        _say(traceback.format_exc())
    finally:
        os._exit(code)


def _place_descriptors(box: Box, stdin: int) -> None:
    """0, 1, 2, for a runner REPORT and PEER, and no other."""
    wanted = [stdin, box.out, box.err]
    if not box.steps:
        wanted += [box.report] + ([box.peer.fileno()] if box.peer else [])
    held = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, 64) for descriptor in wanted]
    for number, descriptor in enumerate(held):
        os.dup2(descriptor, number)
    os.closerange(len(held), 4096)


def _execute(box: Box, argv: list[str]) -> None:
    os.chdir(os.path.join(box.tmp, WORK))
    try:
        os.execvpe(argv[0], argv, box.request["variables"])
    except OSError as error:
        _say(f"cannot run '{argv[0]}': {error.strerror}\n")
        os._exit(127)


def _call_runner(box: Box, payload: bytes) -> int:
    os.chdir(box.tmp)
    os.environ.update(HOME=box.tmp, TMPDIR=box.tmp)
    random.seed(box.request["seed"])  # the same choices whenever and wherever a program runs
    runner = import_module("olmeval.sandbox.inside." + box.request["runner"])
    peer = socket.socket(fileno=PEER) if box.peer else None
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
