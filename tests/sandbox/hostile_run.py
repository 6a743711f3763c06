"""Runs the hostile programs, an honest one after each, and prints what became of them as JSON.

A program of its own, so that it can be run as any user and inside limits that hold if the jail
does not. Arguments: tier, number of workers, names of programs (all, where none is given).
"""

import json
import os
import resource
import sys
from dataclasses import replace

from hostile import PROGRAMS

from olmeval.sandbox.run import run_jobs
from olmeval.sandbox.tiers import try_wall, walls
from olmeval.sandbox.types import MIB, Job, Limits, Role

LIMITS = Limits(seconds=0.6, memory=128 * MIB, processes=24)
HONEST = "import math, re\nassert math.gcd(12, 18) == 6\nprint(sorted({'b', 'a'}))\n"


def main() -> None:
    tier, workers, names = sys.argv[1], int(sys.argv[2]), sys.argv[3:] or list(PROGRAMS)
    # If the jail fails, these still hold; they are far above what the test itself needs.
    for what, limit in ((resource.RLIMIT_FSIZE, 256 * MIB), (resource.RLIMIT_CORE, 0)):
        resource.setrlimit(what, (limit, limit))
    os.environ["OLMEVAL_SECRET"] = "1"
    wall = next((w for w in walls() if w.name == tier), None)
    why = "no program for it" if wall is None else try_wall(wall)
    if wall is None or why:
        print(json.dumps(f"{tier} is not possible here: {why}"))
        return
    jobs = []
    for name in names:
        source = PROGRAMS[name][1]
        jobs.append(Job(name, (Role("script", source.encode()),), LIMITS))
        jobs.append(Job("honest", (Role("script", HONEST.encode()),), replace(LIMITS, seconds=3.0)))
    outcomes = run_jobs(jobs, workers=workers, wall=wall)
    found = []
    for outcome in outcomes:
        row = {"name": outcome.key, "status": outcome.status, "detail": outcome.detail}
        row["finished"] = outcome.report == b"finished"
        for part in outcome.parts:
            row["bytes"] = len(part.stdout) + len(part.stderr)
            row["stdout"] = part.stdout[:2000].decode(errors="replace")
            row["stderr"] = part.stderr[-2000:].decode(errors="replace")
        found.append(row)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
