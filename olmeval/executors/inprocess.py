"""The executor without workers: jobs one after the other in the calling process."""

from collections.abc import Callable, Hashable, Iterator, Sequence

from olmeval.executors.base import A, Done, Executor, Function, J, R
from olmeval.executors.ledger import Ledger
from olmeval.executors.perform import Meter, perform


class InProcess(Executor):
    """Runs jobs here; the place for a debugger, and for a machine with one device."""

    workers = 1

    def __init__(self) -> None:
        self._last: Hashable = None

    def map(
        self,
        function: Function[J, A, R],
        jobs: Sequence[J],
        *,
        retries: int = 2,
        affinity: Callable[[J], Hashable] | None = None,
        on_report: Callable[[int, A], None] | None = None,
    ) -> Iterator[Done[R]]:
        ledger: Ledger[J, R] = Ledger(jobs, retries, affinity, on_report)
        while (index := ledger.take(self._last, ())) is not None:
            self._last = ledger.key(index)
            meter = Meter(lambda total, index=index: ledger.report(index, total))  # type: ignore[misc]
            outcome = perform(function, jobs[index], meter)
            ledger.report(index, outcome.done)
            if outcome.kind == "result":
                yield ledger.finish(index, outcome.value)
            elif outcome.kind == "refused":
                yield ledger.refuse(index, outcome.value)
            elif (done := ledger.fail(index, outcome.value)) is not None:
                yield done

    def close(self) -> None:
        pass
