"""The trainer's model as a backend: the numbers of transformers on the same checkpoint."""

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from olmeval.backends.base import LoadOptions
from olmeval.backends.checkpoints import find_checkpoints
from olmeval.backends.hf import TransformersBackend
from olmeval.engine.load import load_backend, load_native
from olmeval.errors import UserError
from olmeval.requests import Sampling
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


def test_generates_what_transformers_generates(checkpoint: Path) -> None:
    found = find_checkpoints(checkpoint)[0]
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
