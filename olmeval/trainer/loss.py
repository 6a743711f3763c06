"""Cross-entropy of a linear head, with z-loss, without ever holding all logits.

For a small model the head is most of the work: ordinary cross-entropy writes [N, V] logits, reads
them, writes their gradient and reads that twice. Here rows go through the head in chunks that stay
in cache, and each chunk's gradient is computed while its logits are there, in the forward pass; the
backward pass only scales the stored result.
"""

from typing import Any

import torch
from torch import Tensor

IGNORE_INDEX = -100


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    num_tokens: int | Tensor,
    z_weight: float = 0.0,
    ignore_index: int = IGNORE_INDEX,
    chunk: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Sum over rows of ``-log softmax(hidden @ weight.T)[target] + z * logsumexp^2``, over n.

    hidden: [N, D] in float32 or bfloat16; weight: [V, D]; targets: [N], ``ignore_index`` where a
    row does not count. ``num_tokens`` is the n to divide by: the caller knows over how many batches
    or ranks the mean runs. Returns (loss to differentiate, cross-entropy alone), fp32 scalars of
    which the second carries no gradient; nats. The z-loss is PaLM's (Chowdhery et al. 2022,
    section 5).
    """
    if chunk is None:
        # On a CPU, logits of a chunk in the second-level cache; on a GPU, tens of megabytes.
        chunk = 128 if hidden.device.type == "cpu" else max(128, (1 << 25) // len(weight))
    loss, entropy = LinearCrossEntropy.apply(
        hidden, weight, targets, num_tokens, z_weight, ignore_index, chunk
    )
    return loss, entropy


class LinearCrossEntropy(torch.autograd.Function):  # type: ignore[misc]
    """See :func:`linear_cross_entropy`; gradients of hidden and weight only."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        num_tokens: int | Tensor,
        z_weight: float,
        ignore_index: int,
        chunk: int,
    ) -> tuple[Tensor, Tensor]:
        grad_hidden = torch.empty_like(hidden)
        # Transposed: this product is a quarter faster in that layout, and it runs once a chunk.
        grad_head = torch.zeros(weight.T.shape, dtype=torch.float32, device=weight.device)
        head = weight.to(hidden.dtype)
        counted = targets != ignore_index
        scale = counted / num_tokens
        index = targets.where(counted, 0).unsqueeze(1)
        sums = []
        # Two buffers for all chunks: fresh ones of this size cost a page fault every 4 KB.
        shape = (min(chunk, len(hidden)), len(weight))
        all_logits = torch.empty(shape, dtype=hidden.dtype, device=hidden.device)
        all_probs = torch.empty(shape, dtype=torch.float32, device=hidden.device)
        for start in range(0, len(hidden), chunk):
            rows = slice(start, start + chunk)
            x, y, s = hidden[rows], index[rows], scale[rows].unsqueeze(1)
            logits = torch.mm(x, head.T, out=all_logits[: len(x)])
            probs = torch.softmax(logits, 1, torch.float32, out=all_probs[: len(x)])
            # The largest probability is at least 1/V, so its logarithm is exact where a target's
            # might have underflowed.
            lse = logits.amax(1, keepdim=True).float() - probs.amax(1, keepdim=True).log()
            nll = lse - logits.gather(1, y)
            sums.append(torch.stack([(nll * s).sum(), (lse * lse * s).sum()]))
            # d loss / d logits = s * (softmax * (1 + 2 z lse) - onehot)
            grad = probs.mul_((1 + 2 * z_weight * lse) * s).scatter_add_(1, y, -s)
            grad = grad.to(hidden.dtype)
            torch.mm(grad, head, out=grad_hidden[rows])
            if hidden.dtype == torch.float32:
                grad_head.addmm_(x.T, grad)
            else:
                grad_head += (x.T @ grad).float()
        entropy, squares = torch.stack(sums).sum(0)
        ctx.save_for_backward(grad_hidden, grad_head.T.to(weight.dtype).contiguous())
        ctx.mark_non_differentiable(entropy)
        return entropy + z_weight * squares, entropy

    @staticmethod
    def backward(ctx: Any, grad_loss: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        grad_hidden, grad_weight = ctx.saved_tensors
        return grad_hidden * grad_loss, grad_weight * grad_loss, None, None, None, None, None
