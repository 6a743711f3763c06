"""One attempt at one job, the same wherever it runs: outcomes as data, never as exceptions."""

import pickle
import time
from collections.abc import Callable
from traceback import extract_tb
from typing import Any, Literal, NamedTuple

from olmeval.errors import UserError
from olmeval.executors.base import Function, J, R

REPORT_INTERVAL = 0.2  # seconds between two messages about one job's progress
PROTOCOL = pickle.HIGHEST_PROTOCOL


class Outcome(NamedTuple):
    """``value`` is the result, or the error's sentence; only what "raised" is worth a retry."""

    kind: Literal["result", "refused", "raised"]
    value: Any


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
        return Outcome("result", function(job, meter))
    except UserError as error:
        return Outcome("refused", str(error))
    except (Exception, SystemExit) as error:
        return Outcome("raised", describe(error))


def perform_pickled(function: Function[Any, Any, Any], job: bytes, meter: Meter) -> Outcome:
    """Like :func:`perform`, with the job and its result as pickles."""
    try:
        value = pickle.loads(job)
    except Exception as error:
        return Outcome("raised", f"the worker cannot read the job: {describe(error)}")
    outcome = perform(function, value, meter)
    if outcome.kind != "result":
        return outcome
    try:
        return Outcome("result", pickle.dumps(outcome.value, PROTOCOL))
    except Exception as error:
        return Outcome("refused", f"the job's result cannot be sent: {describe(error)}")


class Performer:
    """A worker's side of the exchange: remembers the function until it is sent another one."""

    def __init__(self) -> None:
        self._function: Function[Any, Any, Any] | None = None

    def __call__(self, function: bytes | None, job: bytes, meter: Meter) -> Outcome:
        """``function`` is a pickle, or None for the one that came last."""
        if function is not None:
            try:
                self._function = pickle.loads(function)
            except Exception as error:
                return Outcome("raised", f"the worker cannot read the function: {describe(error)}")
        assert self._function is not None
        return perform_pickled(self._function, job, meter)


def describe(error: BaseException) -> str:
    """Type, message and place of an exception, as one sentence."""
    text = f"{type(error).__name__}: {error}".strip().removesuffix(":")
    if frames := extract_tb(error.__traceback__):
        text += f" (in {frames[-1].name}, {frames[-1].filename}:{frames[-1].lineno})"
    return text
