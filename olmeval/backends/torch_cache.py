"""Keys and values of the tokens that a model has seen, in buffers that are written in place.

A plan's steps lengthen and shorten one path thousands of times. Concatenating the whole path with
the new keys at each of them, as a cache that grows by ``torch.cat`` does, copies it every time.
"""

import torch
from torch import Tensor

# Buffers begin with room for this many tokens and double from there.
FIRST_ROOM = 256


class KeyValues:
    """One layer's keys and values [B, K, length, E] for B sequences and K key-value heads."""

    def __init__(self) -> None:
        self.length = 0
        self._keys: Tensor | None = None
        self._values: Tensor | None = None

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Adds [B, K, T, E]; returns views of all there is [B, K, length + T, E]."""
        end = self.length + keys.shape[2]
        self._keys = self._put(self._keys, keys, end)
        self._values = self._put(self._values, values, end)
        self.length = end
        return self._keys[:, :, :end], self._values[:, :, :end]

    def _put(self, buffer: Tensor | None, new: Tensor, end: int) -> Tensor:
        if buffer is None or buffer.shape[2] < end:
            room = FIRST_ROOM if buffer is None else 2 * buffer.shape[2]
            grown = new.new_empty(*new.shape[:2], max(room, end), new.shape[3])
            if buffer is not None:
                grown[:, :, : self.length] = buffer[:, :, : self.length]
            buffer = grown
        buffer[:, :, self.length : end] = new
        return buffer

    def crop(self, length: int) -> None:
        """Forgets what comes after the first ``length`` tokens."""
        self.length = min(self.length, length)

    def select(self, rows: Tensor) -> None:
        """Keeps the sequences ``rows`` [B'] only."""
        if self._keys is not None and self._values is not None:
            self._keys = torch.index_select(self._keys[:, :, : self.length], 0, rows)
            self._values = torch.index_select(self._values[:, :, : self.length], 0, rows)
