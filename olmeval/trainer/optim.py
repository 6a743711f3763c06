"""AdamW with clipping and a guard against non-finite gradients, in one fused pass.

The fused kernel of torch divides gradients by ``grad_scale`` and leaves everything untouched where
``found_inf`` is set (the protocol of its gradient scaler). Clipping and skipping ride on it: no
pass over the gradients to scale them, and no value is fetched from the device.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor


def build_optimizer(
    model: nn.Module, *, betas: tuple[float, float], eps: float, weight_decay: float
) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter 2019) that decays every weight but the input embedding.

    OLMo-2's grouping (arXiv:2501.00656, section 3.2): decay shrinks rare tokens' embeddings, and
    small ones make for large gradients of the norms above them. The rate is set at every step.
    """
    embedding = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    decayed = [p for p in model.parameters() if id(p) not in embedding]
    plain = [p for p in model.parameters() if id(p) in embedding]
    groups = [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=0.0, betas=betas, eps=eps, fused=True)


def clipped_step(
    optimizer: torch.optim.AdamW, parameters: Iterable[Tensor], lr: float, max_norm: float
) -> tuple[Tensor, Tensor]:
    """One update at rate ``lr`` with the gradients scaled down to a global norm of ``max_norm``.

    Returns (norm before clipping, 1.0 if the step was skipped because the norm is not finite, else
    0.0) as scalars on the device, and clears the gradients.
    """
    grads = [p.grad for p in parameters if p.grad is not None]
    norm = torch.nn.utils.get_total_norm(grads)
    if isinstance(norm, DTensor):
        norm = norm.full_tensor()
    skipped = (~norm.isfinite()).float()
    optimizer.grad_scale = (norm / max_norm).clamp(min=1.0)
    optimizer.found_inf = skipped
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.step()
    # Left in place, they would be pickled with the optimizer and act on a plain step() later.
    del optimizer.grad_scale, optimizer.found_inf
    optimizer.zero_grad()
    return norm, skipped
