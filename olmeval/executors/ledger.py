"""What is still to do in one ``map``, in which order, and how often each job has been tried."""

from collections import deque
from collections.abc import Callable, Collection, Hashable, Sequence
from typing import Any, Generic

import numpy as np

from olmeval.executors.base import Done, J, R


class Ledger(Generic[J, R]):
    """The jobs of one ``map``; see :meth:`Executor.map` for the arguments."""

    def __init__(
        self,
        jobs: Sequence[J],
        retries: int,
        affinity: Callable[[J], Hashable] | None,
        on_report: Callable[[int, Any], None] | None,
    ) -> None:
        self.jobs = jobs
        self.unfinished = len(jobs)
        self.pending = len(jobs)
        self._retries = retries
        self._on_report = on_report
        self._keys = [affinity(job) if affinity else None for job in jobs]
        self._queues: dict[Hashable, deque[int]] = {}
        for index, key in enumerate(self._keys):
            self._queues.setdefault(key, deque()).append(index)
        self._attempts = [0] * len(jobs)
        self._reported: list[Any] = [0] * len(jobs)

    def take(self, last: Hashable, others: Collection[Hashable]) -> int | None:
        """The next job for a worker that did ``last``, while other workers did ``others``."""
        if not self.pending:
            return None
        if last in self._queues:
            key = last
        else:
            free = next((key for key in self._queues if key not in others), None)
            key = max(self._queues, key=self._left) if free is None else free
        queue = self._queues[key]
        index = queue.popleft()
        if not queue:
            del self._queues[key]
        self.pending -= 1
        self._attempts[index] += 1
        return index

    def key(self, index: int) -> Hashable:
        """The affinity of a job."""
        return self._keys[index]

    def report(self, index: int, total: Any) -> None:
        """The job's current attempt has done ``total`` so far."""
        amount = total - self._reported[index]
        self._reported[index] = total
        if self._on_report and np.any(amount):
            self._on_report(index, amount)

    def finish(self, index: int, result: R) -> Done[R]:
        """The job has its result."""
        self.unfinished -= 1
        return Done(index, result, None, self._attempts[index])

    def refuse(self, index: int, error: str) -> Done[R]:
        """The job has failed for good."""
        self.unfinished -= 1
        return Done(index, None, error, self._attempts[index])

    def fail(self, index: int, error: str) -> Done[R] | None:
        """An attempt has failed; None when the job is to be tried again."""
        if self._attempts[index] > self._retries:
            return self.refuse(index, error)
        self.report(index, 0)
        self._queues.setdefault(self._keys[index], deque()).appendleft(index)
        self.pending += 1
        return None

    def _left(self, key: Hashable) -> int:
        return len(self._queues[key])
