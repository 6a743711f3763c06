"""RMSNorm and its gradient against the formula in double precision."""

import pytest
import torch

from olmeval.trainer.norm import RMSNorm


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("eps", [1e-6, 0.5])
def test_value_and_gradients(dtype: torch.dtype, eps: float) -> None:
    generator = torch.Generator().manual_seed(0)
    norm = RMSNorm(24, eps)
    torch.nn.init.normal_(norm.weight, generator=generator)
    x = torch.randn(3, 5, 24, generator=generator).to(dtype).requires_grad_()
    seed = torch.randn(3, 5, 24, generator=generator).to(dtype)
    wide, weight = (t.detach().double().requires_grad_() for t in (x, norm.weight))
    expected = wide / (wide.square().mean(-1, keepdim=True) + eps).sqrt() * weight

    found = norm(x)
    assert found.dtype == dtype
    tolerance = {"rtol": 1e-5, "atol": 1e-6} if dtype == torch.float32 else {}
    torch.testing.assert_close(found, expected.to(dtype), **tolerance)
    with torch.no_grad():
        torch.testing.assert_close(norm(x), found, **tolerance)
    ours = torch.autograd.grad(found, (x, norm.weight), seed)
    theirs = torch.autograd.grad(expected, (wide, weight), seed.double())
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other.to(mine.dtype), **tolerance)
    torch.testing.assert_close(found, norm(x), rtol=0, atol=0)
