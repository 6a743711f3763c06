"""Loads backends by name, the trainer's own model among them.

Here, because backends and trainer do not know each other.
"""

from typing import TYPE_CHECKING

from olmeval.backends.base import Backend, LoadOptions, row_tokens
from olmeval.backends.checkpoints import Checkpoint
from olmeval.backends.describe import describe, load_model_config
from olmeval.backends.registry import backend_class
from olmeval.errors import UserError

if TYPE_CHECKING:
    import torch

    from olmeval.backends.native import NativeBackend


def load_backend(name: str, checkpoint: Checkpoint, options: LoadOptions) -> Backend:
    """Loads ``checkpoint`` with the backend ``name``; every failure is a :class:`UserError`."""
    if name == "native":
        return load_native(checkpoint, options)
    backend: Backend = backend_class(name).load(checkpoint, options)
    return backend


def load_native(checkpoint: Checkpoint, options: LoadOptions) -> "NativeBackend":
    """The trainer's model with the weights of a folder in Hugging Face layout.

    Norms stay in float32, whatever the precision of the rest.
    """
    import torch
    from safetensors.torch import load_file

    from olmeval.backends.native import NativeBackend, NativeModel
    from olmeval.backends.tokenization import Tokenizer
    from olmeval.backends.torch_backend import pick_device
    from olmeval.trainer.model import Olmo2, RMSNorm
    from olmeval.trainer.model_config import ModelConfig

    if options.extra:
        raise UserError(f"the native backend knows no argument '{next(iter(options.extra))}'")
    folder = checkpoint.folder
    if folder is None:
        raise UserError(
            f"the native backend loads folders, and '{checkpoint.source}' is none; download it, or "
            "use the transformers backend"
        )
    device = pick_device(options)
    info = describe(checkpoint, options, {"backend": "native", "device": str(device)})
    found = load_model_config(checkpoint)
    config = ModelConfig.from_hf(found.to_dict(), f"{folder}/config.json")
    dtype = _dtype(options.dtype, device, getattr(found, "dtype", None))
    with torch.device("meta"):
        model = Olmo2(config)
    weights = {}
    for file in sorted(folder.glob("*.safetensors")):
        weights.update(load_file(file, device=str(device)))
    try:
        model.load_state_dict(weights, assign=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"the weights in '{folder}' are not those of its config: {reason}"
        ) from None
    model.to(dtype)
    for module in model.modules():
        if isinstance(module, RMSNorm):
            module.float()
    info.settings["dtype"] = str(dtype).removeprefix("torch.")
    tokenizer = Tokenizer.load(
        options.tokenizer or checkpoint.source, options.bos, found.model_type
    )
    ends = found.eos_token_id if isinstance(found.eos_token_id, list) else [found.eos_token_id]
    end_ids = frozenset(i for i in ends if i is not None)
    native = NativeModel(model.eval(), dtype, end_ids)
    return NativeBackend(native, tokenizer, info, row_tokens(options))


def _dtype(name: str, device: "torch.device", own: "torch.dtype | str | None") -> "torch.dtype":
    """The precision called ``name``; auto: float32 on a processor, else the checkpoint's own."""
    import torch

    if name == "auto":
        name = "float32" if device.type == "cpu" or own is None else str(own)
    found = getattr(torch, name.removeprefix("torch."), None)
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise UserError(f"there is no precision '{name}'; take float32, bfloat16 or float16")
    return found
