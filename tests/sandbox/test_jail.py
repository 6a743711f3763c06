"""Runs in the jail: what comes out, and which status."""

import pytest

from olmeval.sandbox.run import run_jobs
from olmeval.sandbox.tiers import probe
from olmeval.sandbox.types import Command, Job, Role, Step

pytestmark = pytest.mark.skipif(probe().name == "T3", reason="nothing here contains programs")


def test_outcomes_keep_the_order_of_their_jobs() -> None:
    jobs = [Job(f"job {n}", (Role("probe", b"payload %d" % n),)) for n in range(20)]
    outcomes = run_jobs(jobs, workers=2)
    assert [o.key for o in outcomes] == [j.key for j in jobs]
    assert [o.report for o in outcomes] == [b"payload %d" % n for n in range(20)]
    assert {o.status for o in outcomes} == {"exited"}


def test_a_command_runs_its_steps_in_turn_on_the_same_files() -> None:
    command = Command(
        "c",
        {"in.txt": b"from the host", "sub/dir.txt": b"nested"},
        (
            Step(("sh", "-c", "cat in.txt sub/dir.txt > out.txt; echo first; echo oops >&2")),
            Step(("sh", "-c", "cat out.txt -"), stdin=b" and stdin"),
            Step(("sh", "-c", "exit 3")),
            Step(("sh", "-c", "echo never")),
        ),
    )
    (outcome,) = run_jobs([command])
    assert outcome.status == "exited"
    assert [part.code for part in outcome.parts] == [0, 0, 3]
    assert outcome.parts[0].stdout == b"first\n" and outcome.parts[0].stderr == b"oops\n"
    assert outcome.parts[1].stdout == b"from the hostnested and stdin"
