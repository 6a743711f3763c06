"""Runs in the jail: what comes out, and which status."""

import subprocess
import sys
from pathlib import Path

import pytest

from olmeval.sandbox.jail import Wall
from olmeval.sandbox.run import run_jobs
from olmeval.sandbox.tiers import probe, try_wall, walls
from olmeval.sandbox.types import Command, Job, Limits, Role, Step

usable = [pytest.param(w, id=w.name) for w in walls() if not try_wall(w)]
each_wall = pytest.mark.parametrize("wall", usable)
pytestmark = pytest.mark.skipif(probe().name == "T3", reason="nothing here contains programs")


def test_outcomes_keep_the_order_of_their_jobs() -> None:
    jobs = [Job(f"job {n}", (Role("probe", b"payload %d" % n),)) for n in range(20)]
    outcomes = run_jobs(jobs, workers=2)
    assert [o.key for o in outcomes] == [j.key for j in jobs]
    assert [o.report for o in outcomes] == [b"payload %d" % n for n in range(20)]
    assert {o.status for o in outcomes} == {"exited"}


@each_wall
def test_a_command_runs_its_steps_in_turn_on_the_same_files(wall: Wall) -> None:
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
    (outcome,) = run_jobs([command], wall=wall)
    assert outcome.status == "exited"
    assert [part.code for part in outcome.parts] == [0, 0, 3]
    assert outcome.parts[0].stdout == b"first\n" and outcome.parts[0].stderr == b"oops\n"
    assert outcome.parts[1].stdout == b"from the hostnested and stdin"


def test_a_command_that_is_not_there_says_so() -> None:
    (outcome,) = run_jobs([Command("c", {}, (Step(("no-such-program",)),))])
    assert outcome.parts[0].code == 127 and b"no-such-program" in outcome.parts[0].stderr


@each_wall
def test_what_a_step_leaves_running_does_not_see_the_next(wall: Wall) -> None:
    leave = "(while true; do echo spy >> out.txt; done) & sleep 0.05; rm -f out.txt; echo left"
    look = "rm -f out.txt; sleep 0.2; ls out.txt 2>/dev/null; ls /proc | grep -c '^[0-9]'"
    (outcome,) = run_jobs(
        [Command("c", {}, (Step(("sh", "-c", leave)), Step(("sh", "-c", look))))], wall=wall
    )
    assert outcome.parts[0].stdout == b"left\n"
    if outcome.tier == "T1":
        # sh, ls, grep; the first process of the box is hidden.
        assert int(outcome.parts[1].stdout) <= 4
    assert b"out.txt" not in outcome.parts[1].stdout


@each_wall
def test_limits_of_each_step_are_its_own(wall: Wall) -> None:
    fast, slow = Limits(seconds=0.3), Limits(seconds=5)
    steps = (Step(("sleep", "0.6"), slow), Step(("sleep", "30"), fast), Step(("true",)))
    (outcome,) = run_jobs([Command("c", {}, steps)], wall=wall)
    assert [part.status for part in outcome.parts] == ["exited", "timeout"]
    assert outcome.status == "timeout"


@each_wall
def test_two_roles_talk_and_the_first_ends_the_run(wall: Wall) -> None:
    job = Job("two", (Role("script", ASKS.encode()), Role("script", ANSWERS.encode())), Limits())
    (outcome,) = run_jobs([job], wall=wall)
    first, second = outcome.parts
    assert outcome.report == b"42finished"
    assert first.status == "exited" and first.code == 0
    assert second.signal == 9  # it would have gone on for ever
    assert b"alone" in second.stdout


# The other role's end of the socket pair is descriptor 4; each is alone in its namespaces.
ASKS = """
import os, socket
peer = socket.socket(fileno=os.dup(4))
peer.sendall(b"6 * 7")
os.write(3, peer.recv(100))
"""
ANSWERS = """
import os, socket, time
peer = socket.socket(fileno=os.dup(4))
try:
    os.kill(os.getpid() + 1, 0)
except OSError:
    print("alone", flush=True)
peer.sendall(str(eval(peer.recv(100))).encode())
time.sleep(60)
"""


def test_a_payload_of_many_megabytes_arrives() -> None:
    source = "data = '" + "x" * (8 << 20) + "'\nprint(len(data))"
    (outcome,) = run_jobs([Job("big", (Role("script", source.encode()),))])
    assert outcome.parts[0].stdout == b"%d\n" % (8 << 20)


@pytest.mark.slow
def test_an_environment_brings_its_packages(tmp_path: Path) -> None:
    folder = tmp_path / "environment"  # below /tmp, which the jail hides
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (packages,) = folder.glob("lib/python3*/site-packages")
    (packages / "only_here.py").write_text("answer = 42\n")
    source = b"import only_here; print(only_here.answer)"
    jobs = [Job("in", (Role("script", source),), environment=str(folder)),
            Job("out", (Role("script", source),))]  # fmt: skip
    inside, outside = run_jobs(jobs)
    assert inside.parts[0].stdout == b"42\n"
    assert outside.parts[0].code == 1 and b"only_here" in outside.parts[0].stderr


@pytest.mark.parametrize(
    "attack",
    [
        "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass",
        "x = []\nwhile True: x.append(bytearray(1 << 23))",
        "import os\nfor _ in range(12):\n    if os.fork() == 0: x = bytearray(b'x' * (60 << 20))",
        "import os\nos.closerange(0, 64)",
    ],
    ids=["processes", "memory", "memory of many", "descriptors"],
)
@each_wall
def test_the_second_role_cannot_make_the_first_fail(attack: str, wall: Wall) -> None:
    limits = Limits(seconds=3, memory=128 << 20, processes=16)
    patient = "import time\ntime.sleep(0.4)\nprint('judged')"
    job = Job("two", (Role("script", patient.encode()), Role("script", attack.encode())), limits)
    (outcome,) = run_jobs([job], wall=wall)
    assert outcome.parts[0].stdout == b"judged\n" and outcome.report == b"finished"
