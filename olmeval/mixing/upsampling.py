"""Quality-aware upsampling: how often each quality bucket is repeated under a token budget.

Repetition rises smoothly with quality as C (x - a)^p exp(l (x - a)), x the percentile of a token's
quality and a the fraction that is dropped (OLMo 3 technical report, arXiv:2512.13961, quality-aware
upsampling). The budget fixes C; l is as large as the most repetition of the best bucket allows, so
that quality counts as much as it may. Where even l = 0 is too steep, p is lowered instead.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from olmeval.errors import UserError
from olmeval.mixing.domains import Domains
from olmeval.mixing.problem import known

Array = NDArray[np.float64]
NODES = 100
STEEPEST = 60.0


@dataclass(frozen=True)
class Upsampling:
    """``repetition`` of each bucket and the ``tokens`` drawn from it, which add up to the budget;
    ``scale`` is C, ``power`` p and ``steepness`` l of the curve."""

    repetition: dict[str, float]
    tokens: dict[str, float]
    scale: float
    power: float
    steepness: float


def upsample(
    buckets: Mapping[str, float],
    budget: float,
    *,
    drop: float = 0.4,
    most: float = 7.0,
    power: float = 1.0,
) -> Upsampling:
    """Repetitions of ``buckets`` {name: tokens}, worst first, that use ``budget`` tokens.

    ``drop``: fraction of all tokens, from the worst, that is not used. ``most``: repetition of the
    bucket that is repeated most. Raises :class:`UserError` when the tokens that are left cannot
    fill the budget, naming how many are short.
    """
    if not buckets or any(not count > 0 for count in buckets.values()):
        raise UserError("every quality bucket must hold tokens")
    if not (0 <= drop < 1 and 0 < most < np.inf and 0 < budget < np.inf and 0 <= power <= STEEPEST):
        raise UserError(
            f"drop lies in [0, 1), most and budget are above 0, power is 0 to {STEEPEST:g}"
        )
    total = float(sum(buckets.values()))
    ends = np.concatenate([[0.0], np.cumsum(list(buckets.values())) / total])
    ends[-1] = 1.0
    used = np.maximum(ends, drop)
    widths = np.diff(used)
    # Where a bucket is cut the part that is left fills it: its mean is over the whole bucket.
    room = most * np.minimum(widths, np.diff(ends)) * total
    if budget > room.sum() * (1 + 1e-12):
        raise UserError(
            f"{most:g} repetitions of the best {100 * (1 - drop):.0f} % allow "
            f"{room.sum():,.0f} tokens: {budget - room.sum():,.0f} short; drop less or repeat more"
        )

    def drawn(power: float, steepness: float) -> tuple[Array, float]:
        """Repetition (b,) of the part of each bucket that is used, and C."""
        parts = _integrals(used, drop, power, steepness)
        scale = budget / total / parts.sum()
        return np.divide(scale * parts, widths, out=np.zeros_like(parts), where=widths > 0), scale

    # The best bucket's repetition rises with power and steepness; an even spread is the least.
    gentle = drawn(power, 0.0)[0][-1] > most
    low, high = (0.0, power) if gentle else (0.0, STEEPEST)
    for _ in range(60):
        middle = (low + high) / 2
        fits = drawn(*((middle, 0.0) if gentle else (power, middle)))[0][-1] <= most
        low, high = (middle, high) if fits else (low, middle)
    final_power, steepness = (low, 0.0) if gentle else (power, low)
    repetition, scale = drawn(final_power, steepness)
    tokens = repetition * widths * total
    counts = np.array(list(buckets.values()))
    return Upsampling(
        repetition=dict(zip(buckets, (tokens / counts).tolist(), strict=True)),
        tokens=dict(zip(buckets, tokens.tolist(), strict=True)),
        scale=scale,
        power=final_power,
        steepness=steepness,
    )


def tokens_of(domains: Domains, buckets: Sequence[str]) -> dict[str, float]:
    """What ``buckets``, leaves of a tree, hold, in their order.

    Raises :class:`UserError` for names that are not leaves, doubled ones and unmeasured ones.
    """
    held: dict[str, float] = {}
    leaves = {leaf.name: leaf for leaf in domains.leaves}
    for name in buckets:
        known(name, domains.names, "buckets")
        if name in held:
            raise UserError(f"the bucket '{name}' is given twice")
        tokens = leaves[name].tokens
        if tokens is None:
            raise UserError(f"'{name}' has no tokens; measure them with 'olmix priors'")
        held[name] = tokens
    return held


@cache
def _rule() -> tuple[Array, Array]:
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    return nodes, weights


def _integrals(used: Array, drop: float, power: float, steepness: float) -> Array:
    """Of (x - a)^p exp(l (x - a)) between neighbouring ends, by Gauss and Legendre."""
    nodes, weights = _rule()
    half = np.diff(used)[:, None] / 2
    x = (used[:-1, None] + used[1:, None]) / 2 + half * nodes - drop
    # Scaled so that it does not overflow; C takes the factor back.
    log = steepness * (x - (1 - drop))
    integrals: Array = (half * weights * np.maximum(x, 0) ** power * np.exp(log)).sum(axis=1)
    return integrals
