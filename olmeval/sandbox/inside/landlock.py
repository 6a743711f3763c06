"""Landlock: a process forbids itself everything but a few paths, TCP, and signals to the outside.

The fence of tier T2, where no mount namespace hides the host's files. See
Documentation/userspace-api/landlock.rst; rights are those that the running kernel knows.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable

from olmeval.sandbox.inside.system import syscall

_CREATE, _ADD_RULE, _RESTRICT = 444, 445, 446
_EXECUTE, _WRITE, _READ_FILE, _READ_DIR, _TRUNCATE, _IOCTL = 1, 2, 4, 8, 1 << 14, 1 << 15
_OF_FILES = _EXECUTE | _WRITE | _READ_FILE | _TRUNCATE | _IOCTL


def abi() -> int:
    """The version of Landlock that the kernel has; 0 where it has none."""
    try:
        return syscall(_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint(1))
    except OSError:
        return 0


def restrict(read: Iterable[str], write: Iterable[str], version: int) -> None:
    """Only ``read`` may be read and executed, only ``write`` changed; needs no_new_privs.

    ``version`` is what :func:`abi` said. Version 4 forbids TCP, too; version 6 signals to
    processes outside and abstract sockets. Paths that do not exist are left out.
    """
    rights = (1 << (13 if version == 1 else 14 if version == 2 else 15 if version < 5 else 16)) - 1
    values = [rights]
    if version >= 4:
        values.append(3)  # bind and connect
    if version >= 6:
        values.append(3)  # abstract sockets, signals
    attributes = (ctypes.c_uint64 * len(values))(*values)
    ruleset = syscall(
        _CREATE, attributes, ctypes.c_size_t(ctypes.sizeof(attributes)), ctypes.c_uint(0)
    )
    try:
        for paths, allowed in ((read, _EXECUTE | _READ_FILE | _READ_DIR), (write, rights)):
            for path in paths:
                _allow(ruleset, path, allowed & rights)
        syscall(_RESTRICT, ctypes.c_int(ruleset), ctypes.c_uint(0))
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if not os.path.isdir(path):
            rights &= _OF_FILES
        rule = ctypes.create_string_buffer(
            rights.to_bytes(8, "little") + descriptor.to_bytes(4, "little"), 12
        )
        syscall(_ADD_RULE, ctypes.c_int(ruleset), ctypes.c_int(1), rule, ctypes.c_uint(0))
    finally:
        os.close(descriptor)
