"""The contract: ``executor.map(function, jobs)`` yields a :class:`Done` for every job.

A job is any picklable value, the function any importable one, called as ``function(job, report)``.
Results come in the order in which jobs finish; whoever needs another order has ``Done.index``.
The three executors differ in where the function runs and in nothing else:

- a :class:`~olmeval.errors.UserError` is the job's answer: not retried, its sentence kept;
- any other exception, or the death of the worker, costs the job one attempt of ``retries + 1``.
  The worker ends too, since nobody knows what the failure left behind in it (a broken CUDA context
  fails every job that follows), and a fresh one takes its place;
- a job that fails for good comes back with its error, and the others go on;
- workers stay warm: from job to job and from ``map`` to ``map``, module-level caches (a loaded
  model, a compiled graph) live as long as the worker. ``affinity`` names what a job needs loaded:
  a worker prefers jobs with the key that it did last, then keys that no other worker did last, and
  takes another worker's rather than wait.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, Self, TypeVar

J = TypeVar("J")
R = TypeVar("R")
A = TypeVar("A")

Report = Callable[[A], None]
"""A job calls it, on the thread that it runs on, with how much more it has done: a number, or an
array of counts of always the same shape."""

Function = Callable[[J, Report[A]], R]


@dataclass(frozen=True)
class Done(Generic[R]):
    """What became of ``jobs[index]``: ``result``, unless ``error`` says why there is none.

    ``error`` begins with one sentence; a dead worker's last output may follow on further lines.
    ``attempts`` counts how often the job was started.
    """

    index: int
    result: R | None
    error: str | None
    attempts: int


class Executor(ABC):
    """Runs jobs on ``workers`` workers; a context manager, whose end stops them.

    One ``map`` at a time.
    """

    workers: int

    @abstractmethod
    def map(
        self,
        function: Function[J, A, R],
        jobs: Sequence[J],
        *,
        retries: int = 2,
        affinity: Callable[[J], Hashable] | None = None,
        on_report: Callable[[int, A], None] | None = None,
    ) -> Iterator[Done[R]]:
        """Yields one :class:`Done` a job, as they finish.

        ``on_report(index, amount)`` is told, a few times a second, how much more job ``index`` has
        done; the amount is negative when an attempt failed and its work no longer counts. Leaving
        the iterator early, by an exception or Ctrl-C, ends the workers that are busy.
        """

    @abstractmethod
    def close(self) -> None:
        """Stops all workers."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
