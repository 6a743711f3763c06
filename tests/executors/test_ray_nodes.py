"""Ray clusters that start, lose a node, or lose their driver."""

import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from olmeval.errors import UserError
from olmeval.executors.registry import make_executor
from tests.executors import jobs
from tests.executors.watching import ended, interrupt

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.slow


@pytest.fixture
def nodes() -> Iterator[Any]:
    """A head without room for workers, and two nodes with room for one each."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 0, "include_dashboard": False,
                        "object_store_memory": 80 << 20},
    )  # fmt: skip
    yield cluster
    cluster.shutdown()


def test_a_node_that_dies_loses_no_job(nodes: Any) -> None:
    both = [nodes.add_node(num_cpus=1, object_store_memory=80 << 20) for _ in range(2)]
    nodes.wait_for_nodes()
    with make_executor("ray", address=nodes.address) as executor:
        assert executor.workers == 2
        done = []
        for d in executor.map(jobs.draw, range(400)):
            done.append(d)
            if len(done) == 100:
                assert len({d.result[0] for d in done if d.result}) == 2
                nodes.remove_node(both[0], allow_graceful=False)
    assert {d.index: d.result and d.result[1] for d in done} == {
        k: jobs.drawn(k) for k in range(400)
    }
    assert len(done) == 400
    assert not ray.is_initialized()


def test_without_an_address_ray_starts_here_and_ends_with_the_executor() -> None:
    with make_executor("ray", 2, gpus_per_worker=0) as executor:
        assert sorted(d.result or 0 for d in executor.map(jobs.square, range(4))) == [0, 1, 4, 9]
        assert ray.cluster_resources()["CPU"] == 2
    assert not ray.is_initialized()


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_an_address_where_nobody_listens(scheme: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"{scheme}127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(UserError, match=f"cannot connect to Ray at '{address}'.*refused"):
            make_executor("ray", address=address)
    assert not ray.is_initialized()


def test_a_cluster_that_happens_to_run_here_is_left_alone(nodes: Any) -> None:
    with make_executor("ray", 1, gpus_per_worker=0) as executor:
        assert [d.result for d in executor.map(jobs.square, [3])] == [9]
        assert ray.get_runtime_context().gcs_address != nodes.address


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_nothing_survives_the_driver(how: signal.Signals, tmp_path: Path) -> None:
    _, pids = interrupt("ray", "sleep", how, tmp_path)
    assert len(pids) == 4
    assert ended(pids, within=20.0)
