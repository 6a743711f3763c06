"""What a worker does: loads a checkpoint, answers a part of the questions, stores the answers."""

from dataclasses import dataclass
from pathlib import Path

from olmeval.backends.base import Backend, LoadOptions, ModelInfo
from olmeval.backends.checkpoints import Checkpoint
from olmeval.engine.infer import Report, about, answer, ignore, model_key
from olmeval.engine.load import load_backend
from olmeval.engine.prepare import Part
from olmeval.results.segments import ResponseStore


@dataclass(frozen=True)
class Model:
    """A checkpoint and how it is loaded."""

    checkpoint: Checkpoint
    backend: str
    options: LoadOptions


@dataclass(frozen=True)
class Shard:
    """A part of one model's questions, and where the answers go."""

    model: Model
    part: Part
    store: Path


# The model that this process loaded last: the next shard mostly wants the same one.
_loaded: tuple[Model, Backend] | None = None


def loaded(model: Model) -> Backend:
    """``model``'s backend; the one loaded before it is closed."""
    global _loaded
    if _loaded is None or _loaded[0] != model:
        release()
        _loaded = model, load_backend(model.backend, model.checkpoint, model.options)
    return _loaded[1]


def release() -> None:
    """Closes the backend that is loaded, if any."""
    global _loaded
    if _loaded is not None:
        backend, _loaded = _loaded[1], None
        backend.close()


def run_shard(shard: Shard, report: Report = ignore) -> ModelInfo:
    """Answers a shard's questions into the store; returns what the model turned out to be."""
    backend = loaded(shard.model)
    with ResponseStore(shard.store).model(model_key(backend.info), about(backend.info)) as store:
        answer(backend, shard.part, store, report)
    return backend.info
