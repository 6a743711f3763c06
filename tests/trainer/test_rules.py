"""Rules of the ladder against the digits of its table, which were worked out apart from them."""

import pytest

from olmeval.trainer import rules
from olmeval.trainer.presets import preset

# Preset: peak rate, half of it, tokens a step, tokens at 1xC.
TABLE = {
    "14m": (9.3e-3, 4.7e-3, 84e3, 278e6),
    "30m": (7.3e-3, 3.6e-3, 137e3, 582e6),
    "60m": (5.8e-3, 2.9e-3, 215e3, 1.15e9),
    "100m": (4.8e-3, 2.4e-3, 315e3, 2.03e9),
    "190m": (3.9e-3, 1.95e-3, 478e3, 3.81e9),
    "370m": (3.1e-3, 1.56e-3, 746e3, 7.43e9),
    "760m": (2.45e-3, 1.2e-3, 1.20e6, 15.2e9),
    "1b": (2.06e-3, 1.03e-3, 1.70e6, 25.6e9),
    "3b": (1.5e-3, 7.6e-4, 3.1e6, 63e9),
}


@pytest.mark.parametrize("name", TABLE)
def test_table(name: str) -> None:
    n = preset(name).params
    rate, half, batch, tokens = TABLE[name]
    assert rules.learning_rate(n) == pytest.approx(rate, rel=0.02)
    assert rules.learning_rate(n) * rules.LR_SCALE == pytest.approx(half, rel=0.03)
    assert rules.batch_tokens(n) == pytest.approx(batch, rel=0.02)
    assert rules.length("1xC", n) == pytest.approx(tokens, rel=0.01)
    assert rules.length("0.5xC", n) == pytest.approx(tokens / 2, rel=0.01)


def test_the_model_that_the_formulas_are_anchored_at() -> None:
    assert rules.learning_rate(108_000_000) == 0.0047
    assert rules.batch_size(108_000_000, 2048) == 160


@pytest.mark.parametrize(
    ("name", "seq_len", "sequences"),
    # 137,000 tokens are 66.9 sequences of 2,048; 84,000 are 20.5 of 4,096.
    [("30m", 2048, 64), ("14m", 4096, 24), ("14m", 65_536, 8), ("190m", 4096, 120)],
)
def test_batches_are_eights(name: str, seq_len: int, sequences: int) -> None:
    assert rules.batch_size(preset(name).params, seq_len) == sequences


def test_warmup_and_lengths() -> None:
    assert rules.warmup(1000, 100_000) == 1000
    assert rules.warmup(1000, 10_000) == 500
    assert rules.length(12_345, 1000) == 12_345
    assert rules.length("2.5xC", 1000) == 50_000
