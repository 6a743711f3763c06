"""``--model hf --model_args pretrained=DIR,…`` of lm-evaluation-harness, as options of ours."""

from collections.abc import Mapping, Sequence
from typing import Any

from olmeval.errors import UserError, nearest

BACKENDS = {
    "hf": "transformers",
    "hf-auto": "transformers",
    "huggingface": "transformers",
    "vllm": "vllm",
    "local-completions": "server",
}
# Keys there, and what they set here; of "add_bos_token" the value is translated, too.
KEYS = {
    "dtype": "dtype",
    "tokenizer": "tokenizer",
    "device": "device",
    "max_length": "max_length",
    "max_model_len": "max_length",
    "add_bos_token": "bos",
}


def translated(models: Sequence[str], args: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The model and the settings that ``--model`` and ``--model-args`` mean there.

    What is left over goes to vLLM and to servers as backend arguments. Raises :class:`UserError`
    for a model type or key that has no counterpart here.
    """
    kind = models[0] if len(models) == 1 else ", ".join(models)
    if kind not in BACKENDS:
        raise UserError(
            f"--model-args go with --model {', '.join(BACKENDS)}, not with '{kind}'; without them, "
            "--model is the checkpoint itself"
        )
    rest = dict(args)
    model = rest.pop("pretrained", None) or rest.pop("base_url", None)
    if model is None:
        named = "base_url=URL" if kind == "local-completions" else "pretrained=DIR_OR_ID"
        raise UserError(f"--model-args of '{kind}' need {named}")
    settings: dict[str, Any] = {"backend": BACKENDS[kind]}
    for key in [key for key in rest if key in KEYS]:
        value = rest.pop(key)
        settings[KEYS[key]] = ("always" if value else "never") if key == "add_bos_token" else value
    if rest and BACKENDS[kind] == "transformers":
        key = next(iter(rest))
        known = ["pretrained", *KEYS]
        raise UserError(f"--model-args {key}: no option here is like it{nearest(key, known)}")
    # A server is named by its base, not by the address of one of its services.
    model = str(model).removesuffix("/").removesuffix("/completions")
    return model, {**settings, "backend_args": rest}
