"""Which ends hold a mixture back, and what each of them costs."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from olmeval.mixing.bootstrap import oracle_of
from olmeval.mixing.convex import Optimum, optima
from olmeval.mixing.fitting import MixtureFit
from olmeval.mixing.problem import Constraints, without

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Binding:
    """An end that holds a share back. ``gain``: by how much the objective would fall without it,
    and ``share`` the domain's share then (None for families that are searched)."""

    domain: str
    kind: Literal["tokens", "maximum", "minimum", "group"]
    at: float
    gain: float | None = None
    share: float | None = None


def bindings(
    fit: MixtureFit, w: Array, constraints: Constraints, q: Array, kl: float,
    optimum: Optimum | None, x: Array,
) -> list[Binding]:  # fmt: skip
    """The ends that hold the shares ``x`` (m,) back, dearest first.

    ``w`` (n,), ``q`` (m,) and ``kl`` state the problem whose ``optimum`` it is; without an optimum
    no end has a price.
    """
    upper, held = constraints.upper, []
    for i, domain in enumerate(constraints.domains):
        low, top = float(constraints.minimum[i]), float(upper[i])
        if x[i] >= top - 1e-6 and low < top < 1:
            kind: Literal["tokens", "maximum"] = (
                "tokens" if top < constraints.maximum[i] else "maximum"
            )
            binding, looser = Binding(domain, kind, top), without(constraints, i)
        elif low > 0 and x[i] <= low + 1e-6 and low < top:
            minimum = constraints.minimum.copy()
            minimum[i] = 0.0
            binding, looser = Binding(domain, "minimum", low), replace(constraints, minimum=minimum)
        else:
            continue
        if optimum is not None:
            other = optima(oracle_of(fit.model, w[None]), [looser], q[None], kl)[0]
            gain = optimum.value - other.value
            binding = replace(binding, gain=gain, share=float(other.x[i]))
        held.append(binding)
    rows, low_ends, high_ends = constraints.membership()
    sums = rows @ x
    for group, total, a, b in zip(constraints.groups, sums, low_ends, high_ends, strict=True):
        held += [Binding(group.name, "group", float(a))] * bool(a > 0 and total <= a + 1e-6)
        held += [Binding(group.name, "group", float(b))] * bool(b < 1 and total >= b - 1e-6)
    return sorted(held, key=lambda b: -(b.gain or 0.0))
