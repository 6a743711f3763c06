"""Ray actors on a running cluster: resources, room, and whose connection it is."""

import time
from pathlib import Path

import pytest

from olmeval.errors import UserError
from olmeval.executors import rays
from olmeval.executors.registry import make_executor
from tests.executors import jobs
from tests.executors.watching import ended

ray = pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("cluster")]


def test_workers_share_a_gpu_and_have_their_threads() -> None:
    with make_executor("ray", gpus_per_worker=0.5) as executor:
        assert executor.workers == 2
        seen = {d.result for d in executor.map(jobs.device_of_process, range(40))}
        assert [device for _, device in seen] == ["0", "0"]
        names = ["OMP_NUM_THREADS", "OMP_WAIT_POLICY"]
        [done] = executor.map(jobs.environment, [names])
        assert done.result == {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}


def test_by_default_one_worker_a_gpu() -> None:
    with make_executor("ray") as executor:
        assert executor.workers == 1
        assert [d.result for d in executor.map(jobs.device_of, [0])] == ["0"]


def test_without_gpus_workers_see_none_and_fill_the_cores() -> None:
    with make_executor("ray", gpus_per_worker=0) as executor:
        assert executor.workers == 2
        assert [d.result for d in executor.map(jobs.device_of, [0])] == [""]


def test_a_worker_that_fits_on_no_node() -> None:
    with pytest.raises(UserError, match="no node of the Ray cluster has 1 CPUs and 2 GPUs"):
        make_executor("ray", gpus_per_worker=2)


def test_more_workers_than_there_is_room_for_do_not_hold_up_the_others() -> None:
    with make_executor("ray", 5, gpus_per_worker=0) as executor:
        done = list(executor.map(jobs.draw, range(30)))
    assert {d.index: d.result and d.result[1] for d in done} == {
        k: jobs.drawn(k) for k in range(30)
    }


def test_waiting_for_room_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rays, "START_WAIT", 0.5)

    @ray.remote(num_cpus=2)
    def occupy() -> None:
        time.sleep(4)

    busy = occupy.remote()
    warned = pytest.warns(UserWarning, match="no room yet for a worker with 1 CPUs and 0 GPUs")
    with make_executor("ray", 1, gpus_per_worker=0) as executor, warned:
        assert [d.result for d in executor.map(jobs.square, [3])] == [9]
    ray.get(busy)


def test_the_programs_own_connection_stays() -> None:
    make_executor("ray", 1).close()
    assert ray.is_initialized()


def test_children_of_a_worker_end_with_it(tmp_path: Path) -> None:
    with make_executor("ray", 2, gpus_per_worker=0) as executor:
        for done in executor.map(jobs.sleep, [(tmp_path, 2.0), (tmp_path, 300.0)]):
            assert done.index == 0
            break
        pids = jobs.pids_in(tmp_path)
    assert len(pids) == 4
    assert ended(pids, within=10.0)
