"""The transformers backend against an independent scorer and against transformers' own generate."""

import importlib.util
import random
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from olmeval.backends.base import LoadOptions, Prompt
from olmeval.backends.checkpoints import find_checkpoints
from olmeval.backends.hf import TransformersBackend, TransformersModel
from olmeval.errors import UserError
from olmeval.requests import Sampling
from tests.backends.scoring import hard_requests, ll, prompts, scores
from tests.backends.straight import StraightLine
from tests.conftest import make_checkpoint


def load(folder: Path, **kw) -> TransformersBackend:
    return TransformersBackend.load(find_checkpoints(folder)[0], LoadOptions(device="cpu", **kw))


@pytest.mark.parametrize("rows", [24, 256])
@pytest.mark.parametrize("sequences", [0, 1, 7, 64])
def test_equals_the_straight_line(checkpoint: Path, rows: int, sequences: int) -> None:
    backend = load(checkpoint)
    assert backend.info.settings["attention"] == "tree"
    requests = hard_requests()
    want = _want(checkpoint)
    order = random.Random(rows + sequences).sample(range(len(requests)), len(requests))
    got, greedy = scores(backend, [requests[k] for k in order], rows, sequences)
    assert np.abs(got - [want[k][0] for k in order]).max() < 1e-4
    assert greedy.tolist() == [want[k][1] for k in order]


_cache: dict[Path, list[tuple[float, bool, int]]] = {}


def _want(checkpoint: Path) -> list[tuple[float, bool, int]]:
    if checkpoint not in _cache:
        straight = StraightLine(checkpoint)
        _cache[checkpoint] = [straight.score(r) for r in hard_requests()]
    return _cache[checkpoint]


def test_truncates_from_the_left_and_counts(checkpoint: Path) -> None:
    backend = load(checkpoint, max_length=64)
    request = ll("many words that fill the window " * 40, " end")
    tokenized = backend.tokenizer.pairs([request], 64)
    assert tokenized.truncated[0] > 0
    assert tokenized.sequences.lengths[0] == 65
    got, _ = scores(backend, [request])
    assert got[0] == pytest.approx(StraightLine(checkpoint, 64).score(request)[0], abs=1e-4)
    assert backend.tokenizer.pairs([ll("a", " b c" * 200)], 64).too_long[0]


def test_with_bos(tmp_path: Path, tokenizer_dir: Path) -> None:
    folder = make_checkpoint(tmp_path / "bos", tokenizer_dir)
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.bos_token = "<|endoftext|>"
    tokenizer.save_pretrained(folder)
    requests = [*hard_requests()[:30], ll("", " an empty context")]
    straight = StraightLine(folder, bos=True)
    got, _ = scores(load(folder, bos="always"), requests)
    assert np.abs(got - [straight.score(r)[0] for r in requests]).max() < 1e-4


def test_grouped_queries_and_sliding_windows(tmp_path: Path, tokenizer_dir: Path) -> None:
    from transformers import Olmo3Config, Olmo3ForCausalLM

    folder = make_checkpoint(tmp_path / "olmo3", tokenizer_dir)
    torch.manual_seed(0)
    rope = {"rope_type": "default", "rope_theta": 500000.0}
    config = Olmo3Config(
        vocab_size=600, hidden_size=32, intermediate_size=64, num_hidden_layers=4,
        num_attention_heads=4, num_key_value_heads=2, sliding_window=16, pad_token_id=None,
        bos_token_id=None, eos_token_id=0, initializer_range=0.2,
        rope_parameters={"full_attention": rope, "sliding_attention": rope},
    )  # fmt: skip
    Olmo3ForCausalLM(config).save_pretrained(folder)
    backend = load(folder)
    assert backend.info.settings["attention"] == "tree"
    straight = StraightLine(folder)
    requests = hard_requests()[:40]
    got, _ = scores(backend, requests)
    assert np.abs(got - [straight.score(r)[0] for r in requests]).max() < 1e-4


def test_a_model_that_ignores_masks_is_scored_in_plain_batches(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = TransformersModel._additive
    monkeypatch.setattr(
        TransformersModel, "_additive", lambda self, seen: torch.zeros_like(original(self, seen))
    )
    with pytest.warns(UserWarning, match="its scores are off by .* plain batches"):
        backend = load(checkpoint)
    assert backend.info.settings["attention"] == "plain"
    got, greedy = scores(backend, hard_requests())
    want = _want(checkpoint)
    assert np.abs(got - [w[0] for w in want]).max() < 1e-4
    assert greedy.tolist() == [w[1] for w in want]


def test_greedy_generation_equals_transformers(checkpoint: Path) -> None:
    backend = load(checkpoint)
    items = prompts(backend, Sampling(max_tokens=24))
    got = dict(backend.generate(items))
    for k, prompt in enumerate(items):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ids = backend.model.module.generate(
                torch.tensor([prompt.ids]), max_new_tokens=24, do_sample=False, use_cache=True
            )[0, len(prompt.ids) :]
        text = backend.tokenizer.decode([i for i in ids.tolist() if i != 0])
        assert got[k][0].text == text


def test_generation_that_padding_would_change_is_refused(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = TransformersModel.decode
    monkeypatch.setattr(
        TransformersModel, "decode",
        lambda self, ids, valid, cache: original(self, ids, torch.ones_like(valid), cache),
    )  # fmt: skip
    backend = load(checkpoint)
    with pytest.raises(UserError, match="'tiny' does not go on in a padded batch"):
        dict(backend.generate(prompts(backend, Sampling(max_tokens=4))))


def test_a_sample_depends_on_its_seed_alone(checkpoint: Path) -> None:
    backend = load(checkpoint)
    items = prompts(backend, Sampling(max_tokens=16, temperature=0.8, top_p=0.9, n=3))
    together = dict(backend.generate(items))
    for k in (0, 5):
        alone = dict(backend.generate([items[k]]))[0]
        assert [s.text for s in alone] == [s.text for s in together[k]]
    texts = {s.text for samples in together.values() for s in samples}
    assert len(texts) > len(items)


def test_generation_stops_at_the_first_stop_string(checkpoint: Path) -> None:
    backend = load(checkpoint)
    free = dict(backend.generate(prompts(backend, Sampling(max_tokens=40))))
    text = free[0][0].text
    stop = text[len(text) // 2 : len(text) // 2 + 2]
    cut = dict(backend.generate(prompts(backend, Sampling(max_tokens=40, stop=(stop,)))))
    assert cut[0][0].text == text[: text.find(stop)]
    assert cut[0][0].finish == "stop"


def test_nucleus_draws_follow_the_truncated_distribution() -> None:
    from olmeval.backends.torch_generate import Sample, draw

    p = np.array([0.1, 0.5, 0.15, 0.25])
    sampling = [Sampling(temperature=1.0, top_p=top_p, max_tokens=4000) for top_p in (0.8, 1.0)]
    uniforms = np.random.default_rng(0).random((2, 4000))
    samples = [Sample(k, Prompt((), sampling[k], 0), uniforms[k]) for k in (0, 1)]
    counts = np.zeros((2, 4))
    logits = torch.tensor(np.log(np.stack([p, p])))
    for _ in range(4000):
        for k, token in enumerate(draw(logits, samples).tolist()):
            counts[k, token] += 1
            samples[k].ids.append(token)
    # 0.5 + 0.25 < 0.8, so the nucleus is the likeliest three, renormalised.
    want = np.stack([np.array([0.0, 0.5, 0.15, 0.25]) / 0.9, p])
    assert np.abs(counts / 4000 - want).max() < 0.03
    assert counts[0, 0] == 0


@pytest.mark.skipif(importlib.util.find_spec("lm_eval") is None, reason="lm_eval is not installed")
def test_tokenization_is_that_of_lm_eval(checkpoint: Path) -> None:
    from lm_eval.models.huggingface import HFLM

    peer = HFLM(pretrained=str(checkpoint), device="cpu")
    backend = load(checkpoint)
    requests = [r for r in hard_requests() if r.context.strip()]
    tokenized = backend.tokenizer.pairs(requests, 4096)
    for k, request in enumerate(requests):
        before, after = peer._encode_pair(request.context, request.continuation)
        lo, hi = tokenized.sequences.offsets[k : k + 2]
        assert tokenized.sequences.ids[lo:hi].tolist() == before + after
        assert tokenized.sequences.context_len[k] == len(before)


@pytest.mark.parametrize("dtype", ["float16x", "tensor"])
def test_a_number_format_that_does_not_exist(checkpoint: Path, dtype: str) -> None:
    with pytest.raises(UserError, match=f"--dtype {dtype} does not exist; use float32"):
        load(checkpoint, dtype=dtype)
