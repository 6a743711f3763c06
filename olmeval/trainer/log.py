"""What a run tells while it goes: ``metrics.jsonl``, a bar, and trackers of experiments."""

import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from olmeval.errors import UserError
from olmeval.files import sha256_json
from olmeval.trainer.monitor import SpikeScore
from olmeval.trainer.recipe import Plan, Recipe

Row = dict[str, Any]


@dataclass
class Log:
    """Averages steps into lines of ``metrics.jsonl``.

    Values stay on the device until a line is written: one synchronisation a line. Lines end at
    every checkpoint of the recipe; a run that is stopped between takes the unfinished line along,
    so that a resumed run averages over the same steps as an undisturbed one. ``file`` is
    unbuffered: a line is written or it fails here. It is None on all ranks but the first.
    """

    file: IO[bytes] | None
    batch_tokens: int
    skipped: int = 0
    flops_per_token: int = 0
    peak_flops: float | None = None
    """Of all devices together, a second."""
    spikes: SpikeScore = field(default_factory=SpikeScore)
    steps: list[Tensor] = field(default_factory=list)
    waited: float = 0.0
    started: float = field(default_factory=time.perf_counter)
    begun: float = field(default_factory=time.perf_counter)
    """When this process took the run up."""
    trained: float = 0.0
    """Seconds since then that were spent on training steps."""

    def add(self, entropy: Tensor, norm: Tensor, skipped: Tensor, waited: float) -> None:
        """One step's cross-entropy, gradient norm and skip flag; seconds waited for its data."""
        self.steps.append(torch.stack([entropy, norm, skipped]))
        self.waited += waited

    def write(self, step: int, lr: float, parts: Mapping[str, Tensor]) -> Row:
        """Writes the line that ends at ``step`` and begins the next. Returns it.

        Means are over the steps that were not skipped; null if there was none. ``parts``: norms of
        the last step's gradients by part of the model, null where they are not finite.
        """
        values = torch.stack(self.steps).double().cpu()
        norms = {name: norm.item() for name, norm in parts.items()}
        seconds = time.perf_counter() - self.started
        self.trained += seconds
        kept = values[values[:, 2] == 0]
        self.skipped += len(values) - len(kept)
        for entropy, norm, _ in values.tolist():
            self.spikes.add(entropy, norm)
        rate = len(values) * self.batch_tokens / seconds
        row = {
            "step": step,
            "tokens": step * self.batch_tokens,
            "loss": kept[:, 0].mean().item() if len(kept) else None,
            "grad_norm": kept[:, 1].mean().item() if len(kept) else None,
            "lr": lr,
            "grad_norms": {k: v if math.isfinite(v) else None for k, v in norms.items()},
            "skipped": self.skipped,
            "spike_score": self.spikes.score,
            "tokens_per_second": rate,
            "mfu": rate * self.flops_per_token / self.peak_flops if self.peak_flops else None,
            "data_wait": self.waited / seconds,
            "goodput": self.trained / (time.perf_counter() - self.begun),
        }
        if self.file is not None:
            with self._named_errors(self.file):
                self.file.write(json.dumps(row, allow_nan=False).encode() + b"\n")
        self.restart()
        return row

    def state(self) -> dict[str, Any]:
        """What a resumed run goes on with, as JSON; the steps since the last line among it."""
        return {
            "skipped": self.skipped,
            "unfinished": torch.stack(self.steps).tolist() if self.steps else [],
            "monitor": self.spikes.state_dict(),
        }

    def sync(self) -> None:
        """Makes the lines durable: a checkpoint must not outlive its history."""
        if self.file is not None:
            with self._named_errors(self.file):
                os.fsync(self.file.fileno())

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leaves out the time of something that is no training."""
        if self.steps and self.steps[-1].device.type == "cuda":
            torch.cuda.synchronize()
        began = time.perf_counter()
        yield
        self.started += time.perf_counter() - began

    def restart(
        self, unfinished: Sequence[Sequence[float]] = (), device: torch.device | str = "cpu"
    ) -> None:
        """Begins a new line now, or goes on with one that a stopped run had begun."""
        self.steps = [torch.tensor(values, device=device) for values in unfinished]
        self.waited, self.started = 0.0, time.perf_counter()

    @contextmanager
    def _named_errors(self, file: IO[bytes]) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(f"cannot write '{file.name}': {error.strerror}") from error


@contextmanager
def trackers(plan: Plan, output: Path, main: bool) -> Iterator[Callable[[Row], None]]:
    """Yields the function that sends a line to the trackers that the recipe asks for.

    Raises :class:`UserError` if one is not installed.
    """
    send: list[Callable[[Row], None]] = []
    close: list[Callable[[], None]] = []
    if main and "tensorboard" in plan.recipe.trackers:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise _missing("tensorboard") from None
        writer = SummaryWriter(str(output / "tensorboard"))

        def to_tensorboard(row: Row) -> None:
            for key, value in _numbers(row):
                writer.add_scalar(key, value, row["step"])

        send.append(to_tensorboard)
        close.append(writer.close)
    if main and "wandb" in plan.recipe.trackers:
        try:
            import wandb
        except ImportError:
            raise _missing("wandb") from None
        # The same folder, the same run there, however often it is taken up.
        run = wandb.init(
            id=sha256_json([str(output.resolve()), plan.settings()])[:16],
            name=plan.recipe.name,
            dir=str(output),
            config=plan.settings(),
            resume="allow",
        )
        send.append(lambda row: run.log(dict(_numbers(row)), step=row["step"]))
        close.append(run.finish)

    def send_all(row: Row) -> None:
        for each in send:
            each(row)

    try:
        yield send_all
    finally:
        for each in close:
            each()


def _numbers(row: Row) -> list[tuple[str, float]]:
    """The values of a line by name, those of its groups as ``group/name``."""
    flat = {k: v for k, v in row.items() if not isinstance(v, dict)}
    flat |= {f"{k}/{n}": v for k, group in row.items() if k not in flat for n, v in group.items()}
    return [(k, v) for k, v in flat.items() if v is not None and k != "step"]


def _missing(name: str) -> UserError:
    return UserError(
        f"trackers: {name} is not installed; install it (pip install 'olmeval[{name}]') or take it "
        "out of trackers"
    )


@contextmanager
def bar(
    show: bool, recipe: Recipe, first: int, steps: int
) -> Iterator[tuple[Callable[[int, Row], None], Callable[[str], None]]]:
    """A progress bar on stderr where it is a terminal and ``show``.

    Yields the function that moves it to a step with its line, and one that prints above it.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[state]}"),
        TimeRemainingColumn(),
    )
    hidden = not show or not sys.stderr.isatty()
    with Progress(*columns, console=Console(stderr=True), disable=hidden) as progress:
        task = progress.add_task(recipe.name, total=steps, completed=first, state="")

        def advance(step: int, row: Row) -> None:
            loss = "not finite" if row["loss"] is None else f"{row['loss']:.3f}"
            state = f"loss {loss}  {row['tokens_per_second']:,.0f} tokens/s"
            if row["mfu"] is not None:
                state += f"  MFU {row['mfu']:.0%}"
            progress.update(task, completed=step, state=state)

        def say(line: str) -> None:
            if show:
                progress.console.print(line, markup=False, highlight=False, soft_wrap=True)

        yield advance, say
