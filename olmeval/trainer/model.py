"""The OLMo-2 decoder, exactly as transformers' ``Olmo2ForCausalLM`` computes it.

What sets it apart from a Llama (OLMo 2, arXiv:2501.00656, section 3): no norm before a sublayer but
one on its output, before the residual add; RMSNorm on the whole query and key projection, before
the split into heads; no biases; untied embedding and head. Parameters carry the names of the
Hugging Face export, so ``state_dict()`` is the content of ``model.safetensors``.

Shape letters: B batch, T tokens, D hidden size, H query heads, K key-value heads, E head size,
F feed-forward size, V vocabulary.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from olmeval.errors import UserError

INIT_STD = 0.02


@dataclass(frozen=True)
class ModelConfig:
    """Sizes of one model, under the names of the Hugging Face configuration."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    max_position_embeddings: int
    rope_theta: float = 500_000.0
    rms_norm_eps: float = 1e-6

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value <= 0:
                raise UserError(f"model: {name} must be positive, not {value}")
        if self.hidden_size % (2 * self.num_attention_heads):
            raise UserError(
                f"model: hidden_size {self.hidden_size} must be an even number of times "
                f"num_attention_heads {self.num_attention_heads}, so that a head splits in halves"
            )
        if self.num_attention_heads % self.num_key_value_heads:
            raise UserError(
                f"model: num_attention_heads {self.num_attention_heads} must be a multiple of "
                f"num_key_value_heads {self.num_key_value_heads}"
            )

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_attention_heads

    @property
    def params(self) -> int:
        """Weights without the input embedding, with norms and output head: the N of scaling laws.

        Counting as in OLMo-ladder (Bhagia et al. 2024, arXiv:2412.04403).
        """
        d, kv = self.hidden_size, self.num_key_value_heads * self.head_dim
        attention = 2 * d * d + 2 * d * kv + d + kv
        block = attention + 3 * d * self.intermediate_size + 2 * d
        return self.num_hidden_layers * block + d + self.vocab_size * d

    @property
    def params_total(self) -> int:
        """All weights."""
        return self.params + self.vocab_size * self.hidden_size

    def flops_per_token(self, seq_len: int) -> int:
        """Floating-point operations of one token, forward and backward.

        ``6N + 12 L D T``: PaLM's convention (Chowdhery et al. 2022, arXiv:2204.02311, appendix B):
        attention is counted without the causal halving, the embedding look-up is free.
        """
        attention = 12 * self.num_hidden_layers * self.hidden_size * seq_len
        return 6 * self.params + attention

    def hf_config(
        self, *, eos_id: int, bos_id: int | None = None, dtype: str = "float32"
    ) -> dict[str, Any]:
        """The exported ``config.json``.

        Every field whose class default in transformers differs from OLMo-2's value is written out.
        There is no padding token (null), because the class default 1 would freeze a real row of the
        embedding in whoever trains on.
        """
        return {
            "architectures": ["Olmo2ForCausalLM"],
            "model_type": "olmo2",
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.num_hidden_layers,
            "num_attention_heads": self.num_attention_heads,
            "num_key_value_heads": self.num_key_value_heads,
            "head_dim": self.head_dim,
            "max_position_embeddings": self.max_position_embeddings,
            "rms_norm_eps": self.rms_norm_eps,
            # transformers 5 reads rope_parameters; older vLLM reads rope_theta.
            "rope_parameters": {"rope_type": "default", "rope_theta": self.rope_theta},
            "rope_theta": self.rope_theta,
            "hidden_act": "silu",
            "attention_bias": False,
            "attention_dropout": 0.0,
            "initializer_range": INIT_STD,
            "tie_word_embeddings": False,
            "use_cache": True,
            "pad_token_id": None,
            "bos_token_id": bos_id,
            "eos_token_id": eos_id,
            "dtype": dtype,
        }

    @classmethod
    def from_hf(cls, config: Mapping[str, Any], where: str) -> "ModelConfig":
        """The sizes in a Hugging Face configuration, every default written out.

        Raises :class:`UserError`, naming ``where``, for a model of another kind.
        """
        rope = config.get("rope_parameters") or {}
        expected = {
            "model_type": (config.get("model_type"), "olmo2"),
            "rope_type": (rope.get("rope_type"), "default"),
            "hidden_act": (config.get("hidden_act"), "silu"),
            "attention_bias": (config.get("attention_bias"), False),
            "tie_word_embeddings": (config.get("tie_word_embeddings"), False),
        }
        for name, (found, wanted) in expected.items():
            if found != wanted:
                raise UserError(
                    f"'{where}': {name} is {found}, and the trainer's model has {wanted}; use the "
                    "transformers backend"
                )
        sizes = {f.name: config[f.name] for f in fields(cls) if f.name != "rope_theta"}
        made = cls(**sizes, rope_theta=rope["rope_theta"])
        if config.get("head_dim", made.head_dim) != made.head_dim:
            raise UserError(
                f"'{where}': head_dim is {config['head_dim']}, and the trainer's model has "
                f"hidden_size / num_attention_heads; use the transformers backend"
            )
        return made


class RMSNorm(nn.Module):  # type: ignore[misc]
    """``x / rms(x) * weight``, computed in fp32 and cast back (Zhang & Sennrich 2019)."""

    def __init__(self, size: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x.float(), self.weight.shape, self.weight, self.eps).to(x.dtype)


class Rotate(torch.autograd.Function):  # type: ignore[misc]
    """Rotary embedding of ``x`` [B, T, heads, E] with fp32 tables [T, 1, E/2] (Su et al. 2021).

    Channel j turns with channel j + E/2. The gradient is the rotation by the opposite angle, so
    nothing is saved but the tables.
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
    out = torch.empty(x.shape, dtype=torch.float32, device=x.device)
    torch.mul(x1, cos, out=out[..., :half]).addcmul_(x2, sin, value=-1)
    torch.mul(x2, cos, out=out[..., half:]).addcmul_(x1, sin)
    return out.to(x.dtype)


# Queries [B, T, H, E], keys and values [B, T, K, E] and the layer's number to outputs [B, T, H, E].
Attend = Callable[[Tensor, Tensor, Tensor, int], Tensor]


def attend_causally(q: Tensor, k: Tensor, v: Tensor, _layer: int) -> Tensor:
    """Each token attends to itself and to all before it."""
    y = F.scaled_dot_product_attention(
        q.transpose(1, 2),
        k.transpose(1, 2),
        v.transpose(1, 2),
        is_causal=True,
        enable_gqa=k.shape[2] != q.shape[2],
    )
    return y.transpose(1, 2)


class Attention(nn.Module):  # type: ignore[misc]
    """Projections with RMSNorm over all of the query and the key; who attends to whom is given."""

    def __init__(self, config: ModelConfig, layer: int):
        super().__init__()
        d, kv = config.hidden_size, config.num_key_value_heads * config.head_dim
        self.layer = layer
        self.head_dim = config.head_dim
        self.q_proj = nn.Linear(d, d, bias=False)
        self.k_proj = nn.Linear(d, kv, bias=False)
        self.v_proj = nn.Linear(d, kv, bias=False)
        self.o_proj = nn.Linear(d, d, bias=False)
        self.q_norm = RMSNorm(d, config.rms_norm_eps)
        self.k_norm = RMSNorm(kv, config.rms_norm_eps)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, attend: Attend) -> Tensor:
        heads = (*x.shape[:2], -1, self.head_dim)
        q = Rotate.apply(self.q_norm(self.q_proj(x)).view(heads), cos, sin)  # [B, T, H, E]
        k = Rotate.apply(self.k_norm(self.k_proj(x)).view(heads), cos, sin)  # [B, T, K, E]
        y = attend(q, k, self.v_proj(x).view(heads), self.layer)
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

    def __init__(self, config: ModelConfig, layer: int):
        super().__init__()
        self.self_attn = Attention(config, layer)
        self.mlp = MLP(config)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_feedforward_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, attend: Attend) -> Tensor:
        x = x + self.post_attention_layernorm(self.self_attn(x, cos, sin, attend))
        return x + self.post_feedforward_layernorm(self.mlp(x))


class Decoder(nn.Module):  # type: ignore[misc]
    """Embedding, blocks and final norm: tokens [B, T] to hidden states [B, T, D]."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Block(config, i) for i in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self._rope: tuple[Tensor, Tensor] | None = None

    def forward(
        self, tokens: Tensor, positions: Tensor | None = None, attend: Attend | None = None
    ) -> Tensor:
        """Hidden states [B, T, D] of ``tokens`` [B, T].

        ``positions`` [B, T] (default 0 … T-1) and ``attend`` (default causal) serve whoever feeds
        something else than whole sequences: continuations of a cached one, branches of a tree.
        """
        x = self.embed_tokens(tokens)
        if positions is None:
            cos, sin = self.rope_tables(tokens.shape[1], x.device)
        else:
            cos, sin = self._rotations(positions)
        for layer in self.layers:
            x = layer(x, cos, sin, attend or attend_causally)
        return self.norm(x)

    def rope_tables(self, seq_len: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """fp32 cosines and sines [T, 1, E/2] of positions 0 … T-1; cached."""
        if self._rope is None or len(self._rope[0]) < seq_len or self._rope[0].device != device:
            cos, sin = self._rotations(torch.arange(seq_len))
            self._rope = cos.to(device), sin.to(device)
        cos, sin = self._rope
        return cos[:seq_len], sin[:seq_len]

    def _rotations(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """fp32 cosines and sines [..., 1, E/2] of ``position * theta^(-2j/E)``."""
        e = self.config.head_dim
        exponents = torch.arange(0, e, 2, dtype=torch.float32, device=positions.device) / e
        angles = positions.float()[..., None, None] * (1.0 / self.config.rope_theta**exponents)
        return angles.cos(), angles.sin()


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
    """A freshly initialised model: the same weights for a seed, whatever the device.

    Matrices and embeddings are drawn from N(0, 0.02^2) cut at three sigma, norms are 1, by one
    generator in OLMo-core's order (``InitMethod.normal``): embedding; q, k, v, o, gate, up, down of
    each block; head.
    """
    with torch.device("meta"):
        model: Olmo2 = Olmo2(config)
    model.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(seed)
    matrices = [model.model.embed_tokens]
    for layer in model.model.layers:
        attn, mlp = layer.self_attn, layer.mlp
        matrices += [attn.q_proj, attn.k_proj, attn.v_proj, attn.o_proj]
        matrices += [mlp.gate_proj, mlp.up_proj, mlp.down_proj]
    matrices.append(model.lm_head)
    for module in matrices:
        bound = 3 * INIT_STD
        nn.init.trunc_normal_(module.weight, 0.0, INIT_STD, -bound, bound, generator=generator)
    for module in model.modules():
        if isinstance(module, RMSNorm):
            nn.init.ones_(module.weight)
    model.to(device)
    return model
