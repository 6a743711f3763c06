"""What planning has to know of a model, found without loading its weights."""

from dataclasses import dataclass
from pathlib import Path

from olmeval.backends.base import ModelInfo, row_tokens
from olmeval.backends.describe import describe, load_model_config
from olmeval.backends.registry import backend_class
from olmeval.backends.tokenization import Bos, Tokenizer
from olmeval.engine.shards import Model, loaded
from olmeval.files import sha256_file

TOKENIZER_FILES = (
    "tokenizer*.json", "tokenizer.model", "vocab.*", "merges.txt", "special_tokens_map.json",
    "added_tokens.json",
)  # fmt: skip


@dataclass(frozen=True)
class Opened:
    """A model's identity, its tokenizer, and how its plan is cut."""

    info: ModelInfo
    tokenizer: Tokenizer
    row_tokens: int
    samples_at_once: int


def open_model(model: Model) -> Opened:
    """Reads configuration, tokenizer and fingerprint; raises :class:`UserError`.

    A server has no weights to read, so it is asked.
    """
    if model.backend == "server":
        backend = loaded(model)
        return Opened(
            backend.info, backend.tokenizer, backend.max_row_tokens, backend.samples_at_once
        )
    checkpoint, options = model.checkpoint, model.options
    config = load_model_config(checkpoint)
    kind = backend_class(model.backend)
    return Opened(
        describe(checkpoint, options, {"backend": model.backend}),
        _tokenizer(options.tokenizer or checkpoint.source, options.bos, config.model_type),
        row_tokens(options),
        kind.samples_at_once,
    )


_last: tuple[object, Tokenizer] | None = None


def _tokenizer(path: str, bos: Bos, model_type: str) -> Tokenizer:
    """Loads a tokenizer, or gives the last one again when its files are the same.

    A hundred checkpoints mostly bring a hundred copies of one tokenizer.
    """
    global _last
    files = sorted(p for name in TOKENIZER_FILES for p in Path(path).glob(name))
    key = ([(f.name, sha256_file(f)) for f in files] or path, bos, model_type)
    if _last is None or _last[0] != key:
        _last = key, Tokenizer.load(path, bos, model_type)
    return _last[1]
