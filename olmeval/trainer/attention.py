"""Who attends to whom: one function for causal, windowed and document-wise attention.

Whole causal sequences go to PyTorch's fused kernel, or, short ones that a processor trains on, to
products that leave out most of the future. Windows and documents go to its kernel for sequences of
many lengths where that runs (half precision on a CUDA device); elsewhere they become a dense mask,
which costs memory and time in the square of the length, and serves tests and small models on a
processor.

Shape letters: B batch, T tokens, H query heads, K key-value heads, E head size.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from olmeval.trainer.instances import Tokens, cu_seqlens, document_ids

ROWS = 64  # of queries that CausalRows takes at a time


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    window: int | None = None,
    documents: Tensor | None = None,
) -> Tensor:
    """Outputs [B, T, H, E] of queries [B, T, H, E] over keys and values [B, T, K, E].

    A token attends to itself and to those before it: to the last ``window`` of them, itself
    included (None: all), and only within its own document if ``documents`` has them, as
    :func:`pack_documents` gives them. Scores are scaled by E^-0.5.
    """
    if window is not None and window >= q.shape[1]:
        window = None
    if window is None and documents is None:
        if _is_short(q):
            return _by_rows(q, k, v)
        y = F.scaled_dot_product_attention(
            q.transpose(1, 2),
            k.transpose(1, 2),
            v.transpose(1, 2),
            is_causal=True,
            enable_gqa=k.shape[2] != q.shape[2],
        )
        return y.transpose(1, 2)
    if _has_kernel(q):
        return _by_kernel(q, k, v, window, documents)
    return _by_mask(q, k, v, window, documents)


def pack_documents(tokens: Tokens, eos_id: int, device: torch.device) -> Tensor:
    """The documents in a batch of ``tokens`` [B, T + 1], as :func:`attention` takes them there.

    On a CUDA device int32 starts of documents in the flattened batch [n], filled up at the end with
    empty ones to a power of two, so that a compiled model sees few shapes. Elsewhere each token's
    document [B, T].
    """
    if device.type != "cuda":
        return torch.from_numpy(document_ids(tokens, eos_id)).to(device)
    starts = cu_seqlens(tokens, eos_id)
    size = 1 << (len(starts) - 1).bit_length()
    filled = np.pad(starts, (0, size - len(starts)), mode="edge")
    return torch.from_numpy(filled).pin_memory().to(device, non_blocking=True)


def _is_short(q: Tensor) -> bool:
    """Whether a processor trains in fp32 on sequences whose attention weights fit into memory."""
    fits: bool = ROWS < q.shape[1] <= 512
    return fits and q.is_cpu and q.requires_grad and q.dtype == torch.float32


def _by_rows(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    batch, length, heads, size = q.shape
    groups = heads // k.shape[2]
    q, k, v = (
        x.transpose(1, 2).reshape(batch * heads, length, size)
        for x in (q, k.repeat_interleave(groups, 2), v.repeat_interleave(groups, 2))
    )
    y: Tensor = CausalRows.apply(q, k, v)
    return y.view(batch, heads, length, size).transpose(1, 2)


class CausalRows(torch.autograd.Function):  # type: ignore[misc]
    """Causal attention of q, k, v [N, T, E], some rows of queries at a time.

    Rows go against the keys up to the last of them, so little is computed only to be masked; and
    their weights are kept for the gradient. torch's kernel for a processor computes all of the
    square, and once more on the way back: two thirds more time at 256 tokens.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q = q * q.shape[2] ** -0.5
        out, kept = torch.empty_like(q), []
        future = torch.full((ROWS, ROWS), -torch.inf).triu_(1)
        for start in range(0, q.shape[1], ROWS):
            end = min(start + ROWS, q.shape[1])
            scores = q[:, start:end] @ k[:, :end].mT
            scores[:, :, start:] += future[: end - start, : end - start]
            weights = scores.softmax(-1)
            out[:, start:end] = weights @ v[:, :end]
            kept.append(weights)
        ctx.save_for_backward(q, k, v, *kept)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v, *kept = ctx.saved_tensors
        dq, dk, dv = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        for start, weights in zip(range(0, q.shape[1], ROWS), kept, strict=True):
            end = min(start + ROWS, q.shape[1])
            g = grad[:, start:end]
            dv[:, :end].baddbmm_(weights.mT, g)
            scores = (g @ v[:, :end].mT).mul_(weights)
            # Softmax's gradient: p * (dp - sum(p dp)).
            scores.addcmul_(weights, scores.sum(-1, keepdim=True), value=-1)
            dq[:, start:end] = scores @ k[:, :end]
            dk[:, :end].baddbmm_(scores.mT, q[:, start:end])
        return dq.mul_(q.shape[2] ** -0.5), dk, dv


def _has_kernel(q: Tensor) -> bool:
    """FlashAttention takes half precision, and heads of up to 256 channels, in eights."""
    return (
        q.is_cuda and q.dtype in (torch.bfloat16, torch.float16)
        and q.shape[3] % 8 == 0 and q.shape[3] <= 256
    )  # fmt: skip


def _by_kernel(
    q: Tensor, k: Tensor, v: Tensor, window: int | None, documents: Tensor | None
) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    batch, length = q.shape[:2]
    if documents is None:
        documents = torch.arange(
            0, (batch + 1) * length, length, dtype=torch.int32, device=q.device
        )
    y = varlen_attn(
        q.flatten(0, 1),
        k.flatten(0, 1),
        v.flatten(0, 1),
        documents,
        documents,
        length,  # only bounds the longest document, and a constant keeps one compiled graph
        length,
        # The kernel counts the tokens before, not the token itself.
        window_size=(-1 if window is None else window - 1, 0),
        enable_gqa=k.shape[2] != q.shape[2],
    )
    return y.view(q.shape)


def _by_mask(
    q: Tensor, k: Tensor, v: Tensor, window: int | None, documents: Tensor | None
) -> Tensor:
    positions = torch.arange(q.shape[1], device=q.device)
    before = positions[:, None] - positions
    seen = before >= 0
    if window is not None:
        seen &= before < window
    if documents is not None:
        ids = documents if documents.dim() == 2 else _ids(documents, q.shape[:2])
        seen = seen & (ids[:, :, None] == ids[:, None, :])[:, None]
    # Fused kernels take a mask or grouped heads, not both.
    groups = q.shape[2] // k.shape[2]
    y = F.scaled_dot_product_attention(
        q.transpose(1, 2),
        k.repeat_interleave(groups, 2).transpose(1, 2),
        v.repeat_interleave(groups, 2).transpose(1, 2),
        attn_mask=seen,
    )
    return y.transpose(1, 2)


def _ids(starts: Tensor, shape: torch.Size) -> Tensor:
    """Each token's document [B, T] from the documents' starts [n]."""
    tokens = torch.arange(shape.numel(), dtype=starts.dtype, device=starts.device)
    return torch.bucketize(tokens, starts, right=True).view(shape)
