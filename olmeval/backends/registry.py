"""The backends by name, imported when they are loaded."""

from importlib import import_module

from olmeval.backends.base import Backend, LoadOptions
from olmeval.backends.checkpoints import Checkpoint
from olmeval.errors import UserError, nearest

BACKENDS = {
    "transformers": "olmeval.backends.hf:TransformersBackend",
}


def load_backend(name: str, checkpoint: Checkpoint, options: LoadOptions) -> Backend:
    """Loads ``checkpoint`` with the backend ``name``; every failure is a :class:`UserError`."""
    if name not in BACKENDS:
        raise UserError(f"unknown backend '{name}'{nearest(name, BACKENDS)}")
    module, attribute = BACKENDS[name].split(":")
    backend: Backend = getattr(import_module(module), attribute).load(checkpoint, options)
    return backend
