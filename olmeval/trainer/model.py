"""The OLMo-2 and OLMo-3 decoder, exactly as transformers computes it.

What sets it apart from a Llama (OLMo 2, arXiv:2501.00656, section 3): no norm before a sublayer but
one on its output, before the residual add; RMSNorm on the whole query and key projection, before
the split into heads; no biases; untied embedding and head. OLMo-3 adds a sliding window in three of
four layers. Parameters carry the names of the Hugging Face export, so ``state_dict()`` is the
content of ``model.safetensors``.

Shape letters: B batch, T tokens, D hidden size, H query heads, K key-value heads, E head size,
F feed-forward size, V vocabulary.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from olmeval.trainer.attention import attention
from olmeval.trainer.model_config import INIT_STD, ModelConfig, Yarn
from olmeval.trainer.norm import RMSNorm
from olmeval.trainer.rope import Rotate, rotations

__all__ = ["Attend", "ModelConfig", "Olmo2", "RMSNorm", "Yarn", "build_model", "init_weights"]

# Queries [B, T, H, E], keys and values [B, T, K, E] and the layer's number to outputs [B, T, H, E].
Attend = Callable[[Tensor, Tensor, Tensor, int], Tensor]
# The same for one layer.
AttendHere = Callable[[Tensor, Tensor, Tensor], Tensor]


class Attention(nn.Module):  # type: ignore[misc]
    """Projections with RMSNorm over all of the query and the key; who attends to whom is given."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        d, kv = config.hidden_size, config.num_key_value_heads * config.head_dim
        self.head_dim = config.head_dim
        self.q_proj = nn.Linear(d, d, bias=False)
        self.k_proj = nn.Linear(d, kv, bias=False)
        self.v_proj = nn.Linear(d, kv, bias=False)
        self.o_proj = nn.Linear(d, d, bias=False)
        self.q_norm = RMSNorm(d, config.rms_norm_eps)
        self.k_norm = RMSNorm(kv, config.rms_norm_eps)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, attend: AttendHere) -> Tensor:
        heads = (*x.shape[:2], -1, self.head_dim)
        q = Rotate.apply(self.q_norm(self.q_proj(x)).view(heads), cos, sin)  # [B, T, H, E]
        k = Rotate.apply(self.k_norm(self.k_proj(x)).view(heads), cos, sin)  # [B, T, K, E]
        y = attend(q, k, self.v_proj(x).view(heads))
        return self.o_proj(y.reshape(x.shape))


class MLP(nn.Module):  # type: ignore[misc]
    """SwiGLU (Shazeer 2020): ``down(silu(gate(x)) * up(x))``."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):  # type: ignore[misc]
    """Attention and MLP, each normalised on its output before it joins the residual stream."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.self_attn = Attention(config)
        self.mlp = MLP(config)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_feedforward_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, attend: AttendHere) -> Tensor:
        x = x + self.post_attention_layernorm(self.self_attn(x, cos, sin, attend))
        return x + self.post_feedforward_layernorm(self.mlp(x))


class Decoder(nn.Module):  # type: ignore[misc]
    """Embedding, blocks and final norm: tokens [B, T] to hidden states [B, T, D]."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor | None = None,
        attend: Attend | None = None,
        documents: Tensor | None = None,
    ) -> Tensor:
        """Hidden states [B, T, D] of ``tokens`` [B, T].

        ``documents``: what :func:`~olmeval.trainer.attention.pack_documents` makes of the batch,
        for attention within documents. ``positions`` [B, T] (default 0 … T-1) and ``attend``
        (default: causal, in the layer's window) serve whoever feeds something else than whole
        sequences: continuations of a cached one, branches of a tree.
        """
        config = self.config
        x = self.embed_tokens(tokens)
        if positions is None:
            positions = torch.arange(tokens.shape[1], device=tokens.device)
        near = far = rotations(positions, config.head_dim, config.rope_theta)
        if config.yarn is not None:
            far = rotations(positions, config.head_dim, config.rope_theta, config.yarn)
        for i, (layer, window) in enumerate(zip(self.layers, config.windows, strict=True)):
            cos, sin = far if window is None else near
            if attend is not None:
                here = _at(attend, i)
            else:
                # Without the layer's number, so that layers of a kind share one compiled block.
                if window is not None and window >= tokens.shape[1]:
                    window = None
                here = partial(attention, window=window, documents=documents)
            x = layer(x, cos, sin, here)
        return self.norm(x)


def _at(attend: Attend, layer: int) -> AttendHere:
    return lambda q, k, v: attend(q, k, v, layer)


class Olmo2(nn.Module):  # type: ignore[misc]
    """An OLMo-2 language model; build it with :func:`build_model`."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.model = Decoder(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits [B, T, V] of ``tokens`` [B, T]."""
        return self.lm_head(self.model(tokens))


def build_model(config: ModelConfig, seed: int, device: torch.device | str = "cpu") -> Olmo2:
    """A freshly initialised model: the same weights for a seed, whatever the device."""
    with torch.device("meta"):
        model: Olmo2 = Olmo2(config)
    model.to_empty(device=device)
    init_weights(model, seed)
    return model


@torch.no_grad()  # type: ignore[untyped-decorator]
def init_weights(model: Olmo2, seed: int) -> None:
    """Overwrites the weights in place, so that compiled graphs and optimizers stay valid.

    Matrices and embeddings are drawn from N(0, 0.02^2) cut at three sigma, norms are 1, by one
    generator on the processor in OLMo-core's order (``InitMethod.normal``): embedding; q, k, v, o,
    gate, up, down of each block; head. Of a matrix that is spread over ranks each rank draws the
    whole and keeps its part, so the weights depend neither on device nor on the number of ranks.
    """
    generator = torch.Generator().manual_seed(seed)
    matrices = [model.model.embed_tokens]
    for layer in model.model.layers:
        attn, mlp = layer.self_attn, layer.mlp
        matrices += [attn.q_proj, attn.k_proj, attn.v_proj, attn.o_proj]
        matrices += [mlp.gate_proj, mlp.up_proj, mlp.down_proj]
    matrices.append(model.lm_head)
    for module in matrices:
        weight, bound = module.weight, 3 * INIT_STD
        drawn = torch.empty(weight.shape)
        nn.init.trunc_normal_(drawn, 0.0, INIT_STD, -bound, bound, generator=generator)
        put(drawn, weight)
    for module in model.modules():
        if isinstance(module, RMSNorm):
            module.weight.fill_(1.0)


@torch.no_grad()  # type: ignore[untyped-decorator]
def put(value: Tensor, weight: Tensor) -> None:
    """Overwrites ``weight`` with ``value``, which every rank has; a rank keeps its part of it."""
    if isinstance(weight, DTensor):
        # No source rank: nothing needs to be sent.
        mesh, placements = weight.device_mesh, weight.placements
        value = distribute_tensor(value.to(weight.device), mesh, placements, src_data_rank=None)
    weight.copy_(value)
