"""Groups, clipping and the guards, against torch's plain parts."""

import copy
import statistics

import pytest
import torch
from torch import nn

from olmeval.trainer.model import ModelConfig, build_model
from olmeval.trainer.optim import SpikeGuard, build_muon, build_optimizer, clipped_step

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


def test_a_non_finite_loss_skips_the_step() -> None:
    model = build_model(CONFIG, 0)
    optimizer = build_optimizer(model, **HYPER)
    weights = copy.deepcopy(model.state_dict())
    with_grads(0, 1.0, model)
    loss = torch.tensor(float("nan"))
    _, skipped = clipped_step(optimizer, list(model.parameters()), 1e-3, 1.0, loss=loss)
    assert skipped == 1
    assert all(torch.equal(v, weights[k]) for k, v in model.state_dict().items())


def test_muon_takes_the_matrices_of_blocks() -> None:
    model = build_model(CONFIG, 0)
    names = {id(p): name for name, p in model.named_parameters()}
    muon, adamw = build_muon(model, **HYPER)
    inner = [names[id(p)] for g in muon.param_groups for p in g["params"]]
    outer = [names[id(p)] for g in adamw.param_groups for p in g["params"]]
    assert sorted(inner + outer) == sorted(names.values())
    assert len(inner) == 2 * 7
    assert all("_proj" in name for name in inner)
    assert [names[id(p)] for p in adamw.param_groups[1]["params"]] == ["model.embed_tokens.weight"]


def muon_reference(p: torch.Tensor, grads: list[torch.Tensor], lr: float) -> torch.Tensor:
    """Muon by its definition: the momentum's nearest semi-orthogonal matrix, by its SVD."""
    p, momentum = p.double(), torch.zeros_like(p, dtype=torch.float64)
    for grad in grads:
        momentum = 0.95 * momentum + 0.05 * grad.double()
        nesterov = 0.05 * grad.double() + 0.95 * momentum
        u, _, v = torch.linalg.svd(nesterov, full_matrices=False)
        p = p * (1 - lr * HYPER["weight_decay"]) - lr * 0.2 * max(p.shape) ** 0.5 * (u @ v)
    return p


def test_muon_steps() -> None:
    """torch's iteration brings singular values to between 0.7 and 1.2, not to 1."""
    model = build_model(CONFIG, 0)
    name = "model.layers.0.mlp.up_proj.weight"
    weight = dict(model.named_parameters())[name]
    start, grads = weight.detach().clone(), []
    optimizers = build_muon(model, **HYPER)
    for step in range(3):
        with_grads(step, 1e-4, model)  # below the clipping norm
        grads.append(weight.grad.clone())
        clipped_step(optimizers, list(model.parameters()), 1e-2, 1e9)
    expected = muon_reference(start, grads, 1e-2) - start
    found = (weight.detach() - start).double()
    cosine = (found * expected).sum() / found.norm() / expected.norm()
    assert cosine > 0.97
    assert 0.7 < found.norm() / expected.norm() < 1.2


def test_a_skipped_step_of_muon_leaves_everything_untouched() -> None:
    model, twin = build_model(CONFIG, 0), build_model(CONFIG, 0)
    ours, theirs = build_muon(model, **HYPER), build_muon(twin, **HYPER)
    for seed, bad in enumerate([True, False, True, False]):
        with_grads(seed, 1.0, model)
        if bad:
            model.lm_head.weight.grad[0, 0] = float("inf")
        else:
            with_grads(seed, 1.0, twin)
            clipped_step(theirs, list(twin.parameters()), 1e-2, 1.0)
        _, skipped = clipped_step(ours, list(model.parameters()), 1e-2, 1.0)
        assert skipped == bad
    for mine, other in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(mine, other)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(
            mine.state_dict()["state"], other.state_dict()["state"], rtol=0, atol=0
        )


def judged(guard: SpikeGuard, losses: list[float], norms: list[float]) -> list[bool]:
    pairs = zip(losses, norms, strict=True)
    return [bool(guard.judge(torch.tensor(a), torch.tensor(b))) for a, b in pairs]


def walk(count: int, seed: int = 0) -> list[float]:
    generator = torch.Generator().manual_seed(seed)
    return (3 + torch.randn(count, generator=generator) / 10).tolist()


def test_spikes_are_what_the_rule_says() -> None:
    """Against the rule written with lists and the standard library."""
    losses, norms = walk(400), walk(400, seed=1)
    for step, height in ((10, 50.0), (63, 9.0), (64, 9.0), (90, 3.9), (200, 20.0), (330, 4.1)):
        losses[step] = height
    for step in (150, 390):
        norms[step] = 30.0
    expected = []
    for step, (loss, norm) in enumerate(zip(losses, norms, strict=True)):
        high = False
        for value, series in ((loss, losses), (norm, norms)):
            before = series[max(0, step - 128) : step]
            if len(before) >= 64:
                bound = statistics.fmean(before) + 6 * statistics.stdev(before)
                high |= value > bound
        expected.append(high)
    assert judged(SpikeGuard("cpu"), losses, norms) == expected
    # Spikes within the first 64 steps pass, and widen what passes for as long as they are held.
    assert [step for step, high in enumerate(expected) if high] == [150, 200, 330, 390]


def test_low_values_are_no_spikes() -> None:
    losses = walk(100)
    losses[80] = -50.0
    assert not any(judged(SpikeGuard("cpu"), losses, walk(100, seed=1)))


def test_a_lasting_rise_is_accepted() -> None:
    losses = walk(130) + [x + 2 for x in walk(130, seed=2)]
    skipped = judged(SpikeGuard("cpu"), losses, walk(260, seed=1))
    assert skipped[130]
    assert not any(skipped[140:])


def test_values_that_are_not_finite_are_skipped_and_forgotten() -> None:
    clean, dirty = SpikeGuard("cpu"), SpikeGuard("cpu")
    losses, norms = walk(100), walk(100, seed=1)
    judged(clean, losses, norms)
    nan, inf = float("nan"), float("inf")
    judged(dirty, losses[:50], norms[:50])
    assert judged(dirty, [nan, 3.0, inf], [3.0, inf, nan]) == [True] * 3
    judged(dirty, losses[50:], norms[50:])
    torch.testing.assert_close(dirty.state_dict(), clean.state_dict(), rtol=0, atol=0)


def test_the_history_survives_a_resumption() -> None:
    losses, norms = walk(200), walk(200, seed=1)
    losses[100] = 9.0
    whole = judged(SpikeGuard("cpu"), losses, norms)
    first, second = SpikeGuard("cpu"), SpikeGuard("cpu")
    found = judged(first, losses[:90], norms[:90])
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    found += judged(second, losses[90:], norms[90:])
    assert found == whole
    assert whole.index(True) == 100
    assert not any(judged(SpikeGuard("cpu"), losses[90:], norms[90:])[:20])


def test_the_guard_skips_the_update() -> None:
    model = build_model(CONFIG, 0)
    optimizer, guard = build_optimizer(model, **HYPER), SpikeGuard("cpu", window=8)
    outcomes = []
    for step, loss in enumerate([3.0, 3.1, 2.9, 3.0, 9.0, 3.0]):
        before = model.lm_head.weight.detach().clone()
        with_grads(0, 1.0 + step / 100, model)
        _, skipped = clipped_step(
            optimizer, list(model.parameters()), 1e-3, 1.0, loss=torch.tensor(loss), guard=guard
        )
        assert torch.equal(before, model.lm_head.weight) == bool(skipped)
        outcomes.append(bool(skipped))
    assert outcomes == [False, False, False, False, True, False]
