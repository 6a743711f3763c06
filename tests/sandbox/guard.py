"""Runs a program inside limits that hold if the jail does not, as root or as nobody.

Hostile programs are run by a process of its own, never by the test's: where control groups can be
written it sits in one, so that neither memory nor processes of the machine can be used up.
"""

import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from olmeval.sandbox import cgroup
from olmeval.sandbox.types import MIB

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
NOBODY, IMPOSSIBLE = 65534, 77
# Joins the groups, adopts every orphan, runs the program; whoever still lives then was left over.
WRAP = """
import os, subprocess, sys, time
from olmeval.sandbox.inside.system import PR_SET_CHILD_SUBREAPER, prctl
for procs in filter(None, sys.argv[1].split(":")):
    open(procs, "w").write("0")
prctl(PR_SET_CHILD_SUBREAPER, 1)
code = subprocess.run(sys.argv[2:]).returncode
until = time.monotonic() + 2
while time.monotonic() < until:
    try:
        if os.waitpid(-1, os.WNOHANG)[0] == 0:
            time.sleep(0.05)
    except ChildProcessError:
        sys.exit(code)
print("LEFT OVER", open(f"/proc/self/task/{os.getpid()}/children").read(), file=sys.stderr)
sys.exit(99)
"""


def guarded(
    command: list[str], *, user: str, limit: float = 120
) -> subprocess.CompletedProcess[str]:
    """Runs ``python command`` as "root" or "nobody"; skips where that is not possible."""
    python = Path(sys.executable).resolve()
    words = [str(python), "-S", *command]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OLMEVAL_SECRET": "1"}
    if os.geteuid() != 0:
        if user == "root":
            pytest.skip("the tests are not run by root")
    elif user == "nobody":
        paths = f"{python.parent.parent}:{ROOT}"
        words = [str(python), "-S", str(HERE / "nobody.py"), str(NOBODY), paths, "--", *words]
    group = cgroup.create()
    try:
        with suppress(OSError):
            group.limit(3072 * MIB, 400)
        done = subprocess.run(
            [str(python), "-S", "-c", WRAP, ":".join(group.procs), *words],
            env=environment, capture_output=True, text=True, timeout=limit, cwd="/",
        )  # fmt: skip
        if done.returncode == IMPOSSIBLE:
            pytest.skip("root cannot make a mount namespace here")
        return done
    finally:
        for _ in range(100):  # the last processes may still be dying
            group.close()
            if not any(Path(procs).exists() for procs in group.procs):
                break
            with suppress(OSError):
                time.sleep(0.02)
