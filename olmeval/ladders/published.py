"""``ladder-2024``: the fits of Bhagia et al. 2024 (arXiv:2412.04403), exactly as published.

Kept to be compared with, defects included: one start, every checkpoint of the accuracy law an
independent point, no interval. Settings: the paper's section 3 and the code at
github.com/allenai/OLMo-ladder 67a3f44. Ours is :mod:`olmeval.ladders.forecast`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Literal

import numpy as np

from olmeval.errors import UserError
from olmeval.ladders.curves import RunCurve, TaskCurves
from olmeval.ladders.laws import Array, Law, law
from olmeval.ladders.spec import Feature

DELTA = 1e-3
STARTS = {
    "loss-nd": (3.0, 6.0, 0.1, 0.2, 1.0),
    "loss-c3": (3.0, 0.1, 1.0),
    "loss-c2": (10.0, 0.4),
    "accuracy-nd": (2.0, 2.0, 0.2, 0.2, 1.0),
    "log-sigmoid": (-0.1, 0.9, 3.0),
}
LossLaw = Literal["loss-nd", "loss-c3", "loss-c2"]


@dataclass(frozen=True)
class Fit:
    """Parameters of one law and how they were found. ``error``: mean |relative error| on points."""

    law: str
    theta: tuple[float, ...]
    error: float
    points: int
    message: str

    def predict(self, *x: float | Array) -> Array:
        """Values at ``x``, one array for each input of the law."""
        arrays = [np.atleast_1d(np.asarray(values, np.float64)) for values in x]
        return law(self.law)(np.array(self.theta), *arrays)


@dataclass(frozen=True)
class Chained:
    """A loss law and an accuracy law of one task."""

    task: str
    feature: str
    loss: Fit
    accuracy: Fit

    def predict_loss(self, params: float, tokens: float, flops: float) -> float:
        """The loss of a run of N ``params``, D ``tokens``, C ``flops``."""
        of = {"params": params, "tokens": tokens, "flops": flops}
        return float(self.loss.predict(*(of[name] for name in law(self.loss.law).inputs))[0])

    def predict(self, params: float, tokens: float, flops: float) -> float:
        """The accuracy of that run, through both laws."""
        return float(self.accuracy.predict(self.predict_loss(params, tokens, flops))[0])


def trailing_mean(x: Array, window: int) -> Array:
    """Mean of each value and those before it, ``window`` at most; [n] from [n]."""
    sums = np.concatenate(([0.0], np.cumsum(x)))
    stop = np.arange(1, len(x) + 1)
    start = np.maximum(stop - window, 0)
    return np.asarray((sums[stop] - sums[start]) / (stop - start))


def end_value(x: Array, window: int) -> float:
    """Mean of the last ``window`` values."""
    return float(x[-window:].mean())


def require(curves: TaskCurves, parameters: int) -> None:
    """Refuses data on which no fit means anything.

    Raises :class:`UserError` with one sentence for: fewer runs than parameters, one size, equal
    losses, and accuracies that never leave chance.
    """
    where = f"task '{curves.task}', loss '{curves.feature}'"
    if len(curves.runs) < parameters:
        raise UserError(
            f"{where}: {len(curves.runs)} runs cannot settle {parameters} parameters; add rungs or "
            "choose a law with fewer"
        )
    if len({run.params for run in curves.runs}) < 2:
        raise UserError(f"{where}: all runs are of one size ({curves.runs[0].size}); add another")
    ends = np.array([run.loss[-1] for run in curves.runs])
    if np.ptp(ends) <= 1e-9 * ends.max():
        raise UserError(f"{where}: all runs end at the same loss {ends[0]:g}; there is no trend")


def fit_loss(
    name: str, curves: TaskCurves, window: int = 5, *, of_accuracy: bool = False
) -> Fit:  # fmt: skip
    """Step 1: Huber loss (delta 1e-3) of log residuals by L-BFGS-B from the published start.

    ``of_accuracy`` fits the accuracies instead (laws ``accuracy-nd`` and ``single-step``).
    """
    from scipy.optimize import minimize

    chosen = law(name)
    require(curves, len(chosen.parameters))
    x = [np.array([getattr(r, field) for r in curves.runs]) for field in chosen.inputs]
    y = np.array([end_value(r.accuracy if of_accuracy else r.loss, window) for r in curves.runs])
    log_y = np.log(y)

    def objective(theta: Array) -> tuple[float, Array]:
        value, gradient = chosen.evaluate(theta, *x)
        # Negated laws may pass through zero on the way; a point there pulls with full force.
        value = np.maximum(value, 1e-12)
        residual = np.log(value) - log_y
        size = np.abs(residual)
        huber = np.where(size < DELTA, 0.5 * residual**2, DELTA * (size - 0.5 * DELTA))
        pull = np.clip(residual, -DELTA, DELTA) / value
        return float(huber.sum()), pull @ gradient

    if name == "single-step":
        start: tuple[float, ...] = (3.0, 5.0, 0.2, 0.3, 0.0, curves.chance - 1.0, 1.0)
    elif name in STARTS:
        start = STARTS[name]
    else:
        raise UserError(f"ladder-2024 does not fit the law '{name}'")
    bounds = [
        (_open(low), _open(high)) for low, high in zip(chosen.lower, chosen.upper, strict=True)
    ]
    found = minimize(
        objective, start, jac=True, method="L-BFGS-B", tol=0.0, bounds=bounds,
        options={"ftol": 0.0, "gtol": 1e-10, "maxiter": 1_000_000, "maxfun": 1_000_000},
    )  # fmt: skip
    return _fit(chosen, found.x, x, y, str(found.message))


def _open(bound: float) -> float | None:
    return bound if np.isfinite(bound) else None


def accuracy_points(runs: Sequence[RunCurve], window: int, skip: float) -> tuple[Array, Array]:
    """Losses and accuracies [points] of every checkpoint: the first dropped, the rest smoothed."""
    x, y = [], []
    for run in runs:
        first = ceil(skip * len(run.loss))
        x.append(trailing_mean(run.loss[first:], window))
        y.append(trailing_mean(run.accuracy[first:], window))
    return np.concatenate(x), np.concatenate(y)


def fit_accuracy(name: str, curves: TaskCurves, window: int = 5, skip: float = 0.1) -> Fit:
    """Step 2: unweighted least squares (scipy ``curve_fit``) over all checkpoints.

    The sigmoid gets one more point, accuracy 1 at loss 0.
    """
    from scipy.optimize import curve_fit

    chosen = law(name)
    require(curves, 2)
    x, y = accuracy_points(curves.runs, window, skip)
    start = STARTS.get(name) or (curves.chance - 1.0, 0.9, 3.0, 1.0)
    fitted_x, fitted_y = x, y
    if name == "sigmoid":
        fitted_x, fitted_y = np.append(x, 0.0), np.append(y, 1.0)

    def curve(loss: Array, *theta: float) -> Array:
        return chosen(np.array(theta), loss)

    try:
        theta, _ = curve_fit(
            curve, fitted_x, fitted_y, p0=start, bounds=(chosen.lower, chosen.upper), maxfev=500_000
        )
    except RuntimeError as error:
        raise UserError(
            f"task '{curves.task}': the accuracy law did not converge: {error}"
        ) from None
    return _fit(chosen, theta, [x], y, "converged")


def _fit(chosen: Law, theta: Array, x: list[Array], y: Array, message: str) -> Fit:
    error = float(np.mean(np.abs(chosen(theta, *x) / y - 1.0)))
    return Fit(chosen.name, tuple(float(value) for value in theta), error, len(y), message)


def fit_chained(curves: TaskCurves, feature: Feature, loss_law: LossLaw = "loss-nd") -> Chained:
    """Both steps with the feature's published settings. Raises :class:`UserError`."""
    return Chained(
        curves.task, curves.feature, fit_loss(loss_law, curves, feature.window),
        fit_accuracy(feature.accuracy_law, curves, feature.window, feature.skip),
    )  # fmt: skip


def fit_single_step(curves: TaskCurves, window: int = 5) -> Fit:
    """The seven-parameter law from N and D to accuracy, without a loss between."""
    return fit_loss("single-step", curves, window, of_accuracy=True)
