"""The backends by name, imported when they are loaded."""

from importlib import import_module
from typing import Any

from olmeval.errors import UserError, nearest

BACKENDS = {
    "transformers": "olmeval.backends.hf:TransformersBackend",
    # Loaded by olmeval.engine.load, which may know the trainer.
    "native": "olmeval.backends.native:NativeBackend",
    "vllm": "olmeval.backends.vllm:VllmBackend",
    "server": "olmeval.backends.server:ServerBackend",
}


def backend_class(name: str) -> Any:
    """The class of the backend ``name``; :class:`UserError` when there is none."""
    if name not in BACKENDS:
        raise UserError(
            f"unknown backend '{name}'{nearest(name, BACKENDS)}; known: {', '.join(BACKENDS)}"
        )
    module, attribute = BACKENDS[name].split(":")
    return getattr(import_module(module), attribute)
