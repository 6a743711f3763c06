"""AdamW's groups, clipping and the guard, against torch's plain parts."""

import copy

import pytest
import torch
from torch import nn

from olmeval.trainer.model import ModelConfig, build_model
from olmeval.trainer.optim import build_optimizer, clipped_step

CONFIG = ModelConfig(60, 16, 24, 2, 2, 2, 16)
HYPER = {"betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1}


def with_grads(seed: int, size: float, model: nn.Module) -> None:
    generator = torch.Generator().manual_seed(seed)
    for p in model.parameters():
        p.grad = size * torch.randn(p.shape, generator=generator)


def test_only_the_embedding_is_not_decayed() -> None:
    model = build_model(CONFIG, 0)
    decayed, plain = build_optimizer(model, **HYPER).param_groups
    assert [p is model.model.embed_tokens.weight for p in plain["params"]] == [True]
    assert plain["weight_decay"] == 0
    assert decayed["weight_decay"] == 0.1
    assert len(decayed["params"]) == len(list(model.parameters())) - 1


@pytest.mark.parametrize("size", [1e-4, 10.0])
def test_steps_equal_clip_grad_norm_and_plain_adamw(size: float) -> None:
    model = build_model(CONFIG, 0)
    twin = copy.deepcopy(model)
    optimizer = build_optimizer(model, **HYPER)
    embedding = twin.model.embed_tokens.weight
    others = [p for p in twin.parameters() if p is not embedding]
    reference = torch.optim.AdamW(
        [{"params": others}, {"params": [embedding], "weight_decay": 0.0}],
        lr=3e-3,
        foreach=False,
        fused=False,
        **HYPER,
    )
    for step in range(4):
        with_grads(step, size, model)
        with_grads(step, size, twin)
        norm, skipped = clipped_step(optimizer, list(model.parameters()), 3e-3, 1.0)
        expected = nn.utils.clip_grad_norm_(twin.parameters(), 1.0)
        reference.step()
        torch.testing.assert_close(norm, expected, rtol=1e-6, atol=0)
        assert skipped == 0
        assert all(p.grad is None for p in model.parameters())
    for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=2e-5, atol=2e-7)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_non_finite_gradient_leaves_everything_untouched(bad: float) -> None:
    model = build_model(CONFIG, 0)
    optimizer = build_optimizer(model, **HYPER)
    with_grads(0, 1.0, model)
    clipped_step(optimizer, list(model.parameters()), 1e-3, 1.0)
    weights = copy.deepcopy(model.state_dict())
    state = copy.deepcopy(optimizer.state_dict()["state"])

    with_grads(1, 1.0, model)
    model.lm_head.weight.grad[3, 4] = bad
    _, skipped = clipped_step(optimizer, list(model.parameters()), 1e-3, 1.0)
    assert skipped == 1
    assert all(torch.equal(v, weights[k]) for k, v in model.state_dict().items())
    for index, values in optimizer.state_dict()["state"].items():
        assert all(torch.equal(v, state[index][k]) for k, v in values.items())

    with_grads(2, 1.0, model)
    _, skipped = clipped_step(optimizer, list(model.parameters()), 1e-3, 1.0)
    assert skipped == 0
    assert not torch.equal(model.lm_head.weight, weights["lm_head.weight"])
