"""The pool of processes: what they are given, what they leave behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from olmeval.errors import UserError
from olmeval.executors.registry import make_executor
from tests.executors import jobs
from tests.executors.watching import ended, interrupt

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_and_passive_waiting_are_set_before_torch_is_imported(
    threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", str(3 - threads))
    with make_executor("local", 1, threads=threads) as executor:
        names = ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS", "OMP_WAIT_POLICY"]
        [done] = executor.map(jobs.environment, [names])
        expected = [str(threads)] * 3 + ["PASSIVE"]
        assert done.result == dict(zip(names, expected, strict=True))
        cores = len(os.sched_getaffinity(0))
        assert [d.result for d in executor.map(jobs.torch_threads, [0])] == [min(threads, cores)]


def test_by_default_the_workers_share_out_the_cores() -> None:
    cores = len(os.sched_getaffinity(0))
    with make_executor("local", gpus_per_worker=0) as executor:
        assert executor.workers == cores
    with make_executor("local", 1, gpus_per_worker=0) as executor:
        [done] = executor.map(jobs.environment, [["OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES"]])
        assert done.result == {"OMP_NUM_THREADS": str(cores), "CUDA_VISIBLE_DEVICES": ""}


def test_workers_see_their_own_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,3")
    for share, workers, expected in ((None, 2, ["3", "5"]), (0.5, 4, ["3", "3", "5", "5"])):
        with make_executor("local", gpus_per_worker=share) as executor:
            assert executor.workers == workers
            seen = {d.result for d in executor.map(jobs.device_of_process, range(40))}
            assert sorted(device for _, device in seen) == expected


def test_more_gpus_than_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(UserError, match="1 workers with 1 GPUs each do not fit on the 0 GPUs"):
        make_executor("local", gpus_per_worker=1)


def test_output_of_workers_stays_off_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    with make_executor("local", 1) as executor:
        assert [d.result for d in executor.map(jobs.noisy, range(20))] == list(range(20))
    assert capfd.readouterr() == ("", "")


def test_a_dead_worker_is_quoted_with_the_job_that_it_did_last() -> None:
    with make_executor("local", 1) as executor:
        [first, second] = executor.map(jobs.always_die, ["segv", "kill"], retries=0)
    assert first.error is not None
    sentence, *output = first.error.splitlines()
    assert sentence == "the worker died of SIGSEGV; its last output:"
    assert output[:2] == ["last words of segv", "about to touch address zero"]
    assert any("jobs.py" in line and "in die" in line for line in output)
    assert second.error is not None
    assert second.error.startswith("the worker was killed (SIGKILL")
    assert second.error.splitlines()[1:] == ["last words of kill"]


def test_a_death_is_noticed_though_a_child_holds_the_connection_open(tmp_path: Path) -> None:
    with make_executor("local", 1) as executor:
        [done] = executor.map(jobs.once, [("forked", tmp_path / "mark")])
    assert (done.result, done.attempts) == ("forked", 2)


def test_an_idle_worker_that_dies_is_replaced() -> None:
    with make_executor("local", 1) as executor:
        [before] = executor.map(jobs.where, ["a"])
        assert before.result is not None
        os.kill(before.result[0], signal.SIGKILL)
        [after] = executor.map(jobs.where, ["b"])
        assert after.result is not None
        assert after.result[0] != before.result[0]


def test_when_no_worker_can_be_started_the_reason_is_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with make_executor("local", 2) as executor:
        with monkeypatch.context() as broken:
            broken.setattr(sys, "path", [])
            with pytest.raises(UserError, match="no worker can be started") as raised:
                list(executor.map(jobs.square, range(3)))
        assert "No module named" in str(raised.value)
        assert len(list(executor.map(jobs.square, range(3)))) == 3


def test_the_callers_script_is_not_run_again(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from olmeval.executors.registry import make_executor\n"
        "from tests.executors.jobs import square\n"
        "print('script runs')\n"
        "with make_executor('local', 2) as executor:\n"
        "    print(sorted(d.result for d in executor.map(square, range(4))))\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)], env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "script runs\n[0, 1, 4, 9]\n"


def test_close_ends_the_workers_and_their_children(tmp_path: Path) -> None:
    with make_executor("local", 2) as executor:
        for done in executor.map(jobs.sleep, [(tmp_path, 2.0), (tmp_path, 300.0)]):
            assert done.index == 0
            break
        pids = jobs.pids_in(tmp_path)
    assert len(pids) == 4
    assert ended(pids, within=1.0)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("function", ["sleep", "stubborn"])
def test_nothing_survives_the_driver(how: signal.Signals, function: str, tmp_path: Path) -> None:
    seconds, pids = interrupt("local", function, how, tmp_path)
    assert seconds < 8
    assert len(pids) == 4
    assert ended(pids, within=6.0)
