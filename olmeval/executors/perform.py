"""One attempt at one job, the same wherever it runs: outcomes as data, never as exceptions."""

import pickle
import time
import warnings
from collections.abc import Callable, Sequence
from traceback import extract_tb
from typing import Any, Literal, NamedTuple

from olmeval.errors import UserError
from olmeval.executors.base import Function, J, R

REPORT_INTERVAL = 0.2  # seconds between two messages about one job's progress
PROTOCOL = pickle.HIGHEST_PROTOCOL


class Outcome(NamedTuple):
    """``value`` is the result, or the error's sentence; only what "raised" is worth a retry.

    ``done`` is what the job reported in all, ``warned`` the Python warnings that it gave.
    """

    kind: Literal["result", "refused", "raised"]
    value: Any
    done: Any = 0
    warned: Sequence[str] = ()


class Meter:
    """The ``report`` of one attempt: sends the running total, but not too often."""

    def __init__(self, send: Callable[[Any], object]) -> None:
        self.total: Any = 0
        self._send = send
        self._sent = time.monotonic()

    def __call__(self, amount: Any) -> None:
        self.total = self.total + amount  # a new array: the old one may be on its way
        now = time.monotonic()
        if now - self._sent >= REPORT_INTERVAL:
            self._sent = now
            self._send(self.total)


def perform(function: Function[J, Any, R], job: J, meter: Meter) -> Outcome:
    """Calls the function; Ctrl-C alone gets through."""
    try:
        return Outcome("result", function(job, meter), meter.total)
    except UserError as error:
        return Outcome("refused", str(error), meter.total)
    except (Exception, SystemExit) as error:
        return Outcome("raised", describe(error), meter.total)


class Performer:
    """A worker's side of the exchange, in which function, jobs and results are pickles.

    There is one in a process: it takes over Python's warnings, which nobody would read there.
    """

    def __init__(self) -> None:
        self._function: Function[Any, Any, Any] | None = None
        self._warned: list[str] = []
        show: Callable[..., None] = warnings.showwarning

        def keep(message: Warning | str, *rest: Any) -> None:
            self._warned.append(str(message))
            show(message, *rest)

        warnings.showwarning = keep  # type: ignore[assignment]

    def __call__(self, function: bytes | None, job: bytes, meter: Meter) -> Outcome:
        """One attempt; ``function`` is None when it is the one that came last."""
        self._warned.clear()
        outcome = self._attempt(function, job, meter)
        return outcome._replace(warned=tuple(self._warned))

    def _attempt(self, function: bytes | None, job: bytes, meter: Meter) -> Outcome:
        try:
            if function is not None:
                self._function = pickle.loads(function)
            value = pickle.loads(job)
        except Exception as error:
            return Outcome("raised", f"the worker cannot read the job: {describe(error)}")
        assert self._function is not None
        outcome = perform(self._function, value, meter)
        if outcome.kind != "result":
            return outcome
        try:
            return outcome._replace(value=pickle.dumps(outcome.value, PROTOCOL))
        except Exception as error:
            text = f"the job's result cannot be sent: {describe(error)}"
            return Outcome("refused", text, outcome.done)


def describe(error: BaseException) -> str:
    """Type, message and place of an exception, as one sentence."""
    text = f"{type(error).__name__}: {error}".strip().removesuffix(":")
    if frames := extract_tb(error.__traceback__):
        text += f" (in {frames[-1].name}, {frames[-1].filename}:{frames[-1].lineno})"
    return text
