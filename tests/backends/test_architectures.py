"""Tiny models of many families, each through the tree or, where that fails, in plain batches."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

from olmeval.backends.base import LoadOptions
from olmeval.backends.checkpoints import find_checkpoints
from olmeval.backends.hf import TransformersBackend
from olmeval.requests import Sampling
from tests.backends.scoring import hard_requests, prompts, scores
from tests.backends.straight import StraightLine

SIZES = {
    "vocab_size": 600, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4,
    "num_attention_heads": 4, "initializer_range": 0.2, "pad_token_id": None, "bos_token_id": None,
    "eos_token_id": 0, "max_position_embeddings": 2048,
}  # fmt: skip
GROUPED = {**SIZES, "num_key_value_heads": 2}
GEMMA = {**GROUPED, "head_dim": 8, "query_pre_attn_scalar": 8}
ROPE = {"rope_type": "default", "rope_theta": 10000.0}
# (configuration, its arguments, how it must be scored)
FAMILIES: dict[str, tuple[str, dict[str, Any], str]] = {
    "llama": ("LlamaConfig", GROUPED, "tree"),
    "qwen2": ("Qwen2Config", GROUPED, "tree"),
    "gpt-neox": ("GPTNeoXConfig", {**SIZES, "rotary_pct": 0.5}, "tree"),
    "gpt2": ("GPT2Config", {**SIZES, "n_positions": 2048, "n_embd": 32, "n_head": 4,
                            "n_layer": 3}, "tree"),
    "gemma": ("GemmaConfig", {**GROUPED, "head_dim": 8}, "tree"),
    # Logits capped, windows on every other layer, outputs normalised.
    "gemma2": ("Gemma2Config", {**GEMMA, "sliding_window": 24}, "tree"),
    "gemma3": ("Gemma3TextConfig", {**GEMMA, "sliding_window": 24}, "tree"),
    "mistral with a window on every layer": ("MistralConfig", {**GROUPED, "sliding_window": 24},
                                             "tree"),
    "qwen2 with windows on some layers": (
        "Qwen2Config", {**GROUPED, "use_sliding_window": True, "sliding_window": 24,
                        "max_window_layers": 2}, "tree",
    ),
    # Its window counts cached tokens, not depths, and lies within the layers.
    "gpt-neo": ("GPTNeoConfig", {**SIZES, "num_layers": 4, "num_heads": 4, "window_size": 24,
                                 "attention_types": [[["global", "local"], 2]]}, "plain"),
    # Positions are read off a two-dimensional mask.
    "bloom": ("BloomConfig", {**SIZES, "n_layer": 2, "n_head": 4}, "plain"),
    # No attention at all.
    "mamba": ("MambaConfig", {**SIZES, "state_size": 4}, "plain"),
}  # fmt: skip


def make(family: str, folder: Path, tokenizer_dir: Path) -> Path:
    name, arguments, _ = FAMILIES[family]
    torch.manual_seed(0)
    config = getattr(transformers, name)(**arguments)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tokenizer_dir).save_pretrained(folder)
    return folder


def load(folder: Path, how: str) -> TransformersBackend:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        backend = TransformersBackend.load(
            find_checkpoints(folder)[0], LoadOptions(device="cpu", bos="never")
        )
    assert any("plain batches" in str(w.message) for w in said) == (how == "plain")
    assert backend.info.settings["attention"] == how
    return backend


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_are_those_of_one_sequence_at_a_time(
    family: str, tmp_path: Path, tokenizer_dir: Path
) -> None:
    folder = make(family, tmp_path / "model", tokenizer_dir)
    backend = load(folder, FAMILIES[family][2])
    straight = StraightLine(folder)
    requests = hard_requests()
    # The long ones once more among the last: rows that are mostly one chain.
    requests = requests[::3] + requests[-2:]
    got, greedy = scores(backend, requests)
    want = [straight.score(r) for r in requests]
    assert np.abs(got - [w[0] for w in want]).max() < 2e-3
    assert np.mean(greedy == [w[1] for w in want]) == 1


@pytest.mark.parametrize("family", ["gemma3", "gpt-neox", "mamba"])
def test_generates_what_the_model_itself_generates(
    family: str, tmp_path: Path, tokenizer_dir: Path
) -> None:
    backend = load(make(family, tmp_path / "model", tokenizer_dir), FAMILIES[family][2])
    items = prompts(backend, Sampling(max_tokens=30), count=5)
    for k, samples in backend.generate(items):
        ids = backend.model.module.generate(
            torch.tensor([items[k].ids]), max_new_tokens=30, do_sample=False, pad_token_id=0
        )[0, len(items[k].ids) :]
        assert samples[0].text == backend.tokenizer.decode([i for i in ids.tolist() if i != 0])
