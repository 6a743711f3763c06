"""System calls that Python does not wrap, through ctypes; errors are :class:`OSError`."""

from __future__ import annotations

import ctypes
import os
import signal

_libc = ctypes.CDLL(None, use_errno=True)
_locked_libc = ctypes.PyDLL(None, use_errno=True)
_machine = os.uname().machine

# Numbers: Linux, arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h.
SYS_CLONE = {"x86_64": 56, "aarch64": 220}.get(_machine, -1)
SYS_CAPSET = {"x86_64": 126, "aarch64": 91}.get(_machine, -1)

CLONE_NEWNS = 0x00020000
CLONE_NEWIPC = 0x08000000
CLONE_NEWPID = 0x20000000

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 32, 4096, 16384, 1 << 18

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_CAPBSET_DROP = 1, 4, 22, 24
PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 36, 38
_CAP_VERSION_3 = 0x20080522


def syscall(number: int, *args: object) -> int:
    """A raw system call."""
    result: int = _libc.syscall(ctypes.c_long(number), *args)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def prctl(option: int, *args: int) -> None:
    values = [ctypes.c_ulong(a) for a in (*args, 0, 0, 0, 0)[:4]]
    if _libc.prctl(option, *values) < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), "prctl {}".format(option))  # noqa: UP032


def mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    result = _libc.mount(
        source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), data.encode()
    )
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), target)


def unshare(flags: int) -> None:
    if _libc.unshare(flags) < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), "unshare")


def clone(flags: int) -> int:
    """Like :func:`os.fork`, the child in new namespaces; for a process of one thread.

    The interpreter's own work around a fork is left out, which costs more than the namespaces: it
    is about other threads, of which there are none. The child must not end as Python does.
    """
    # PyDLL keeps the interpreter's lock, which the child therefore holds, too.
    pid: int = _locked_libc.syscall(
        ctypes.c_long(SYS_CLONE), ctypes.c_ulong(flags | signal.SIGCHLD), None, None, None, None
    )
    if pid < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), "clone")
    return pid


def setns(descriptor: int, flags: int) -> None:
    """Joins the namespaces of the process that a pidfd stands for; Linux 5.8."""
    if _libc.setns(descriptor, flags) < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), "setns")


def drop_bounding_set() -> None:
    """No program that this process or a descendant becomes gains a capability; its own stay."""
    for number in range(64):
        if _libc.prctl(PR_CAPBSET_DROP, ctypes.c_ulong(number), 0, 0, 0) < 0:
            break  # the first number the kernel does not know


_no_capabilities = (ctypes.c_uint32 * 2)(_CAP_VERSION_3, 0), (ctypes.c_uint32 * 6)()


def drop_capabilities() -> None:
    """Gives up every capability that this process has."""
    syscall(SYS_CAPSET, *_no_capabilities)
