"""The training loop: :func:`train` reads from top to bottom."""

import json
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from olmeval.errors import UserError
from olmeval.trainer.checkpoint import (
    METRICS,
    complete_checkpoints,
    load_checkpoint,
    open_run,
    save_checkpoint,
    truncate_lines,
)
from olmeval.trainer.loss import linear_cross_entropy
from olmeval.trainer.mixture import Mixture
from olmeval.trainer.model import Olmo2, build_model
from olmeval.trainer.optim import build_optimizer, clipped_step
from olmeval.trainer.recipe import Plan, Recipe, resolve


@dataclass(frozen=True)
class TrainResult:
    """A finished run. ``loss`` is the last logged cross-entropy, in nats a token."""

    output: Path
    checkpoints: tuple[Path, ...]
    steps: int
    tokens: int
    flops: int
    loss: float
    skipped: int
    resumed_from: int
    """Step at which this call took the run up; 0 if it began it."""
    seconds: float


@dataclass(frozen=True)
class Live:
    """A run about to go on from ``step``, as whoever watches it sees it.

    ``say`` shows a line to the person at the terminal.
    """

    model: Olmo2
    plan: Plan
    output: Path
    step: int
    say: Callable[[str], None]


def train(
    recipe: Recipe,
    output: Path,
    *,
    on_checkpoint: Callable[[Path], None] | None = None,
    watch: Callable[[Live], Callable[[int], None]] | None = None,
    progress: bool = True,
) -> TrainResult:
    """Trains as ``recipe`` says, or continues a run of the same recipe that stopped in ``output``.

    However often it is stopped, the final weights are those of an undisturbed run, bit for bit (on
    the same machine and number of threads). ``on_checkpoint`` gets the folder of every checkpoint,
    at least once each: on resumption, that of the checkpoint resumed from once more. ``watch`` gets
    the run before it begins and returns what is called after every step, before a checkpoint is
    made of it; its time does not count as training. Raises :class:`UserError` for anything wrong
    with the recipe, the data or the output.
    """
    started = time.perf_counter()
    plan = resolve(recipe)
    shape = recipe.train
    device = _device(shape.device)
    with open_run(output, plan):
        model = build_model(plan.model, recipe.seed, device)
        spec = recipe.optimizer
        optimizer = build_optimizer(
            model, betas=spec.betas, eps=spec.eps, weight_decay=spec.weight_decay
        )
        first, counters = 0, {"skipped": 0}
        if saved := complete_checkpoints(output):
            first, counters = load_checkpoint(saved[-1], model, optimizer)
        truncate_lines(output / METRICS, first)
        if saved and on_checkpoint:
            on_checkpoint(saved[-1])

        parameters = list(model.parameters())
        with (
            (output / METRICS).open("ab", buffering=0) as file,
            _bar(progress, recipe.name, first, plan.steps) as (advance, say),
            Batches(plan.mixture, first, plan.steps, device) as batches,
        ):
            look = watch(Live(model, plan, output, first, say)) if watch else None
            log = Log(file, plan.batch_tokens, counters)
            for step, (batch, waited) in enumerate(batches, start=first):
                loss, entropy = batch_loss(
                    model, batch, z_weight=shape.z_loss, precision=shape.precision
                )
                loss.backward()
                lr = spec.lr * plan.schedule.at_step(step, plan.batch_tokens)
                norm, skipped = clipped_step(optimizer, parameters, lr, spec.clip)
                log.add(entropy, norm, skipped, waited)

                done = step + 1
                if look:
                    with log.paused():
                        look(done)
                save = done % recipe.checkpoint.every == 0 or done == plan.steps
                if save or done % recipe.log_every == 0:
                    advance(done, log.write(done, lr))
                if save:
                    log.sync()
                    path = save_checkpoint(output, plan, model, optimizer, done, log.counters)
                    if on_checkpoint:
                        on_checkpoint(path)
                    log.restart()
        return TrainResult(
            output=output,
            checkpoints=tuple(complete_checkpoints(output)),
            steps=plan.steps,
            tokens=plan.tokens,
            flops=plan.flops(plan.tokens),
            loss=_last_loss(output),
            skipped=log.counters["skipped"],
            resumed_from=first,
            seconds=time.perf_counter() - started,
        )


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"train.device '{name}' does not work here: {reason}") from None
    return device


def batch_loss(
    model: Olmo2, batch: Tensor, *, z_weight: float, precision: str
) -> tuple[Tensor, Tensor]:
    """Loss to differentiate and plain cross-entropy of ``batch`` [B, T + 1], nats a token."""
    targets = batch[:, 1:].reshape(-1)
    bf16 = precision == "bfloat16"
    with torch.autocast(batch.device.type, torch.bfloat16, enabled=bf16):
        hidden = model.model(batch[:, :-1]).flatten(0, 1)
    return linear_cross_entropy(
        hidden.bfloat16() if bf16 else hidden,
        model.lm_head.weight,
        targets,
        num_tokens=len(targets),
        z_weight=z_weight,
    )


class Batches:
    """Batches ``first`` to ``last`` as (tokens on the device, seconds waited), read ahead by one.

    A context manager: leaving it ends the reading thread.
    """

    def __init__(self, mixture: Mixture, first: int, last: int, device: torch.device):
        self.mixture, self.steps, self.device = mixture, range(first, last), device
        self.pool = ThreadPoolExecutor(1, thread_name_prefix="batches")

    def __enter__(self) -> "Batches":
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.shutdown(cancel_futures=True)

    def __iter__(self) -> Iterator[tuple[Tensor, float]]:
        ahead = self.pool.submit(self._read, self.steps.start) if self.steps else None
        for step in self.steps:
            asked = time.perf_counter()
            assert ahead is not None
            batch = ahead.result()
            waited = time.perf_counter() - asked
            if step + 1 < self.steps.stop:
                ahead = self.pool.submit(self._read, step + 1)
            yield batch.to(self.device, non_blocking=True), waited

    def _read(self, step: int) -> Tensor:
        batch = torch.from_numpy(self.mixture.batch(step))
        return batch.pin_memory() if self.device.type == "cuda" else batch


@dataclass
class Log:
    """Averages steps into lines of ``metrics.jsonl``.

    Values stay on the device until a line is written: one synchronisation a line. Lines end at
    every checkpoint, so that a resumed run averages over the same steps as an undisturbed one.
    ``file`` is unbuffered: a line is written or it fails here.
    """

    file: IO[bytes]
    batch_tokens: int
    counters: dict[str, int]
    steps: list[Tensor] = field(default_factory=list)
    waited: float = 0.0
    started: float = field(default_factory=time.perf_counter)

    def add(self, entropy: Tensor, norm: Tensor, skipped: Tensor, waited: float) -> None:
        """One step's cross-entropy, gradient norm and skip flag; seconds waited for its data."""
        self.steps.append(torch.stack([entropy, norm, skipped]))
        self.waited += waited

    def write(self, step: int, lr: float) -> dict[str, Any]:
        """Writes the line that ends at ``step`` and begins the next. Returns it.

        Means are over the steps that were not skipped; null if there was none.
        """
        values = torch.stack(self.steps).double().cpu()
        seconds = time.perf_counter() - self.started
        kept = values[values[:, 2] == 0]
        self.counters["skipped"] += len(values) - len(kept)
        row = {
            "step": step,
            "tokens": step * self.batch_tokens,
            "loss": kept[:, 0].mean().item() if len(kept) else None,
            "grad_norm": kept[:, 1].mean().item() if len(kept) else None,
            "lr": lr,
            "skipped": self.counters["skipped"],
            "tokens_per_second": len(values) * self.batch_tokens / seconds,
            "data_wait": self.waited / seconds,
        }
        with self._named_errors():
            self.file.write(json.dumps(row, allow_nan=False).encode() + b"\n")
        self.restart()
        return row

    def sync(self) -> None:
        """Makes the lines durable: a checkpoint must not outlive its history."""
        with self._named_errors():
            os.fsync(self.file.fileno())

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leaves out the time of something that is no training."""
        if self.steps[-1].device.type == "cuda":
            torch.cuda.synchronize()
        began = time.perf_counter()
        yield
        self.started += time.perf_counter() - began

    def restart(self) -> None:
        """Begins a new line now, so that time spent on a checkpoint is not counted as training."""
        self.steps, self.waited, self.started = [], 0.0, time.perf_counter()

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(f"cannot write '{self.file.name}': {error.strerror}") from error


def _last_loss(output: Path) -> float:
    """The last loss in ``metrics.jsonl``; NaN where every step of the last line was skipped."""
    lines = (output / METRICS).read_text(encoding="utf-8").splitlines()
    loss = json.loads(lines[-1])["loss"]
    return float("nan") if loss is None else float(loss)


@contextmanager
def _bar(
    show: bool, name: str, first: int, steps: int
) -> Iterator[tuple[Callable[[int, dict[str, Any]], None], Callable[[str], None]]]:
    """A progress bar on stderr.

    Yields the function that moves it to a step with its line, and one that prints above it.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[state]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), disable=not show) as bar:
        task = bar.add_task(name, total=steps, completed=first, state="")

        def advance(step: int, row: dict[str, Any]) -> None:
            loss = "not finite" if row["loss"] is None else f"{row['loss']:.3f}"
            state = f"loss {loss}  {row['tokens_per_second']:,.0f} tokens/s"
            bar.update(task, completed=step, state=state)

        def say(line: str) -> None:
            if show:
                bar.console.print(line, markup=False, highlight=False, soft_wrap=True)

        yield advance, say
