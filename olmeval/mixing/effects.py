"""What each domain does to each target: the change of scores when its share is raised."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from olmeval.mixing.bootstrap import DEFAULT_REFITS, refit_on_samples
from olmeval.mixing.fitting import MixtureFit

Array = NDArray[np.float64]
STEP = 0.05


@dataclass(frozen=True)
class Effects:
    """Change of scores (m, n) by domain and target, with the ends of its interval.

    ``step``: how much of the whole mixture goes to the domain, the others giving way in proportion.
    ``spread`` (n,): standard deviation of each target over the swarm, to compare targets by.
    """

    step: float
    value: Array
    low: Array
    high: Array
    spread: Array
    refits: int


def effects_at(
    fit: MixtureFit, center: Array, *, step: float = STEP, refits: int | None = None, seed: int = 0
) -> Effects:
    """Effects at a mixture ``center`` (m,), in the targets' own direction.

    Intervals are Student's, from the standard deviation over refits on resampled mixtures (Efron
    and Tibshirani 1993, "An Introduction to the Bootstrap", section 13.2), so that few refits give
    wide ones; fewer than two give none (infinite).
    """
    from scipy.stats import t

    raised = np.concatenate([center[None], center + step * (np.eye(len(center)) - center)])
    count = DEFAULT_REFITS[fit.model.family] if refits is None else refits
    sign = np.where(np.isnan(fit.table.reflections()), 1.0, -1.0)
    losses = fit.model.predict(raised)
    value = sign * (losses[1:] - losses[0])
    half = np.full(value.shape, np.inf)
    if count >= 2:
        seen = refit_on_samples(fit.model, count, seed).losses(raised)
        deviation = (seen[:, 1:] - seen[:, :1]).std(axis=0, ddof=1)
        half = float(t.ppf(0.5 + fit.level / 2, count - 1)) * deviation
    return Effects(step, value, value - half, value + half, fit.table.Y.std(axis=0), count)
