"""None of the hostile programs gets out, and the next honest one still runs."""

import functools
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest


def sibling(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


HERE = Path(__file__).parent
PROGRAMS = sibling("hostile").PROGRAMS
guarded = sibling("guard").guarded
KEPT = 2 * (64 * 1024 + 100)


@functools.cache
def results(user: str, tier: str) -> Any:
    done = guarded([str(HERE / "hostile_run.py"), tier, "2"], user=user)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def check(user: str, tier: str) -> None:
    rows = results(user, tier)
    if isinstance(rows, str):
        pytest.skip(rows)
    assert [row["name"] for row in rows[::2]] == list(PROGRAMS)
    wrong = {}
    for row, honest in zip(rows[::2], rows[1::2], strict=True):
        statuses, _ = PROGRAMS[row["name"]]
        if row["status"] not in statuses or "ESCAPED" in row["stdout"] or row["bytes"] > KEPT:
            wrong[row["name"]] = row
        if not honest["finished"] or honest["stdout"] != "['a', 'b']\n":
            wrong["honest after " + row["name"]] = honest
    assert wrong == {}


def test_the_list_is_long_enough() -> None:
    assert len(PROGRAMS) >= 50


@pytest.mark.parametrize("user", ["root", "nobody"])
def test_namespaces_contain_every_program(user: str) -> None:
    check(user, "T1")


@pytest.mark.slow
@pytest.mark.parametrize("user", ["root", "nobody"])
def test_landlock_contains_every_program(user: str) -> None:
    check(user, "T2")


INTERRUPTED = """
import signal, sys
from olmeval.sandbox.run import run_jobs
from olmeval.sandbox.tiers import try_wall, walls
from olmeval.sandbox.types import Job, Limits, Role

wall = next((w for w in walls() if w.name == sys.argv[1]), None)
if wall is None or try_wall(wall):
    sys.exit(77)
source = b"import os, time\\nfor _ in range(3): os.fork()\\nprint(1, flush=True)\\ntime.sleep(60)"
def interrupt(*_): raise KeyboardInterrupt
signal.signal(signal.SIGALRM, interrupt)
signal.setitimer(signal.ITIMER_REAL, 3.0)
try:
    jobs = [Job(str(n), (Role("script", source),), Limits(seconds=60)) for n in range(2)]
    run_jobs(jobs, wall=wall)
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.parametrize("user", ["root", "nobody"])
@pytest.mark.parametrize("tier", ["T1", "T2"])
def test_an_interrupted_batch_leaves_no_process(user: str, tier: str) -> None:
    # The guard fails where a process outlives the program it runs.
    done = guarded(["-c", INTERRUPTED, tier], user=user)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == "interrupted\n"
