"""RMSNorm in fp32, with a gradient of its own where torch has no fused one."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class RMSNorm(nn.Module):  # type: ignore[misc]
    """``x / rms(x) * weight``, computed in fp32 and cast back (Zhang & Sennrich 2019)."""

    def __init__(self, size: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        wide, weight = x.float(), self.weight.float()
        # torch's gradient on a processor is a composite that takes three times as long as ours; on
        # a GPU it is one kernel, and a compiled model makes its own.
        if x.is_cpu and x.requires_grad and not torch.compiler.is_compiling():
            y: Tensor = Normalise.apply(wide, weight, self.eps)
        else:
            y = F.rms_norm(wide, weight.shape, weight, self.eps)
        return y.to(x.dtype)


class Normalise(torch.autograd.Function):  # type: ignore[misc]
    """RMSNorm of fp32 ``x`` [..., D] with ``weight`` [D].

    With r = 1 / rms(x) and g the gradient of the output, that of x is
    ``r (g w - x r mean(g w x r))``.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        r = (x * x).mean(-1, keepdim=True).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, r)
        return (x * r).mul_(weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight, r = ctx.saved_tensors
        unit = x * r
        product = grad * unit
        grad_weight = product.flatten(0, -2).sum(0)
        mean = (product @ weight).div_(len(weight)).unsqueeze(-1)
        # Into what is already there: fresh memory costs a page fault every 4 KB.
        grad_x = torch.mul(grad, weight, out=product).addcmul_(unit, mean, value=-1).mul_(r)
        return grad_x, grad_weight, None
