"""The members of a forecast: every loss law on every feature, then the sigmoid to accuracy.

All tasks and all resamples of a ladder are fitted together (:mod:`olmeval.ladders.batched`).
A run counts once, however many checkpoints it has: its accuracy curve becomes means over
non-overlapping blocks of checkpoints, whose weights add up to the run's weight. Resampling gives
whole runs exponential weights (the Bayesian bootstrap, Rubin 1981, with runs as blocks), so that no
resample lacks a size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, sqrt

import numpy as np

from olmeval.errors import UserError
from olmeval.ladders.batched import BatchFit, best_start, least_squares
from olmeval.ladders.curves import RunCurve, TaskCurves
from olmeval.ladders.laws import Array, law
from olmeval.ladders.published import end_value

LOSS_LAWS = ("loss-nd", "loss-c3", "loss-c2")
# Exponents of N, D and C are near 0.3, 0.3 and 0.15 wherever they were measured (Hoffmann et al.
# 2022, table 2; Kaplan et al. 2020, where C grows with both). Ladders of four sizes hardly tell
# them from the irreducible loss, so a normal prior, for scatter of NOISE about the law, holds them.
# Its width is a round number: back-tests on the rungs do not tell a fifth of it from none at all
# (docs/ladders.md).
EXPONENT = {
    "loss-nd": {2: (0.3, 0.05), 3: (0.3, 0.05)},
    "loss-c3": {1: (0.15, 0.025)},
    "loss-c2": {},
}
NOISE = 0.02


@dataclass(frozen=True)
class Member:
    """One chain fitted to T tasks and B resamples; the first resample is the data as they are.

    ``loss`` and ``accuracy`` are the fits [T, B]; inputs of the loss law are divided by
    ``scale`` and losses by ``unit`` [T], which keeps the problem well conditioned. Tasks without
    accuracies have no ``accuracy``.
    """

    feature: str
    loss_law: str
    tasks: tuple[str, ...]
    scale: tuple[float, ...]
    unit: Array
    loss: BatchFit
    accuracy: BatchFit | None

    @property
    def name(self) -> str:
        """Feature and law, as tables call the member."""
        return f"{self.feature}/{self.loss_law}"

    def predict(self, params: float, tokens: float, flops: float) -> tuple[Array, Array | None]:
        """Loss and accuracy [T, B] of a run of N ``params``, D ``tokens``, C ``flops``.

        The accuracy is None for tasks without accuracies.
        """
        of = {"params": params, "tokens": tokens, "flops": flops}
        chosen = law(self.loss_law)
        x = [np.array([of[n] / s]) for n, s in zip(chosen.inputs, self.scale, strict=True)]
        loss = chosen(self.loss.theta, *x)
        accuracy = None
        if self.accuracy is not None:
            accuracy = law("sigmoid")(self.accuracy.theta, loss)[..., 0]
        return loss[..., 0] * self.unit[:, None], accuracy

    def loss_parameters(self) -> Array:
        """Parameters [T, P] of the loss law on the data as they are, in the units of the data."""
        theta = self.loss.theta[:, 0].copy()
        pairs = {
            "loss-nd": ((0, 2, 0), (1, 3, 1)),
            "loss-c3": ((0, 1, 0),),
            "loss-c2": ((0, 1, 0),),
        }
        for coefficient, exponent, which in pairs[self.loss_law]:
            theta[:, coefficient] += theta[:, exponent] * np.log(self.scale[which])
            theta[:, coefficient] += np.log(self.unit)
        if theta.shape[1] in (3, 5):
            theta[:, -1] *= self.unit
        return theta

    def accuracy_parameters(self) -> Array | None:
        """Parameters [T, 4] of the sigmoid on the data as they are, in the units of the data."""
        if self.accuracy is None:
            return None
        theta = self.accuracy.theta[:, 0].copy()
        theta[:, 1] *= self.unit
        theta[:, 2] /= self.unit
        return theta


def run_weights(runs: int, samples: int, seed: int = 0) -> Array:
    """Weights [1 + samples, runs] of whole runs: ones, then exponential draws of mean 1."""
    drawn = np.random.default_rng(seed).exponential(size=(samples, runs))
    return np.concatenate((np.ones((1, runs)), drawn))


def fit_members(
    curves: Sequence[TaskCurves], weights: Array, laws: Sequence[str] = LOSS_LAWS,
    window: int = 5, skip: float = 0.1,
) -> list[Member]:  # fmt: skip
    """Every loss law of ``laws`` on tasks [T] of one feature that share their runs [R].

    ``weights`` [B, R] are those of :func:`run_weights`. Raises :class:`UserError` for degenerate
    data: a single size, equal losses, accuracies at chance.
    """
    for task in curves:
        require_signal(task, window)
    runs = curves[0].runs
    if any([r.run for r in task.runs] != [r.run for r in runs] for task in curves):
        raise UserError(
            f"tasks '{curves[0].task}' and others of feature '{curves[0].feature}' have different "
            "runs; score every task on every run"
        )
    ends = np.array([[end_value(r.loss, window) for r in task.runs] for task in curves])
    unit = ends.mean(axis=1)
    scored = {len(run.accuracy) > 0 for task in curves for run in task.runs}
    if len(scored) > 1:
        raise UserError("some tasks or runs have accuracies and some have none; fit them apart")
    accuracy = _fit_accuracy(curves, unit, weights, window, skip) if scored == {True} else None
    members = []
    for name in laws:
        chosen = law(name)
        inputs = [np.array([getattr(r, field) for r in runs]) for field in chosen.inputs]
        scale = tuple(float(np.exp(np.log(x).mean())) for x in inputs)
        x = tuple(values / s for values, s in zip(inputs, scale, strict=True))
        loss = _fit_loss(name, x, ends / unit[:, None], weights)
        tasks = tuple(task.task for task in curves)
        members.append(Member(curves[0].feature, name, tasks, scale, unit, loss, accuracy))
    return members


def require_signal(curves: TaskCurves, window: int = 5) -> None:
    """Refuses data that no law can be fitted to; :class:`UserError` with one sentence."""
    where = f"task '{curves.task}', loss '{curves.feature}'"
    sizes = {run.params for run in curves.runs}
    if len(sizes) < 2:
        raise UserError(
            f"{where}: a ladder needs at least 2 sizes, and the runs have {len(sizes)}; add rungs"
        )
    if len(curves.runs) < 3:
        raise UserError(f"{where}: {len(curves.runs)} runs are too few; add rungs")
    ends = np.array([end_value(run.loss, window) for run in curves.runs])
    if np.ptp(ends) <= 1e-9 * ends.max():
        raise UserError(f"{where}: all runs end at the loss {ends[0]:g}; there is no trend to fit")
    if any(not len(run.accuracy) for run in curves.runs):
        return
    accuracy = np.array([end_value(run.accuracy, window) for run in curves.runs])
    wobble = max(float(run.accuracy[-window:].std()) for run in curves.runs)
    if accuracy.max() <= curves.chance + 2 * max(wobble, 0.005):
        raise UserError(
            f"{where}: no run is above chance ({curves.chance:.3g}; the best has "
            f"{accuracy.max():.3g}); the accuracy law has nothing to hold on to: predict the loss, "
            "or add larger rungs"
        )


def _multi_start(
    name: str, x: tuple[Array, ...], y: Array, starts: Array, weights: Array, **how: object
) -> BatchFit:
    """All starts on the data as they are; resamples go on from the best of them."""
    first = least_squares(
        law(name), tuple(a[..., None, :] for a in x), y[..., None, :], starts,
        weights=weights[..., :1, :], **how,  # type: ignore[arg-type]
    )  # fmt: skip
    best = best_start(first)
    if weights.shape[-2] == 1:
        return BatchFit(
            *(getattr(best, f)[:, None] for f in ("theta", "cost", "converged", "steps"))
        )
    rest = least_squares(
        law(name), tuple(a[..., None, :] for a in x), y[..., None, :], best.theta[:, None],
        weights=weights[..., 1:, :], **how,  # type: ignore[arg-type]
    )  # fmt: skip
    return BatchFit(
        *(np.concatenate((getattr(best, f)[:, None], getattr(rest, f)), axis=1)
          for f in ("theta", "cost", "converged", "steps"))
    )  # fmt: skip


def _fit_loss(name: str, x: tuple[Array, ...], y: Array, weights: Array) -> BatchFit:
    """Log residuals of end values ``y`` [T, R], in units of their mean."""
    low, high, starts = {
        "loss-nd": ([-9, -9, 0, 0, 0], [9, 9, 2, 2, 9],
                    [[np.log(0.3), np.log(0.3), alpha, beta, e]
                     for alpha in (0.2, 0.5) for beta in (0.2, 0.5) for e in (0.3, 0.8)]),
        "loss-c3": ([-9, 0, 0], [9, 1, 9],
                    [[np.log(0.3), al, e] for al in (0.1, 0.3) for e in (0.2, 0.6)]),
        "loss-c2": ([-9, 0], [9, 1], [[0.0, 0.1]]),
    }[name]  # fmt: skip
    p = len(low)
    mean, sd = np.zeros(p), np.full(p, np.inf)
    for index, (center, width) in EXPONENT[name].items():
        # The cost is a mean over runs, the penalty is not: both in units of one run's variance.
        mean[index], sd[index] = center, width * sqrt(y.shape[-1]) / NOISE
    return _multi_start(
        name, x, y, np.array(starts, np.float64), weights, log=True, max_steps=200,
        lower=np.array(low, np.float64), upper=np.array(high, np.float64), prior=(mean, sd),
    )  # fmt: skip


def blocks(run: RunCurve, window: int, skip: float) -> tuple[Array, Array]:
    """Means of loss and accuracy [blocks] over ``window`` checkpoints, counted from the end."""
    first = ceil(skip * len(run.loss))
    x, y = run.loss[first:], run.accuracy[first:]
    size = min(window, len(x))
    count = len(x) // size
    return (
        x[-count * size :].reshape(count, size).mean(axis=1),
        y[-count * size :].reshape(count, size).mean(axis=1),
    )


def _fit_accuracy(
    curves: Sequence[TaskCurves], unit: Array, weights: Array, window: int, skip: float
) -> BatchFit:
    """The sigmoid on losses in ``unit`` [T]; accuracy 1 at loss 0 counts as one more run."""
    per_task = [[blocks(run, window, skip) for run in task.runs] for task in curves]
    longest = max(sum(len(x) for x, _ in task) for task in per_task) + 1
    x = np.ones((len(curves), longest))
    y = np.full_like(x, 0.5)
    share = np.zeros((len(curves), weights.shape[1] + 1, longest))
    for t, task in enumerate(per_task):
        place = 0
        for r, (loss, accuracy) in enumerate(task):
            at = slice(place, place + len(loss))
            x[t, at], y[t, at] = loss / unit[t], accuracy
            share[t, r, at] = 1.0 / len(loss)
            place += len(loss)
        x[t, place], y[t, place], share[t, -1, place] = 0.0, 1.0, 1.0
    of_runs = np.concatenate((weights, np.ones((len(weights), 1))), axis=1)
    w = np.matmul(of_runs[None], share)
    starts = []
    for t, task in enumerate(per_task):
        losses = np.concatenate([loss for loss, _ in task]) / unit[t]
        spread = np.ptp(losses)
        starts.append([
            [curves[t].chance - 1.0, x0, k / spread, 1.0]
            for x0 in np.quantile(losses, (0.1, 0.4)) for k in (2.0, 5.0, 12.0)
        ])  # fmt: skip
    return _multi_start("sigmoid", (x,), y, np.array(starts), w, max_steps=300)
