"""Any Hugging Face causal language model as a torch model, and the backend that loads it."""

import inspect
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer
from transformers.utils import logging

from olmeval.backends.base import LoadOptions, row_tokens
from olmeval.backends.checkpoints import Checkpoint
from olmeval.backends.describe import describe
from olmeval.backends.tokenization import Tokenizer
from olmeval.backends.torch_backend import TorchBackend, pick_device
from olmeval.backends.torch_cache import KeyValues
from olmeval.errors import UserError


class TransformersBackend(TorchBackend):
    """A causal language model from a folder or the hub."""

    @classmethod
    def load(cls, checkpoint: Checkpoint, options: LoadOptions) -> "TransformersBackend":
        """Loads weights and tokenizer; every failure is a sentence that names the path."""
        if options.extra:
            raise UserError(
                f"the transformers backend knows no argument '{next(iter(options.extra))}'"
            )
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        device = pick_device(options)
        dtype = "float32" if options.dtype == "auto" and device.type == "cpu" else options.dtype
        if dtype != "auto" and not isinstance(getattr(torch, dtype, None), torch.dtype):
            raise UserError(
                f"--dtype {dtype} does not exist; use float32, bfloat16, float16 or auto"
            )
        info = describe(checkpoint, options, {"backend": "transformers", "device": str(device)})
        try:
            module = AutoModelForCausalLM.from_pretrained(
                checkpoint.source, dtype=dtype, trust_remote_code=False
            )
            module = module.to(device)
        except Exception as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise UserError(f"cannot load the model '{checkpoint.source}': {lines[0]}") from error
        info.settings["dtype"] = str(module.dtype).removeprefix("torch.")
        tokenizer = Tokenizer.load(
            options.tokenizer or checkpoint.source, options.bos, module.config.model_type
        )
        return cls(TransformersModel(module), tokenizer, info, row_tokens(options))


class TransformersModel:
    """See :class:`olmeval.backends.torch_model.TorchModel`."""

    def __init__(self, module: Any):
        self.module = module.eval()
        config = module.config.get_text_config()
        self.device: torch.device = next(module.parameters()).device
        self.dtype: torch.dtype = module.dtype
        self.vocab_size: int = config.vocab_size
        # GPT-Neo calls its window window_size.
        window = getattr(config, "sliding_window", None)
        self.window: int | None = window or getattr(config, "window_size", None)
        self.end_ids = _end_ids(module)
        self.layer_types = set(getattr(config, "layer_types", None) or [])
        takes = inspect.signature(module.forward).parameters
        self.keeps = "logits_to_keep" in takes
        self.caches = "past_key_values" in takes
        self.places = "position_ids" in takes

    def new_path(self) -> "TransformersPath":
        """See :class:`~olmeval.backends.torch_model.TorchModel`."""
        return TransformersPath()

    def extend(
        self,
        path: "TransformersPath",
        tokens: Tensor,
        depth: Tensor,
        seen: Tensor | None,
        keep: Tensor,
    ) -> Tensor:
        """See :class:`~olmeval.backends.torch_model.TorchModel`."""
        output = self._forward(
            keep,
            input_ids=tokens[None],
            position_ids=depth[None],
            attention_mask=self._mask(path.cache.get_seq_length(), depth, seen),
            past_key_values=path.cache,
            use_cache=True,
        )
        return output[0]

    def plain(self, tokens: Tensor, valid: Tensor, keep: Tensor) -> Tensor:
        """See :class:`~olmeval.backends.torch_model.TorchModel`."""
        return self._forward(keep, input_ids=tokens, attention_mask=valid, use_cache=False)

    def decode(self, tokens: Tensor, valid: Tensor, cache: Any) -> tuple[Tensor, Any]:
        """See :class:`~olmeval.backends.torch_model.TorchModel`."""
        if not self.caches:
            # The tokens are the cache: all of them are computed again.
            tokens = tokens if cache is None else torch.cat([cache, tokens], dim=1)
            return self._last(tokens, attention_mask=valid), tokens
        if cache is None:
            # Layers that are no plain attention (windows, recurrences) keep their own kind.
            cache = DynamicCache(config=self.module.config)
            cache.layers = [
                InPlaceLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers
            ]
        places = {}
        if self.places:
            places["position_ids"] = (valid.cumsum(1) - 1).clamp(min=0)[:, -tokens.shape[1] :]
        logits = self._last(
            tokens, attention_mask=valid, past_key_values=cache, use_cache=True, **places
        )
        return logits, cache

    def select(self, cache: Any, rows: Tensor) -> Any:
        """See :class:`~olmeval.backends.torch_model.TorchModel`."""
        if not self.caches:
            return cache[rows]
        cache.batch_select_indices(rows)
        return cache

    def _last(self, tokens: Tensor, **inputs: Any) -> Tensor:
        """Logits [B, V] of the last tokens."""
        last = torch.tensor([tokens.shape[1] - 1], device=self.device)
        return self._forward(last, input_ids=tokens, **inputs)[:, 0]

    def _forward(self, keep: Tensor, **inputs: Any) -> Tensor:
        """Logits [B, N, V] at positions ``keep`` [N]."""
        if self.keeps:
            inputs["logits_to_keep"] = keep
        logits: Tensor = self.module(**inputs).logits
        return logits if self.keeps else logits[:, keep]

    def _mask(
        self, cached: int, depth: Tensor, seen: Tensor | None
    ) -> Tensor | dict[str, Tensor] | None:
        """The tree as the model's attention layers want it; None for a plain chain."""
        if other := self.layer_types - {"full_attention", "sliding_attention"}:
            raise NotImplementedError(f"layers of type {', '.join(sorted(other))}")
        if seen is None and not self.window:
            return None
        length = len(depth)
        full = torch.ones(length, cached + length, dtype=torch.bool, device=self.device)
        full[:, cached:] = full.tril(cached)[:, cached:] if seen is None else seen
        if not self.window:
            return self._additive(full)
        above = torch.cat([torch.arange(cached, device=self.device), depth])
        near = self._additive(full & (depth[:, None] - above < self.window))
        if not self.layer_types:
            return near
        return {"full_attention": self._additive(full), "sliding_attention": near}

    def _additive(self, seen: Tensor) -> Tensor:
        mask = torch.zeros(seen.shape, dtype=self.dtype, device=self.device)
        return mask.masked_fill_(~seen, torch.finfo(self.dtype).min)[None, None]


class TransformersPath:
    """See :class:`olmeval.backends.torch_model.Path`."""

    def __init__(self) -> None:
        self.cache = Cache(layer_class_to_replicate=InPlaceLayer)

    def crop(self, length: int) -> None:
        """See :class:`olmeval.backends.torch_model.Path`."""
        for layer in self.cache.layers:
            layer.stored.crop(length)


class InPlaceLayer(DynamicLayer):  # type: ignore[misc]
    """A layer's cache as transformers' models use it, written in place."""

    def __init__(self) -> None:
        super().__init__()
        self.stored = KeyValues()

    def update(
        self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """Adds keys and values [B, K, T, E]; returns all there are."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        # Models whose layers share keys and values read these.
        self.keys, self.values = self.stored.append(key_states, value_states)
        return self.keys, self.values

    def get_seq_length(self) -> int:
        """Tokens held."""
        return self.stored.length

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keeps the sequences ``indices`` only."""
        self.stored.select(indices)


def _end_ids(module: Any) -> frozenset[int]:
    ids = module.generation_config.eos_token_id if module.generation_config else None
    return frozenset(i for i in (ids if isinstance(ids, list) else [ids]) if i is not None)
