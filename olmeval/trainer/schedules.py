"""Learning-rate schedules as functions of the tokens seen.

Tokens, not steps, so that a run keeps its schedule when its batch size changes.
"""

import math
from dataclasses import dataclass
from typing import Literal

from olmeval.errors import UserError

Kind = Literal["wsd", "cosine", "linear", "constant"]


@dataclass(frozen=True)
class Schedule:
    """Warm-up from 0 to the peak over ``warmup`` tokens, then by ``kind``, until ``total`` tokens.

    constant: stays at the peak. linear, cosine: fall to ``final`` (a fraction of the peak) at the
    end; half a cosine wave for the latter (Loshchilov & Hutter 2017). wsd: stays, then falls
    linearly to ``final`` over the last ``decay`` tokens (warm-up, stable, decay; Hu et al. 2024,
    arXiv:2404.06395).
    """

    kind: Kind
    total: float
    warmup: float = 0.0
    decay: float = 0.0
    final: float = 0.0

    def __post_init__(self) -> None:
        if self.warmup + (self.decay if self.kind == "wsd" else 0.0) > self.total:
            raise UserError(
                f"schedule: {self.warmup:,.0f} tokens of warm-up and {self.decay:,.0f} of decay "
                f"do not fit into {self.total:,.0f} tokens; lower them or train for longer"
            )

    def factor(self, tokens: float) -> float:
        """The fraction of the peak learning rate after ``tokens`` tokens."""
        if tokens < self.warmup:
            return tokens / self.warmup
        if self.kind == "constant":
            return 1.0
        start = self.total - self.decay if self.kind == "wsd" else self.warmup
        if tokens <= start or self.total <= start:
            return 1.0
        progress = min(1.0, (tokens - start) / (self.total - start))
        if self.kind == "cosine":
            progress = (1 - math.cos(math.pi * progress)) / 2
        return 1.0 + (self.final - 1.0) * progress

    def at_step(self, step: int, batch_tokens: int) -> float:
        """The factor in the middle of step ``step`` (from 0).

        The middle is the mean of a linear piece over the step; at either edge the first or the last
        step would have a rate of zero and be wasted.
        """
        return self.factor((step + 0.5) * batch_tokens)
