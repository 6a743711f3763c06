"""A second opinion on an optimum, by refits on resampled runs.

An optimum is where a law's errors are most in its favour, and refits of that same law share its
misfit: a sum of falling powers, which cannot say that a domain harms, promises a gain from more of
it in every refit. So where the log-linear law has the smaller error out of fold, it is asked; its
own optima are shown to its own refits, which disagree where there are too few runs to tell.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from olmeval.mixing.bootstrap import refit_on_samples
from olmeval.mixing.fitting import MixtureFit, fit_swarm
from olmeval.mixing.regressors.loglinear import LogLinear

Array = NDArray[np.float64]
REFITS = 50
AGREE = 0.9
"""Fraction of refits that must put a mixture before the natural one."""
STEPS = 21


@dataclass(frozen=True)
class SecondOpinion:
    """``x`` (m,): what to propose, ``kept`` of the way from natural to the optimum that was asked
    about; ``agree``: fraction of log-linear refits that put that optimum before natural;
    ``whose``: the refits in words."""

    x: Array
    kept: float
    agree: float
    whose: str


def second_opinion(
    fit: MixtureFit, w: Array, natural: Array, x: Array, seed: int = 0
) -> SecondOpinion | None:
    """What the log-linear law says of an optimum ``x`` under target weights ``w`` (n,).

    None where another family predicts unseen runs better. Where fewer than
    :data:`AGREE` of its refits put ``x`` before ``natural``, the point between the two of largest
    gain in all but 10 % of refits is proposed instead, which may be natural itself.
    """
    other, whose = fit, "refits on resampled runs"
    if not isinstance(fit.model, LogLinear):
        other = fit_swarm(fit.table, curve=False)
        whose = "refits of the log-linear law, which predicts unseen runs better,"
        ours, others = (float(((one.errors() @ w) ** 2).mean()) for one in (fit, other))
        if ours <= others:
            return None
    way = np.linspace(0, 1, STEPS)
    between = natural + way[:, None] * (x - natural)
    seen = refit_on_samples(other.model, REFITS, seed).objective(between, w * other.predictable)
    gains = seen[:, :1] - seen
    agree = float((gains[:, -1] > 0).mean())
    best = STEPS - 1 if agree >= AGREE else int(np.quantile(gains, 1 - AGREE, axis=0).argmax())
    return SecondOpinion(between[best], float(way[best]), agree, whose)
