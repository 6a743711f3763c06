"""Which run to add next: how much each candidate would narrow the target's interval, per FLOP.

The members and their resamples are draws from what is still believed of the ladder. Measuring a
candidate y_c with noise s would take the share ``cov(y_c, y_t)^2 / (var(y_c) + s^2)`` of the
target's variance away (linear-Gaussian expected gain: Lindley 1956; Chaloner and Verdinelli 1995,
"Bayesian Experimental Design", section 2): a run where the laws disagree as they do at the target
tells them apart, one where they agree does not.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from olmeval.errors import UserError, nearest
from olmeval.ladders.curves import Ladder
from olmeval.ladders.forecast import LadderForecast
from olmeval.ladders.laws import Array, exact_flops, six_nd
from olmeval.ladders.predict import Scale


@dataclass(frozen=True)
class Candidate:
    """A run that could be added. ``shrinkage``: expected share by which the target's interval
    narrows, mean over tasks; ``per_exaflop``: that per 1e18 FLOPs."""

    name: str
    scale: Scale
    shrinkage: float
    per_exaflop: float


def choose(
    made: LadderForecast, target: Scale, candidates: Sequence[tuple[str, Scale]]
) -> list[Candidate]:
    """The candidates, most shrinkage per FLOP first, for a fitted forecast.

    The noise of a measurement is how far the fitted runs lie off the fitted laws.
    """
    quantity = made.quantities_[0]
    weights = made.calibration_[quantity].weights
    at_target = made.draws(quantity, target.params, target.tokens, target.flops)
    rows = []
    for name, scale in candidates:
        drawn = made.draws(quantity, scale.params, scale.tokens, scale.flops)
        covariance = _moment(drawn, at_target, weights)
        gain = covariance**2 / (_moment(drawn, drawn, weights) + made.noise_[quantity] ** 2)
        left = 1.0 - gain / np.maximum(_moment(at_target, at_target, weights), 1e-300)
        shrinkage = float(np.mean(1.0 - np.sqrt(np.clip(left, 0.0, 1.0))))
        rows.append(Candidate(name, scale, shrinkage, shrinkage / (scale.flops / 1e18)))
    return sorted(rows, key=lambda row: -row.per_exaflop)


def candidates(
    ladder: Ladder,
    target: Scale,
    sizes: Sequence[str] = (),
    multiples: Sequence[float] = (1, 2, 5, 10),
) -> list[tuple[str, Scale]]:
    """Runs that could be added: ``sizes`` (default: all of the file) times ``multiples``.

    Left out: runs that are fitted already, and runs of at least the target's compute. Raises
    :class:`UserError` for unknown sizes, sizes without N, and where nothing is left.
    """
    file = ladder.file
    first = next(iter(ladder.curves.values()))
    have = {(run.params, round(run.tokens / 20 / run.params, 1))
            for run in first.only(ladder.rungs).runs}  # fmt: skip
    found = []
    for name in sizes or file.sizes:
        if name not in file.sizes:
            raise UserError(f"the ladder has no size '{name}'{nearest(name, file.sizes)}")
        size = file.sizes[name]
        if size.params is None or (file.flops == "exact" and size.flops_per_token is None):
            raise UserError(f"the size '{name}' needs 'params' and 'flops_per_token' in the ladder")
        for multiple in multiples:
            tokens = 20 * multiple * size.params
            flops = six_nd(size.params, tokens)
            if file.flops == "exact" and size.flops_per_token is not None:
                flops = exact_flops(size.flops_per_token, tokens)
            if (size.params, round(multiple, 1)) in have or flops >= target.flops:
                continue
            found.append((f"{name}-{multiple:g}xC", Scale(size.params, tokens, flops)))
    if not found:
        raise UserError("every candidate is a rung already or as large as the target; give others")
    return found


def _moment(a: Array, b: Array, weights: Array) -> Array:
    """Covariance [T] over members (by weight) and resamples (alike)."""
    w = weights[:, None, None] / a.shape[2]
    mean_a = (w * a).sum(axis=(0, 2))[:, None]
    mean_b = (w * b).sum(axis=(0, 2))[:, None]
    return np.asarray((w * (a - mean_a) * (b - mean_b)).sum(axis=(0, 2)))
