"""What every executor promises, and what those with workers promise beyond it."""

import os
import random
import signal
import time
import warnings
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from olmeval.executors.base import Done, Executor
from tests.executors import jobs

RAY = pytest.param("ray", marks=pytest.mark.slow)
every = pytest.mark.parametrize("made", ["process", "local", RAY], indirect=True)
pools = pytest.mark.parametrize("made", ["local", RAY], indirect=True)


def by_index(done: list[Done[Any]]) -> dict[int, Done[Any]]:
    assert len({d.index for d in done}) == len(done)
    return {d.index: d for d in done}


def both_up(made: Executor) -> set[int]:
    """The processes of the two workers, once both are there."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        seen = {d.result[0] for d in made.map(jobs.where, ["start"] * 8) if d.result}
        if len(seen) == 2:
            return seen
    raise AssertionError("the second worker did not come up")


@every
def test_hundreds_of_jobs_each_once_with_its_own_result(made: Executor) -> None:
    done = by_index(list(made.map(jobs.draw, range(300))))
    assert {k: d.result[1] for k, d in done.items()} == {k: jobs.drawn(k) for k in range(300)}
    assert {(d.error, d.attempts) for d in done.values()} == {(None, 1)}


@every
def test_no_jobs(made: Executor) -> None:
    assert list(made.map(jobs.square, [])) == []


@every
def test_failed_jobs_come_back_with_their_error_and_the_others_go_on(made: Executor) -> None:
    asked = [("good", 1), ("user", 2), ("bug", 3), ("exit", 4), ("good", 5)]
    done = by_index(list(made.map(jobs.mixed, asked, retries=1)))
    assert [done[k].result for k in range(5)] == [4, None, None, None, 16]
    assert [done[k].attempts for k in range(5)] == [1, 1, 2, 2, 1]
    assert done[0].error is None
    assert done[1].error == "the file of job 2 is empty; give it content"
    assert done[2].error is not None
    assert done[2].error.startswith(f"RuntimeError: broken 3 (in mixed, {jobs.__file__}:")
    assert done[3].error is not None
    assert done[3].error.startswith("SystemExit: 4 ")


@every
def test_a_failed_attempt_takes_back_what_it_reported(made: Executor, tmp_path: Path) -> None:
    told: list[int] = []
    [done] = made.map(
        jobs.once, [("raise", tmp_path / "mark")], on_report=lambda _, n: told.append(n)
    )
    assert (done.result, done.attempts) == ("raise", 2)
    assert sum(told) == 15
    assert -11 in told


@every
def test_reports_arrive_while_the_job_runs_and_in_full(made: Executor, tmp_path: Path) -> None:
    totals = {0: np.zeros(2, np.int64), 1: np.zeros(2, np.int64)}
    messages: Counter[int] = Counter()

    def add(index: int, amount: np.ndarray) -> None:
        messages[index] += 1
        totals[index] += amount
        (tmp_path / str(index)).touch()

    for done in made.map(jobs.counts, [tmp_path / "0", tmp_path / "1"], on_report=add):
        assert done.result == totals[done.index].tolist()
        assert (tmp_path / str(done.index)).exists()
        # Far fewer messages than calls.
        assert 1 <= messages[done.index] < 0.5 * totals[done.index][0]


@every
def test_jobs_run_on_the_main_thread(made: Executor) -> None:
    assert [d.result for d in made.map(jobs.on_main_thread, [0])] == [True]


@every
def test_warnings_of_jobs_are_heard(made: Executor) -> None:
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("default")
        assert len(list(made.map(jobs.warn, range(10)))) == 10
    assert Counter(str(w.message) for w in heard) == {
        "job 0 found a damaged file": 1, "job 1 found a damaged file": 1,
    }  # fmt: skip


@every
def test_results_of_50_megabytes(made: Executor) -> None:
    asked = [b"x" * size for size in (1, 300_000, 7)]
    seen = 0
    for done in made.map(jobs.big, asked):
        assert done.result is not None
        expected = np.arange(50 << 20, dtype=np.uint8) * np.uint8(len(asked[done.index]) % 251)
        assert np.array_equal(done.result, expected)
        seen += 1
    assert seen == 3


@pools
def test_what_cannot_be_sent_is_an_error_of_its_job_alone(made: Executor) -> None:
    done = by_index(list(made.map(jobs.unpicklable, range(3))))
    assert [done[k].result for k in range(3)] == [0, None, 2]
    assert done[1].error is not None
    assert "result cannot be sent" in done[1].error
    assert done[1].attempts == 1

    mixed: list[Any] = [1, lambda: 2, 3]
    done = by_index(list(made.map(jobs.square, mixed)))
    assert [done[k].result for k in range(3)] == [1, None, 9]
    assert done[1].error is not None
    assert "job cannot be sent" in done[1].error

    both_up(made)
    nothing_else: list[Any] = [lambda: 1, lambda: 2]
    assert all(d.error for d in made.map(jobs.square, nothing_else))


@pools
def test_workers_stay_warm_from_map_to_map(made: Executor) -> None:
    pids = both_up(made)
    list(made.map(jobs.where, ["a"] * 20))
    again = [d.result for d in made.map(jobs.where, ["b"] * 20)]
    assert {pid for pid, _ in again} == pids
    assert all("a" in history for _, history in again)


@pools
def test_affinity_keeps_a_worker_at_its_key_and_leaves_nobody_idle(made: Executor) -> None:
    both_up(made)
    list(made.map(jobs.where, ["start"] * 20))
    keys = ["left", "right"] * 12 + ["left"] * 12
    history = {}
    for done in made.map(jobs.where, keys, affinity=lambda job: job):
        pid, all_jobs = done.result
        history[pid] = [job for job in all_jobs if job in ("left", "right")]
    assert Counter(job for mine in history.values() for job in mine) == Counter(keys)
    # "right" is done by one worker, which then helps with "left".
    switches = [sum(a != b for a, b in pairwise(mine)) for mine in history.values()]
    assert sorted(switches) == [0, 1]
    assert min(len(mine) for mine in history.values()) > 12


@pools
@pytest.mark.parametrize("how", ["kill", "exit", "segv"])
def test_the_job_of_a_dead_worker_is_done_by_another(
    made: Executor, how: str, tmp_path: Path
) -> None:
    told: list[int] = []
    [done] = made.map(jobs.once, [(how, tmp_path / "mark")], on_report=lambda _, n: told.append(n))
    assert (done.result, done.error, done.attempts) == (how, None, 2)
    assert sum(told) == 15


@pools
def test_a_job_that_kills_its_workers_is_given_up_and_the_pool_is_whole(made: Executor) -> None:
    done = by_index(list(made.map(jobs.deadly, [1, -1, 2, 3, -1, 4], retries=1)))
    assert [done[k].result for k in range(6)] == [1, None, 2, 3, None, 4]
    assert all(done[k].attempts == 2 and done[k].error for k in (1, 4))
    both_up(made)


@pools
def test_random_kills_lose_nothing(made: Executor) -> None:
    rng = random.Random(5)
    alive: set[int] = set()
    killed: set[int] = set()
    done = []
    for d in made.map(jobs.draw, range(120), retries=30):
        assert d.result is not None
        alive.add(d.result[0])
        done.append(d)
        if len(done) % 15 == 0:
            # What a worker did before it was killed may arrive after.
            victim = rng.choice(sorted(alive - killed))
            os.kill(victim, signal.SIGKILL)
            killed.add(victim)
    results = {k: d.result[1] for k, d in by_index(done).items()}
    assert results == {k: jobs.drawn(k) for k in range(120)}


@pools
def test_leaving_early_stops_the_busy_and_the_executor_goes_on(made: Executor) -> None:
    for done in made.map(jobs.nap, [0.0, 300.0, 300.0]):
        assert done.index == 0
        break
    assert sorted(d.result for d in made.map(jobs.square, range(4)) if d.result) == [1, 4, 9]


@pools
def test_one_map_at_a_time(made: Executor) -> None:
    first = made.map(jobs.square, range(4))
    next(first)
    with pytest.raises(RuntimeError, match="in the middle of another map"):
        next(made.map(jobs.square, range(4)))
    assert len(list(first)) == 3


@pools
def test_a_function_that_cannot_be_sent_is_refused_at_once(made: Executor) -> None:
    with pytest.raises(Exception, match=r"pickle|local object"):
        list(made.map(lambda job, report: job, [1]))
