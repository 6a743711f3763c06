"""The training loop: :func:`train` reads from top to bottom."""

import json
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from olmeval.errors import UserError
from olmeval.trainer.averaging import Ema, average_checkpoints
from olmeval.trainer.batches import Batches
from olmeval.trainer.checkpoint import (
    METRICS,
    Saver,
    complete_checkpoints,
    is_passing,
    load_checkpoint,
    open_run,
    train_state,
    truncate_lines,
)
from olmeval.trainer.log import Log, bar, trackers
from olmeval.trainer.mixture import describe_clipping
from olmeval.trainer.model import Olmo2, init_weights
from olmeval.trainer.monitor import gradient_norms
from olmeval.trainer.optim import SpikeGuard, build_optimizers, clipped_step
from olmeval.trainer.parallel import World
from olmeval.trainer.recipe import Plan, Recipe, resolve, trusting
from olmeval.trainer.runtime import Runtime, build_runtime, world_of
from olmeval.trainer.start_weights import load_optimizer, load_weights
from olmeval.trainer.stopping import Stopping, no_collection
from olmeval.trainer.throughput import device_peak_tflops


@dataclass(frozen=True)
class TrainResult:
    """A run at its end, or where it was stopped.

    ``loss`` is the last logged cross-entropy, in nats a token.
    """

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
    goodput: float
    """The part of these seconds that was spent on training steps."""
    stopped: str | None = None
    """Why the run ended before its last step; the same call goes on with it."""


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
    runtime: Runtime | None = None,
    on_checkpoint: Callable[[Path], None] | None = None,
    on_line: Callable[[int], None] | None = None,
    watch: Callable[[Live], Callable[[int], None]] | None = None,
    progress: bool = True,
    max_minutes: float | None = None,
    peak_tflops: float | None = None,
) -> TrainResult:
    """Trains as ``recipe`` says, or continues a run of the same recipe that stopped in ``output``.

    However often it is stopped, the final weights are those of an undisturbed run, bit for bit (on
    the same machine and number of threads and processes). Every process that ``torchrun`` started
    calls this. ``runtime`` is a model built before, that other runs may have used.
    ``on_checkpoint`` gets the folder of every checkpoint, at least once each: on resumption, that
    of the checkpoint resumed from once more. ``on_line`` is told the step at which the run begins,
    and that of every line of the log. ``watch`` gets the run before it begins and returns what is
    called after every step, before a checkpoint is made of it; its time does not count as training,
    but the device is waited for. SIGTERM, SIGINT and ``max_minutes`` end the run with a checkpoint.
    ``peak_tflops`` of one device, for the MFU, if the device is in no table. Raises
    :class:`UserError` for anything wrong with the recipe, the data or the output.
    """
    started = time.perf_counter()
    stopping = Stopping(max_minutes)
    with ExitStack() as stack:
        stack.enter_context(stopping.listening())
        world = runtime.world if runtime else world_of(recipe)
        plan = _resolve_together(recipe, world)
        world.on_main(lambda: stack.enter_context(open_run(output, plan)))
        if watch and world.mesh is not None:
            raise UserError("evaluation in the loop needs a run of one process; take it out")

        # The model, and where it stands.
        runtime = runtime or build_runtime(plan, world)
        runtime.check(plan)
        model, spec = runtime.model, recipe.optimizer
        init_weights(model, recipe.seed)
        parameters = list(model.parameters())
        optimizers = build_optimizers(model, spec)
        saved = world.on_main(lambda: complete_checkpoints(output))
        if recipe.start and not saved:
            load_weights(model, recipe.start)
            if recipe.start.optimizer:
                load_optimizer(model, optimizers, recipe.start, world)
        ema = Ema(model, recipe.checkpoint.ema) if recipe.checkpoint.ema else None
        guard = SpikeGuard(world.device, sigma=spec.skip_spikes) if spec.skip_spikes else None
        extras = {"ema": ema.average} if ema else {}
        if guard:
            extras["spikes"] = guard.state_dict()
        first = 0
        state: dict[str, Any] = {"skipped": 0, "unfinished": []}
        if saved:
            restored = train_state(model, optimizers, **extras)
            first, state = load_checkpoint(saved[-1], model, optimizers, restored, world)
        world.on_main(lambda: truncate_lines(output / METRICS, first))

        # Whoever sees it, and whatever it reads and writes.
        advance, say = stack.enter_context(bar(progress and world.main, recipe, first, plan.steps))
        track = stack.enter_context(trackers(plan, output, world.main))
        saver = stack.enter_context(Saver(output, plan, world, on_checkpoint))
        if saved and world.main:
            saver.resume(saved[-1])
        batches = stack.enter_context(Batches(plan, first, plan.steps, world))
        file = (output / METRICS).open("ab", buffering=0) if world.main else None
        if file:
            stack.enter_context(file)
        peak = peak_tflops or device_peak_tflops(world.device)
        log = Log(
            file,
            plan.batch_tokens,
            state["skipped"],
            plan.model.flops_per_token(recipe.train.seq_len),
            peak and peak * 1e12 * world.size,
            begun=started,
        )
        if "monitor" in state:
            log.spikes.load_state_dict(state["monitor"])
        for sentence in describe_clipping(plan.mixture.shares):
            say(sentence)
        look = watch(Live(model, plan, output, first, say)) if watch else None
        if first < plan.steps:
            runtime.dry_run(batches.first())
        stack.enter_context(no_collection())
        log.restart(state["unfinished"], world.device)

        done = first
        if on_line:
            on_line(done)
        for step, batch in enumerate(batches, start=first):
            counted = plan.batch_tokens
            if recipe.data.instance_filter:
                counted = world.sum(torch.tensor(batch.counted, device=world.device)).clamp(min=1)
            entropy = torch.zeros((), device=world.device)
            for part in batch.parts:
                entropy += runtime.backward(part, counted, last=part is batch.parts[-1])
            entropy = world.sum(entropy)
            done = step + 1
            save = plan.saves(done)
            line = save or done % recipe.log_every == 0
            parts = gradient_norms(model.named_parameters()) if line else {}
            lr = plan.rate(step)
            norm, skipped = clipped_step(
                optimizers, parameters, lr, spec.clip, loss=entropy, guard=guard
            )
            if ema:
                ema.update()
            log.add(entropy, norm, skipped, batch.waited)

            if look:
                with log.paused():
                    look(done)
            if line:
                row = log.write(done, lr, parts)
                advance(done, row)
                track(row)
                if on_line:
                    on_line(done)
            stop = stopping.agreed(world, line) and done < plan.steps
            if save or stop:
                log.sync()
                with log.paused():
                    now = {**log.state(), "passing": not save}
                    saver.save(model, train_state(model, optimizers, **extras), done, now)
            else:
                saver.poll()
            if stop:
                break

        saver.wait()
        saved = world.on_main(lambda: complete_checkpoints(output))
        if (last := recipe.checkpoint.average) and done == plan.steps:
            world.on_main(lambda: _average(output, last))
        return TrainResult(
            output=output,
            checkpoints=tuple(saved),
            steps=done,
            tokens=done * plan.batch_tokens,
            flops=plan.flops(done * plan.batch_tokens),
            loss=_last_loss(output),
            skipped=log.skipped,
            resumed_from=first,
            seconds=time.perf_counter() - started,
            goodput=log.trained / (time.perf_counter() - started),
            stopped=None if done == plan.steps else stopping.reason or "another process stopped",
        )


def _resolve_together(recipe: Recipe, world: World) -> Plan:
    """The plan on every rank; one of them reads the data through, and the others trust it."""
    made: list[Plan] = []
    world.on_main(lambda: made.append(resolve(recipe)))
    return made[0] if made else resolve(trusting(recipe))


def _average(output: Path, last: int) -> None:
    """The recipe's average of the last checkpoints, or of as many as there are."""
    saved = [path for path in complete_checkpoints(output) if not is_passing(path)]
    if len(saved) > 1:
        average_checkpoints(saved[-last:], output / "average")


def _last_loss(output: Path) -> float:
    """The last loss in ``metrics.jsonl``; NaN where it has none."""
    lines = (output / METRICS).read_text(encoding="utf-8").splitlines()
    loss = json.loads(lines[-1])["loss"] if lines else None
    return float("nan") if loss is None else float(loss)
