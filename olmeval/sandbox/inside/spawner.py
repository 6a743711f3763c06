"""The first process of every run: made by a small interpreter, because a fork costs what it copies.

A fork of an interpreter that has loaded much takes 2 ms, one of an interpreter that has loaded
nothing 0.5. So the process that makes namespaces and mounts (and is pid 1 in them) comes from this
one, and the zygote forks once, into what is ready.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import struct
import sys
from contextlib import suppress
from typing import NoReturn

from olmeval.sandbox.inside import system

NEW = system.CLONE_NEWPID | system.CLONE_NEWNS | system.CLONE_NEWIPC
REQUEST = struct.Struct("QQ?")  # bytes and inodes of /tmp, whether all of /proc is needed
READY = b"+"
SI_USER = 0  # asm-generic/siginfo.h: the kernel itself says who sent the signal


class Boxes:
    """The zygote's side: asks for boxes, one at a time."""

    def __init__(self, spawner: socket.socket) -> None:
        self._spawner = spawner

    def make(self, size: int, inodes: int, all_of_proc: bool) -> Box:
        """New namespaces, with their first process in them."""
        self._spawner.send(REQUEST.pack(size, inodes, all_of_proc))
        pid = 0
        ready = False
        while not (pid and ready):  # from the spawner and from the box, whichever comes first
            message = self._spawner.recv(256)
            if message == READY:
                ready = True
            elif len(message) == 4:
                pid = struct.unpack("I", message)[0]
            else:
                raise OSError(message.decode() or "the spawner ended")
        return Box(self._spawner, pid)


class Box:
    """A run's namespaces; they last until :meth:`kill`."""

    def __init__(self, spawner: socket.socket, pid: int) -> None:
        self._spawner, self.pid = spawner, pid
        self.descriptor = os.pidfd_open(pid)

    def clean(self) -> None:
        """Ends every process but the first."""
        signal.pidfd_send_signal(self.descriptor, signal.SIGUSR1)
        if self._spawner.recv(256) != READY:
            raise OSError("a run's first process is lost")

    def kill(self) -> None:
        """Ends every process; who forked into the box must reap before the box can end."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.descriptor, signal.SIGKILL)


def main() -> None:
    """Makes boxes for the zygote, its child; ends when that does."""
    # What can be given up once and is inherited is not given up in every run.
    system.drop_bounding_set()
    system.prctl(system.PR_SET_NO_NEW_PRIVS, 1)
    mine, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork() == 0:
        mine.close()
        from olmeval.sandbox.inside import zygote

        zygote.main(Boxes(its))
        os._exit(0)
    its.close()
    os.closerange(3, mine.fileno())
    os.closerange(mine.fileno() + 1, 256)
    system.prctl(system.PR_SET_DUMPABLE, 0)  # nobody looks into a first process
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    sys.argv[:] = [""]
    gc.collect()
    gc.freeze()
    gc.disable()
    while True:
        request = mine.recv(REQUEST.size)
        if not request:
            return
        pid = system.clone(NEW)
        if pid == 0:
            _first_process(mine, *REQUEST.unpack(request))
        mine.send(struct.pack("I", pid))


def _first_process(zygote: socket.socket, size: int, inodes: int, all_of_proc: bool) -> NoReturn:
    """Builds the walls, gives up every privilege, and reaps until it is killed."""
    try:
        _mount(size, inodes, all_of_proc)
        system.drop_capabilities()
        zygote.send(READY)
        while True:
            said = signal.sigwaitinfo([signal.SIGUSR1])
            if said.si_pid or said.si_code != SI_USER:
                continue  # from inside; the zygote's id cannot be seen from here, and is 0
            with suppress(ProcessLookupError):
                while True:
                    os.kill(-1, signal.SIGKILL)
                    os.sched_yield()
            zygote.send(READY)
    except BaseException as error:
        with suppress(BaseException):
            zygote.send(f"first process: {error!r}"[:200].encode())
    finally:
        os._exit(1)


def _mount(size: int, inodes: int, all_of_proc: bool) -> None:
    """A /tmp of its own (which is /dev/shm, too), and a /proc of its own processes."""
    flags = system.MS_NOSUID | system.MS_NODEV
    options = f"size={size},nr_inodes={inodes + 1},mode=0700"
    system.mount("tmpfs", "/tmp", "tmpfs", flags, options)
    # Read-only: a process may not put itself last in the kernel's choice of whom to kill.
    proc = flags | system.MS_NOEXEC | system.MS_RDONLY
    if not all_of_proc:
        with suppress(OSError):  # Linux 5.8: the processes alone, without /proc/sys
            return system.mount("proc", "/proc", "proc", proc, "hidepid=2,subset=pid")
    return system.mount("proc", "/proc", "proc", proc, "hidepid=2")
