"""``serve``: the viewer until Ctrl-C."""

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from olmeval.reports.view.app import App
from olmeval.reports.view.server import Server


def serve(
    runs: Sequence[str | Path],
    *,
    port: int = 0,
    tokenizers: Sequence[str | Path] = (),
    ready: Callable[[Server], None] | None = None,
) -> None:
    """Serves the page over ``runs`` on 127.0.0.1 until Ctrl-C or SIGTERM.

    ``ready`` is called once the page can be opened. Raises :class:`UserError` when there is no run
    or the port is taken.
    """
    with started(runs, port=port, tokenizers=tokenizers) as server:
        ended = threading.Event()
        before = {
            number: signal.signal(number, lambda *_: ended.set())
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            if ready:
                ready(server)
            ended.wait()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@contextmanager
def started(
    runs: Sequence[str | Path], *, port: int = 0, tokenizers: Sequence[str | Path] = ()
) -> Iterator[Server]:
    """A server that answers in threads of its own for as long as the context is open."""
    app = App([Path(run) for run in runs], [Path(folder) for folder in tokenizers])
    try:
        with Server(app, port) as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True)
            thread.start()
            try:
                yield server
            finally:
                server.shutdown()
                thread.join()
    finally:
        app.close()
