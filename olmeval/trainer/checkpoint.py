"""Checkpoints: what any tool can load beside what exact resumption needs.

::

    <output>/run.json            settings of the run; another recipe in this folder is refused
    <output>/metrics.jsonl       one line per logged step
    <output>/eval.jsonl          scores of the tasks that the recipe has evaluated on the way
    <output>/step<N>/
        model.safetensors, config.json, tokenizer files   as transformers and vLLM load them
        checkpoint.json          run, step, tokens, FLOPs, sizes, mixture, recipe hash
        progress.json            what the loop resumes with: counters, lines not yet written
        train_state/             torch.distributed.checkpoint: weights, optimizer, averages
        ema/                     if asked for: the moving average of the weights, as a model

A step folder appears whole or not at all. Nothing random happens after initialisation and a batch
is a function of its step, so these are the whole state, for any number of processes.
"""

import json
import os
import re
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.tensor import DTensor

from olmeval.errors import CorruptFileError, UserError
from olmeval.files import atomic_path, fsync, locked, read_json, sha256_json, write_json
from olmeval.trainer.model import Olmo2
from olmeval.trainer.parallel import World
from olmeval.trainer.recipe import Plan

# One process without a process group is meant, where it is.
warnings.filterwarnings("ignore", message="torch.distributed is disabled")

STEP = re.compile(r"step(\d+)")
RUN, METRICS, PROGRESS = "run.json", "metrics.jsonl", "progress.json"
# Not only tokenizer.json: transformers needs the class and special tokens of the others.
TOKENIZER_FILES = "*token*.json"


@contextmanager
def open_run(output: Path, plan: Plan) -> Iterator[None]:
    """Holds ``output`` for this process and this recipe; clears what a killed one left half-done.

    Raises :class:`UserError` if the folder cannot be written, is in use, or holds another run.
    """
    busy = f"another process is training in '{output}'; wait for it or choose another --output"
    with locked(output / ".lock", busy):
        settings = plan.settings()
        if (output / RUN).exists():
            _refuse_other_recipe(output, read_json(output / RUN), settings)
        else:
            if complete_checkpoints(output):
                raise UserError(
                    f"'{output}' holds checkpoints but no {RUN} that says of what recipe; "
                    "choose another --output"
                )
            write_json(output / RUN, settings)
        for leftover in output.glob(".step*.tmp"):
            shutil.rmtree(leftover, ignore_errors=True)
        yield


def _refuse_other_recipe(output: Path, there: dict[str, Any], here: dict[str, Any]) -> None:
    old, new = dict(_flat(there)), dict(_flat(here))
    for key in [*new, *old]:
        if old.get(key) != new.get(key):
            raise UserError(
                f"'{output}' holds a run of another recipe ({key} was {old.get(key)}, now "
                f"{new.get(key)}); choose another --output or restore the recipe"
            )


def _flat(value: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, item in value.items():
        if isinstance(item, dict):
            yield from _flat(item, f"{prefix}{key}.")
        else:
            # Tuples come back from JSON as lists.
            yield f"{prefix}{key}", list(item) if isinstance(item, tuple) else item


def complete_checkpoints(output: Path) -> list[Path]:
    """The complete step folders in ``output``, by step."""
    found = []
    for path in output.glob("step*"):
        match = STEP.fullmatch(path.name)
        if match and (path / "checkpoint.json").is_file():
            found.append((int(match[1]), path))
    return [path for _, path in sorted(found)]


class Saver:
    """Writes the checkpoints of a run, all ranks together; in the background if the recipe says so.

    ``on_saved`` gets the folder of each on rank 0 once it is complete. A context manager: leaving
    it without an error waits for the last one.
    """

    def __init__(
        self, output: Path, plan: Plan, world: World, on_saved: Callable[[Path], None] | None
    ):
        self.output, self.plan, self.world, self.on_saved = output, plan, world, on_saved
        self.pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self.running: tuple[Future[None], Path] | None = None
        self.passing: Path | None = None
        """The last checkpoint, if the next one replaces it."""

    def __enter__(self) -> "Saver":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self.wait()
        finally:
            self.pool.shutdown()

    def save(
        self, model: Olmo2, state: dict[str, Any], step: int, progress: dict[str, Any]
    ) -> None:
        """Saves ``state``, made by :func:`train_state`, as ``step<step>``.

        ``progress`` is what the loop resumes with besides, as JSON; with a true ``passing`` in it,
        the checkpoint is only there to be resumed from, and goes when the next one comes. Raises
        :class:`UserError` if it cannot be written, for one in the background at a later call.
        """
        self.wait()
        path, tmp = self.output / f"step{step}", self.output / f".step{step}.tmp"
        self.world.on_main(lambda: _fresh(tmp))
        later = self.plan.recipe.checkpoint.asynchronous
        models = {"": _whole(model.state_dict(), self.world.main, copy=later)}
        if "ema" in state:
            models["ema"] = _whole(state["ema"], self.world.main, copy=later)
        where = _where(tmp, self.world)
        with _writing(path, tmp):
            if later:
                written = dcp.async_save(state, **where)
            else:
                dcp.save(state, **where)

        def finish() -> None:
            with _writing(path, tmp):
                if later:
                    written.result()
                if self.world.main:  # which has waited for all ranks by now
                    for name, weights in models.items():
                        _export(tmp / name, self.plan, step, weights)
                    write_json(tmp / PROGRESS, progress)
                    _publish(tmp, path)

        if later:
            self.running = (self.pool.submit(finish), path)
        else:
            self.world.on_main(finish)
            self._complete(path)

    def resume(self, path: Path) -> None:
        """Goes on after the checkpoint ``path``, which was written before."""
        self._complete(path)

    def poll(self) -> None:
        """Reports a checkpoint that was finished in the background; waits for nothing."""
        if self.running is not None and self.running[0].done():
            self.wait()

    def wait(self) -> None:
        """Waits until what was begun is written, and reports it."""
        if self.running is not None:
            (future, path), self.running = self.running, None
            future.result()
            self._complete(path)

    def _complete(self, path: Path) -> None:
        if not self.world.main:
            return
        if self.passing is not None and self.passing != path:
            shutil.rmtree(self.passing)
        self.passing = path if is_passing(path) else None
        if self.on_saved and self.passing is None:
            self.on_saved(path)


def is_passing(checkpoint: Path) -> bool:
    """Whether a checkpoint is only there to be resumed from, made when its run was stopped."""
    return bool(read_json(checkpoint / PROGRESS).get("passing"))


def _fresh(folder: Path) -> None:
    with _writing(folder, folder):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()


def _publish(tmp: Path, path: Path) -> None:
    """Makes a folder durable under its name."""
    for file in tmp.rglob("*"):
        fsync(file)
    fsync(tmp)
    if path.exists():
        shutil.rmtree(path)
    os.replace(tmp, path)
    fsync(path.parent)


@contextmanager
def _writing(path: Path, tmp: Path) -> Iterator[None]:
    """Makes errors a :class:`UserError` that names ``path``, and removes what was written."""
    try:
        yield
    except OSError as error:
        shutil.rmtree(tmp, ignore_errors=True)
        raise UserError(f"cannot write '{path}': {error.strerror or error}") from error
    except (SafetensorError, CheckpointException) as error:
        # Both hide the OSError of a full disk.
        shutil.rmtree(tmp, ignore_errors=True)
        reason = str(error).strip().splitlines()[-1]
        raise UserError(f"cannot write '{path}': {reason}") from error


def _whole(state: Mapping[str, Tensor], keep: bool, copy: bool) -> dict[str, Tensor]:
    """Weights in one piece in this process's memory, or nothing; all ranks have to ask.

    ``copy``: not shared with the tensors that are trained on.
    """
    whole = {}
    for name, value in state.items():
        full = value.detach()
        if isinstance(full, DTensor):
            full = full.full_tensor()
        if keep:
            whole[name] = full.to("cpu", copy=copy)
    return whole


def _export(folder: Path, plan: Plan, step: int, weights: dict[str, Tensor]) -> None:
    folder.mkdir(exist_ok=True)
    dtype = plan.recipe.checkpoint.dtype
    manifest = plan.manifest
    export_hf(
        folder,
        weights,
        plan.model.hf_config(eos_id=manifest.eos_id, bos_id=manifest.bos_id, dtype=dtype),
        plan.recipe.data.root / manifest.tokenizer.path,
    )
    tokens = step * plan.batch_tokens
    about = {
        "run": plan.recipe.name,
        "family": plan.recipe.family,
        "step": step,
        "tokens": tokens,
        "flops": plan.flops(tokens),
        "params": plan.model.params,
        "params_total": plan.model.params_total,
        "seed": plan.recipe.seed,
        "mix": plan.mix_name,
        "mixture": plan.mixture.weights(),
        "lr": plan.rate(step - 1),
        "start": plan.start,
        "recipe_hash": sha256_json(plan.settings()),
    }
    write_json(folder / "checkpoint.json", about)


def export_hf(
    folder: Path, weights: Mapping[str, Tensor], config: Mapping[str, Any], tokenizer: Path
) -> None:
    """Writes a model as transformers and vLLM load it: weights, ``config.json`` and tokenizer.

    ``weights`` go out in the ``dtype`` that ``config`` names; ``tokenizer`` is the folder whose
    files are copied.
    """
    dtype = getattr(torch, config["dtype"])
    tensors = {name: value.to(dtype).contiguous() for name, value in weights.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    # safetensors writes for the owner alone; checkpoints are for whoever may read the folder.
    (folder / "model.safetensors").chmod(0o644)
    write_json(folder / "config.json", config)
    for file in tokenizer.glob(TOKENIZER_FILES):
        shutil.copyfile(file, folder / file.name)


def train_state(
    model: Olmo2, optimizers: Sequence[torch.optim.Optimizer], **extras: dict[str, Tensor]
) -> dict[str, Any]:
    """What training goes on with, by parameter name, as resharding needs it."""
    weights, moments = get_state_dict(model, optimizers)
    return {"model": weights, "optimizer": moments, **extras}


def load_checkpoint(
    path: Path,
    model: Olmo2,
    optimizers: Sequence[torch.optim.Optimizer],
    state: dict[str, Any],
    world: World,
) -> tuple[int, dict[str, Any]]:
    """Restores model, optimizer and what else is in ``state`` in place; returns (step, progress).

    However many processes wrote it. Raises :class:`UserError`.
    """
    about, progress = read_json(path / "checkpoint.json"), read_json(path / PROGRESS)
    load_state(path, state, world)
    set_state_dict(
        model,
        optimizers,
        model_state_dict=state["model"],
        optim_state_dict=state["optimizer"],
    )
    return int(about["step"]), progress


def load_state(path: Path, state: dict[str, Any], world: World) -> None:
    """Reads the parts of a checkpoint's training state that ``state`` has, into its tensors."""
    try:
        dcp.load(state, **_where(path, world))
    except (Exception, CheckpointException) as error:  # the latter derives from BaseException
        raise CorruptFileError(
            f"cannot resume from '{path / 'train_state'}' ({type(error).__name__}); "
            "delete the step's folder to resume from the one before"
        ) from error


def _where(checkpoint: Path, world: World) -> dict[str, Any]:
    return {
        "checkpoint_id": checkpoint / "train_state",
        "process_group": world.files,
        "no_dist": world.files is None,
    }


def truncate_lines(path: Path, step: int) -> None:
    """Drops the lines of a JSONL file after ``step``, and any half-written last line."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            break
        if row["step"] <= step:
            kept.append(line + "\n")
    with atomic_path(path) as tmp:
        tmp.write_text("".join(kept), encoding="utf-8")
