"""Progress of a swarm on the terminal: proxies done, tokens a second, time left."""

import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, Task, TextColumn, TimeRemainingColumn
from rich.text import Text


class Row(Protocol):
    """What a bar needs to know of a proxy."""

    @property
    def run(self) -> str: ...
    @property
    def tokens(self) -> int: ...
    @property
    def status(self) -> str: ...
    @property
    def error(self) -> str | None: ...


class Speed(TextColumn):
    """Tokens a second of all workers, over the last half minute."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f} tokens/s" if task.speed else "")


class SwarmBar:
    """A bar on stderr where it is a terminal and ``show``; otherwise nothing."""

    def __init__(self, show: bool, rows: Sequence[Row]):
        waiting = [row for row in rows if row.status == "waiting"]
        self.total, self.done, self.failed = len(rows), len(rows) - len(waiting), 0
        self.progress = Progress(
            TextColumn("{task.description}"), BarColumn(), Speed(""), TimeRemainingColumn(),
            console=Console(stderr=True), disable=not show or not sys.stderr.isatty(),
        )  # fmt: skip
        self.tokens, self.trained = sum(row.tokens for row in waiting), [0] * len(rows)
        self.task = self.progress.add_task(self._text(), total=self.tokens)

    def __enter__(self) -> "SwarmBar":
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.progress.stop()

    def advance(self, place: int, tokens: int) -> None:
        """So many more tokens of a proxy are trained; fewer, where an attempt has failed."""
        self.trained[place] += tokens
        self.progress.advance(self.task, tokens)

    def end(self, place: int, row: Row) -> None:
        """A proxy is done, or has failed for good: what it lacks is no longer waited for."""
        if row.status == "done":
            self.done += 1
        else:
            self.failed += 1
            self.tokens -= row.tokens - self.trained[place]
            first = (row.error or "").splitlines()[0]
            self.progress.console.print(f"{row.run}: {first}", markup=False, highlight=False)
        self.progress.update(self.task, description=self._text(), total=self.tokens)

    def _text(self) -> str:
        failed = f", {self.failed} failed" if self.failed else ""
        return f"{self.done} of {self.total} proxies{failed}"
