"""What choosing the best candidate gains on models that had no part in the choice.

A candidate that is chosen and judged on the same models looks better than it is. Here the models
are split in halves many times; one half chooses, the other judges.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from olmeval.stats.ranking import jackknife_interval

Array = NDArray[np.float64]
# Models are left out in so many groups at most: each group repeats all splits.
GROUPS = 25


@dataclass(frozen=True)
class Gain:
    """``value`` with its 95 % interval: decision accuracy above the base's, in held-out models.

    ``naive`` is the same judged on the models that chose; ``stable`` the share of splits (mean over
    tasks) that choose what all models together choose.
    """

    value: float
    low: float
    high: float
    naive: float
    stable: float


def halves(models: int, splits: int, random: np.random.Generator) -> Array:
    """Which models choose [2 * splits, models], 0 or 1; each split serves in both directions."""
    order = random.random((splits, models)).argsort(axis=1)
    first = (order < models // 2).astype(np.float64)
    return np.concatenate([first, 1 - first])


def masked_accuracy(agreed: Array, masks: Array) -> Array:
    """Decision accuracy among the models of each mask; ``agreed`` [..., M, M], ``masks`` [R, M].

    Returns [..., R]; nan where a mask holds fewer than two models or ``agreed`` is nan.
    """
    pairs = masks.sum(axis=1) ** 2 - (masks**2).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(((masks @ agreed) * masks).sum(axis=-1) / pairs)


def held_out_gain(agreed: Array, base: int, random: np.random.Generator, splits: int = 50) -> Gain:
    """The gain of choosing, for each task, the candidate that decides best.

    ``agreed`` [tasks, candidates, M, M] is the agreement of pairs (nan: no such candidate);
    ``base`` is the candidate that is used without a choice.
    """
    whole = masked_accuracy(agreed, np.ones((1, agreed.shape[-1])))[..., 0]
    best = np.nanargmax(whole, axis=1)
    naive = float((np.take_along_axis(whole, best[:, None], 1)[:, 0] - whole[:, base]).mean())

    def gains(choosing: Array, judging: Array) -> tuple[Array, Array]:
        chosen = np.nanargmax(np.nan_to_num(masked_accuracy(agreed, choosing), nan=-1.0), axis=1)
        judged = masked_accuracy(agreed, judging)
        got = np.take_along_axis(judged, chosen[:, None, :], 1)[:, 0]
        return np.asarray((got - judged[:, base]).mean(axis=0)), np.asarray(chosen)

    value, low, high, chosen = split_gain(gains, agreed.shape[-1], random, splits)
    return Gain(value, low, high, naive, float((chosen == best[:, None]).mean()))


def split_gain(
    gains: Callable[[Array, Array], tuple[Array, Array]],
    models: int,
    random: np.random.Generator,
    splits: int,
) -> tuple[float, float, float, Array]:
    """Mean gain over splits, its interval, and what the splits chose.

    ``gains`` maps masks of the choosing and the judging models, [R, M] each, to gains [R] and
    choices. The interval is a jackknife that leaves out models, in groups when there are many
    (Efron and Tibshirani 1993, section 11.5), from both halves of every split.
    """
    choosing = halves(models, splits, random)
    found, chosen = gains(choosing, 1 - choosing)
    value = float(found.mean())
    group = random.permutation(models) % min(models, GROUPS)
    without = []
    for g in range(group.max() + 1):
        kept = (group != g).astype(np.float64)
        without.append(float(gains(choosing * kept, (1 - choosing) * kept)[0].mean()))
    low, high = jackknife_interval(value, without)
    return value, low, high, chosen
