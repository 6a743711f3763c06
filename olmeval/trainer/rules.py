"""Rules of the model ladder: batch, learning rate, warm-up and length from a model's size.

Porian et al. 2024 (arXiv:2406.19146) tuned all of them at every size and fitted what they found;
OLMo's ladders (Bhagia et al. 2024, arXiv:2412.04403) stand on the same formulas. N is the number of
weights without the input embedding, as :attr:`ModelConfig.params` counts.
"""

BASE = 108e6  # parameters of the model that the formulas are anchored at
TOKENS_PER_PARAMETER = 20  # Hoffmann et al. 2022, arXiv:2203.15556
LR_SCALE = 0.5  # as OLMo-core's ladder sets the peak for schedules that end in a decay to zero
EIGHT = 8  # a batch that so many processes, or fewer, can share


def learning_rate(params: int) -> float:
    """Peak rate of AdamW: ``0.0047 (N / 108e6)^(-1/3)``."""
    rate: float = 0.0047 * (params / BASE) ** (-1 / 3)
    return rate


def batch_tokens(params: int) -> float:
    """Tokens a step: 160 sequences of 2,048 times ``(N / 108e6)^(2/3)``."""
    tokens: float = 160 * 2048 * (params / BASE) ** (2 / 3)
    return tokens


def batch_size(params: int, seq_len: int) -> int:
    """The sequences that come nearest to :func:`batch_tokens`, in eights; at least eight."""
    return EIGHT * max(1, round(batch_tokens(params) / seq_len / EIGHT))


def length(tokens: int | str, params: int) -> int:
    """Tokens of ``"5xC"``, five times 20 tokens a parameter; a number is itself."""
    if isinstance(tokens, int):
        return tokens
    return round(float(tokens.removesuffix("xC")) * TOKENS_PER_PARAMETER * params)


def warmup(params: int, tokens: int) -> int:
    """Tokens of warm-up: one a parameter, at most 5 % of the run."""
    return min(params, tokens // 20)
