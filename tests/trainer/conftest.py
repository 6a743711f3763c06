"""A small corpus of random tokens that the trainer's tests share."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from tokenizers import Tokenizer, models, pre_tokenizers

from olmeval.config import parse_config
from olmeval.executors.inprocess import InProcess
from olmeval.files import sha256_file
from olmeval.trainer import build
from olmeval.trainer.recipe import Recipe
from olmeval.trainer.shard_writer import write_domain
from olmeval.trainer.shards import Manifest, TokenizerInfo, write_manifest
from tests.trainer.data_builds import save_tokenizer

# A busy machine is no failure.
settings.register_profile("no-deadline", deadline=None)
settings.load_profile("no-deadline")

VOCAB = 300
RECIPE = """
name: tiny
model: {hidden_size: 32, intermediate_size: 64, num_hidden_layers: 2, num_attention_heads: 2}
data: {root: nowhere, max_epochs: 20}
train: {tokens: 3072, seq_len: 16, batch_size: 8, device: cpu}
optimizer: {lr: 5e-3}
checkpoint: {every: 8}
log_every: 3
"""


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three domains over different parts of a vocabulary of 300, in several shards each."""
    root = tmp_path_factory.mktemp("corpus")
    vocabulary = {f"w{i}": i for i in range(VOCAB)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="w1"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    (root / "tokenizer").mkdir()
    tokenizer.save(str(root / "tokenizer/tokenizer.json"))
    rng = np.random.default_rng(0)
    domains = {}
    for name, low, high in (("low", 1, 50), ("mid", 50, 150), ("high", 150, VOCAB)):
        documents = [rng.integers(low, high, size=rng.integers(20, 200)) for _ in range(60)]
        domains[name] = write_domain(
            root, name, documents, vocab_size=VOCAB, eos_id=0, shard_tokens=2000
        )
    info = TokenizerInfo(
        id="words", sha256=sha256_file(root / "tokenizer/tokenizer.json"), path="tokenizer"
    )
    manifest = Manifest(tokenizer=info, vocab_size=VOCAB, eos_id=0, domains=domains)
    write_manifest(root, manifest)
    return root


@pytest.fixture
def make_recipe(corpus: Path) -> Any:
    """A function from dotted overrides to a recipe of 24 steps on the corpus."""

    def make(overrides: dict[str, Any] | None = None) -> Recipe:
        return parse_config(
            RECIPE, Recipe, "tiny.yaml", {"data.root": str(corpus), **(overrides or {})}
        )

    return make


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    """A file of a tokenizer whose ids are plain to see."""
    return save_tokenizer(tmp_path / "words.json")


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Does the pieces in this process, which is faster to start than another."""
    monkeypatch.setattr(build, "make_executor", lambda *_, **__: InProcess())
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
