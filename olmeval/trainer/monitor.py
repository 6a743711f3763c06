"""What tells that a run is unstable: how often values spike, and where gradients are large.

Nothing here changes the training, so it works on values that the log has fetched anyway.
"""

import math
from collections import deque
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor


class SpikeScore:
    """The share of steps at which the loss or the gradient norm spiked.

    A value spikes if it lies more than ``sigma`` standard deviations (of the population) above the
    mean of the ``window`` values before it; the first ``window`` steps cannot. The measure of the
    OLMo 2 report (arXiv:2501.00656), with the window and threshold of OLMo-core's
    ``StabilityMonitor``. Steps that are not finite spike, and are not part of what later ones are
    held against.
    """

    def __init__(self, window: int = 128, sigma: float = 6.0):
        self.window, self.sigma = window, sigma
        self.recent: tuple[deque[float], ...] = (deque(maxlen=window), deque(maxlen=window))
        self.steps = 0
        self.spikes = 0

    def add(self, loss: float, norm: float) -> bool:
        """Takes in one step; says whether it spiked."""
        values = (loss, norm)
        spiked = not all(map(math.isfinite, values))
        if not spiked:
            pairs = list(zip(values, self.recent, strict=True))
            spiked = any(self._is_spike(value, recent) for value, recent in pairs)
            for value, recent in pairs:
                recent.append(value)
        self.steps += 1
        self.spikes += spiked
        return spiked

    def _is_spike(self, value: float, recent: deque[float]) -> bool:
        if len(recent) < self.window:
            return False
        mean = math.fsum(recent) / self.window
        deviation = math.sqrt(math.fsum((x - mean) ** 2 for x in recent) / self.window)
        # Of values that are all the same, rounding alone would stand out.
        return value > mean + self.sigma * max(deviation, 1e-10)

    @property
    def score(self) -> float | None:
        """Spikes a step of the whole run; None before there have been ``window`` steps."""
        return self.spikes / self.steps if self.steps >= self.window else None

    def state_dict(self) -> dict[str, Any]:
        """All of it, as JSON."""
        return {
            "steps": self.steps,
            "spikes": self.spikes,
            "recent": [list(values) for values in self.recent],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on where another one of the same window stood."""
        self.steps, self.spikes = state["steps"], state["spikes"]
        for recent, values in zip(self.recent, state["recent"], strict=True):
            recent.clear()
            recent.extend(values)


GROUPS = ("embed_tokens", "self_attn", "mlp", "norm", "lm_head")


def gradient_norms(named_parameters: Iterable[tuple[str, nn.Parameter]]) -> dict[str, Tensor]:
    """The norm of the gradient of each part of the model, as scalars on the device.

    Parts: embedding, attention, MLP, all norms, head. Their squares sum to that of the whole. Call
    it before the step, which clears the gradients.
    """
    parts: dict[str, list[Tensor]] = {}
    for name, parameter in named_parameters:
        if parameter.grad is not None:
            group = "norm" if "norm" in name else next(g for g in GROUPS if g in name)
            parts.setdefault(group, []).append(parameter.grad)
    norms = {g: torch.nn.utils.get_total_norm(parts[g]) for g in GROUPS if g in parts}
    return {g: n.full_tensor() if isinstance(n, DTensor) else n for g, n in norms.items()}
