"""Rotary position embedding in fp32 (Su et al. 2021), with YaRN for contexts that were stretched.

Channel j of a head turns with channel j + E/2 (E: head size), as in every Hugging Face export.
"""

import math
from typing import Any

import torch
from torch import Tensor

from olmeval.trainer.model_config import Yarn


def rotations(
    positions: Tensor, head_dim: int, theta: float, yarn: Yarn | None = None
) -> tuple[Tensor, Tensor]:
    """fp32 cosines and sines [..., 1, E/2] of ``positions`` [...] times each channel's frequency.

    Made anew at every forward pass: that costs microseconds, and a kept one would have to follow
    the device, the length and the mode of inference.
    """
    frequencies = _frequencies(head_dim, theta, yarn, positions.device)
    angles = positions.float()[..., None, None] * frequencies
    scale = yarn.attention_factor if yarn else 1.0
    return angles.cos() * scale, angles.sin() * scale


def _frequencies(head_dim: int, theta: float, yarn: Yarn | None, device: torch.device) -> Tensor:
    """``theta^(-2j/E)`` of channels j, [E/2]; with YaRN, slowed where it says."""
    channels = torch.arange(0, head_dim, 2, dtype=torch.float32, device=device)
    frequencies = 1.0 / theta ** (channels / head_dim)
    if yarn is None:
        return frequencies

    def channel(turns: float) -> float:
        """The channel, as a fraction, that turns so many times over the old context."""
        context = yarn.original_max_position_embeddings
        return head_dim * math.log(context / (turns * 2 * math.pi)) / (2 * math.log(theta))

    low = max(math.floor(channel(yarn.beta_fast)), 0)
    high = min(math.ceil(channel(yarn.beta_slow)), head_dim - 1)
    slowed = ((channels / 2 - low) / max(high - low, 0.001)).clamp(0, 1)
    return frequencies * (1 - slowed) + frequencies / yarn.factor * slowed


class Rotate(torch.autograd.Function):  # type: ignore[misc]
    """``x`` [B, T, heads, E] turned by what :func:`rotations` gives for [T] or [B, T].

    The gradient is the rotation by the opposite angle, so nothing is saved but the tables.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _rotate(x, cos, sin)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return _rotate(grad, cos, -sin), None, None


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    x1, x2 = x[..., :half].float(), x[..., half:].float()
    y1 = torch.addcmul(x1 * cos, x2, sin, value=-1)
    y2 = torch.addcmul(x2 * cos, x1, sin)
    return torch.cat((y1, y2), -1).to(x.dtype)
