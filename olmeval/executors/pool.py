"""The loop that local workers and Ray actors share: hand out jobs, hear what happened, replace.

What a worker is, and how one waits for news of several, is all that a subclass adds.
"""

import pickle
import warnings
from abc import abstractmethod
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Any, Generic, Literal, NamedTuple, Protocol, TypeVar

from olmeval.errors import UserError
from olmeval.executors.base import A, Done, Executor, Function, J, R
from olmeval.executors.ledger import Ledger
from olmeval.executors.perform import PROTOCOL, Outcome, describe

START_ATTEMPTS = 3  # failed starts in a row after which no further worker is started


class Event(NamedTuple):
    """News of a worker: "ready" for its first job; "progress", the value being what its job has
    done so far; the "outcome" of its job; or "died", with what is known of its end."""

    kind: Literal["ready", "progress", "outcome", "died"]
    value: Any


class Worker(Protocol):
    """One warm process, here or elsewhere."""

    def submit(self, function: Any, job: bytes) -> None:
        """Starts a job; ``function`` is None when the worker has it. Never raises: a worker that
        is gone is reported by the next wait."""

    def stop(self) -> None:
        """Ends the worker, whatever it does."""


W = TypeVar("W", bound=Worker)


class Slot(Generic[W]):
    """One of a pool's places and the worker in it."""

    def __init__(self, number: int, worker: W) -> None:
        self.number = number
        self.worker = worker
        self.ready = False
        self.index: int | None = None  # of the job that it runs
        self.last: Hashable = None  # affinity of the job that it runs or ran
        self.function: int | None = None  # number of the map whose function it holds

    @property
    def is_busy(self) -> bool:
        """Whether it starts or works."""
        return not self.ready or self.index is not None


class Pool(Executor, Generic[W]):
    """``workers`` slots, filled when there are jobs for them."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._slots: dict[int, Slot[W]] = {}
        self._maps = 0
        self._mapping = False
        self._failed_starts = 0
        self._last_words = ""

    @abstractmethod
    def _start(self, number: int) -> W:
        """Starts a worker in slot ``number`` without waiting for it."""

    @abstractmethod
    def _wait(self, slots: Sequence[Slot[W]]) -> Iterable[tuple[Slot[W], Event]]:
        """Waits for news of any slot, a second or so at most."""

    def _spread(self, function: bytes) -> Any:
        """Makes the pickled function ready to be sent to many workers."""
        return function

    def _stop(self, slots: Sequence[Slot[W]]) -> None:
        """Ends workers; their slots are free."""
        for slot in slots:
            slot.worker.stop()
            self._slots.pop(slot.number, None)

    def close(self) -> None:
        self._stop(list(self._slots.values()))

    def map(
        self,
        function: Function[J, A, R],
        jobs: Sequence[J],
        *,
        retries: int = 2,
        affinity: Callable[[J], Hashable] | None = None,
        on_report: Callable[[int, A], None] | None = None,
    ) -> Iterator[Done[R]]:
        if self._mapping:
            raise RuntimeError("this executor is in the middle of another map")
        self._mapping = True
        self._maps += 1
        self._failed_starts = 0
        ledger: Ledger[J, R] = Ledger(jobs, retries, affinity, on_report)
        try:
            shared = self._spread(pickle.dumps(function, PROTOCOL))
            while True:
                yield from self._hand_out(ledger, shared)
                if not ledger.unfinished:
                    return
                self._fill(ledger.pending)
                for slot, event in self._wait(list(self._slots.values())):
                    if (done := self._hear(ledger, slot, event)) is not None:
                        yield done
        finally:
            self._mapping = False
            self._stop([slot for slot in self._slots.values() if slot.index is not None])

    def _hand_out(self, ledger: Ledger[J, R], function: Any) -> Iterator[Done[R]]:
        """Gives each idle worker a job; yields the jobs that cannot be sent."""
        for slot in list(self._slots.values()):
            while not slot.is_busy:
                others = {other.last for other in self._slots.values() if other is not slot}
                index = ledger.take(slot.last, others)
                if index is None:
                    return
                try:
                    job = pickle.dumps(ledger.jobs[index], PROTOCOL)
                except Exception as error:
                    yield ledger.refuse(index, f"the job cannot be sent: {describe(error)}")
                    continue
                known = slot.function == self._maps
                # First the note, then the deed: Ctrl-C may come in between.
                slot.index, slot.last, slot.function = index, ledger.key(index), self._maps
                slot.worker.submit(None if known else function, job)

    def _fill(self, pending: int) -> None:
        """Starts as many workers as there are jobs for them."""
        missing = pending - sum(not slot.ready for slot in self._slots.values())
        for number in range(self.workers):
            if missing > 0 and number not in self._slots and self._failed_starts < START_ATTEMPTS:
                try:
                    self._slots[number] = Slot(number, self._start(number))
                    missing -= 1
                except OSError as error:
                    self._start_failed(describe(error))
        if not self._slots and pending:
            raise UserError(f"no worker can be started: {self._last_words}")

    def _start_failed(self, words: str) -> None:
        self._failed_starts += 1
        self._last_words = words

    def _hear(self, ledger: Ledger[J, R], slot: Slot[W], event: Event) -> Done[R] | None:
        """Takes note of an event; returns the job that is done by it."""
        index = slot.index
        if event.kind == "ready":
            slot.ready = True
            self._failed_starts = 0
        elif event.kind == "died":
            self._stop([slot])
            if index is not None:
                return ledger.fail(index, event.value)
            if not slot.ready:
                self._start_failed(event.value)
        elif index is not None and event.kind == "progress":
            ledger.report(index, event.value)
        elif index is not None:
            return self._settle(ledger, slot, index, event.value)
        return None

    def _settle(
        self, ledger: Ledger[J, R], slot: Slot[W], index: int, outcome: Outcome
    ) -> Done[R] | None:
        """Takes note of an outcome; returns the job, unless it is to be tried again."""
        slot.index = None
        ledger.report(index, outcome.done)
        for text in outcome.warned:
            warnings.warn(text, stacklevel=2)  # the same text from several workers is shown once
        if outcome.kind == "raised":
            self._stop([slot])
            return ledger.fail(index, outcome.value)
        if outcome.kind == "refused":
            return ledger.refuse(index, outcome.value)
        try:
            return ledger.finish(index, pickle.loads(outcome.value))
        except Exception as error:
            return ledger.refuse(index, f"the job's result cannot be read: {describe(error)}")
