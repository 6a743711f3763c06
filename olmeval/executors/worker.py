"""The process of the local pool: jobs from a socket, one at a time, on the main thread.

A second thread listens. When the driver is gone it ends this process and its children: an idle
worker leaves by the door, a busy one is terminated, and what ignores that is killed.
"""

import faulthandler
import os
import signal
import sys
import threading
import time
from multiprocessing.connection import Connection
from queue import SimpleQueue

from olmeval.executors.perform import Meter, Performer

GRACE = 1.0  # seconds between asking and killing

Inbox = SimpleQueue[tuple[bytes | None, bytes] | None]


def main(descriptor: int) -> None:
    """Serves jobs until the driver closes its end of the socket ``descriptor``."""
    faulthandler.enable(all_threads=False)
    os.set_inheritable(descriptor, False)
    sys.argv[1:] = []
    connection: Connection = Connection(descriptor)
    inbox: Inbox = SimpleQueue()
    busy = threading.Event()
    threading.Thread(target=_listen, args=(connection, inbox, busy), daemon=True).start()
    perform = Performer()
    connection.send(("ready", None))
    while (message := inbox.get()) is not None:
        busy.set()
        meter = Meter(lambda total: connection.send(("progress", total)))
        outcome = perform(*message, meter)
        busy.clear()
        connection.send(("outcome", outcome))


def _listen(connection: Connection, inbox: Inbox, busy: threading.Event) -> None:
    try:
        while True:
            inbox.put(connection.recv())
    except (EOFError, OSError):
        inbox.put(None)
    if busy.is_set():
        os.killpg(os.getpgrp(), signal.SIGTERM)
    time.sleep(GRACE)
    os.killpg(os.getpgrp(), signal.SIGKILL)
