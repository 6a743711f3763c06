"""Forecasts of large runs with intervals that hold: members averaged, errors learnt by back-test.

Every largest size is predicted from the smaller ones. How far each member missed there gives its
weight (inverse mean squared error; Bates and Granger 1969, "The Combination of Forecasts"); how far
the average missed, in units of what the members and the resamples disagree by, gives the width of
the interval. So the interval holds what no covariance of a single law does: the error of the law.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from olmeval.errors import UserError
from olmeval.ladders.curves import TaskCurves
from olmeval.ladders.laws import Array, law
from olmeval.ladders.members import LOSS_LAWS, Member, fit_members, run_weights
from olmeval.ladders.published import end_value

ACCURACY = "accuracy"
# Share of a task's squared scale that is the mean over tasks. A task has only a handful of
# back-tests, and its members may agree by accident (moderated variances, Smyth 2004). In back-tests
# up to 1.3B parameters the intervals narrowed from no share to all; this keeps some of the task's.
POOLED = 0.75
FEWEST_RUNS = 3


@dataclass(frozen=True)
class Prediction:
    """One predicted value with its interval.

    ``members`` are the predictions of every member that counts, by name; ``spread`` is the weighted
    deviation among them and ``sampling`` that over resampled runs.
    """

    task: str
    quantity: str
    value: float
    low: float
    high: float
    spread: float
    sampling: float
    members: dict[str, float]


@dataclass(frozen=True)
class Held:
    """One back-test: the largest run of a size, predicted from ``fitted`` smaller sizes.

    ``low`` and ``high`` are the interval whose width was learnt from the other back-tests; None
    where there is no other.
    """

    task: str
    quantity: str
    fitted: tuple[str, ...]
    run: str
    actual: float
    predicted: float
    low: float | None
    high: float | None

    @property
    def error(self) -> float:
        """Relative error, signed."""
        return self.predicted / self.actual - 1.0

    @property
    def inside(self) -> bool | None:
        """Whether the interval holds what was measured."""
        if self.low is None or self.high is None:
            return None
        return self.low <= self.actual <= self.high


@dataclass(frozen=True)
class Calibration:
    """What the back-tests of one quantity taught: ``weights`` of the members, and ``factor``,
    the half-width of the interval in units of the scale.

    ``coverage`` is the share of back-tests inside intervals learnt from the other ones, None where
    there was but one split.
    """

    members: tuple[str, ...]
    weights: Array
    factor: float
    coverage: float | None
    tests: int


@dataclass(frozen=True)
class _Split:
    """Member predictions [M, T, 1 + B] at one held-out run, and what was measured [T]."""

    fitted: tuple[str, ...]
    run: str
    values: Array
    usable: NDArray[np.bool_]
    actual: Array


class LadderForecast:
    """Predicts loss and accuracy of large runs from small ones, in scikit-learn's manner.

    ``laws``: loss laws of the members. ``samples``: resamples of whole runs. ``level``: of the
    intervals. ``window`` and ``skip``: see :func:`olmeval.ladders.members.fit_members`. After
    :meth:`fit`: ``tasks_``, ``members_``, ``calibration_`` and ``backtests_`` by quantity
    (``accuracy``, ``loss:<feature>``), ``noise_`` of a run about the laws, ``warnings_`` in words.
    """

    def __init__(
        self, laws: Sequence[str] = LOSS_LAWS, samples: int = 200, level: float = 0.95,
        seed: int = 0, window: int = 5, skip: float = 0.1,
    ):  # fmt: skip
        self.laws = tuple(laws)
        self.samples = samples
        self.level = level
        self.seed = seed
        self.window = window
        self.skip = skip

    def fit(self, curves: Mapping[str, Sequence[TaskCurves]]) -> "LadderForecast":
        """Fits and back-tests on ``{feature: curves of every task}``, tasks in the same order.

        Raises :class:`UserError` for degenerate data and for fewer than three sizes, of which none
        could be held out.
        """
        first = next(iter(curves.values()))
        self.tasks_ = tuple(task.task for task in first)
        runs = first[0].runs
        sizes = sorted({(run.params, run.size) for run in runs})
        if len(sizes) < 3:
            raise UserError(
                f"a forecast needs at least 3 sizes, so that the largest can be held out, and the "
                f"runs have {len(sizes)} ({', '.join(size for _, size in sizes)}); add rungs"
            )
        # A law with more parameters than runs is refused, in back-tests, too: there, the laws that
        # can be tried at all decide from how many runs on a split is one.
        tried = sum(run.params < sizes[-1][0] for run in runs)
        self.laws_ = tuple(name for name in self.laws if len(law(name).parameters) <= tried)
        if not self.laws_ or tried < FEWEST_RUNS:
            raise UserError(
                f"{tried} runs are left when the largest of {len(sizes)} sizes is held out, fewer "
                "than any law can be tried with; add rungs"
            )
        self.fewest_ = max(FEWEST_RUNS, *(len(law(name).parameters) for name in self.laws_))
        self.members_ = self._members(curves, [run.run for run in runs])
        self.warnings_ = self._warnings(curves)
        scored = self.members_[0].accuracy is not None
        self.quantities_ = (
            *((ACCURACY,) if scored else ()), *(f"loss:{feature}" for feature in curves)
        )  # fmt: skip
        splits = self._splits(curves, [size for _, size in sizes])
        self.calibration_: dict[str, Calibration] = {}
        self.backtests_: dict[str, list[Held]] = {}
        self.noise_: dict[str, Array] = {}
        for quantity in self.quantities_:
            calibration = self._calibrate(quantity, splits[quantity])
            held = self._held(quantity, splits[quantity])
            inside = [row.inside for row in held if row.inside is not None]
            coverage = float(np.mean(inside)) if inside else None
            self.calibration_[quantity] = replace(calibration, coverage=coverage)
            self.backtests_[quantity] = held
            self.noise_[quantity] = self._residual(curves, quantity)
        return self

    def predict(self, params: float, tokens: float, flops: float) -> list[Prediction]:
        """Every quantity of every task for a run of N ``params``, D ``tokens``, C ``flops``."""
        found = []
        for quantity, calibration in self.calibration_.items():
            values, usable = _values(self._of(quantity).values(), quantity, params, tokens, flops)
            center, spread, sampling, scale = _scales(values, usable, calibration.weights)
            back = _back(quantity)
            for t, task in enumerate(self.tasks_):
                half = calibration.factor * scale[t]
                low, high = back(center[t] - half), back(center[t] + half)
                if quantity == ACCURACY:
                    low, high = np.clip((low, high), 0.0, 1.0)
                by_name = {
                    name: float(back(values[m, t, 0]))
                    for m, name in enumerate(calibration.members) if usable[m, t]
                }  # fmt: skip
                found.append(
                    Prediction(task, quantity, float(back(center[t])), float(low), float(high),
                               float(spread[t]), float(sampling[t]), by_name)
                )  # fmt: skip
        return found

    def draws(self, quantity: str, params: float, tokens: float, flops: float) -> Array:
        """Predictions [M, T, 1 + B] of all members and resamples; losses as logarithms."""
        return _values(self._of(quantity).values(), quantity, params, tokens, flops)[0]

    def _residual(self, curves: Mapping[str, Sequence[TaskCurves]], quantity: str) -> Array:
        """Root mean square [T] of what the fitted runs lie off the averaged laws."""
        weights = self.calibration_[quantity].weights
        off = [
            weights @ self.draws(quantity, r.params, r.tokens, r.flops)[:, :, 0]
            - self._actual(curves, quantity, r.run)
            for r in next(iter(curves.values()))[0].runs
        ]
        return np.asarray(np.sqrt(np.mean(np.square(off), axis=0)))

    def _members(
        self, curves: Mapping[str, Sequence[TaskCurves]], names: Sequence[str]
    ) -> list[Member]:
        weights = run_weights(len(names), self.samples, self.seed)
        return [
            member
            for tasks in curves.values()
            for member in fit_members(
                [task.only(names) for task in tasks], weights, self.laws_, self.window, self.skip
            )
        ]

    def _of(self, quantity: str, members: Sequence[Member] | None = None) -> dict[str, Member]:
        feature = quantity.removeprefix("loss:")
        chosen = self.members_ if members is None else members
        return {m.name: m for m in chosen if quantity == ACCURACY or m.feature == feature}

    def _splits(
        self, curves: Mapping[str, Sequence[TaskCurves]], sizes: list[str]
    ) -> dict[str, list[_Split]]:
        """Every larger size from every set of smallest sizes that has runs enough for all laws."""
        runs = next(iter(curves.values()))[0].runs
        found: dict[str, list[_Split]] = {}
        for cut in range(2, len(sizes)):
            fitted = tuple(sizes[:cut])
            if sum(r.size in fitted for r in runs) < self.fewest_:
                continue
            members = self._members(curves, [r.run for r in runs if r.size in fitted])
            for size in sizes[cut:]:
                held = max((r for r in runs if r.size == size), key=lambda r: r.flops)
                for quantity in self.quantities_:
                    values, usable = _values(
                        self._of(quantity, members).values(), quantity,
                        held.params, held.tokens, held.flops,
                    )  # fmt: skip
                    actual = self._actual(curves, quantity, held.run)
                    found.setdefault(quantity, []).append(
                        _Split(fitted, held.run, values, usable, actual)
                    )
        return found

    def _actual(self, curves: Mapping[str, Sequence[TaskCurves]], quantity: str, run: str) -> Array:
        feature = next(iter(curves)) if quantity == ACCURACY else quantity.removeprefix("loss:")
        found = [next(r for r in task.runs if r.run == run) for task in curves[feature]]
        if quantity == ACCURACY:
            return np.array([end_value(r.accuracy, self.window) for r in found])
        return np.asarray(np.log([end_value(r.loss, self.window) for r in found]))

    def _calibrate(self, quantity: str, splits: Sequence[_Split]) -> Calibration:
        from scipy.stats import t

        names = tuple(self._of(quantity))
        errors = np.concatenate([s.values[:, :, 0] - s.actual for s in splits], axis=1)
        usable = np.concatenate([s.usable for s in splits], axis=1)
        # Differences of logarithms are relative already.
        relative = errors
        if quantity == ACCURACY:
            relative = errors / np.concatenate([s.actual for s in splits])
        with np.errstate(invalid="ignore"):
            mse = np.where(usable, relative**2, 0).sum(axis=1) / usable.sum(axis=1)
        # A member that no back-test could use, or that was never wrong, has no say of its own.
        known = np.isfinite(mse) & (mse > 0)
        weights = np.where(known, 1.0 / np.where(known, mse, 1.0), 0.0)
        weights = weights / weights.sum() if known.any() else np.full(len(names), 1 / len(names))
        ratios = []
        for split in splits:
            center, _, _, scale = _scales(split.values, split.usable, weights)
            ratios.append((center - split.actual) / np.maximum(scale, 1e-12))
        ratio = np.array(ratios)
        # Errors of one split are shared by tasks, those of one task by splits: the larger of both
        # numbers is what counts as independent.
        freedom = max(ratio.shape)
        factor = float(t.ppf(0.5 + self.level / 2, freedom) * np.sqrt((ratio**2).mean()))
        return Calibration(names, weights, factor, None, ratio.size)

    def _held(self, quantity: str, splits: Sequence[_Split]) -> list[Held]:
        """Each back-test with weights and width from the other splits."""
        back = _back(quantity)
        rows = []
        for i, split in enumerate(splits):
            others = [s for j, s in enumerate(splits) if j != i]
            calibration = self._calibrate(quantity, others or splits)
            center, _, _, scale = _scales(split.values, split.usable, calibration.weights)
            half = calibration.factor * scale
            for t, task in enumerate(self.tasks_):
                bounds = (
                    (float(back(center[t] - half[t])), float(back(center[t] + half[t])))
                    if others else (None, None)
                )  # fmt: skip
                rows.append(
                    Held(task, quantity, split.fitted, split.run, float(back(split.actual[t])),
                         float(back(center[t])), *bounds)
                )  # fmt: skip
        return rows

    def _warnings(self, curves: Mapping[str, Sequence[TaskCurves]]) -> list[str]:
        said = []
        for member in self.members_:
            bad = on_bound(member)
            for t, task in enumerate(self.tasks_):
                if bad[t]:
                    said.append(f"{task}: {member.name} ended on a bound and is left out")
                for what, fit in (("loss", member.loss), ("accuracy", member.accuracy)):
                    if fit is not None and not fit.converged[t, 0]:
                        said.append(f"{task}: the {what} law of {member.name} did not converge")
        for feature, tasks in curves.items():
            member = next(m for m in self.members_ if m.feature == feature)
            theta = member.accuracy_parameters()
            for which, inflection in zip(tasks, [] if theta is None else theta[:, 1], strict=False):
                if min(end_value(r.loss, self.window) for r in which.runs) > inflection:
                    said.append(
                        f"{which.task}: on {feature} the accuracy law is fitted below its "
                        f"inflection (no run reaches loss {inflection:.3g}); the interval is wide"
                    )
        return list(dict.fromkeys(said))


def on_bound(member: Member) -> NDArray[np.bool_]:
    """Whether the fit of each task [T] ended where no law is left: exponents or slopes at a bound.

    An irreducible loss of zero and an asymptote of one are bounds that mean something, and stay.
    """
    theta = member.loss.theta[:, 0]
    exponents = {"loss-nd": (2, 3), "loss-c3": (1,), "loss-c2": (1,)}[member.loss_law]
    bad = (theta[:, exponents] <= 0).any(axis=1)
    coefficients = {"loss-nd": (0, 1)}.get(member.loss_law, (0,))
    bad |= (np.abs(theta[:, coefficients]) >= 9).any(axis=1)
    if member.accuracy is None:
        return np.asarray(bad)
    a, _, k, _ = member.accuracy.theta[:, 0].T
    return np.asarray(bad | (a >= 0) | (k <= 0))


def _values(
    members: Iterable[Member], quantity: str, params: float, tokens: float, flops: float
) -> tuple[Array, NDArray[np.bool_]]:
    """Predictions [M, T, 1 + B], losses as logarithms, and which are usable [M, T]."""
    values, usable = [], []
    for member in members:
        loss, accuracy = member.predict(params, tokens, flops)
        values.append(np.log(loss) if accuracy is None or quantity != ACCURACY else accuracy)
        usable.append(~on_bound(member))
    return np.array(values), np.array(usable)


def _back(quantity: str) -> Callable[[Any], Any]:
    return np.asarray if quantity == ACCURACY else np.exp


def _scales(
    values: Array, usable: NDArray[np.bool_], weights: Array
) -> tuple[Array, Array, Array, Array]:
    """Weighted mean, spread over members, deviation over resamples, and pooled scale, each [T]."""
    w = weights[:, None] * usable
    total = w.sum(axis=0)
    # Where every member that has a weight is refused, all of them are used: the spread says so.
    w = np.where(total > 0, w / np.where(total > 0, total, 1.0), weights[:, None])
    samples = (w[..., None] * values).sum(axis=0)
    center = samples[:, 0]
    spread = np.sqrt((w * (values[:, :, 0] - center) ** 2).sum(axis=0))
    sampling = samples[:, 1:].std(axis=1) if values.shape[2] > 2 else np.zeros_like(center)
    square = spread**2 + sampling**2
    scale = np.sqrt((1 - POOLED) * square + POOLED * square.mean())
    return center, spread, sampling, scale
