"""What this machine has: control groups, filters of system calls, and what is said where not."""

import errno
import os
import struct
from pathlib import Path

import pytest

from olmeval.errors import UserError
from olmeval.sandbox import cgroup, jail, tiers
from olmeval.sandbox.inside import seccomp

ALLOW, KILL = 0x7FFF0000, 0x80000000
EPERM, ENOSYS = 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS
X86 = 0xC000003E


def verdict(program: bytes, number: int, *arguments: int, arch: int = X86) -> int:
    """What a filter says to a system call: classic BPF, interpreted (linux/filter.h)."""
    values = [*arguments, 0, 0, 0, 0, 0, 0][:6]
    data = struct.pack("<IIQ6Q", number, arch, 0, *values)
    code = [struct.unpack_from("HBBI", program, at) for at in range(0, len(program), 8)]
    position, register = 0, 0
    while True:
        operation, yes, no, value = code[position]
        position += 1
        if operation == 0x06:
            return value
        if operation == 0x20:
            register = struct.unpack_from("<I", data, value)[0]
            continue
        holds = {0x15: register == value, 0x35: register >= value, 0x45: register & value}
        position += yes if holds[operation] else no


def test_the_filter_forbids_what_it_should_and_nothing_else() -> None:
    program = seccomp.program("x86_64")
    read, write, fork, kill, ptrace, socket = 0, 1, 57, 62, 101, 41
    for number in (read, write, fork, kill, 9, 12, 39, 59, 231):
        assert verdict(program, number) == ALLOW
    for number in (ptrace, socket, 165, 272, 308, 321, 298, 250, 175):
        assert verdict(program, number) == EPERM
    for number in (435, 425, 426, 427, 319, 29, 31, 129, 206, 241):
        assert verdict(program, number) == ENOSYS
    assert verdict(program, 53, 1) == ALLOW and verdict(program, 53, 2) == EPERM  # socketpair
    assert verdict(program, 16, 0, 0x5401) == ALLOW and verdict(program, 16, 0, 0x5412) == EPERM
    thread, namespace = 0x003D0F00, 0x10000000
    assert verdict(program, 56, 0x8000 | 17) == EPERM  # a sibling instead of a child
    assert verdict(program, 56, thread) == ALLOW and verdict(program, 56, namespace | 17) == EPERM
    assert verdict(program, 0x40000000 | 39) == KILL  # x32
    assert verdict(program, read, arch=0x40000003) == KILL  # i386


def test_where_landlock_is_alone_the_filter_forbids_what_it_does_not_cover() -> None:
    program = seccomp.program("x86_64", landlock=7)
    chmod, utimensat, setxattr, truncate, prlimit = 90, 280, 188, 76, 302
    for number in (chmod, utimensat, setxattr, 91, 268, 92, 469):
        assert verdict(program, number) == 0x00050000  # done, it says, and does nothing
        assert verdict(seccomp.program("x86_64", landlock=7, compiler=True), number) == ALLOW
        assert verdict(seccomp.program("x86_64"), number) == ALLOW
    assert verdict(program, truncate) == ALLOW
    assert verdict(seccomp.program("x86_64", landlock=2), truncate) == EPERM
    for number in (prlimit, 203, 144, 142, 314):
        assert verdict(program, number, 0) == ALLOW and verdict(program, number, 4321) == EPERM
    assert verdict(program, 141, 0, 0) == EPERM  # setpriority
    stream, datagram, raw, flags = 1, 2, 3, 0o2004000
    assert verdict(program, 53, 1, stream | flags) == ALLOW
    assert verdict(program, 53, 1, datagram | flags) == EPERM == verdict(program, 53, 1, raw)
    assert verdict(program, 53, 2, stream) == EPERM
    assert verdict(program, 72, 5, 8) == EPERM and verdict(program, 72, 5, 2) == ALLOW  # F_SETOWN
    assert verdict(program, 16, 0, 0x8901) == EPERM  # FIOSETOWN


def test_without_a_process_namespace_groups_and_signals_are_confined() -> None:
    program = seccomp.program("x86_64", landlock=5, own_pid=4321)
    assert verdict(program, 112) == EPERM and verdict(program, 109) == EPERM
    assert verdict(program, 62, 4321) == ALLOW and verdict(program, 62, 0) == ALLOW
    assert verdict(program, 62, 1) == EPERM
    assert verdict(program, 62, 2**64 - 1) == EPERM  # every process
    assert verdict(program, 234, 4321) == ALLOW and verdict(program, 234, 99) == EPERM


def test_arm_has_numbers_of_its_own() -> None:
    program, arm = seccomp.program("aarch64"), 0xC00000B7
    assert verdict(program, 117, arch=arm) == EPERM  # ptrace
    assert verdict(program, 220, 0x10000000, arch=arm) == EPERM  # clone
    assert verdict(program, 63, arch=arm) == ALLOW  # read
    assert verdict(program, 63) == KILL
    assert not seccomp.supported("riscv64")


def test_version_1_groups_are_found_where_the_process_is(tmp_path: Path) -> None:
    (tmp_path / "memory/mine").mkdir(parents=True)
    (tmp_path / "pids").mkdir()
    mountinfo = (
        f"30 29 0:26 / {tmp_path}/memory rw - cgroup cgroup rw,memory\n"
        f"31 29 0:27 / {tmp_path}/pids rw - cgroup cgroup rw,pids\n"
        f"32 29 0:28 / {tmp_path}/gone rw - cgroup cgroup rw,cpu\n"
    )
    found = cgroup.parents(mountinfo, "8:pids:/\n4:memory:/mine\n1:cpu:/\n")
    assert [(p.folder, p.version) for p in found] == [
        (tmp_path / "memory/mine", 1),
        (tmp_path / "pids", 1),
    ]
    group = cgroup.create(found)
    assert group.memory is not None and group.memory.parent == tmp_path / "memory/mine"
    assert group.pids is not None and group.pids.parent == tmp_path / "pids"
    assert group.counter == group.memory / "memory.oom_control"
    assert group.full()  # nothing tells
    (group.memory / "memory.limit_in_bytes").write_text("200000000")
    (group.memory / "memory.max_usage_in_bytes").write_text("199999999\n")
    assert group.full()
    group.mark()
    assert not group.full()
    assert len(group.procs) == 2


def test_version_2_groups_are_made_where_memory_is_handed_down(tmp_path: Path) -> None:
    scope = tmp_path / "user.slice/scope"
    scope.mkdir(parents=True)
    (scope / "cgroup.subtree_control").write_text("")
    (tmp_path / "user.slice/cgroup.subtree_control").write_text("memory pids\n")
    mountinfo = f"30 29 0:26 / {tmp_path} rw - cgroup2 cgroup2 rw\n"
    found = cgroup.parents(mountinfo, "0::/user.slice/scope\n")
    assert [(p.folder, p.version) for p in found] == [(tmp_path / "user.slice", 2)]
    group = cgroup.create(found)
    assert group.memory == group.pids and len(group.procs) == 1
    group.limit(1 << 30, 64)
    assert group.memory is not None
    assert (group.memory / "memory.max").read_text() == str(1 << 30)
    assert (group.memory / "pids.max").read_text() == "64"
    assert group.counter == group.memory / "memory.events"
    assert group.full()  # nothing tells
    events = "low 0\nhigh 0\nmax 12\noom {}\noom_kill 5\n"
    group.counter.write_text(events.format(2))
    group.mark()
    assert not group.full()
    group.counter.write_text(events.format(3))
    assert group.full()


def test_no_groups_where_nothing_may_be_written() -> None:
    assert cgroup.parents("", "") == []
    group = cgroup.create([])
    assert group.procs == [] and group.counter is None
    group.limit(1, 1)
    group.close()


def test_groups_of_killed_processes_are_removed(tmp_path: Path) -> None:
    parent = cgroup.Parent(frozenset({"memory"}), tmp_path, 2)
    stale = tmp_path / f"{cgroup.PREFIX}999999999-0"
    alive = tmp_path / f"{cgroup.PREFIX}{os.getpid()}-99"
    stale.mkdir()
    alive.mkdir()
    cgroup.create([parent])
    assert not stale.exists() and alive.exists()


def test_where_nothing_works_every_reason_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiers.shutil, "which", lambda *_, **__: None)
    monkeypatch.setattr(tiers.landlock, "abi", lambda: 0)
    tier = tiers.probe.__wrapped__()
    assert tier.name == "T3"
    assert "bubblewrap" in " ".join(tier.reasons) and "Landlock" in " ".join(tier.reasons)


def test_a_tier_that_fails_when_tried_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiers, "try_wall", lambda wall: "no" if wall.name == "T1" else "")
    monkeypatch.setattr(tiers.shutil, "which", lambda *_, **__: "/usr/bin/bwrap")
    monkeypatch.setattr(tiers.landlock, "abi", lambda: 7)
    tier = tiers.probe.__wrapped__()
    assert tier.name == "T2" and tier.reasons == ("T1 does not work: no",)


def test_folders_that_the_jail_hides_are_shown_elsewhere() -> None:
    python = jail.Runtime(Path("/tmp/python"), Path("/tmp/python/bin/python3"))
    bound = jail.bindings(python, ["/usr/bin", "/etc"])
    assert [b.source for b in bound] == [Path("/etc"), Path("/tmp/python")]
    assert jail.translate(python.executable, bound).startswith("/jail/bound/")
    assert jail.translate(Path("/usr/bin/env"), bound) == "/usr/bin/env"


def test_the_whole_machine_is_not_shown() -> None:
    python = jail.runtime()
    with pytest.raises(UserError, match="name a folder"):
        jail.bindings(python, ["/"])
    with pytest.raises(UserError, match="does not exist"):
        jail.bindings(python, ["/no/such/folder"])
