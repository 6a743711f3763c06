"""The pool of Ray actors, on a cluster or on this machine (``olmeval[ray]``).

An actor is a warm worker: Ray places it, sets its GPUs, and tells of its death, be it of the
process, the node or for want of memory. The pool replaces it itself instead of asking Ray to
restart it, since a job must not be handed to an actor that waits for a node that may never come
back while others are idle. The package must be installed on every node; folders must be shared.
"""

import itertools
import logging
import math
import os
import socket
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from olmeval.errors import UserError
from olmeval.executors.perform import Meter, Outcome, Performer, describe
from olmeval.executors.pool import Event, Pool, Slot
from olmeval.executors.resources import slots_on, thread_settings

WAIT = 0.5  # seconds between two looks at the jobs' progress
START_WAIT = 60.0  # seconds without any worker until we say so
KNOCK_WAIT = 10.0  # seconds that a cluster may take to accept a connection


class RayPool(Pool["RayWorker"]):
    """``workers`` actors with ``threads`` CPUs and ``gpus_per_worker`` GPUs each."""

    def __init__(
        self,
        workers: int | None = None,
        *,
        gpus_per_worker: float | None = None,
        threads: int | None = None,
        address: str | None = None,
    ) -> None:
        """Defaults: one thread a worker; one GPU where the cluster has any; as many workers as fit
        on the nodes that are up. Workers that do not fit yet join when Ray finds room for them.

        Uses the program's connection to Ray when there is one, else makes one and ends it on close.
        Raises :class:`UserError` when Ray is not installed, not reachable or too small.
        """
        try:
            import ray
        except ImportError:
            raise UserError("Ray is not installed; run: pip install 'olmeval[ray]'") from None
        self._ray: Any = ray
        self._threads = threads or 1
        self._owner = not self._ray.is_initialized()
        if self._owner:
            self._connect(address, workers)
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        has_gpus = any(node.get("GPU", 0) for node in nodes)
        self._share = float(has_gpus) if gpus_per_worker is None else gpus_per_worker
        if workers is None:
            workers = sum(self._fitting(node) for node in nodes)
        if workers == 0:
            self._disconnect()
            raise UserError(
                f"no node of the Ray cluster has {self._threads} CPUs and {self._share:g} GPUs; "
                "lower --gpus-per-worker, or name --workers when nodes are still to come"
            )
        super().__init__(workers)
        self._board = self._ray.remote(Board).options(num_cpus=0, max_restarts=-1).remote()
        self._news = self._board.take.remote()
        self._looked = time.monotonic()
        self._started = 0.0
        self._serial = itertools.count()

    def close(self) -> None:
        super().close()
        self._ray.kill(self._board)
        self._disconnect()

    def _start(self, number: int) -> "RayWorker":  # noqa: ARG002
        self._started = time.monotonic()
        resources = {"num_cpus": self._threads, "num_gpus": self._share, "max_restarts": 0}
        environment = thread_settings(self._threads)
        if not self._share:
            environment["CUDA_VISIBLE_DEVICES"] = ""
        serial = next(self._serial)
        actor = (
            self._ray.remote(Actor).options(**resources)
            .remote(sys.path, environment, self._board, serial)
        )  # fmt: skip
        return RayWorker(self._ray, actor, serial)

    def _spread(self, function: bytes) -> Any:
        return self._ray.put(function)

    def _wait(
        self, slots: Sequence["Slot[RayWorker]"]
    ) -> Iterator[tuple["Slot[RayWorker]", Event]]:
        waiting = {slot.worker.answer: slot for slot in slots if slot.is_busy}
        answers = list(waiting)
        self._ray.wait(answers, num_returns=1, timeout=WAIT)
        answered, _ = self._ray.wait(answers, num_returns=len(answers), timeout=0)
        yield from self._progress(slots)
        for answer in answered:
            slot = waiting[answer]
            try:
                yield slot, Event(*self._ray.get(answer))
            except self._ray.exceptions.RayError as error:
                yield slot, Event("died", f"the worker died: {error}")
        if time.monotonic() - self._started > START_WAIT and not any(s.ready for s in slots):
            self._started = math.inf
            warnings.warn(
                f"Ray has found no room yet for a worker with {self._threads} CPUs and "
                f"{self._share:g} GPUs; still waiting",
                stacklevel=2,
            )

    def _progress(
        self, slots: Sequence["Slot[RayWorker]"]
    ) -> Iterator[tuple["Slot[RayWorker]", Event]]:
        # Never waited for: its node may have died, and what counts comes with the outcome.
        if time.monotonic() - self._looked < WAIT or not self._ray.wait([self._news], timeout=0)[0]:
            return
        try:
            latest = self._ray.get(self._news)
        except self._ray.exceptions.RayError:
            latest = {}
        self._looked = time.monotonic()
        self._news = self._board.take.remote()
        for slot in slots:
            job, total = latest.get(slot.worker.serial, (0, 0))
            if job == slot.worker.jobs:
                yield slot, Event("progress", total)

    def _connect(self, address: str | None, workers: int | None) -> None:
        here: dict[str, Any] = {}
        address = address or os.environ.get("RAY_ADDRESS") or None
        if address is None:
            # Without "local", Ray looks for any cluster that this machine happens to run.
            address = "local"
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            here = {"include_dashboard": False, "num_cpus": workers and workers * self._threads}
        try:
            _knock(address)
            self._ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **here)
        except Exception as error:
            text = f"cannot connect to Ray at '{address}': {describe(error)}"
            if "AuthenticationError" in str(error.__cause__):
                text += "; the cluster asks for a token: set RAY_AUTH_MODE=token, as on its nodes"
            raise UserError(text) from error

    def _disconnect(self) -> None:
        if self._owner:
            self._ray.shutdown()

    def _fitting(self, node: dict[str, float]) -> int:
        on_cores = int(node.get("CPU", 0)) // self._threads
        if not self._share:
            return on_cores
        return min(on_cores, slots_on(int(node.get("GPU", 0)), self._share))


def _knock(address: str) -> None:
    """Raises OSError where nobody listens at a host and port: Ray tries that for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), KNOCK_WAIT).close()


class RayWorker:
    """The driver's side of an actor; ``answer`` is what it computes now."""

    def __init__(self, ray: Any, actor: Any, serial: int) -> None:
        self.serial = serial
        self.jobs = 0
        self.answer = actor.ready.remote()
        self._ray: Any = ray
        self._actor = actor

    def submit(self, function: Any, job: bytes) -> None:
        self.jobs += 1
        self.answer = self._actor.run.remote(self.jobs, function, job)

    def stop(self) -> None:
        self._ray.kill(self._actor)


class Actor:
    """The process on some node that does jobs, on its main thread."""

    def __init__(
        self, path: list[str], environment: dict[str, str], board: Any, serial: int
    ) -> None:
        # Before torch is imported, which reads the number of threads once.
        os.environ.update(environment)
        sys.path.extend(entry for entry in path if entry not in sys.path)
        self._board = board
        self._serial = serial
        self._perform = Performer()

    def ready(self) -> tuple[str, None]:
        """Answers when the actor is up."""
        return "ready", None

    def run(self, number: int, function: bytes | None, job: bytes) -> tuple[str, Outcome]:
        """One attempt at one job."""
        meter = Meter(lambda total: self._board.put.remote(self._serial, number, total))
        return "outcome", self._perform(function, job, meter)


class Board:
    """Where actors write how far they are, so that the driver has one place to look at."""

    def __init__(self) -> None:
        self._latest: dict[int, tuple[int, Any]] = {}

    def put(self, serial: int, number: int, total: Any) -> None:
        """Actor ``serial`` has done ``total`` of its job ``number``."""
        self._latest[serial] = (number, total)

    def take(self) -> dict[int, tuple[int, Any]]:
        """What has come since the last time."""
        latest, self._latest = self._latest, {}
        return latest
