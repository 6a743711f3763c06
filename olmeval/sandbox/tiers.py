"""What this machine can contain programs with: tried, not guessed.

T1: bubblewrap with user namespaces around a warm interpreter, each run in namespaces of its own.
T2: no user namespaces (many containers): Landlock, seccomp, limits, and a spare user id where
this process is root. T3: neither, so programs are refused. A tier counts once a program has run
in it.
"""

import functools
import shutil
from dataclasses import dataclass

from olmeval.errors import UserError
from olmeval.sandbox import cgroup, jail
from olmeval.sandbox.inside import landlock, seccomp
from olmeval.sandbox.pool import Pool
from olmeval.sandbox.types import Job, Outcome, Role

INSTALL = "install bubblewrap (`apt-get install bubblewrap`)"


@dataclass(frozen=True)
class Tier:
    """A tier and what it stands on."""

    name: str  # T1, T2 or T3
    wall: jail.Wall
    namespaces: bool
    landlock: int  # the kernel's version, 0 for none
    seccomp: bool
    memory_group: bool  # a control group counts memory; else the zygote does, every 30 ms
    reasons: tuple[str, ...] = ()  # why not a better one, a sentence each


def walls() -> list[jail.Wall]:
    """What is worth trying here, best first."""
    found = []
    if shutil.which("bwrap"):
        found.append(jail.Wall("T1", namespaces=True))
    version = landlock.abi()
    if version:
        found.append(jail.Wall("T2", namespaces=False, landlock=version))
    return found


def try_wall(wall: jail.Wall) -> str:
    """Runs one program behind a wall; why that failed, or nothing."""
    outcomes: list[Outcome] = []
    try:
        with Pool(wall, 1, runners=["probe"]) as pool:
            job = Job("probe", (Role("probe", b"here"),))
            pool.run([job], lambda _, outcome: outcomes.append(outcome))
    except UserError as error:
        return str(error)
    if outcomes[0].report == b"here":
        return ""
    return outcomes[0].detail or f"a program that does nothing ended with '{outcomes[0].status}'"


@functools.cache
def probe() -> Tier:
    """The best tier that works here."""
    version, filters = landlock.abi(), seccomp.supported()
    group = any("memory" in parent.controllers for parent in cgroup.parents())
    reasons: list[str] = []
    if not filters:
        reasons.append("system calls of this machine's architecture are not known here")
    if not shutil.which("bwrap"):
        reasons.append(f"T1 needs the program bwrap: {INSTALL}")
    if not version:
        reasons.append("T2 needs Landlock: Linux 5.13 with that security module on")
    for wall in walls() if filters else []:
        why = try_wall(wall)
        if not why:
            return Tier(wall.name, wall, wall.namespaces, version, True, group, tuple(reasons))
        reasons.append(f"{wall.name} does not work: {why}")
    nothing = jail.Wall("T3", namespaces=False)
    return Tier("T3", nothing, False, version, filters, group, tuple(reasons))
