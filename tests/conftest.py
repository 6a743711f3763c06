"""Shared fixtures: a tiny checkpoint with a real tokenizer, and the pulled data."""

import os
import pydoc_data.topics
import signal
import tempfile
from pathlib import Path

# Before torch is imported: two test workers share two cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# No test reads or writes the user's own store of answers.
os.environ["OLMEVAL_STORE"] = tempfile.mkdtemp(prefix="olmeval-store-")

import pytest

# A shell may start jobs with SIGINT ignored, and every child would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def empty_store(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of answers of each test's own."""
    folder = tmp_path_factory.mktemp("store")
    monkeypatch.setenv("OLMEVAL_STORE", str(folder))
    return folder


@pytest.fixture(scope="session")
def tokenizer_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte-level BPE tokenizer of 600 ids, trained on Python's own documentation."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(pydoc_data.topics.topics.values(), trainer)
    folder = tmp_path_factory.mktemp("tokenizer")
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>")
    fast.save_pretrained(folder)
    return folder


def make_checkpoint(folder: Path, tokenizer_dir: Path, seed: int = 0, **config: object) -> Path:
    """A random OLMo-2 in Hugging Face layout, peaked enough that choices differ clearly."""
    import torch
    from transformers import AutoTokenizer, Olmo2Config, Olmo2ForCausalLM

    torch.manual_seed(seed)
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_dir)
    settings = {
        "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 64,
        "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 2048,
        "pad_token_id": None, "bos_token_id": None, "eos_token_id": tokenizer.eos_token_id,
        "initializer_range": 0.2,
    }  # fmt: skip
    Olmo2ForCausalLM(Olmo2Config(**{**settings, **config})).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, tokenizer_dir: Path) -> Path:
    """A tiny checkpoint folder."""
    return make_checkpoint(tmp_path_factory.mktemp("model") / "tiny", tokenizer_dir)


@pytest.fixture(scope="session")
def pulled() -> Path:
    """The pulled benchmark data; the test is skipped when it is not in the cache."""
    from olmeval.tasks.pull import find_pulled

    folder = find_pulled()
    if folder is None:
        pytest.skip("the benchmark data is not pulled; run `olmeval data pull olmes`")
    return folder
