"""Workers die and nothing is lost; order and number of workers change nothing."""

import os
import random
import signal
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from olmeval.errors import UserError
from olmeval.sandbox import cgroup, jail, pool
from olmeval.sandbox.pool import Pool
from olmeval.sandbox.run import run_jobs
from olmeval.sandbox.tiers import probe, walls
from olmeval.sandbox.types import MIB, Job, Limits, Outcome, Role

pytestmark = pytest.mark.skipif(probe().name == "T3", reason="nothing here contains programs")

# Each prints something that would differ if order, worker, hash seed or random seed did matter.
SOURCES = [
    "print(sorted(range(5), key=lambda x: -x))",
    "import random; print(random.random())",
    "print({'a', 'b', 'c', 'hello', 'world'})",
    "import os; print(sorted(os.listdir('.')))\nopen('x', 'w').close()",
    "raise SystemExit(3)",
    "import sys; sys.modules['math'] = None; print(len(sys.modules) > 0)",
    "import math; print(math.pi)",
    "import os; os.abort()",
    "x = 1 / 0",
    "import builtins; builtins.print = None",
    "print('still here')",
    "import os; os._exit(9)",
]


def job(source: str, key: str = "", **limits: float) -> Job:
    return Job(key or source, (Role("script", source.encode()),), Limits(**limits))  # type: ignore[arg-type]


def seen(outcome: Outcome) -> tuple[object, ...]:
    part = outcome.parts[0]
    return (
        outcome.key,
        outcome.status,
        part.code,
        part.signal,
        part.stdout,
        part.stderr,
        part.report,
    )


def test_order_and_number_of_workers_change_no_outcome() -> None:
    jobs = [job(source, f"{copy} {source}") for copy in range(3) for source in SOURCES]
    expected = {o.key: seen(o) for o in run_jobs(jobs, workers=1)}
    assert len({e[4] for e in expected.values()}) > 6
    for workers, seed in ((2, 1), (5, 2)):
        shuffled = random.Random(seed).sample(jobs, len(jobs))
        outcomes = run_jobs(shuffled, workers=workers)
        assert [o.key for o in outcomes] == [j.key for j in shuffled]
        assert {o.key: seen(o) for o in outcomes} == expected


def test_a_killed_worker_is_replaced_and_no_outcome_is_lost() -> None:
    jobs = [job(f"import time; time.sleep(0.02); print({n})", f"job {n}") for n in range(40)]
    done: dict[int, Outcome] = {}
    kills = 0

    with Pool(probe().wall, 2, runners=["script"]) as workers:

        def finished(index: int, outcome: Outcome) -> None:
            nonlocal kills
            assert index not in done
            done[index] = outcome
            if len(done) in (5, 15, 25):
                kills += 1
                workers._workers[kills % 2].process.kill()  # type: ignore[union-attr]

        workers.run(jobs, finished)
    assert kills == 3
    assert [done[n].parts[0].stdout for n in range(40)] == [b"%d\n" % n for n in range(40)]


def test_a_run_that_loses_its_worker_every_time_is_an_infrastructure_error() -> None:
    jobs = [job("import time; time.sleep(20)", "unlucky", seconds=20), job("print('fine')", "fine")]
    done: dict[int, Outcome] = {}
    stop = threading.Event()
    with Pool(probe().wall, 1, runners=["script"]) as workers:

        def killer() -> None:
            while not stop.is_set():
                worker = workers._workers[0]
                if worker is not None and worker.run == 0:
                    time.sleep(0.1)
                    worker.process.kill()
                    time.sleep(0.2)
                time.sleep(0.01)

        thread = threading.Thread(target=killer)
        thread.start()
        try:
            workers.run(jobs, lambda index, outcome: done.update({index: outcome}))
        finally:
            stop.set()
            thread.join()
    assert done[0].status == "infrastructure" and "died 3 times" in done[0].detail
    assert done[1].status == "exited" and done[1].parts[0].stdout == b"fine\n"


def test_a_worker_that_falls_silent_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "GRACE", 0.5)
    jobs = [job("print(1)", f"{n}", seconds=0.2) for n in range(4)]
    done: dict[int, Outcome] = {}
    stopped: list[int] = []
    with Pool(probe().wall, 1, runners=["script"]) as workers:

        def finished(index: int, outcome: Outcome) -> None:
            done[index] = outcome
            if not stopped:
                worker = workers._workers[0]
                assert worker is not None
                stopped.append(worker.process.pid)
                for pid in [worker.process.pid, *descendants(worker.process.pid)]:
                    with suppress(ProcessLookupError):  # what has just ended
                        os.kill(pid, signal.SIGSTOP)

        workers.run(jobs, finished)
    assert {n: o.parts[0].stdout for n, o in done.items()} == dict.fromkeys(range(4), b"1\n")
    assert not Path(f"/proc/{stopped[0]}").exists()


def descendants(pid: int) -> list[int]:
    found = [pid]
    for process in found:
        try:
            text = Path(f"/proc/{process}/task/{process}/children").read_text()
        except OSError:
            continue
        found += [int(word) for word in text.split()]
    return found[1:]


def test_processes_groups_and_folders_are_gone_after_a_batch() -> None:
    with Pool(probe().wall, 2, runners=["script"]) as workers:
        workers.run([job("1"), job("2")], lambda *_: None)
        alive = [w for w in workers._workers if w is not None]
        pids = [p for w in alive for p in [w.process.pid, *descendants(w.process.pid)]]
        groups = [procs for w in alive for procs in w.group.procs]
        assert len(pids) >= 4
    until = time.monotonic() + 5
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < until:
        time.sleep(0.02)
    assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []
    assert [procs for procs in groups if Path(procs).exists()] == []


def test_progress_counts_every_job_once() -> None:
    steps: list[tuple[int, int]] = []
    run_jobs([job("1")] * 7, workers=2, progress=lambda done, of: steps.append((done, of)))
    assert steps == [(n, 7) for n in range(1, 8)]


def test_statuses_as_the_outside_saw_them() -> None:
    sources = {
        "exited": "pass",
        "timeout": "while True: pass",
        "signal": "import ctypes; ctypes.string_at(0)",
        "memory": "import os\nfor _ in range(4):\n if os.fork() == 0:\n  x = b'x' * (60 << 20)\n"
        "  import time; time.sleep(9)\nos.wait()",
    }
    jobs = [
        job(s, status, seconds=0.5 if status == "timeout" else 5, memory=100 * MIB)
        for status, s in sources.items()
    ]
    outcomes = run_jobs(jobs, workers=1)
    assert [o.status for o in outcomes] == [o.key for o in outcomes]
    assert outcomes[1].parts[0].seconds >= 0.5


def test_output_keeps_its_head_and_tail() -> None:
    source = "print('head'); print('x' * 10**6); print('tail')"
    (outcome,) = run_jobs([job(source)])
    text = outcome.parts[0].stdout
    assert text.startswith(b"head\n") and text.endswith(b"tail\n")
    assert len(text) < 64 * 1024 + 100 and b"bytes dropped" in text


def test_nothing_to_contain_with_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = probe().__class__(
        "T3", jail.Wall("T3", namespaces=False), False, 0, True, False, ("no bwrap",)
    )
    monkeypatch.setattr("olmeval.sandbox.run.probe", lambda: nothing)
    with pytest.raises(UserError, match=r"no bwrap.*--unsafe-local"):
        run_jobs([job("1")])
    (outcome,) = run_jobs([job("print('alone')")], unsafe_local=True)
    assert outcome.tier == "T3" and outcome.parts[0].stdout == b"alone\n"


def test_a_machine_without_room_for_a_worker_is_an_error_of_one_sentence(monkeypatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(pool, "Worker", full)
    with pytest.raises(UserError, match=r"cannot start a worker here.*Too many open files"):
        run_jobs([job("1")])


def test_a_machine_without_room_for_a_program_is_an_infrastructure_error(monkeypatch) -> None:
    def full(_: bytes) -> int:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(pool, "_memory_file", full)
    (outcome,) = run_jobs([job("1")], workers=1)
    assert outcome.status == "infrastructure" and "Cannot allocate memory" in outcome.detail


HOARD = (
    "import os, time\nfor _ in range(4):\n if os.fork() == 0:\n"
    "  x = b'x' * (80 << 20)\n  time.sleep(30)\nos.wait()"
)


@pytest.mark.skipif(not cgroup.parents(), reason="no control group can be made here")
@pytest.mark.parametrize("own", [True, False])
def test_want_of_memory_is_the_programs_or_the_machines(monkeypatch, own: bool) -> None:
    if not probe().wall.memory_group:
        pytest.skip("this tier uses no control group")
    machine = cgroup.create()  # as if it were the whole machine
    assert machine.memory is not None
    machine.limit((1 << 30) if own else 150 * MIB, 100)
    parent = cgroup.Parent(frozenset({"memory"}), machine.memory, machine.version)
    if machine.version == 2:
        (machine.memory / "cgroup.subtree_control").write_text("+memory")
    monkeypatch.setattr(cgroup, "parents", lambda: [parent])
    limits = Limits(seconds=20.0, memory=(128 if own else 512) * MIB)
    try:
        (outcome,) = run_jobs([replace(job(HOARD), limits=limits)], workers=1)
    finally:
        machine.close()
    assert outcome.status == ("memory" if own else "infrastructure"), outcome
    assert own or "the machine, not the program" in outcome.detail


def test_an_environment_that_is_none_is_named() -> None:
    with pytest.raises(UserError, match="not a virtual environment"):
        run_jobs([Job("j", (Role("script", b""),), environment="/nowhere")])


def test_an_environment_that_is_too_old_is_named(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python").write_text("")
    (tmp_path / "pyvenv.cfg").write_text("")
    (tmp_path / "lib/python3.8/site-packages").mkdir(parents=True)
    with pytest.raises(UserError, match=r"Python 3\.8.*3\.9 or newer"):
        run_jobs([Job("j", (Role("script", b""),), environment=str(tmp_path))])


@pytest.mark.parametrize("wall", walls(), ids=lambda wall: wall.name)
def test_every_wall_that_is_tried_has_a_name_of_a_tier(wall: jail.Wall) -> None:
    (outcome,) = run_jobs([job("print(6 * 7)")], wall=wall)
    assert outcome.tier == wall.name and outcome.parts[0].stdout == b"42\n"
