"""olmeval: evaluate checkpoints, mix data, predict the big run, with error bars.

The public functions are imported on first use, so that ``import olmeval`` stays cheap.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from olmeval.engine.evaluate import evaluate as evaluate
    from olmeval.errors import UserError as UserError
    from olmeval.results.run import Run as Run

_PUBLIC = {
    "evaluate": "olmeval.engine.evaluate",
    "Run": "olmeval.results.run",
    "UserError": "olmeval.errors",
}
__all__ = ["Run", "UserError", "__version__", "evaluate"]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'olmeval' has no attribute {name!r}")
