"""What the torch part asks of a model, whoever wrote the model."""

from typing import Any, Protocol

import torch
from torch import Tensor

# How closely two ways of computing a log-probability must agree, in nats: at most in float32, on
# average in lower precisions, which round a single logit by as much.
EXACT, ROUNDED = 1e-3, 0.1


class Path(Protocol):
    """A model's cached keys and values along one way down the prefix tree."""

    def crop(self, length: int) -> None:
        """Forgets what comes after the first ``length`` tokens."""
        ...


class TorchModel(Protocol):
    """A causal language model that computes logits where they are needed.

    Shapes: L new tokens below a path of C cached ones, B sequences of T tokens, N positions whose
    logits are needed, V vocabulary. Whatever a model cannot do it refuses with an exception.
    """

    device: torch.device
    dtype: torch.dtype
    """Of its products: how closely two ways of computing one thing agree."""
    vocab_size: int
    window: int | None
    """How far back its nearest-sighted layer sees; None: all the way."""
    end_ids: frozenset[int]
    """Tokens that end a generation."""

    def new_path(self) -> Path:
        """An empty path."""
        ...

    def extend(
        self, path: Any, tokens: Tensor, depth: Tensor, seen: Tensor | None, keep: Tensor
    ) -> Tensor:
        """Logits [N, V] of the new tokens ``keep`` [N]; keys and values of all join the ``path``.

        ``tokens``, ``depth`` [L]: ids, and how many tokens are above each in the tree; ``seen``
        [L, L] bool: which new tokens each attends to (None: a chain), besides the whole path.
        """
        ...

    def plain(self, tokens: Tensor, valid: Tensor, keep: Tensor) -> Tensor:
        """Logits [B, N, V] at positions ``keep`` [N] of sequences that are padded on the right.

        ``tokens`` [B, T] int64, ``valid`` [B, T] 1 where a token is no padding.
        """
        ...

    def decode(self, tokens: Tensor, valid: Tensor, cache: Any) -> tuple[Tensor, Any]:
        """Logits [B, V] of the last of the new ``tokens`` [B, T], and the cache with them.

        ``valid`` [B, C + T] covers cached and new tokens; padding is on the left. ``cache`` is
        None at first.
        """
        ...

    def select(self, cache: Any, rows: Tensor) -> Any:
        """The cache of the sequences ``rows`` [B'] of a cache of :meth:`decode`, which is spent."""
        ...
