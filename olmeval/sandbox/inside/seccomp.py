"""The system calls that a candidate may not make, as a BPF program for seccomp.

A list of what is forbidden, not of what is allowed: programs in nine languages must run, and the
other walls (namespaces, no capabilities, no_new_privs, limits) stand behind this one. Forbidden is
what reaches outside the run (sockets, tracing), changes namespaces or mounts, reaches parts of the
kernel that escapes are found in (io_uring, bpf, userfaultfd, keys), or holds memory that no limit
sees (memfd, System V shared memory). See seccomp(2), and Docker's default profile for the same
kind of list.

Where Landlock stands alone, more is forbidden: what it does not cover and a namespace would (other
processes of the same user, files' attributes, sockets that have a name).
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

from olmeval.sandbox.inside.system import PR_SET_SECCOMP, prctl

_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000  # SECCOMP_RET_*
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32 = 0x40000000
# CLONE_NEWNS, CGROUP, UTS, IPC, USER, PID, NET; and CLONE_PARENT: a child of the zygote, which does
# not know of it, is never reaped and holds its namespaces for ever.
_CLONE_DENIED = 0x7E020000 | 0x8000
_AF_UNIX, _DATAGRAM, _TIOCSTI, _TIOCLINUX = 1, 2, 0x5412, 0x541C
_F_SETOWN, _F_SETOWN_EX, _FIOSETOWN, _SIOCSPGRP = 8, 15, 0x8901, 0x8902
_FS_IOC_SETFLAGS, _FS_IOC_FSSETXATTR = 0x40086602, 0x401C5820

# name: (x86_64, aarch64); -1 where the machine has none.
_DENIED: dict[str, tuple[int, int]] = {
    "socket": (41, 198), "ptrace": (101, 117), "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271), "kcmp": (312, 272), "pidfd_getfd": (438, 438),
    "process_madvise": (440, 440), "process_mrelease": (448, 448),
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51),
    "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433),
    "move_mount": (429, 429), "open_tree": (428, 428), "mount_setattr": (442, 442),
    "unshare": (272, 97), "setns": (308, 268),
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282),
    "keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218),
    "open_by_handle_at": (304, 265), "name_to_handle_at": (303, 264),
    "fanotify_init": (300, 262), "fanotify_mark": (301, 263),
    "quotactl": (179, 60), "quotactl_fd": (443, 443), "swapon": (167, 224), "swapoff": (168, 225),
    "kexec_load": (246, 104), "kexec_file_load": (320, 294), "init_module": (175, 105),
    "finit_module": (313, 273), "delete_module": (176, 106), "acct": (163, 89),
    "reboot": (169, 142), "sethostname": (170, 161), "setdomainname": (171, 162),
    "settimeofday": (164, 170), "clock_settime": (227, 112), "adjtimex": (159, 171),
    "clock_adjtime": (305, 266), "syslog": (103, 116), "vhangup": (153, 58),
    "lookup_dcookie": (212, 18), "personality": (135, 92), "migrate_pages": (256, 238),
    "move_pages": (279, 239), "iopl": (172, -1), "ioperm": (173, -1), "uselib": (134, -1),
    "ustat": (136, -1), "modify_ldt": (154, -1), "_sysctl": (156, -1),
}  # fmt: skip
_ABSENT: dict[str, tuple[int, int]] = {  # answered as if the kernel had no such call
    "clone3": (435, 435),  # its flags lie behind a pointer; C libraries fall back to clone
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    "memfd_create": (319, 279), "memfd_secret": (447, 447),
    "shmget": (29, 194), "semget": (64, 190), "msgget": (68, 186), "mq_open": (240, 180),
    "shmat": (30, 196), "shmctl": (31, 195), "semop": (65, 193), "semtimedop": (220, 192),
    "semctl": (66, 191), "msgsnd": (69, 189), "msgrcv": (70, 188), "msgctl": (71, 187),
    "mq_unlink": (241, 181), "io_setup": (206, 0),  # one count for the whole machine
    # Signals that say what they like of their sender.
    "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240),
}  # fmt: skip
_CLONE, _SOCKETPAIR, _IOCTL, _FCNTL = (56, 220), (53, 199), (16, 29), (72, 25)
# Without a pid namespace: nothing leaves the process group by which a run is killed, or changes
# another process of the same user (the zygote, the whole desktop).
_OF_OTHERS: dict[str, tuple[int, int]] = {
    "setsid": (112, 157), "setpgid": (109, 154), "setpriority": (141, 140), "ioprio_set": (251, 30),
}  # fmt: skip
_OWN_ALONE = {  # first argument a process, 0 for the caller
    "prlimit64": (302, 261), "sched_setaffinity": (203, 122), "sched_setscheduler": (144, 119),
    "sched_setparam": (142, 118), "sched_setattr": (314, 274),
}  # fmt: skip
# Landlock leaves the attributes of every file to its owner. Answered as by a file system that has
# none, since copying a file sets them.
_ATTRIBUTES: dict[str, tuple[int, int]] = {
    "chmod": (90, -1), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452),
    "chown": (92, -1), "lchown": (94, -1), "fchown": (93, 55), "fchownat": (260, 54),
    "utime": (132, -1), "utimes": (235, -1), "futimesat": (261, -1), "utimensat": (280, 88),
    "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7), "setxattrat": (463, 463),
    "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16),
    "removexattrat": (466, 466), "file_setattr": (469, 469),
}  # fmt: skip
_TRUNCATE: dict[str, tuple[int, int]] = {"truncate": (76, 45)}
_SIGNALS = [(62, 129), (234, 131), (200, 130)]  # kill, tgkill, tkill: first argument a process
_SIGNALS_ABSENT: dict[str, tuple[int, int]] = {"pidfd_open": (434, 434)}


def supported(machine: str = os.uname().machine) -> bool:
    """Whether the numbers of this machine's system calls are known here."""
    return machine in _AUDIT_ARCH


def program(
    machine: str = os.uname().machine, *, landlock: int | None = None, own_pid: int | None = None,
    compiler: bool = False,
) -> bytes:  # fmt: skip
    """The filter, as an array of ``struct sock_filter``.

    ``landlock`` is its version where no namespaces are around a program; ``own_pid`` forbids
    signals to any other process (for kernels that cannot confine signals). ``compiler``: for a
    program that is trusted and has to make what it writes executable. Raises :class:`KeyError` for
    a machine that is not :func:`supported`.
    """
    arch = _AUDIT_ARCH[machine]
    column = 0 if machine == "x86_64" else 1
    eperm, enosys = _ERRNO | errno.EPERM, _ERRNO | errno.ENOSYS
    code: list[tuple[int, int, int, int]] = [
        (_LOAD, 0, 0, 4),  # seccomp_data.arch
        (_EQUAL, 1, 0, arch),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, 0),  # seccomp_data.nr
    ]
    if column == 0:
        code += [(_AT_LEAST, 0, 1, _X32), (_RETURN, 0, 0, _KILL)]

    def check(
        call: tuple[int, int], tests: list[tuple[int, int, int, int]], otherwise: int = _ALLOW
    ) -> None:
        """``tests``: (number of an argument, comparison with its low half, value, result)."""
        body: list[tuple[int, int, int, int]] = []
        for argument, comparison, value, result in tests:
            body += [(_LOAD, 0, 0, 16 + 8 * argument), (comparison, 0, 1, value),
                     (_RETURN, 0, 0, result)]  # fmt: skip
        body.append((_RETURN, 0, 0, otherwise))
        code.append((_EQUAL, 0, len(body), call[column]))
        code.extend(body)

    denied, absent, ignored = dict(_DENIED), dict(_ABSENT), {}
    sockets = [(0, _EQUAL, _AF_UNIX, _ALLOW)]
    requests = [_TIOCSTI, _TIOCLINUX]
    if landlock is not None:
        denied.update(_OF_OTHERS)
        if landlock < 3:
            denied.update(_TRUNCATE)
        if not compiler:
            ignored = _ATTRIBUTES
        for call in _OWN_ALONE.values():
            check(call, [(0, _EQUAL, 0, _ALLOW)], eperm)
        # One of a pair of datagram sockets can leave its partner and write to any that has a name.
        sockets.insert(0, (1, _ANY_BIT, _DATAGRAM, eperm))
        requests += [_FIOSETOWN, _SIOCSPGRP, _FS_IOC_SETFLAGS, _FS_IOC_FSSETXATTR]
        # A signal on input, to whoever is named.
        check(_FCNTL, [(1, _EQUAL, number, eperm) for number in (_F_SETOWN, _F_SETOWN_EX)])
    check(_CLONE, [(0, _ANY_BIT, _CLONE_DENIED, eperm)])
    check(_SOCKETPAIR, sockets, eperm)
    check(_IOCTL, [(1, _EQUAL, request, eperm) for request in requests])
    if own_pid is not None:
        for call in _SIGNALS:
            check(call, [(0, _EQUAL, 0, _ALLOW), (0, _EQUAL, own_pid, _ALLOW)], eperm)
        absent.update(_SIGNALS_ABSENT)
    for calls, result in ((denied, eperm), (absent, enosys), (ignored, _ERRNO)):
        for numbers in calls.values():
            if numbers[column] >= 0:
                code += [(_EQUAL, 0, 1, numbers[column]), (_RETURN, 0, 0, result)]
    code.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("HBBI", *instruction) for instruction in code)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def install(filter_: bytes) -> None:
    """Puts the filter on this process for good; needs no_new_privs."""
    description = _Program(len(filter_) // 8, filter_)
    prctl(PR_SET_SECCOMP, 2, ctypes.addressof(description))
