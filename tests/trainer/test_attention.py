"""Every way of attention against softmax written out in double precision."""

import numpy as np
import pytest
import torch
from torch import Tensor

from olmeval.trainer.attention import _ids, attention, pack_documents

B, T, H, E = 3, 33, 4, 8
EOS = 0


def reference(q: Tensor, k: Tensor, v: Tensor, window: int | None, ids: np.ndarray) -> Tensor:
    """One query at a time: which keys it may see is decided by plain comparisons."""
    out = torch.zeros(q.shape, dtype=torch.float64)
    share = q.shape[2] // k.shape[2]
    for b in range(q.shape[0]):
        for i in range(q.shape[1]):
            near = range(0 if window is None else max(0, i - window + 1), i + 1)
            seen = [j for j in near if ids[b, j] == ids[b, i]]
            for h in range(q.shape[2]):
                scores = k[b, seen, h // share].double() @ q[b, i, h].double() / E**0.5
                out[b, i, h] = scores.softmax(0) @ v[b, seen, h // share].double()
    return out


def inputs(kv_heads: int, batch: int = B, length: int = T) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple(
        torch.randn(batch, length, heads, E, generator=generator).requires_grad_()
        for heads in (H, kv_heads, kv_heads)
    )


def batch() -> np.ndarray:
    """Rows of one, of three and of many documents."""
    tokens = np.ones((B, T + 1), dtype=np.int64)
    tokens[1, [7, 20]] = EOS
    tokens[2, 1::3] = EOS
    return tokens


@pytest.mark.parametrize("kv_heads", [4, 2, 1])
@pytest.mark.parametrize("window", [None, 1, 5, 32, 33, 100])
@pytest.mark.parametrize("documents", [False, True])
def test_outputs_and_gradients(kv_heads: int, window: int | None, documents: bool) -> None:
    q, k, v = inputs(kv_heads)
    packed = pack_documents(batch(), EOS, torch.device("cpu")) if documents else None
    ids = np.zeros((B, T), dtype=int) if packed is None else packed.numpy()
    found, expected = attention(q, k, v, window, packed), reference(q, k, v, window, ids)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)

    seed = torch.randn(found.shape, generator=torch.Generator().manual_seed(1))
    ours = torch.autograd.grad(found, (q, k, v), seed)
    theirs = torch.autograd.grad(expected, (q, k, v), seed.double())
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("length", [64, 65, 128, 150])
def test_rows_of_queries_at_a_time(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a processor trains with equals the definition, and torch's kernel."""
    q, k, v = inputs(2, 1, length)
    found = attention(q, k, v)
    assert ("CausalRows" in str(graph(found))) == (length > 64)
    expected = reference(q, k, v, None, np.zeros((1, length), dtype=int))
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)
    seed = torch.randn(found.shape, generator=torch.Generator().manual_seed(1))
    ours = torch.autograd.grad(found, (q, k, v), seed)
    monkeypatch.setattr("olmeval.trainer.attention._is_short", lambda _: False)
    whole = attention(q, k, v)
    assert "CausalRows" not in str(graph(whole))
    theirs = torch.autograd.grad(whole, (q, k, v), seed)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-5)


def graph(y: Tensor) -> list[str]:
    """Names of the operations that made ``y``."""
    names, nodes = [], [y.grad_fn]
    while nodes:
        node = nodes.pop()
        if node is not None:
            names.append(node.name())
            nodes += [following for following, _ in node.next_functions]
    return names


def test_documents_of_a_batch() -> None:
    packed = pack_documents(batch(), EOS, torch.device("cpu"))
    assert packed[0].tolist() == [0] * T
    assert packed[1].tolist() == [0] * 8 + [1] * 13 + [2] * 12


def test_starts_and_numbers_say_the_same() -> None:
    """What the kernel takes and what the mask takes, from one batch."""
    ids = pack_documents(batch(), EOS, torch.device("cpu"))
    starts = torch.tensor([0, *(np.flatnonzero(np.diff(flat_ids(ids))) + 1), B * T, B * T, B * T])
    again = _ids(starts, ids.shape)
    for row, other in zip(ids, again, strict=True):
        assert torch.equal(row[:, None] == row, other[:, None] == other)
    q, k, v = inputs(2)
    assert torch.equal(attention(q, k, v, 5, ids), attention(q, k, v, 5, starts))


def flat_ids(ids: Tensor) -> np.ndarray:
    """Numbers that also differ from row to row."""
    return (ids + 1000 * torch.arange(len(ids))[:, None]).flatten().numpy()


@pytest.mark.gpu
@pytest.mark.parametrize("kv_heads", [4, 2])
@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("documents", [False, True])
def test_the_kernel_equals_the_mask(kv_heads: int, window: int | None, documents: bool) -> None:
    cuda = torch.device("cuda")
    q, k, v = (x.detach().to(cuda, torch.bfloat16).requires_grad_() for x in inputs(kv_heads))
    packed = pack_documents(batch(), EOS, cuda) if documents else None
    found = attention(q, k, v, window, packed)
    exact = [x.detach().float().requires_grad_() for x in (q, k, v)]
    expected = attention(*exact, window, packed)
    torch.testing.assert_close(found.float(), expected, rtol=2e-2, atol=2e-2)
    seed = torch.randn_like(found)
    ours = torch.autograd.grad(found, (q, k, v), seed)
    theirs = torch.autograd.grad(expected, exact, seed.float())
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.float(), other, rtol=5e-2, atol=5e-2)
