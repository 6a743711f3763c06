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
from olmeval.backends.hf import TransformersBackend
from olmeval.backends.planner import make_plan
from olmeval.requests import Request, Sampling
from tests.backends.straight import StraightLine
from tests.conftest import make_checkpoint


def load(folder: Path, **kw) -> TransformersBackend:
    return TransformersBackend.load(find_checkpoints(folder)[0], LoadOptions(device="cpu", **kw))


def scores(
    backend: TransformersBackend, requests: list[Request], rows: int = 256, sequences: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Log-probability and greediness of each request, through plan and cache."""
    tokenized = backend.tokenizer.pairs(requests, backend.info.max_length)
    plan = make_plan(tokenized.sequences, rows, sequences)
    logprob = np.full(len(plan.sequences), np.nan)
    greedy = np.zeros(len(plan.sequences), bool)
    for part in backend.score(plan, plan.steps):
        bounds = plan.slots[part.lo : part.hi + 1] - plan.slots[part.lo]
        logprob[part.lo : part.hi] = np.add.reduceat(part.logprobs.astype(float), bounds[:-1])
        greedy[part.lo : part.hi] = np.logical_and.reduceat(part.greedy, bounds[:-1])
    return logprob[plan.unique_of], greedy[plan.unique_of]


def ll(context: str, continuation: str) -> Request:
    return Request("loglikelihood", context, continuation)


def hard_requests() -> list[Request]:
    """Shared prefixes beside every awkward shape that real requests have."""
    shots = "Question: what is a name?\nAnswer: an identifier\n\n" * 3
    words = ["yes", "no", "maybe", "a list of words", "don't"]
    requests = [
        ll(f"{shots}Question: {q} or {w}?\nAnswer:", f" {choice}")
        for q in range(8)
        for w in words[:2]
        for choice in words
    ]
    requests += [
        ll("", " an empty context"),
        ll("ends in spaces  ", "word"),
        ll("ends in newline\n", "word"),
        ll("double", "  spaces"),
        ll("Question: a\nAnswer:", " A"),
        ll("Question: a\nAnswer:", " A"),
        ll("ünïcödé 日本語 🙂", " 🙂 ça"),
        ll("long continuation", " " + "the quick brown fox " * 80),
        ll("the whole " * 900, " end"),
    ]
    return requests


@pytest.mark.parametrize("rows", [24, 256])
@pytest.mark.parametrize("sequences", [0, 1, 7, 64])
def test_equals_the_straight_line(checkpoint: Path, rows: int, sequences: int) -> None:
    backend = load(checkpoint)
    assert backend.tree
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
    assert backend.tree
    straight = StraightLine(folder)
    requests = hard_requests()[:40]
    got, _ = scores(backend, requests)
    assert np.abs(got - [straight.score(r)[0] for r in requests]).max() < 1e-4


def test_a_model_that_ignores_masks_is_scored_in_plain_batches(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = TransformersBackend._additive
    monkeypatch.setattr(
        TransformersBackend, "_additive", lambda self, seen: torch.zeros_like(original(self, seen))
    )
    with pytest.warns(UserWarning, match="plain"):
        backend = load(checkpoint)
    assert backend.info.settings["attention"] == "plain"
    got, greedy = scores(backend, hard_requests())
    want = _want(checkpoint)
    assert np.abs(got - [w[0] for w in want]).max() < 1e-4
    assert greedy.tolist() == [w[1] for w in want]


def prompts(backend: TransformersBackend, sampling: Sampling, count: int = 9) -> list[Prompt]:
    texts = [f"def name_{k}(self):\n" + "    # the value\n" * (k % 4) for k in range(count)]
    ids = backend.tokenizer.encode(texts)
    return [Prompt(tuple(i), sampling, seed=1000 + k) for k, i in enumerate(ids)]


def test_greedy_generation_equals_transformers(checkpoint: Path) -> None:
    backend = load(checkpoint)
    items = prompts(backend, Sampling(max_tokens=24))
    got = dict(backend.generate(items))
    for k, prompt in enumerate(items):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ids = backend.model.generate(
                torch.tensor([prompt.ids]), max_new_tokens=24, do_sample=False, use_cache=True
            )[0, len(prompt.ids) :]
        text = backend.tokenizer.decode([i for i in ids.tolist() if i != 0])
        assert got[k][0].text == text


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
    from olmeval.backends.hf_generate import _draw, _Sample

    p = np.array([0.5, 0.25, 0.15, 0.1])
    sampling = Sampling(temperature=1.0, top_p=0.8, max_tokens=4000)
    sample = _Sample(0, 0, sampling, np.random.default_rng(0).random(4000))
    counts = np.zeros(4)
    logits = torch.tensor(np.log(p))
    for _ in range(4000):
        token = _draw(logits, sample)
        counts[token] += 1
        sample.ids.append(token)
    # 0.5 + 0.25 < 0.8, so the nucleus is the first three, renormalised.
    want = np.array([0.5, 0.25, 0.15, 0.0]) / 0.9
    assert np.abs(counts / 4000 - want).max() < 0.03
    assert counts[3] == 0


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
