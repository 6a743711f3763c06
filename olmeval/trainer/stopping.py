"""A run that is asked to stop ends with a checkpoint: signals, and a limit on its time."""

import gc
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from olmeval.trainer.parallel import World


class Stopping:
    """Whether somebody wants the run to stop, and why."""

    def __init__(self, max_minutes: float | None = None):
        self.reason: str | None = None
        self.deadline = None if max_minutes is None else time.monotonic() + 60 * max_minutes

    def asked(self) -> bool:
        """True from the first signal, or the end of the time, on."""
        if self.reason is None and self.deadline and time.monotonic() >= self.deadline:
            self.reason = "the time is up"
        return self.reason is not None

    def agreed(self, world: World, line: bool) -> bool:
        """Whether to stop now, the same on every rank.

        Ranks get a signal at different steps, so they ask each other; to wait for each other at
        every step would cost more than to go on to the next ``line`` of the log.
        """
        if world.size == 1:
            return self.asked()
        return line and world.any(self.asked())

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Takes SIGTERM (pre-emption) and SIGINT (Ctrl-C); a second one acts as it always does.

        Only the main thread can: elsewhere this does nothing.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

        def stop(number: int, _: FrameType | None) -> None:
            self.reason = signal.Signals(number).name
            for each, handler in before.items():
                signal.signal(each, handler)

        for number in before:
            signal.signal(number, stop)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@contextmanager
def no_collection() -> Iterator[None]:
    """Leaves the garbage collector off: its full passes stop a step for up to half a second.

    A step leaves no cycles behind, so memory does not grow.
    """
    was = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
