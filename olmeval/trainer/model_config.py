"""What an OLMo-2 or OLMo-3 is made of: sizes, counts, and the Hugging Face configuration.

OLMo-3 is OLMo-2 with a sliding window in three of four layers; a window is what tells them apart
here. Counts are pure functions of the sizes, so that plans and fits need no model.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from olmeval.errors import UserError

INIT_STD = 0.02
SLIDING, FULL = "sliding_attention", "full_attention"


@dataclass(frozen=True)
class Yarn:
    """YaRN (Peng et al. 2023, arXiv:2309.00071): rotary frequencies for ``factor`` times the
    context that the model was trained on, ``original_max_position_embeddings``.

    Channels that turn more than ``beta_fast`` times over the old context stay, those that turn less
    than ``beta_slow`` times are slowed by ``factor``, those between are mixed.
    """

    factor: float
    original_max_position_embeddings: int
    beta_fast: float = 32.0
    beta_slow: float = 1.0

    def __post_init__(self) -> None:
        if self.factor < 1 or self.original_max_position_embeddings < 1:
            raise UserError(
                f"model: yarn has factor {self.factor} and original_max_position_embeddings "
                f"{self.original_max_position_embeddings}; both must be at least 1"
            )
        if not self.beta_fast > self.beta_slow > 0:
            raise UserError(
                f"model: yarn.beta_fast {self.beta_fast} must be larger than yarn.beta_slow "
                f"{self.beta_slow}, and that than 0"
            )

    @property
    def attention_factor(self) -> float:
        """What cosines and sines are multiplied by, which sharpens attention (section 3.4)."""
        return 0.1 * math.log(self.factor) + 1.0


@dataclass(frozen=True)
class ModelConfig:
    """Sizes of one model, under the names of the Hugging Face configuration.

    ``sliding_window``: tokens that a sliding layer sees, itself included; None: an OLMo-2, whose
    layers see all before them. ``yarn`` applies to the layers that see all.
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    max_position_embeddings: int
    rope_theta: float = 500_000.0
    rms_norm_eps: float = 1e-6
    sliding_window: int | None = None
    yarn: Yarn | None = None

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if isinstance(value, int | float) and value <= 0:
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
    def model_type(self) -> str:
        """What transformers calls the architecture."""
        return "olmo2" if self.sliding_window is None else "olmo3"

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_attention_heads

    @property
    def windows(self) -> tuple[int | None, ...]:
        """Tokens that each layer sees; None: all.

        Every fourth layer sees all, and the last one does (OLMo 3, arXiv:2512.13961; OLMo-core).
        """
        last = self.num_hidden_layers - 1
        return tuple(
            None if i % 4 == 3 or i == last else self.sliding_window
            for i in range(self.num_hidden_layers)
        )

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

        ``6N + 12 D sum over layers of min(W, T)``: PaLM's convention (Chowdhery et al. 2022,
        arXiv:2204.02311, appendix B): attention is counted without the causal halving, the
        embedding look-up is free.
        """
        seen = sum(min(window or seq_len, seq_len) for window in self.windows)
        return 6 * self.params + 12 * self.hidden_size * seen

    def hf_config(
        self, *, eos_id: int, bos_id: int | None = None, dtype: str = "float32"
    ) -> dict[str, Any]:
        """The exported ``config.json``.

        Every field whose class default in transformers differs from ours is written out. There is
        no padding token (null), because the class default 1 would freeze a real row of the
        embedding in whoever trains on.
        """
        plain = {"rope_type": "default", "rope_theta": self.rope_theta}
        full = plain
        if self.yarn is not None:
            full = {"rope_type": "yarn", "rope_theta": self.rope_theta, **asdict(self.yarn)}
            full["attention_factor"] = self.yarn.attention_factor
        config = {
            "architectures": [f"{self.model_type.capitalize()}ForCausalLM"],
            "model_type": self.model_type,
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.num_hidden_layers,
            "num_attention_heads": self.num_attention_heads,
            "num_key_value_heads": self.num_key_value_heads,
            "head_dim": self.head_dim,
            "max_position_embeddings": self.max_position_embeddings,
            "rms_norm_eps": self.rms_norm_eps,
            "rope_parameters": full,
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
        if self.sliding_window is None:
            # Older vLLM reads it here. In an OLMo-3 transformers 5 would apply it to some layers.
            config["rope_theta"] = self.rope_theta
        else:
            config["rope_parameters"] = {FULL: full, SLIDING: plain}
            config["sliding_window"] = self.sliding_window
            config["layer_types"] = self._layer_types()
        return config

    def _layer_types(self) -> list[str]:
        return [FULL if window is None else SLIDING for window in self.windows]

    @classmethod
    def from_hf(cls, config: Mapping[str, Any], where: str) -> "ModelConfig":
        """The sizes in a Hugging Face configuration, every default written out.

        Raises :class:`UserError`, naming ``where``, for a model of another kind.
        """

        def require(name: str, found: Any, *wanted: Any) -> None:
            if found not in wanted:
                raise UserError(
                    f"'{where}': {name} is {found}, and the trainer's model has "
                    f"{' or '.join(map(str, wanted))}; use the transformers backend"
                )

        require("model_type", config.get("model_type"), "olmo2", "olmo3")
        require("hidden_act", config.get("hidden_act"), "silu")
        require("attention_bias", config.get("attention_bias"), False)
        require("tie_word_embeddings", config.get("tie_word_embeddings"), False)
        rope = full = config.get("rope_parameters") or {}
        window = None
        if config["model_type"] == "olmo3":
            rope, full = rope.get(SLIDING) or {}, rope.get(FULL) or {}
            window = config.get("sliding_window")
            if window is None:
                require("sliding_window", window, "a number")
            require("rope_type", rope.get("rope_type"), "default")
            require("rope_theta of the sliding layers", rope["rope_theta"], full.get("rope_theta"))
        require("rope_type", full.get("rope_type"), "default", "yarn")
        yarn = None
        if full["rope_type"] == "yarn":
            known = {f.name for f in fields(Yarn)}
            yarn = Yarn(**{key: full[key] for key in known if full.get(key) is not None})
            for key in full.keys() - known - {"rope_type", "rope_theta", "attention_factor"}:
                require(f"{key} of YaRN", full[key], None)
            factor = full.get("attention_factor") or yarn.attention_factor
            if not math.isclose(factor, yarn.attention_factor, rel_tol=1e-6):
                require("attention_factor of YaRN", factor, yarn.attention_factor)
        computed = {"rope_theta", "sliding_window", "yarn"}
        made = cls(
            **{f.name: config[f.name] for f in fields(cls) if f.name not in computed},
            rope_theta=full["rope_theta"],
            sliding_window=window,
            yarn=yarn,
        )
        require("head_dim", config.get("head_dim", made.head_dim), made.head_dim)
        if window is not None:
            require("layer_types", config.get("layer_types"), made._layer_types())
        return made
