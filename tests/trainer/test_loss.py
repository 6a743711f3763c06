"""The chunked loss against plain autograd in double precision."""

import pytest
import torch
from torch import library
from torch.nn.functional import cross_entropy

from olmeval.trainer.loss import IGNORE_INDEX, InCache, by_chunks, fused, linear_cross_entropy

N, D, V = 50, 24, 133


def inputs(dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(N, D, generator=generator).to(dtype).requires_grad_()
    weight = torch.randn(V, D, generator=generator).requires_grad_()
    targets = torch.randint(0, V, (N,), generator=generator)
    targets[::7] = IGNORE_INDEX
    return hidden, weight, targets


def reference(
    hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, n: int, z: float
) -> tuple[torch.Tensor, torch.Tensor]:
    logits = hidden.double() @ weight.double().T
    kept = targets != IGNORE_INDEX
    entropy = cross_entropy(logits[kept], targets[kept], reduction="sum") / n
    return entropy + z * logits[kept].logsumexp(1).square().sum() / n, entropy


@pytest.mark.parametrize("chunk", [1, 7, 16, 50, 128])
@pytest.mark.parametrize("z", [0.0, 1e-5, 0.3])
@pytest.mark.parametrize("n", [1, 42, 50])
def test_loss_and_gradients(chunk: int, z: float, n: int) -> None:
    hidden, weight, targets = inputs()
    loss, entropy = linear_cross_entropy(
        hidden, weight, targets, num_tokens=n, z_weight=z, chunk=chunk
    )
    (3 * loss).backward()
    h, w = (x.detach().double().requires_grad_() for x in (hidden, weight))
    expected, expected_entropy = reference(h, w, targets, n, z)
    (3 * expected).backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert entropy.item() == pytest.approx(expected_entropy.item(), rel=1e-6)
    assert not entropy.requires_grad
    for ours, theirs in ((hidden, h), (weight, w)):
        scale = theirs.grad.abs().max()
        assert (ours.grad - theirs.grad).abs().max() / scale < 2e-6


def test_ignored_rows_get_no_gradient() -> None:
    hidden, weight, targets = inputs()
    linear_cross_entropy(hidden, weight, targets, num_tokens=N, z_weight=0.1)[0].backward()
    ignored = targets == IGNORE_INDEX
    assert (hidden.grad[ignored] == 0).all()
    assert (hidden.grad[~ignored].abs().amax(1) > 0).all()


def test_a_batch_of_ignored_rows_is_zero() -> None:
    hidden, weight, targets = inputs()
    targets[:] = IGNORE_INDEX
    loss, _ = linear_cross_entropy(hidden, weight, targets, num_tokens=10, z_weight=0.1)
    loss.backward()
    assert loss.item() == 0
    assert weight.grad.abs().max() == 0


def test_the_number_of_tokens_may_be_a_tensor() -> None:
    hidden, weight, targets = inputs()
    given = linear_cross_entropy(hidden, weight, targets, num_tokens=torch.tensor(42))[0]
    assert given.item() == linear_cross_entropy(hidden, weight, targets, num_tokens=42)[0].item()


def test_huge_logits_do_not_overflow() -> None:
    hidden, weight, targets = inputs()
    loss, _ = linear_cross_entropy(hidden * 1e4, weight, targets, num_tokens=N)
    expected, _ = reference(hidden * 1e4, weight, targets, N, 0.0)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_non_finite_input_gives_a_non_finite_loss() -> None:
    hidden, weight, targets = inputs()
    with torch.no_grad():
        hidden[1, 2] = float("nan")
    assert not linear_cross_entropy(hidden, weight, targets, num_tokens=N)[0].isfinite()


def test_bfloat16_activations() -> None:
    hidden, weight, targets = inputs(torch.bfloat16)
    loss, _ = linear_cross_entropy(hidden, weight, targets, num_tokens=N, z_weight=1e-3)
    loss.backward()
    h, w = (x.detach().double().requires_grad_() for x in (hidden, weight))
    expected, _ = reference(h, w, targets, N, 1e-3)
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-2)
    assert hidden.grad.dtype == torch.bfloat16
    assert weight.grad.dtype == torch.float32
    assert (weight.grad - w.grad).norm() / w.grad.norm() < 2e-2


def test_parts_of_a_batch_sum_to_the_whole() -> None:
    """Micro-batches and ranks divide by the tokens of all; so loss and gradients add up."""
    hidden, weight, targets = inputs()
    whole, _ = linear_cross_entropy(hidden, weight, targets, num_tokens=42, z_weight=0.1)
    expected = torch.autograd.grad(whole, (hidden, weight))
    total = torch.zeros(())
    for rows in (slice(0, 13), slice(13, 50)):
        part, _ = linear_cross_entropy(
            hidden[rows], weight, targets[rows], num_tokens=42, z_weight=0.1
        )
        part.backward()
        total += part.detach()
    torch.testing.assert_close(total, whole.detach(), rtol=1e-6, atol=0)
    torch.testing.assert_close(hidden.grad, expected[0], rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(weight.grad, expected[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_compiled_kernel_equals_the_passes_in_cache(dtype: torch.dtype) -> None:
    hidden, weight, targets = inputs(dtype)
    hidden, weight = hidden.detach(), weight.detach()
    scale = (targets != IGNORE_INDEX) / 42
    rest = (weight, targets.clamp(min=0), scale, 0.3, 16)
    ours = by_chunks(hidden, *rest, fused)
    passes = by_chunks(hidden, *rest, InCache(16, weight, dtype))
    tolerance = {"rtol": 1e-5, "atol": 1e-7} if dtype == torch.float32 else {}
    for mine, other in zip(ours, passes, strict=True):
        torch.testing.assert_close(mine, other, **tolerance)


def test_compiled_it_is_the_same_in_one_graph() -> None:
    def loss(hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return linear_cross_entropy(
            hidden.tanh(), weight, targets, num_tokens=42, z_weight=0.1, chunk=16
        )[0]

    hidden, weight, targets = inputs()
    expected = torch.autograd.grad(loss(hidden, weight), (hidden, weight))
    found = torch.autograd.grad(
        torch.compile(loss, fullgraph=True)(hidden, weight), (hidden, weight)
    )
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)


def test_the_operator_keeps_its_contract() -> None:
    """Shapes for the compiler, gradients, no aliases: torch's own examination."""
    hidden, weight, targets = inputs()
    scale = torch.full((N,), 1 / N)
    library.opcheck(
        torch.ops.olmeval.linear_cross_entropy.default,
        (hidden, weight, targets.clamp(min=0), scale, 0.1, 16),
    )
