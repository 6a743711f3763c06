"""Model sizes by name: the OLMo-2 and OLMo-3 ladders and tiny ones for a CPU.

Ladder sizes are those of OLMo-ladder (Bhagia et al. 2024, arXiv:2412.04403) and OLMo-core; the
vocabulary is dolma2's, padded to a multiple of 128. A recipe's vocabulary follows its data.
"""

from olmeval.errors import UserError, nearest
from olmeval.trainer.model_config import ModelConfig

LADDER_VOCAB = 100_352
OLMO3_WINDOW = 4096

# name: (hidden size, feed-forward size, layers, query heads, key-value heads)
LADDER = {
    "14m": (128, 512, 4, 8, 8),
    "30m": (256, 768, 4, 8, 8),
    "60m": (384, 1536, 8, 8, 8),
    "100m": (512, 2048, 12, 8, 8),
    "190m": (768, 3072, 12, 12, 12),
    "370m": (1024, 4096, 16, 16, 16),
    "600m": (1344, 5376, 16, 16, 16),
    "760m": (1536, 6144, 16, 16, 16),
    "1b": (2048, 8192, 16, 16, 16),
    "3b": (3328, 13312, 16, 16, 16),
    "7b": (4096, 11008, 32, 32, 32),
    "13b": (5120, 13824, 40, 40, 40),
    "32b": (5120, 27648, 64, 40, 8),
}
# Where OLMo-3's sizes differ: heads of 84 channels fit no attention kernel.
OLMO3_SIZES = {"600m": (1280, 5120, 16, 16, 16)}
# name: (hidden size, feed-forward size, layers, heads, vocabulary that the name counts)
# Wide heads: on a CPU, attention over many narrow ones costs more than it gives.
CPU = {
    "cpu-0.7m": (64, 192, 4, 2, 4096),
    "cpu-3m": (128, 384, 4, 2, 8192),
    "cpu-7m": (256, 704, 4, 4, 8192),
}
NAMES = (*CPU, *LADDER, *(f"olmo3-{size}" for size in LADDER))


def preset(name: str) -> ModelConfig:
    """The sizes called ``name``: a size alone is an OLMo-2, ``olmo3-<size>`` an OLMo-3.

    :class:`UserError` with the nearest names if there are none.
    """
    if name not in NAMES:
        hint = nearest(name, NAMES) or f"; known are {', '.join(NAMES)}"
        raise UserError(f"model.preset: there is no '{name}'{hint}")
    if name in CPU:
        d, ffn, layers, heads, vocab = CPU[name]
        return ModelConfig(vocab, d, ffn, layers, heads, heads, max_position_embeddings=1024)
    size = name.removeprefix("olmo3-")
    olmo3 = size != name
    d, ffn, layers, heads, kv_heads = (OLMO3_SIZES if olmo3 else {}).get(size, LADDER[size])
    return ModelConfig(
        vocab_size=LADDER_VOCAB,
        hidden_size=d,
        intermediate_size=ffn,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=8192 if olmo3 else 4096,
        sliding_window=OLMO3_WINDOW if olmo3 else None,
    )
