"""The executors, each with two workers where it has any."""

from collections.abc import Iterator

import pytest

from olmeval.executors.base import Executor
from olmeval.executors.registry import make_executor


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """Ray on this machine, for two workers; it counts on a GPU that nobody uses."""
    ray = pytest.importorskip("ray")
    ray.init(
        "local", num_cpus=2, num_gpus=1, include_dashboard=False, log_to_driver=False,
        object_store_memory=300 << 20,
    )  # fmt: skip
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def made(request: pytest.FixtureRequest) -> Iterator[Executor]:
    """The executor that the test's parameter names, warm for all tests of a module."""
    if request.param == "ray":
        request.getfixturevalue("cluster")
    workers = None if request.param == "process" else 2
    share = 0.0 if request.param == "ray" else None
    with make_executor(request.param, workers, gpus_per_worker=share) as executor:
        yield executor
