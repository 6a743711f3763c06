"""What can be told of a model before it is loaded: identity, size, window."""

from pathlib import Path
from typing import Any

from olmeval.backends.base import LoadOptions, ModelInfo
from olmeval.backends.checkpoints import Checkpoint, fingerprint
from olmeval.errors import UserError, nearest

# OLMES restricts every input to 2,048 tokens; --max-length lifts it.
STANDARD_MAX_LENGTH = 2048


def describe(checkpoint: Checkpoint, options: LoadOptions, settings: dict[str, Any]) -> ModelInfo:
    """Reads configuration and weight files, not the weights. Raises :class:`UserError`.

    Parameters are counted on a model without storage, so tied and untied heads, buffers and shards
    need no special case. ``settings`` are what the backend records of itself.
    """
    identity = fingerprint(checkpoint)
    config = load_model_config(checkpoint)
    params, params_total = count_parameters(config)
    window = getattr(config, "max_position_embeddings", None) or STANDARD_MAX_LENGTH
    return ModelInfo(
        name=checkpoint.name,
        path=checkpoint.source,
        fingerprint=identity,
        params=params,
        params_total=params_total,
        max_length=options.max_length or min(window, STANDARD_MAX_LENGTH),
        settings={**settings, "bos": options.bos},
        metadata=checkpoint.metadata,
    )


def load_model_config(checkpoint: Checkpoint) -> Any:
    """The checkpoint's ``config.json`` as transformers reads it."""
    from transformers import AutoConfig

    try:
        # Left open, transformers asks whoever sits at the terminal, and runs the folder's code.
        return AutoConfig.from_pretrained(checkpoint.source, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if "custom code" in first:
            first = (
                "the model needs code of its own, and no code of a checkpoint is run here; serve "
                "the model, and give the server's URL as --model"
            )
        if not Path(checkpoint.source).is_dir():
            raise UserError(_not_here(checkpoint.source, first)) from None
        raise UserError(
            f"cannot read the configuration of '{checkpoint.source}': {first}"
        ) from None


def _not_here(source: str, reason: str) -> str:
    """A mistyped ``folder/name`` looks like a hub id; the sentence serves both."""
    around = Path(source).parent
    known = [str(around / path.name) for path in around.iterdir()] if around.is_dir() else []
    return (
        f"'{source}' is no folder here, and as a hub id it cannot be read ({reason.rstrip('.')})"
        f"{nearest(source, known)}"
    )


def count_parameters(config: Any) -> tuple[int, int]:
    """Weights with the output head and without the input embedding, and all weights."""
    import torch
    from transformers import AutoModelForCausalLM

    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except (ValueError, KeyError, AttributeError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"transformers has no causal language model for this: {first}") from None
    total = sum(p.numel() for p in model.parameters())
    embedding = model.get_input_embeddings().weight
    head = model.get_output_embeddings()
    tied = head is not None and head.weight is embedding
    return (total if tied else total - embedding.numel()), total
