"""How fast a run could be, how long it will take, and what it needs on each device.

Conventions: FLOPs of a token are 6N + 12 L d T (:meth:`ModelConfig.flops_per_token`), with no
halving for causal attention and no addition for recomputation; model FLOPs utilization (MFU,
Chowdhery et al. 2022, arXiv:2204.02311) is that over the peak of the device's dense bfloat16 matrix
products.
"""

from dataclasses import asdict, dataclass
from typing import Any

import torch

from olmeval.errors import UserError, nearest
from olmeval.trainer.recipe import Plan

# Dense bfloat16 tensor-core peaks in TFLOP/s and memory in GB, from the vendors' data sheets.
GPUS = {
    "a100": (312.0, 80),
    "l40s": (362.0, 48),
    "h100-pcie": (756.0, 80),
    "h100": (989.4, 80),
    "h200": (989.4, 141),
    "b200": (2250.0, 180),
    "mi300x": (1307.4, 192),
}
# From so many parameters on, a utilization to reckon with on one node: OLMo-core publishes 0.40 to
# 0.48 from 1B to 13B, nanochat 0.41 at 190M; 0.2 at 30M is a guess. Below, time goes to starting
# kernels and to the logits, and FLOPs say nothing about it.
ASSUMED_MFU = ((10**9, 0.42), (10**8, 0.38), (10**7, 0.2))


def _gpu(name: str) -> tuple[float, int]:
    if name not in GPUS:
        hint = nearest(name, GPUS) or f"; known are {', '.join(GPUS)}; or give --peak-tflops"
        raise UserError(f"there is no GPU '{name}' in the table{hint}")
    return GPUS[name]


def card_called(device_name: str) -> str | None:
    """The card in the table that a device's own name means; None if it has none."""
    name = device_name.lower().replace(" ", "-")
    for known in sorted(GPUS, key=len, reverse=True):
        # "NVIDIA H100 PCIe" is another card than "NVIDIA H100 80GB HBM3".
        if all(part in name for part in known.split("-")):
            return known
    return None


def device_peak_tflops(device: torch.device) -> float | None:
    """The peak of the card that is there; None if the table does not have it."""
    if device.type != "cuda":
        return None
    card = card_called(torch.cuda.get_device_name(device))
    return card and GPUS[card][0]  # type: ignore[return-value]


@dataclass(frozen=True)
class Memory:
    """Bytes on each device while training, by what takes them."""

    weights: int
    gradients: int
    optimizer: int
    gathered: int
    """Weights that ranks gather in bfloat16: the head, and two blocks at a time."""
    activations: int
    loss: int

    @property
    def total(self) -> int:
        """All of it; the allocator and the libraries take a few GB more."""
        parts = (self.weights, self.gradients, self.optimizer, self.gathered)
        return sum(parts) + self.activations + self.loss


def memory(plan: Plan, gpus: int = 1) -> Memory:
    """An estimate from sizes alone, for attention that stores no scores.

    With P weights of which a device holds P/S: 4 P/S for the weights, 4 P/S for gradients, 8 P/S
    for AdamW's two moments, and 4 P/S more with a moving average. A token keeps, in each block,
    about 14 d + 4 f numbers of 2 bytes (4 in float32): inputs and outputs of the projections (d for
    o and down, 3 kinds of d for q and k: projected, normalised, rotated; v; the attention's output;
    normalised sublayer outputs and two residuals) and gate, up, their activation and product
    (f). Recomputation keeps d a block and the whole of one block. The loss keeps hidden states
    and the head's float32 gradient, and works on a chunk of logits.
    """
    model, spec = plan.model, plan.recipe.train
    sharded = spec.shard or gpus // (spec.replicate or 1)
    d, f, layers = model.hidden_size, model.intermediate_size, model.num_hidden_layers
    held = model.params_total // sharded
    size = 2 if spec.precision == "bfloat16" else 4
    head = model.vocab_size * d
    block = (model.params - head - d) // layers
    rows = -(-plan.mixture.batch_size // gpus)
    tokens = min(rows, spec.micro_batch_size or rows) * spec.seq_len
    whole = (14 * d + 4 * f) * size * tokens
    kept = d * size * tokens
    if spec.activation_checkpointing == "full":
        activations = layers * kept + whole
    elif spec.activation_checkpointing is None:
        activations = layers * whole
    else:
        activations = int(layers * (kept + spec.activation_checkpointing * (whole - kept)))
    chunk = min(tokens * model.vocab_size, 1 << 27)
    return Memory(
        weights=4 * held * (1 if plan.recipe.checkpoint.ema is None else 2),
        gradients=4 * held,
        optimizer=8 * held,
        gathered=(head + 2 * block) * size if gpus > 1 else 0,
        activations=activations,
        loss=4 * head + 2 * size * d * tokens + chunk * (size + 4),
    )


def estimate(
    plan: Plan,
    gpu: str | None = None,
    gpus: int = 1,
    mfu: float | None = None,
    peak: float | None = None,
) -> dict[str, Any]:
    """Hours and memory of a plan on ``gpus`` cards at an ``mfu``, as ``--show`` prints.

    ``gpu`` is a card of the table, by default the one of this machine; ``peak`` replaces its
    TFLOP/s. ``mfu``: by default assumed by the model's size. Without a rate or an MFU, hours are
    None. Raises :class:`UserError` for a card that the table does not have, and for numbers that
    make no sense.
    """
    for flag, value, bound in (("gpus", gpus, None), ("mfu", mfu, 1), ("peak-tflops", peak, None)):
        if value is not None and not 0 < value <= (bound or value):
            most = f", and at most {bound}" if bound else ""
            raise UserError(f"--{flag} {value:g} must be more than 0{most}")
    share = mfu or next((share for n, share in ASSUMED_MFU if plan.model.params >= n), None)
    if gpu is None and peak is None and torch.cuda.is_available():
        gpu = card_called(torch.cuda.get_device_name())
    tflops, capacity = _gpu(gpu) if gpu else (None, None)
    tflops = peak or tflops
    rate = tflops and share and gpus * tflops * 1e12 * share
    flops, need = plan.flops(plan.tokens), memory(plan, gpus)
    return {
        "gpu": gpu or (peak and f"{peak:g} TFLOP/s"),
        "gpus": gpus,
        "peak_tflops": tflops,
        "mfu": share,
        "mfu_assumed": mfu is None,
        "hours": rate and flops / rate / 3600,
        "tokens_per_second": rate and rate * plan.tokens / flops,
        "memory_bytes": {**asdict(need), "total": need.total},
        "capacity_bytes": capacity and capacity * 10**9,
    }
