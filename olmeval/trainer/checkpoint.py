"""Checkpoints: what any tool can load beside what exact resumption needs.

::

    <output>/run.json            settings of the run; another recipe in this folder is refused
    <output>/metrics.jsonl       one line per logged step
    <output>/eval.jsonl          scores of the tasks that the recipe has evaluated on the way
    <output>/step<N>/
        model.safetensors, config.json, tokenizer files   as transformers and vLLM load them
        checkpoint.json          run, step, tokens, FLOPs, sizes, mixture, recipe hash
        train_state/             torch.distributed.checkpoint: weights, optimizer, counters

A step folder appears whole or not at all. Nothing random happens after initialisation and a batch
is a function of its step, so weights, optimizer and counters are the whole state.
"""

import json
import re
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict

from olmeval.errors import CorruptFileError, UserError
from olmeval.files import atomic_dir, atomic_path, locked, read_json, sha256_json, write_json
from olmeval.trainer.model import Olmo2
from olmeval.trainer.recipe import Plan

STEP = re.compile(r"step(\d+)")
RUN, METRICS = "run.json", "metrics.jsonl"
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


def save_checkpoint(
    output: Path,
    plan: Plan,
    model: Olmo2,
    optimizer: torch.optim.Optimizer,
    step: int,
    counters: dict[str, int],
) -> Path:
    """Writes ``output/step<step>`` and returns it. Raises :class:`UserError` if it cannot."""
    path = output / f"step{step}"
    try:
        with atomic_dir(path) as tmp:
            _write_checkpoint(tmp, plan, model, optimizer, step, counters)
    except (SafetensorError, CheckpointException) as error:
        # Both hide the OSError of a full disk.
        reason = str(error).strip().splitlines()[-1]
        raise UserError(f"cannot write '{path}': {reason}") from error
    return path


def _write_checkpoint(
    tmp: Path,
    plan: Plan,
    model: Olmo2,
    optimizer: torch.optim.Optimizer,
    step: int,
    counters: dict[str, int],
) -> None:
    recipe, tokens = plan.recipe, step * plan.batch_tokens
    weights = {name: value.cpu() for name, value in model.state_dict().items()}
    save_file(weights, tmp / "model.safetensors", metadata={"format": "pt"})
    # safetensors writes for the owner alone; checkpoints are for whoever may read the folder.
    (tmp / "model.safetensors").chmod(0o644)
    manifest = plan.manifest
    config = plan.model.hf_config(eos_id=manifest.eos_id, bos_id=manifest.bos_id)
    write_json(tmp / "config.json", config)
    for file in (recipe.data.root / manifest.tokenizer.path).glob(TOKENIZER_FILES):
        shutil.copyfile(file, tmp / file.name)
    state = _state(model, optimizer)
    with _single_process():
        dcp.save({**state, "counters": counters}, checkpoint_id=tmp / "train_state")
    about = {
        "run": recipe.name,
        "family": recipe.family,
        "step": step,
        "tokens": tokens,
        "flops": plan.flops(tokens),
        "params": plan.model.params,
        "params_total": plan.model.params_total,
        "seed": recipe.seed,
        "mix": plan.mix_name,
        "mixture": plan.mixture.weights(),
        "recipe_hash": sha256_json(plan.settings()),
    }
    write_json(tmp / "checkpoint.json", about)


def load_checkpoint(
    path: Path, model: Olmo2, optimizer: torch.optim.Optimizer
) -> tuple[int, dict[str, int]]:
    """Restores model and optimizer in place; returns (step, counters). Raises UserError."""
    about = read_json(path / "checkpoint.json")
    state = _state(model, optimizer)
    counters = {"skipped": 0}
    loaded = {**state, "counters": counters}
    try:
        with _single_process():
            dcp.load(loaded, checkpoint_id=path / "train_state")
    except (Exception, CheckpointException) as error:  # the latter derives from BaseException
        raise CorruptFileError(
            f"cannot resume from '{path / 'train_state'}' ({type(error).__name__}); "
            "delete the step's folder to resume from the one before"
        ) from error
    set_state_dict(
        model,
        optimizer,
        model_state_dict=loaded["model"],
        optim_state_dict=loaded["optimizer"],
    )
    return int(about["step"]), loaded["counters"]


def _state(model: Olmo2, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Model and optimizer state keyed by parameter name, as resharding will need it."""
    model_state, optimizer_state = get_state_dict(model, optimizer)
    return {"model": model_state, "optimizer": optimizer_state}


@contextmanager
def _single_process() -> Iterator[None]:
    """Silences the warning that there is no process group: one process is meant."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        yield


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
