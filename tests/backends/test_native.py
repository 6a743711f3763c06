"""The trainer's model as a backend: the numbers of transformers on the same checkpoint."""

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Olmo3Config, Olmo3ForCausalLM

from olmeval.backends.base import LoadOptions
from olmeval.backends.checkpoints import find_checkpoints
from olmeval.backends.hf import TransformersBackend
from olmeval.engine.load import load_backend, load_native
from olmeval.errors import UserError
from olmeval.requests import Sampling
from olmeval.trainer.model_config import ModelConfig, Yarn
from tests.backends.scoring import hard_requests, ll, prompts, scores
from tests.backends.straight import StraightLine
from tests.conftest import make_checkpoint

CPU = LoadOptions(device="cpu")


def many_requests() -> list:
    """A few hundred, on deep and shallow common beginnings."""
    shots = "Question: what is a name?\nAnswer: an identifier\n\n"
    return hard_requests() + [
        ll(f"{shots * deep}Question: {q} or {w}?\nAnswer:", f" {choice}")
        for deep in (1, 5)
        for q in range(12)
        for w in ("yes", "no", "maybe")
        for choice in ("a", "maybe", "a list of words", "don't")
    ]


@pytest.mark.parametrize("kv_heads", [4, 2, 1])
def test_equals_transformers(tmp_path: Path, tokenizer_dir: Path, kv_heads: int) -> None:
    folder = make_checkpoint(
        tmp_path / "model", tokenizer_dir, num_attention_heads=4, num_key_value_heads=kv_heads,
        rope_parameters={"rope_type": "default", "rope_theta": 30_000.0},
    )  # fmt: skip
    checkpoint = find_checkpoints(folder)[0]
    ours, theirs = load_native(checkpoint, CPU), TransformersBackend.load(checkpoint, CPU)
    assert ours.info.settings["attention"] == "tree"
    assert ours.info.fingerprint == theirs.info.fingerprint
    requests = many_requests()
    assert len(requests) > 300
    got, greedy = scores(ours, requests)
    want, want_greedy = scores(theirs, requests)
    assert np.abs(got - want).max() < 1e-4
    assert (greedy == want_greedy).all()
    straight = StraightLine(folder)
    assert np.abs(got[:60] - [straight.score(r)[0] for r in requests[:60]]).max() < 1e-4


@pytest.fixture(scope="module")
def windowed(tmp_path_factory: pytest.TempPathFactory, tokenizer_dir: Path) -> Path:
    """An OLMo-3 whose window is shorter than most prompts, stretched by YaRN."""
    config = ModelConfig(
        vocab_size=600, hidden_size=32, intermediate_size=64, num_hidden_layers=4,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=2048,
        rope_theta=10_000.0, sliding_window=20, yarn=Yarn(4.0, 512),
    )  # fmt: skip
    folder = make_checkpoint(tmp_path_factory.mktemp("model") / "olmo3", tokenizer_dir)
    torch.manual_seed(0)
    described = Olmo3Config(**{**config.hf_config(eos_id=0), "initializer_range": 0.2})
    Olmo3ForCausalLM(described).save_pretrained(folder)
    return folder


def test_windows_reach_as_far_as_in_transformers(windowed: Path) -> None:
    found = find_checkpoints(windowed)[0]
    ours, theirs = load_native(found, CPU), TransformersBackend.load(found, CPU)
    assert ours.model.windows == (20, 20, 20, None)
    assert ours.info.settings["attention"] == "tree"
    requests = many_requests()
    got, _ = scores(ours, requests)
    want, _ = scores(theirs, requests)
    assert np.abs(got - want).max() < 1e-4
    straight = StraightLine(windowed)
    assert np.abs(got[:60] - [straight.score(r)[0] for r in requests[:60]]).max() < 1e-4
    ours.model.windows = (None,) * 4
    assert np.abs(scores(ours, requests)[0] - want).max() > 0.1


@pytest.mark.parametrize("kind", ["checkpoint", "windowed"])
def test_generates_what_transformers_generates(kind: str, request: pytest.FixtureRequest) -> None:
    found = find_checkpoints(request.getfixturevalue(kind))[0]
    backends = [load_backend(name, found, CPU) for name in ("native", "transformers")]
    for sampling in (
        Sampling(max_tokens=24),
        Sampling(max_tokens=24, temperature=0.8, top_p=0.9, n=3, stop=("e", "\n")),
    ):
        ours, theirs = (dict(b.generate(prompts(b, sampling))) for b in backends)
        for k, samples in theirs.items():
            assert [s.text for s in ours[k]] == [s.text for s in samples]
            assert [s.finish for s in ours[k]] == [s.finish for s in samples]
            assert [s.logprob for s in ours[k]] == pytest.approx(
                [s.logprob for s in samples], abs=1e-3
            )


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_low_precision(checkpoint: Path, dtype: str) -> None:
    found = find_checkpoints(checkpoint)[0]
    requests = hard_requests()[:60]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        backend = load_native(found, replace(CPU, dtype=dtype))
        got, _ = scores(backend, requests)
    assert backend.info.settings["dtype"] == dtype
    want, _ = scores(load_native(found, CPU), requests)
    per_token = np.abs(got - want) / 3
    assert 0 < per_token.mean() < 0.05


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tie_word_embeddings": True}, "tie_word_embeddings is True"),
        ({"hidden_act": "gelu"}, "hidden_act is gelu"),
        (
            {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}},
            "rope_type",
        ),
    ],
)
def test_another_architecture_is_refused(
    tmp_path: Path, tokenizer_dir: Path, change: dict, message: str
) -> None:
    folder = make_checkpoint(tmp_path / "other", tokenizer_dir, **change)
    with pytest.raises(UserError, match=message):
        load_native(find_checkpoints(folder)[0], CPU)


def test_weights_that_are_not_those_of_the_config_are_refused(
    tmp_path: Path, tokenizer_dir: Path
) -> None:
    folder = make_checkpoint(tmp_path / "a", tokenizer_dir)
    other = make_checkpoint(tmp_path / "b", tokenizer_dir, num_hidden_layers=3)
    (folder / "config.json").write_bytes((other / "config.json").read_bytes())
    with pytest.raises(UserError, match=r"not those of its config: .*layers\.2"):
        load_native(find_checkpoints(folder)[0], CPU)
    with pytest.raises(UserError, match="no precision 'int8'"):
        load_native(find_checkpoints(other)[0], replace(CPU, dtype="int8"))
    with pytest.raises(UserError, match="native backend knows no argument 'x'"):
        load_native(find_checkpoints(other)[0], replace(CPU, extra={"x": 1}))


def test_scoring_leaves_a_model_able_to_train(checkpoint: Path) -> None:
    backend = load_native(find_checkpoints(checkpoint)[0], CPU)
    scores(backend, hard_requests()[:20])
    model = backend.model.module
    loss = model(torch.arange(12)[None]).logsumexp(-1).mean()
    loss.backward()
    assert all(p.grad is not None for p in model.parameters())
