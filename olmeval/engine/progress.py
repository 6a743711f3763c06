"""Progress of a run on the terminal: a bar over all models, one a model at work, one a task."""

import sys
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

from olmeval.backends.planner import Ints

if TYPE_CHECKING:
    from rich.progress import TaskID

# Bars of single tasks that are shown at once, most recently answered first.
TASKS_SHOWN = 6


class Bars:
    """Bars on stderr where it is a terminal and ``show``; otherwise nothing.

    ``tasks`` are the names of the run's tasks, ``models`` how many models there are.
    """

    def __init__(self, show: bool, tasks: list[str], models: int):
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        from rich.progress import TimeRemainingColumn as Remaining

        self.names, self.show = tasks, show
        self.progress = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}"), Remaining(),
            console=Console(stderr=True), disable=not show or not sys.stderr.isatty(),
        )  # fmt: skip
        self.models = self.progress.add_task("all", total=models, unit="models", visible=models > 1)
        self.of_model: dict[str, TaskID] = {}
        self.of_task: dict[int, TaskID] = {}
        self.totals: Ints = np.zeros(len(tasks), np.int64)
        self.answered: dict[str, Ints] = {}

    def __enter__(self) -> "Bars":
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.progress.stop()

    def say(self, line: str) -> None:
        """Prints a line on stderr, be it a terminal or not."""
        if self.show:
            self.progress.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def begin(self, model: str, questions: Ints) -> None:
        """``model`` has so many questions of each task [tasks]."""
        self.totals = questions
        self.answered[model] = np.zeros(len(self.names), np.int64)
        self.of_model[model] = self.progress.add_task(
            model, total=int(questions.sum()), unit="requests", visible=False
        )

    def advance(self, model: str, counts: Ints) -> None:
        """So many more questions of each task [tasks] are answered for ``model``."""
        self.answered[model] += counts
        self.progress.update(self.of_model[model], advance=int(counts.sum()), visible=True)
        if len(self.names) > 1:
            self._show_tasks(model, np.flatnonzero(counts).tolist())

    def _show_tasks(self, model: str, latest: list[int]) -> None:
        answered, shown = self.answered[model], self.of_task
        for number in [n for n in shown if answered[n] >= self.totals[n]]:
            self.progress.remove_task(shown.pop(number))
        for number in latest:
            if answered[number] < self.totals[number] and number not in shown:
                if len(shown) == TASKS_SHOWN:
                    self.progress.remove_task(shown.pop(next(iter(shown))))
                shown[number] = self.progress.add_task(
                    f"  {self.names[number]}", total=int(self.totals[number]), unit="requests"
                )
        for number, bar in shown.items():
            self.progress.update(bar, completed=int(answered[number]))

    def judging(self, model: str) -> Callable[[int, int], None]:
        """What tells how many of the programs that ``model`` wrote have been run."""

        def tell(done: int, total: int) -> None:
            self.progress.update(
                self.of_model[model], completed=done, total=total, unit="programs", visible=True
            )

        return tell

    def end(self, model: str) -> None:
        """``model`` is finished, or was before."""
        if model in self.of_model:
            self.progress.remove_task(self.of_model.pop(model))
        while self.of_task:
            self.progress.remove_task(self.of_task.popitem()[1])
        self.progress.advance(self.models)
