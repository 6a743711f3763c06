"""The contract of every family: fit, predict, interval, as scikit-learn has it.

A regressor maps mixtures, rows of shares that add up to 1, to one loss or several. Losses are
lower-is-better numbers such as bits per byte; :mod:`olmeval.mixing.tables` turns scores round.

Intervals are conformal: they come from errors on rows that the fit has not seen, so they cover as
often as they say whatever the family, as long as new mixtures are drawn like the swarm. Each error
is measured against the distance of its row to the others, so an interval widens where the swarm
has little to say.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.utils.validation import check_is_fitted

from olmeval.errors import UserError, nearest

Array = NDArray[np.float64]
FOLDS = 5
LEAST_MIXTURES = 4
"""With one of them held out, as many are left as any family needs."""
ONE_MIXTURE = "all runs have the same mixture; nothing can be learned from that"


class Regressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Base of all families. Subclasses set ``family`` and define ``_fit`` and ``_predict``.

    Learned: ``X_`` (rows, domains), ``Y_`` (rows, targets), ``feature_names_in_`` (domains,) where
    mixtures came as a data frame: frames are matched by these names from then on, in any order.
    """

    family: ClassVar[str]
    convex: ClassVar[bool] = False
    """Whether every prediction is a convex function of the mixture."""

    X_: Array
    Y_: Array

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Learns from mixtures ``X`` (K, m) and losses ``y`` (K,) or (K, n).

        Raises :class:`UserError` on rows off the simplex, missing losses or shapes that differ.
        """
        self.X_, Y = as_mixtures(X), _numbers(y, "losses")
        if Y.ndim not in (1, 2):
            raise UserError(f"losses are a column or columns, not an array of {Y.ndim} dimensions")
        self.__dict__.pop("feature_names_in_", None)
        if (names := columns_of(X)) is not None:
            self.feature_names_in_ = np.asarray(names, dtype=object)
        self.single_ = Y.ndim == 1
        self.Y_ = Y[:, None] if self.single_ else Y
        self.n_features_in_ = self.X_.shape[1]
        if len(self.Y_) != len(self.X_):
            raise UserError(f"{len(self.X_)} mixtures but {len(self.Y_)} rows of losses")
        if not np.isfinite(self.Y_).all():
            raise UserError("some losses are missing or infinite; leave those runs or targets out")
        if len(self.X_) < 3:
            raise UserError(f"{len(self.X_)} runs are too few to fit anything; give at least 3")
        if (np.ptp(self.X_, axis=0) == 0).all():
            raise UserError(ONE_MIXTURE)
        self._held_out: Array | None = None
        self._fit(self.X_, self.Y_)
        return self

    def _mixtures(self, X: ArrayLike) -> Array:
        check_is_fitted(self, "X_")
        return as_mixtures(in_order(X, getattr(self, "feature_names_in_", None)), self.X_.shape[1])

    def refit(self, X: Array, Y: Array) -> Self:
        """A regressor of the same family, or families, fitted to other rows."""
        model: Self = clone(self).fit(X, Y)
        return model

    def predict(self, X: ArrayLike) -> Array:
        """Losses of mixtures ``X`` (k, m): (k,) or (k, n), as ``y`` was given.

        Raises :class:`UserError` on other domains than those of the fit, and scikit-learn's
        ``NotFittedError`` before :meth:`fit`.
        """
        predicted = self._predict(self._mixtures(X))
        return predicted[:, 0] if self.single_ else predicted

    def interval(self, X: ArrayLike, level: float = 0.95) -> tuple[Array, Array]:
        """Lower and upper ends, shaped like :meth:`predict`, that hold the outcome of a run with
        probability ``level``; infinite where the swarm has too few rows for that level."""
        mixtures = self._mixtures(X)
        half = conformal_halfwidth(self.Y_ - self.out_of_fold(), self.X_, mixtures, level)  # (k, n)
        half = half[:, 0] if self.single_ else half
        center = self.predict(mixtures)
        return center - half, center + half

    def out_of_fold(self) -> Array:
        """Predictions (K, n) of every row by a fit that has not seen it, nor its replicates."""
        check_is_fitted(self, "X_")
        if self._held_out is None:
            self._held_out = self._cross_predict(self.X_, self.Y_, folds_of(self.X_))
        return self._held_out

    def restore_out_of_fold(self, held_out: Array) -> None:
        """Takes over what :meth:`out_of_fold` returned when the model was saved."""
        self._held_out = held_out

    def weighted(self, X: Array, weights: Array) -> tuple[Array, Array, Array]:
        """Weighted sums of losses at mixtures (k, m) with derivatives; convex families only.

        ``weights`` (k, n), a row for each mixture. Value (k,), gradient (k, m), Hessian (k, m, m).
        """
        raise NotImplementedError

    def _fit(self, X: Array, Y: Array) -> None:
        raise NotImplementedError

    def _predict(self, X: Array) -> Array:
        raise NotImplementedError

    def _cross_predict(self, X: Array, Y: Array, folds: NDArray[np.int64]) -> Array:
        held_out = np.empty_like(Y)
        for fold in np.unique(folds):
            seen = folds != fold
            held_out[~seen] = clone(self).fit(X[seen], Y[seen])._predict(X[~seen])
        return held_out

    def state(self) -> dict[str, Any]:
        """What was learned beyond ``X_`` and ``Y_``, as JSON."""
        return {}

    def restore(self, X: Array, Y: Array, state: dict[str, Any]) -> Self:
        """The regressor as it was when :meth:`state` was taken. By default: fitted again."""
        del state
        return self.fit(X, Y)


def columns_of(X: ArrayLike) -> list[str] | None:
    """Names of a data frame's columns; None for what has none."""
    columns = getattr(X, "columns", None)
    return None if columns is None else [str(name) for name in columns]


def in_order(X: ArrayLike, names: Sequence[str] | Array | None) -> ArrayLike:
    """A data frame's columns in the order of ``names``, or what has no names as it is.

    Raises :class:`UserError` for a frame with other columns.
    """
    columns = columns_of(X)
    if columns is None or names is None:
        return X
    wanted = [str(name) for name in names]
    if sorted(columns) != sorted(wanted):
        odd = sorted(set(columns) ^ set(wanted)) or columns
        where = "not among the mixtures" if odd[0] in wanted else "not a domain of the fit"
        raise UserError(
            f"'{odd[0]}' is {where}{nearest(odd[0], columns if odd[0] in wanted else wanted)}"
        )
    rows: Array = np.asarray(X)[:, [columns.index(name) for name in wanted]]
    return rows


def _numbers(values: ArrayLike, what: str) -> Array:
    try:
        return np.asarray(values, np.float64)
    except (ValueError, TypeError):
        raise UserError(f"{what} must be numbers, in rows of equal length") from None


def as_mixtures(X: ArrayLike, domains: int | None = None) -> Array:
    """Rows of shares, scaled to add up to exactly 1.

    Raises :class:`UserError` when a share is negative or missing, a row's sum is off by over 0.01
    (files hold rounded shares), or there are other than so many ``domains``.
    """
    rows = _numbers(X, "mixtures")
    if rows.ndim != 2:
        raise UserError(f"mixtures are rows of shares, not an array of {rows.ndim} dimensions")
    if domains is not None and rows.shape[1] != domains:
        raise UserError(f"the mixtures have {rows.shape[1]} domains, the fit has {domains}")
    if not np.isfinite(rows).all() or (rows < 0).any():
        raise UserError("a share is negative or missing; shares lie between 0 and 1")
    sums = rows.sum(axis=1, keepdims=True)
    if (np.abs(sums - 1) > 0.01).any():
        worst = int(np.argmax(np.abs(sums - 1)))
        raise UserError(f"the shares of mixture {worst} add up to {sums[worst, 0]:.4f}, not 1")
    scaled: Array = rows / sums
    return scaled


def hellinger(A: Array, B: Array) -> Array:
    """Hellinger distances (a, b) between mixtures: 0 where equal, 1 where they share no domain."""
    overlap = np.sqrt(A) @ np.sqrt(B).T
    distance: Array = np.sqrt(np.maximum(1 - overlap, 0))
    # 1 - overlap keeps only half of the digits, so a row is not quite at its own place.
    distance[distance < 1e-7] = 0
    return distance


def replicate_groups(X: Array) -> NDArray[np.int64]:
    """Number (K,) of each row's mixture: rows of equal shares, to 1e-9, have one number."""
    _, groups = np.unique(np.round(X, 9), axis=0, return_inverse=True)
    return groups.reshape(-1).astype(np.int64)


def folds_of(X: Array, folds: int = FOLDS, seed: int = 0) -> NDArray[np.int64]:
    """Fold (K,) of each row: random, of equal sizes, replicates together."""
    groups = replicate_groups(X)
    count = int(groups.max()) + 1
    if count < 2:
        raise UserError(ONE_MIXTURE)
    if count < LEAST_MIXTURES:
        raise UserError(
            f"{count} different mixtures are too few to fit a law and check it on others; run at "
            f"least {LEAST_MIXTURES}"
        )
    assigned = np.random.default_rng(seed).permutation(count) % min(folds, count)
    return assigned[groups]


def spacing(X: Array, rows: Array, own: bool) -> Array:
    """1 + distance of each mixture to the nearest row, in units of the swarm's median distance.

    ``own``: the mixtures are the swarm's rows, whose own place does not count.
    """
    among = hellinger(rows, rows)
    among[replicate_groups(rows)[:, None] == replicate_groups(rows)] = np.inf
    nearest = among.min(axis=1)
    median = float(np.median(nearest[np.isfinite(nearest)]))
    distance = nearest if own else hellinger(X, rows).min(axis=1)
    scaled: Array = 1 + distance / median
    return scaled


def conformal_quantile(errors: Array, rows: Array, level: float) -> Array:
    """The half-width (n,) at scale 1 that held-out ``errors`` (K, n) of ``rows`` ask for.

    Locally weighted split conformal inference (Lei et al. 2018, "Distribution-Free Predictive
    Inference for Regression", section 5.2) on cross-validated errors (Barber et al. 2021,
    "Predictive Inference with the Jackknife+", section 3): the ceil(level (K + 1))-th smallest
    scaled error, infinite when there are fewer rows.
    """
    if not 0 < level < 1:
        raise UserError(f"the level of an interval lies between 0 and 1; {level} does not")
    count = len(errors)
    rank = int(np.ceil(level * (count + 1)))
    if rank > count:
        return np.full(errors.shape[1], np.inf)
    scaled = np.abs(errors) / spacing(rows, rows, own=True)[:, None]
    quantile: Array = np.sort(scaled, axis=0)[rank - 1]
    return quantile


def conformal_halfwidth(errors: Array, rows: Array, X: Array, level: float) -> Array:
    """Half the width (k, n) of intervals at mixtures ``X``; see :func:`conformal_quantile`."""
    quantile = conformal_quantile(errors, rows, level)
    width: Array = quantile * spacing(X, rows, own=False)[:, None]
    return width


def typical_halfwidth(errors: Array, rows: Array, level: float) -> Array:
    """The median (n,) of half-widths at the rows' own places, were they new."""
    scale = float(np.median(spacing(rows, rows, own=True)))
    return scale * conformal_quantile(errors, rows, level)


def cross_coverage(errors: Array, rows: Array, level: float) -> Array:
    """Share (n,) of held-out ``errors`` (K, n) inside the intervals that other folds ask for.

    A row's own error has no say in its interval, so this can miss the level. nan with too few rows.
    """
    folds = folds_of(rows)
    inside = np.empty_like(errors)
    for fold in np.unique(folds):
        seen = folds != fold
        half = conformal_halfwidth(errors[seen], rows[seen], rows[~seen], level)
        inside[~seen] = np.where(np.isfinite(half), np.abs(errors[~seen]) <= half, np.nan)
    covered: Array = inside.mean(axis=0)
    return covered
