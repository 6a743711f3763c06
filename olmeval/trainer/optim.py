"""AdamW or Muon, with clipping and a guard against bad steps that never waits for the device.

The fused kernel of torch divides gradients by ``grad_scale`` and leaves everything untouched where
``found_inf`` is set (the protocol of its gradient scaler). Clipping and skipping ride on it: no
pass over the gradients to scale them, and no value is fetched from the device. Optimizers without
that kernel are put back to where they were instead.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from olmeval.trainer.recipe_spec import OptimizerSpec


def build_optimizer(
    model: nn.Module, *, betas: tuple[float, float], eps: float, weight_decay: float
) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter 2019) that decays every weight but the input embedding.

    OLMo-2's grouping (arXiv:2501.00656, section 3.2): decay shrinks rare tokens' embeddings, and
    small ones make for large gradients of the norms above them. The rate is set at every step.
    """
    return _adamw(model, list(model.parameters()), betas, eps, weight_decay)


def build_muon(
    model: nn.Module,
    *,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    momentum: float = 0.95,
) -> tuple[torch.optim.Muon, torch.optim.AdamW]:
    """Muon (Jordan et al. 2024) for the blocks' matrices, AdamW for embedding, head and norms.

    Muon's updates are scaled to the size of AdamW's (Liu et al. 2025, arXiv:2502.16982), so both
    take the rate and decay that suit AdamW. Both go to :func:`clipped_step` and to a checkpoint
    together.
    """
    edges = {id(p) for p in _embeddings(model)}
    edges |= {id(p) for name, p in model.named_parameters() if name == "lm_head.weight"}
    matrices = [p for p in model.parameters() if p.dim() == 2 and id(p) not in edges]
    inner = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in inner]
    muon = torch.optim.Muon(
        matrices,
        lr=0.0,
        weight_decay=weight_decay,
        momentum=momentum,
        adjust_lr_fn="match_rms_adamw",
    )
    return muon, _adamw(model, rest, betas, eps, weight_decay)


def _adamw(
    model: nn.Module,
    parameters: list[nn.Parameter],
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
) -> torch.optim.AdamW:
    embeddings = {id(p) for p in _embeddings(model)}
    decayed = [p for p in parameters if id(p) not in embeddings]
    plain = [p for p in parameters if id(p) in embeddings]
    groups = [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=0.0, betas=betas, eps=eps, fused=True)


def _embeddings(model: nn.Module) -> list[nn.Parameter]:
    return [m.weight for m in model.modules() if isinstance(m, nn.Embedding)]


def build_optimizers(model: nn.Module, spec: OptimizerSpec) -> list[Optimizer]:
    """The optimizers that a recipe asks for; all of them go to :func:`clipped_step`."""
    betas, eps, decay = spec.betas, spec.eps, spec.weight_decay
    if spec.kind == "adamw":
        return [build_optimizer(model, betas=betas, eps=eps, weight_decay=decay)]
    muon = build_muon(model, betas=betas, eps=eps, weight_decay=decay, momentum=spec.momentum)
    return list(muon)


class SpikeGuard:
    """Says which steps to skip, from the losses and gradient norms of the last ``window`` steps.

    A step is skipped if its loss or its norm is more than ``sigma`` standard deviations above the
    mean of those before it, once there are half a ``window`` of them (the rule of OLMo-core's
    ``SkipStepOptimizer``, by which OLMo 2 and 3 were trained). A skipped step still counts as
    history, or a loss that has really risen would be skipped for ever; one that is not finite
    does not. All of it stays on ``device``.
    """

    def __init__(self, device: torch.device | str, window: int = 128, sigma: float = 6.0):
        self.window, self.sigma = window, sigma
        self.history = torch.zeros(2, window, device=device)
        """Losses and norms, the latest last."""
        self.seen = torch.zeros((), dtype=torch.int64, device=device)

    def judge(self, loss: Tensor, norm: Tensor) -> Tensor:
        """Whether to skip the step (bool scalar); then takes it into the history.

        On several ranks both must be those of the whole batch, so that all decide alike.
        """
        values = torch.stack([loss.detach(), norm.detach()]).float().unsqueeze(1)  # [2, 1]
        count = self.seen.clamp(max=self.window)
        held = torch.arange(self.window, device=count.device) >= self.window - count
        mean = (self.history * held).sum(1, keepdim=True) / count
        variance = ((self.history - mean).square() * held).sum(1, keepdim=True) / (count - 1)
        high = (values > mean + self.sigma * variance.sqrt()).any() & (count >= self.window // 2)
        finite = values.isfinite().all()
        moved = torch.cat([self.history[:, 1:], values], 1)
        self.history.copy_(torch.where(finite, moved, self.history))
        self.seen += finite
        return high | ~finite

    def state_dict(self) -> dict[str, Tensor]:
        """What a resumed run needs to skip the same steps."""
        return {"history": self.history, "seen": self.seen}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Takes up the history of another guard of the same window."""
        self.history.copy_(state["history"])
        self.seen.copy_(state["seen"])


@torch.no_grad()  # type: ignore[untyped-decorator]
def clipped_step(
    optimizer: Optimizer | Sequence[Optimizer],
    parameters: Iterable[Tensor],
    lr: float,
    max_norm: float,
    *,
    loss: Tensor | None = None,
    guard: SpikeGuard | None = None,
) -> tuple[Tensor, Tensor]:
    """One update at rate ``lr`` with the gradients scaled down to a global norm of ``max_norm``.

    A step whose norm (or ``loss``, if given) is not finite is skipped, and one that ``guard`` says
    to skip: weights and state stay as they are. Returns (norm before clipping, 1.0 if skipped, else
    0.0) as scalars on the device, and clears the gradients.
    """
    norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    if isinstance(norm, DTensor):
        norm = norm.full_tensor()
    bad = ~norm.isfinite()
    if loss is not None:
        bad = bad | ~loss.detach().isfinite()
        if guard is not None:
            bad = bad | guard.judge(loss, norm)
    skipped, scale = bad.float(), (norm / max_norm).clamp(min=1.0)
    for one in [optimizer] if isinstance(optimizer, Optimizer) else optimizer:
        for group in one.param_groups:
            group["lr"] = lr
        if isinstance(one, torch.optim.AdamW):
            _fused_step(one, scale, skipped)
        else:
            _restored_step(one, scale, bad)
        one.zero_grad()
    return norm, skipped


def _fused_step(optimizer: Any, scale: Tensor, skipped: Tensor) -> None:
    optimizer.grad_scale, optimizer.found_inf = scale, skipped
    optimizer.step()
    # Left in place, they would be pickled with the optimizer and act on a plain step() later.
    del optimizer.grad_scale, optimizer.found_inf


def _restored_step(optimizer: Optimizer, scale: Tensor, bad: Tensor) -> None:
    """A step of any optimizer, undone where ``bad``; holds a copy of weights and state."""
    weights = [p for g in optimizer.param_groups for p in g["params"] if p.grad is not None]
    for p in weights:
        p.grad = p.grad / scale
    old = [(p.clone(), {k: v.clone() for k, v in optimizer.state[p].items()}) for p in weights]
    optimizer.step()
    for p, (weight, state) in zip(weights, old, strict=True):
        p.copy_(torch.where(bad, weight, p))
        for key, value in optimizer.state[p].items():
            # What did not exist before the first step began at zero.
            value.copy_(torch.where(bad, state.get(key, torch.zeros_like(value)), value))
