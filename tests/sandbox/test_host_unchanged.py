"""After the hostile programs the host is as before: processes, files, settings, control groups."""

import hashlib
import os
import pwd
import subprocess
from pathlib import Path

import pytest

from olmeval.sandbox import cgroup

NAMES = [
    "daemon", "orphans that burn", "process group of its own", "stopped children", "fork bomb",
    "fills /dev/shm", "fills the inodes", "writes system files", "core_pattern",
    "other settings below /proc/sys", "control groups", "host name and clock", "mounts",
    "abstract and named unix sockets", "fills System V shared memory", "message queues",
    "reloads what was taken away", "symbolic link out of /tmp", "file left for the next run",
    "kills its group", "kills everything",
]  # fmt: skip
VOLATILE = {"ns_last_pid", "urandom_min_reseed_secs", "drop_caches"}
FILES = ["/etc/passwd", "/etc/group", "/etc/hostname", "/etc/hosts", "/etc/ld.so.cache"]
FOLDERS = ["/", "/tmp", "/var/tmp", "/dev", "/dev/shm", "/dev/mqueue", "/etc", "/usr", "/usr/bin",
           "/usr/lib", "/root", "/home", "/opt", "/mnt", "/run", "/jail"]  # fmt: skip
MARKS = ("olmeval-hostile", "left-by-a-run")


def settings() -> dict[str, str]:
    """Every setting below /proc/sys that can be written."""
    found = {}
    for path in sorted(Path("/proc/sys").rglob("*")):
        try:
            if path.is_file() and path.name not in VOLATILE and path.stat().st_mode & 0o222:
                found[str(path)] = path.read_text(errors="replace")
        except OSError:
            continue
    return found


def marked_files() -> set[str]:
    """What the programs' own names give away, wherever they try to write."""
    found = set()
    for folder in FOLDERS:
        try:
            names = os.listdir(folder)
        except OSError:
            continue
        found |= {f"{folder}/{name}" for name in names if name.startswith(MARKS)}
    return found


def groups() -> set[str]:
    """Our control groups, but for those of other processes that run now."""
    folders = [f for parent in cgroup.parents() for f in parent.folder.rglob(f"{cgroup.PREFIX}*")]
    alive = {name for name in os.listdir("/proc") if name.isdigit()}
    return {str(folder) for folder in folders if folder.name.split("-")[2] not in alive}


def snapshot() -> dict[str, object]:
    def text(path: str) -> str:
        try:
            return Path(path).read_text(errors="replace")
        except OSError:
            return ""

    return {
        "settings": settings(),
        "mounts": sorted(text("/proc/self/mountinfo").splitlines()),
        "shared memory": [text(f"/proc/sysvipc/{kind}") for kind in ("shm", "sem", "msg")],
        "files": [hashlib.sha256(text(path).encode()).hexdigest() for path in FILES],
        "sockets": [line for line in text("/proc/net/unix").splitlines() if "hostile" in line],
        "users": [entry.pw_name for entry in pwd.getpwall()],
        "marked files": marked_files(),
        "host name": os.uname().nodename,
    }


@pytest.mark.parametrize("user", ["root", "nobody"])
def test_the_host_is_as_before(user: str) -> None:
    from importlib import util

    spec = util.spec_from_file_location("guard", Path(__file__).with_name("guard.py"))
    assert spec and spec.loader
    guard = util.module_from_spec(spec)
    spec.loader.exec_module(guard)

    before, held = snapshot(), groups()
    script = str(Path(__file__).with_name("hostile_run.py"))
    # Fails where a process of the batch outlives it.
    done: subprocess.CompletedProcess[str] = guard.guarded([script, "T1", "2", *NAMES], user=user)
    assert done.returncode == 0, done.stderr[-2000:]
    after = snapshot()
    for what, value in before.items():
        assert after[what] == value, what
    assert groups() <= held
