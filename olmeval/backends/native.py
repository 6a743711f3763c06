"""The trainer's own model as a torch model: a live one in the middle of training, or a loaded one.

The trainer is not imported: any module will do that embeds, attends through a function that it is
given, and has a head (``LanguageModel`` below). What loads a checkpoint into one is
:mod:`olmeval.engine.load`.
"""

from collections.abc import Callable
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from olmeval.backends.torch_backend import TorchBackend
from olmeval.backends.torch_cache import KeyValues

# Queries [B, T, H, E], keys and values [B, T, K, E] and the layer's number to outputs [B, T, H, E].
Attend = Callable[[Tensor, Tensor, Tensor, int], Tensor]


class Decoder(Protocol):
    """Tokens [B, T] at ``positions`` [B, T] to hidden states [B, T, D]."""

    def __call__(
        self, tokens: Tensor, positions: Tensor | None = None, attend: Attend | None = None
    ) -> Tensor: ...


class Config(Protocol):
    """``windows``: how many tokens each layer sees, itself included; None: all."""

    @property
    def windows(self) -> tuple[int | None, ...]: ...


class LanguageModel(Protocol):
    """A decoder and its head."""

    config: Config
    model: Decoder
    lm_head: nn.Linear


class NativeBackend(TorchBackend):
    """A model of ours, given as an object; see :class:`NativeModel`."""


class NativeModel:
    """See :class:`olmeval.backends.torch_model.TorchModel`.

    ``products``: the precision of matrix products, as the trainer's autocast has it; parameters
    and norms stay as they are.
    """

    def __init__(
        self,
        module: LanguageModel,
        products: torch.dtype = torch.float32,
        end_ids: frozenset[int] = frozenset(),
    ):
        self.module = module
        weight = module.lm_head.weight
        self.device: torch.device = weight.device
        self.dtype = products
        self.vocab_size: int = weight.shape[0]
        self.end_ids = end_ids
        self.autocast = products != weight.dtype
        self.windows = module.config.windows
        self.window: int | None = min((w for w in self.windows if w is not None), default=None)

    def new_path(self) -> "NativePath":
        """See :class:`~olmeval.backends.torch_model.TorchModel`."""
        return NativePath()

    def extend(
        self, path: "NativePath", tokens: Tensor, depth: Tensor, seen: Tensor | None, keep: Tensor
    ) -> Tensor:
        """See :class:`~olmeval.backends.torch_model.TorchModel`."""
        length, cached = len(tokens), path.length
        above = torch.cat([torch.arange(cached, device=self.device), depth])
        sees = None
        if seen is not None or cached or (self.window or length) < length:
            sees = torch.ones(length, cached + length, dtype=torch.bool, device=self.device)
            sees[:, cached:] = sees.tril(cached)[:, cached:] if seen is None else seen
        attend = path.attend(sees, depth[:, None] - above, self.windows)
        return self._logits(tokens[None], depth[None], attend, keep)[0]

    def plain(self, tokens: Tensor, valid: Tensor, keep: Tensor) -> Tensor:
        """See :class:`~olmeval.backends.torch_model.TorchModel`."""
        # Nothing looks to the right, where the padding is.
        positions = (valid.cumsum(1) - 1).clamp(min=0)
        return self._logits(tokens, positions, None, keep)

    def decode(
        self, tokens: Tensor, valid: Tensor, cache: "NativePath | None"
    ) -> tuple[Tensor, "NativePath"]:
        """See :class:`~olmeval.backends.torch_model.TorchModel`."""
        cache = cache or NativePath()
        length, cached = tokens.shape[1], cache.length
        at = torch.arange(cached + length, device=self.device)
        distance = at[cached:, None] - at
        sees = (distance >= 0) & valid.bool()[:, None]
        positions = (valid.cumsum(1) - 1).clamp(min=0)[:, -length:]
        keep = torch.tensor([length - 1], device=self.device)
        attend = cache.attend(sees, distance, self.windows)
        return self._logits(tokens, positions, attend, keep)[:, 0], cache

    def select(self, cache: "NativePath", rows: Tensor) -> "NativePath":
        """See :class:`~olmeval.backends.torch_model.TorchModel`."""
        for layer in cache.layers:
            layer.select(rows)
        return cache

    def _logits(
        self, tokens: Tensor, positions: Tensor, attend: Attend | None, keep: Tensor
    ) -> Tensor:
        """Logits [B, N, V] at positions ``keep`` [N]."""
        with torch.autocast(self.device.type, self.dtype, enabled=self.autocast):
            hidden = self.module.model(tokens, positions, attend)
            logits: Tensor = self.module.lm_head(hidden[:, keep])
        return logits


class NativePath:
    """See :class:`olmeval.backends.torch_model.Path`."""

    def __init__(self) -> None:
        self.layers: list[KeyValues] = []

    @property
    def length(self) -> int:
        """Tokens held."""
        return self.layers[0].length if self.layers else 0

    def crop(self, length: int) -> None:
        """See :class:`olmeval.backends.torch_model.Path`."""
        for layer in self.layers:
            layer.crop(length)

    def attend(
        self, sees: Tensor | None, distance: Tensor, windows: tuple[int | None, ...]
    ) -> Attend:
        """Attention of T new tokens to the C held ones and to each other.

        ``sees`` [T, C + T] or [B, T, C + T] bool (None: a chain, nothing held, no window near);
        ``distance`` [T, C + T]: how far a token lies before another; ``windows`` of the layers.
        """
        masks: dict[int | None, Tensor] = {}

        def mask(window: int | None, dtype: torch.dtype) -> Tensor | None:
            if sees is None:
                return None
            if window not in masks:
                near = sees if window is None else sees & (distance < window)
                # A token of padding sees nothing: the lowest number keeps it from becoming nan.
                made = torch.zeros(near.shape, dtype=dtype, device=near.device)
                made.masked_fill_(~near, torch.finfo(dtype).min)
                masks[window] = made if made.dim() == 2 else made[:, None]
            return masks[window]

        def attend(q: Tensor, k: Tensor, v: Tensor, layer: int) -> Tensor:
            if layer == len(self.layers):
                self.layers.append(KeyValues())
            keys, values = self.layers[layer].append(k.transpose(1, 2), v.transpose(1, 2))
            seen = mask(windows[layer], q.dtype)
            groups = q.shape[2] // k.shape[2]
            if groups > 1 and seen is not None:
                # CUDA's fast kernels take a mask or grouped heads, not both.
                keys = keys.repeat_interleave(groups, 1)
                values = values.repeat_interleave(groups, 1)
            y = F.scaled_dot_product_attention(
                q.transpose(1, 2), keys, values, attn_mask=seen, is_causal=seen is None,
                enable_gqa=keys.shape[1] != q.shape[2],
            )  # fmt: skip
            return y.transpose(1, 2)

        return attend
