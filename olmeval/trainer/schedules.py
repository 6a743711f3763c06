"""Learning-rate schedules as functions of the tokens seen.

Tokens, not steps, so that a run keeps its schedule when its batch size changes.
"""

import math
from bisect import bisect_left
from dataclasses import dataclass
from typing import Literal

from olmeval.errors import UserError

Kind = Literal["wsd", "wsds", "cosine", "linear", "constant"]


@dataclass(frozen=True)
class Schedule:
    """Warm-up from 0 to the peak over ``warmup`` tokens, then by ``kind``, until ``total`` tokens.

    constant: stays at the peak. linear, cosine: fall to ``final`` (a fraction of the peak) at the
    end; half a cosine wave for the latter (Loshchilov & Hutter 2017). wsd: stays, then falls
    linearly to ``final`` over the last ``decay`` tokens (warm-up, stable, decay; Hu et al. 2024,
    arXiv:2404.06395). wsds: periods that end at ``ends`` tokens, each falling linearly to ``final``
    over its last ``decays`` tokens, the next one starting at the peak again, so that one run gives
    a finished model at the end of every period (WSD-S; Wen et al. 2024, arXiv:2410.05192).
    """

    kind: Kind
    total: float
    warmup: float = 0.0
    decay: float = 0.0
    final: float = 0.0
    ends: tuple[float, ...] = ()
    decays: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.kind == "wsds":
            self._check_periods()
        elif self.warmup + (self.decay if self.kind == "wsd" else 0.0) > self.total:
            raise UserError(
                f"schedule: {self.warmup:,.0f} tokens of warm-up and {self.decay:,.0f} of decay "
                f"do not fit into {self.total:,.0f} tokens; lower them or train for longer"
            )

    def _check_periods(self) -> None:
        if len(self.decays) != len(self.ends) or self.ends[-1:] != (self.total,):
            raise UserError(
                f"schedule: the {len(self.ends)} periods of wsds need as many decays, not "
                f"{len(self.decays)}, and the last must end with the run, at {self.total:,.0f} "
                "tokens"
            )
        starts = (self.warmup, *self.ends)
        for start, end, decay in zip(starts, self.ends, self.decays, strict=False):
            if start + decay > end:
                raise UserError(
                    f"schedule: {decay:,.0f} tokens of decay do not fit between {start:,.0f} "
                    f"tokens and the end of the period at {end:,.0f}; lower them or move the end"
                )

    def factor(self, tokens: float) -> float:
        """The fraction of the peak learning rate after ``tokens`` tokens."""
        if tokens < self.warmup:
            return tokens / self.warmup
        start, end = self._fall(tokens)
        if tokens <= start or end <= start:
            return 1.0
        progress = min(1.0, (tokens - start) / (end - start))
        if self.kind == "cosine":
            progress = (1 - math.cos(math.pi * progress)) / 2
        return 1.0 + (self.final - 1.0) * progress

    def _fall(self, tokens: float) -> tuple[float, float]:
        """Where the rate that holds at ``tokens`` begins and ends to fall."""
        match self.kind:
            case "constant":
                return self.total, self.total
            case "wsd":
                return self.total - self.decay, self.total
            case "wsds":
                period = min(bisect_left(self.ends, tokens), len(self.ends) - 1)
                return self.ends[period] - self.decays[period], self.ends[period]
            case _:
                return self.warmup, self.total

    def at_step(self, step: int, batch_tokens: int) -> float:
        """The factor in the middle of step ``step`` (from 0).

        The middle is the mean of a linear piece over the step; at either edge the first or the last
        step would have a rate of zero and be wasted.
        """
        return self.factor((step + 0.5) * batch_tokens)
