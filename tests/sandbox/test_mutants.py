"""Reference solutions with one operator replaced: the verdict is that of a plain interpreter."""

import json
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from olmeval.sandbox.tiers import probe
from olmeval.sandbox.types import Limits
from olmeval.sandbox.verdict import Program, Verdict, judge
from tests.sandbox.mutation import mutated
from tests.sandbox.problems import humaneval, mbpp

pytestmark = pytest.mark.skipif(
    probe().name == "T3", reason="nothing here can contain a program (see `olmeval sandbox doctor`)"
)
SECONDS = 2
# A fork of a plain interpreter for each program: no wall, no runner, pass = nothing was raised.
REFERENCE = """
import json, os, resource, signal, sys
seconds, memory = int(sys.argv[1]), int(sys.argv[2])
for source in json.load(sys.stdin):
    child = os.fork()
    if child == 0:
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        # Of processor time, so that a busy machine changes nothing.
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
        try:
            exec(source, {})
        except BaseException:
            os._exit(1)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    ended_by = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    late = ended_by in (signal.SIGXCPU, signal.SIGKILL)
    print("timeout" if late else "crash" if ended_by else "failed" if status else "passed")
"""


def reference(programs: list[Program], seconds: int) -> list[str]:
    memory = Limits().memory
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", REFERENCE, str(seconds), str(memory)],
        input=json.dumps([p.program + p.tests for p in programs]),
        capture_output=True, text=True, timeout=500, check=True,
    )  # fmt: skip
    return done.stdout.split()


def mutants(pulled: Path) -> dict[str, Program]:
    found = {}
    for name, program in {**humaneval(pulled), **mbpp(pulled)}.items():
        # The prompt is the benchmark's own; only what stands below it is an answer.
        changed = mutated(program.program, name, after=program.prompt.count("\n"))
        if changed is not None:
            found[name] = replace(program, program=changed + "\n")
    return found


def differing(
    programs: dict[str, Program], seconds: int
) -> tuple[list[Verdict], dict[str, object]]:
    """All verdicts, and those that are not what a plain interpreter says."""
    limited = [replace(p, limits=Limits(seconds=seconds)) for p in programs.values()]
    verdicts, expected = judge(limited), reference(limited, seconds)
    wrong: dict[str, object] = {
        name: (verdict, plain)
        for name, verdict, plain in zip(programs, verdicts, expected, strict=True)
        if not verdict.status == verdict.strict == verdict.compat == plain
    }
    return verdicts, wrong


def check(programs: dict[str, Program]) -> list[Verdict]:
    verdicts, wrong = differing(programs, SECONDS)
    if wrong:
        # A program that runs out of time and memory at about the same moment ends either way;
        # with more time it ends one way.
        wrong = differing({name: programs[name] for name in wrong}, 10 * SECONDS)[1]
    assert wrong == {}
    return verdicts


def test_some_mutants_are_judged_as_by_a_plain_interpreter(pulled: Path) -> None:
    every = mutants(pulled)
    drawn = random.Random(9).sample(sorted(every), 40)
    statuses = {verdict.status for verdict in check({name: every[name] for name in drawn})}
    assert {"passed", "failed"} <= statuses


@pytest.mark.slow
def test_all_mutants_are_judged_as_by_a_plain_interpreter(pulled: Path) -> None:
    every = mutants(pulled)
    assert len(every) > 500
    statuses = [verdict.status for verdict in check(every)]
    assert statuses.count("failed") > 400
    assert statuses.count("timeout") >= 3
