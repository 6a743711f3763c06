"""Cross-entropy of a linear head, with z-loss, without ever holding all logits.

For a small model the head is most of the work: ordinary cross-entropy writes [N, V] logits, reads
them, writes their gradient and reads that twice. Here rows go through the head in chunks, and each
chunk's gradient is computed while its logits are there, in the forward pass; the backward pass only
scales the stored result. To ``torch.compile`` and CUDA graphs all of it is one operator.

Shape letters: N rows, C rows of a chunk, D hidden size, V vocabulary.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, library

IGNORE_INDEX = -100

# Hidden states [C, D], head [V, D], targets [C, 1], row weights [C, 1] and z_weight to the logits'
# gradient [C, V] and (weighted cross-entropy, weighted square of the logsumexp) [2].
Gradient = Callable[[Tensor, Tensor, Tensor, Tensor, float], tuple[Tensor, Tensor]]


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
    which the second carries no gradient; nats. Their difference is the z-loss, which is PaLM's
    (Chowdhery et al. 2022, section 5).
    """
    if chunk is None:
        # On a CPU, logits of a chunk in the second-level cache. On a GPU a quarter of a gigabyte of
        # them: every chunk adds to the head's gradient in memory, so many small ones cost more
        # than logits in cache would save.
        chunk = 128 if hidden.device.type == "cpu" else max(128, (1 << 27) // len(weight))
    counted = targets != ignore_index
    scale = counted / num_tokens
    index = targets.where(counted, 0)
    entropy, squares, _, _ = _linear_cross_entropy(hidden, weight, index, scale, z_weight, chunk)
    # The operator's gradient is that of the whole, so only the whole may be differentiated.
    return entropy + z_weight * squares.detach(), entropy.detach()


@library.custom_op("olmeval::linear_cross_entropy", mutates_args=())  # type: ignore[untyped-decorator]
def _linear_cross_entropy(
    hidden: Tensor, weight: Tensor, index: Tensor, scale: Tensor, z_weight: float, chunk: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Sums of cross-entropy and squared logsumexp; gradients of hidden and weight."""
    gradient: Gradient = fused
    if hidden.is_cpu:
        gradient = InCache(min(chunk, len(hidden)), weight, hidden.dtype)
    return by_chunks(hidden, weight, index, scale, z_weight, chunk, gradient)


@_linear_cross_entropy.register_fake  # type: ignore[untyped-decorator]
def _(
    hidden: Tensor, weight: Tensor, _index: Tensor, scale: Tensor, *_: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    sums = scale.new_empty(2)
    return sums[0].clone(), sums[1].clone(), torch.empty_like(hidden), torch.empty_like(weight)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    del inputs  # torch passes it by this name
    ctx.save_for_backward(output[2], output[3])


def _backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
    grad_hidden, grad_weight = ctx.saved_tensors
    return grad_hidden * grad, grad_weight * grad, None, None, None, None


_linear_cross_entropy.register_autograd(_backward, setup_context=_save)


def by_chunks(
    hidden: Tensor,
    weight: Tensor,
    index: Tensor,
    scale: Tensor,
    z_weight: float,
    chunk: int,
    gradient: Gradient,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Rows weighted by ``scale`` [N], ``chunk`` at a time; see :func:`linear_cross_entropy`."""
    grad_hidden = torch.empty_like(hidden)
    # Transposed: this product is a quarter faster in that layout, and it runs once a chunk.
    grad_head = torch.zeros(weight.T.shape, dtype=torch.float32, device=weight.device)
    head = weight.to(hidden.dtype)
    sums = []
    for start in range(0, len(hidden), chunk):
        rows = slice(start, start + chunk)
        x, y, s = hidden[rows], index[rows].unsqueeze(1), scale[rows].unsqueeze(1)
        grad, part = gradient(x, head, y, s, z_weight)
        sums.append(part)
        torch.mm(grad, head, out=grad_hidden[rows])
        if hidden.dtype == torch.float32:
            grad_head.addmm_(x.T, grad)
        elif hidden.is_cuda:
            torch.addmm(grad_head, x.T, grad, out_dtype=torch.float32, out=grad_head)
        else:
            grad_head += (x.T @ grad).float()
    entropy, squares = torch.stack(sums).sum(0).unbind()
    grad_weight = grad_head.T.to(weight.dtype).contiguous()
    return entropy.clone(), squares.clone(), grad_hidden, grad_weight


class InCache:
    """The gradient of a chunk's logits, in a few passes over two buffers that all chunks share.

    Fresh ones of this size would cost a page fault every 4 KB.
    """

    def __init__(self, rows: int, head: Tensor, dtype: torch.dtype):
        self.logits = torch.empty(rows, len(head), dtype=dtype)
        self.probs = torch.empty(rows, len(head), dtype=torch.float32)

    def __call__(
        self, x: Tensor, head: Tensor, y: Tensor, s: Tensor, z_weight: float
    ) -> tuple[Tensor, Tensor]:
        logits = torch.mm(x, head.T, out=self.logits[: len(x)])
        probs = torch.softmax(logits, 1, torch.float32, out=self.probs[: len(x)])
        # The largest probability is at least 1/V, so its logarithm is exact where a target's might
        # have underflowed.
        lse = logits.amax(1, keepdim=True).float() - probs.amax(1, keepdim=True).log()
        nll = lse - logits.gather(1, y)
        # d loss / d logits = s * (softmax * (1 + 2 z lse) - onehot)
        grad = probs.mul_((1 + 2 * z_weight * lse) * s).scatter_add_(1, y, -s)
        return grad.to(x.dtype), torch.stack([(nll * s).sum(), (lse * lse * s).sum()])


def fused(x: Tensor, head: Tensor, y: Tensor, s: Tensor, z_weight: float) -> tuple[Tensor, Tensor]:
    """The same by a kernel that a compiler makes, of two passes over the logits."""
    return _compiled()(x @ head.T, y, s, z_weight)  # type: ignore[no-any-return]


@cache
def _compiled() -> Callable[..., Any]:
    compiled: Callable[..., Any] = torch.compile(_formula, dynamic=False)
    return compiled


def _formula(logits: Tensor, y: Tensor, s: Tensor, z_weight: float) -> tuple[Tensor, Tensor]:
    wide = logits.float()
    lse = wide.logsumexp(1, keepdim=True)
    nll = lse - wide.gather(1, y)
    onehot = torch.arange(logits.shape[1], device=logits.device) == y
    grad = s * ((wide - lse).exp() * (1 + 2 * z_weight * lse) - onehot.float())
    return grad.to(logits.dtype), torch.stack([(nll * s).sum(), (lse * lse * s).sum()])
