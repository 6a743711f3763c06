"""What a fitted swarm says of other mixtures, and how right it is where these were run as well.

The runs may be of another size: the law then orders them, though its level is off. So the rank
correlation comes first, and the mean error beside it tells a shift from a misfit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from olmeval.errors import UserError
from olmeval.files import write_text
from olmeval.mixing.evidence import check_contents, evidence_of
from olmeval.mixing.fitting import MixtureFit
from olmeval.mixing.regressors.base import conformal_halfwidth, hellinger
from olmeval.mixing.scores import correlation, mae, r_squared, rank_correlation
from olmeval.mixing.tables import read_rows

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]


@dataclass(frozen=True)
class RowScore:
    """How well predictions of ``runs`` mixtures agree with what these scored on one target.

    ``rank_interval``: 95 %, see :func:`rank_interval`. ``bias``: mean of measured less predicted;
    ``mae`` is of errors with that bias, ``correlation`` (Pearson's) is blind to it. ``covered``:
    share of the scores inside their intervals. None where runs are too few to tell.
    """

    target: str
    runs: int
    rank_correlation: float | None
    rank_interval: tuple[float, float] | None
    correlation: float | None
    r2: float | None
    mae: float
    bias: float
    covered: float | None


@dataclass(frozen=True)
class Choice:
    """What it would have cost to choose among the mixtures by prediction, by the mean of losses.

    ``run`` is predicted best and comes out ``place``-th; ``regret`` is how much more loss it has
    than ``best``, which came out first.
    """

    run: str
    place: int
    regret: float
    best: str
    runs: int


@dataclass(frozen=True)
class Predictions:
    """Scores ``predicted`` for mixtures (k, n), in the targets' own direction, between ``low`` and
    ``high``; ``measured`` is nan where a score is not known.

    ``scores``: of every target that was measured; ``mean``: of the mean of all losses. Both are
    empty without measured scores. ``seen``: mixtures that are runs of the fit as well.
    """

    runs: tuple[str, ...]
    targets: tuple[str, ...]
    predicted: Array
    low: Array
    high: Array
    measured: Array
    scores: tuple[RowScore, ...]
    mean: RowScore | None
    choice: Choice | None
    seen: int
    notes: tuple[str, ...]

    def frame(self) -> "pd.DataFrame":
        """One row for every run and target: run, target, predicted, low, high, measured."""
        import pandas as pd

        values = {
            "predicted": self.predicted, "low": self.low, "high": self.high,
            "measured": self.measured,
        }  # fmt: skip
        return pd.DataFrame(
            {
                "run": np.repeat(np.array(self.runs, dtype=object), len(self.targets)),
                "target": list(self.targets) * len(self.runs),
                **{name: array.reshape(-1) for name, array in values.items()},
            }
        )

    def save(self, path: Path) -> None:
        """Writes :meth:`frame` as CSV."""
        write_text(path, self.frame().to_csv(index=False))


def predict_rows(
    fit: MixtureFit,
    ratios: Path,
    metrics: Path | None = None,
    *,
    level: float | None = None,
    groups: Mapping[str, Sequence[str]] | None = None,
) -> Predictions:
    """Predicts the mixtures of a ``ratios.csv``; with a ``metrics.csv`` it scores the predictions.

    Columns are matched by name, runs by the key that both files have. ``level``: of the intervals;
    None: the fit's. ``groups`` {target: columns}: for fits of means (:meth:`SwarmTable.grouped`).
    Raises :class:`UserError` as :func:`read_rows` does, and for tables of other contents.
    """
    table = fit.table
    for name in groups or {}:
        if name not in table.targets:
            raise UserError(f"the fit has no target '{name}'; a group is called as in 'olmix fit'")
    files = [ratios] if metrics is None else [ratios, metrics]
    check_contents(table.contents, evidence_of(files), "the fit", f"'{ratios}'")
    rows = read_rows(ratios, metrics, table.domains, table.targets, groups)
    predicted = fit.predict(rows.X)
    low, high = fit.interval(rows.X, level)
    every = [
        _score(target, predicted[:, j], low[:, j], high[:, j], rows.Y[:, j])
        for j, target in enumerate(table.targets)
    ]
    mean, choice = _of_mean(fit, rows.X, rows.Y, rows.runs, level)
    seen = int((hellinger(rows.X, table.X).min(axis=1) == 0).sum())
    notes = list(rows.notes)
    if seen:
        notes.append(
            f"{seen} of the mixtures are runs of the fit as well, so their predictions are not of "
            "unseen mixtures"
        )
    return Predictions(
        runs=rows.runs,
        targets=table.targets,
        predicted=predicted,
        low=low,
        high=high,
        measured=rows.Y,
        scores=tuple(score for score in every if score is not None),
        mean=mean,
        choice=choice,
        seen=seen,
        notes=tuple(notes),
    )


def rank_interval(rho: float, runs: int) -> tuple[float, float] | None:
    """95 % interval of Spearman's rho over ``runs`` rows; None below 4 rows or at -1 and 1.

    Fisher's z with the variance (1 + rho^2 / 2) / (runs - 3) (Bonett and Wright 2000, "Sample Size
    Requirements for Estimating Pearson, Kendall and Spearman Correlations", equation 3).
    """
    if runs < 4 or not abs(rho) < 1:
        return None
    half = 1.959964 * np.sqrt((1 + rho**2 / 2) / (runs - 3))
    z = np.arctanh(rho)
    return float(np.tanh(z - half)), float(np.tanh(z + half))


def _score(
    target: str, predicted: Array, low: Array, high: Array, measured: Array
) -> RowScore | None:
    """Of the rows (k,) that were measured; None without any."""
    there = ~np.isnan(measured)
    count = int(there.sum())
    if not count:
        return None
    p, y = predicted[there][:, None], measured[there][:, None]
    inside = (low[there] <= measured[there]) & (measured[there] <= high[there])
    varied = count > 1 and np.ptp(y) > 0
    rho = float(rank_correlation(p, y)[0]) if varied else None
    return RowScore(
        target=target,
        runs=count,
        rank_correlation=rho,
        rank_interval=None if rho is None else rank_interval(rho, count),
        correlation=float(correlation(p, y)[0]) if varied else None,
        r2=float(r_squared(p, y)[0]) if varied else None,
        mae=float(mae(p, y)[0]),
        bias=float((y - p).mean()),
        covered=float(inside.mean()) if np.isfinite(high - low).all() else None,
    )


def _of_mean(
    fit: MixtureFit, X: Array, Y: Array, runs: Sequence[str], level: float | None
) -> tuple[RowScore | None, Choice | None]:
    """The mean of all measured losses, which is what a mixture is chosen by."""
    known = ~np.isnan(Y).all(axis=0)
    there = ~np.isnan(Y[:, known]).any(axis=1)
    if not known.any() or not there.any():
        return None, None
    reflections = fit.table.reflections()
    measured = np.where(np.isnan(reflections), Y, reflections - Y)[:, known].mean(axis=1)
    predicted = fit.losses(X)[:, known].mean(axis=1)
    errors = fit.errors()[:, known].mean(axis=1)
    asked = fit.level if level is None else level
    half = conformal_halfwidth(errors[:, None], fit.table.X, X, asked)[:, 0]
    score = _score("mean", predicted, predicted - half, predicted + half, measured)
    places = np.flatnonzero(there)
    taken = places[int(predicted[there].argmin())]
    best = places[int(measured[there].argmin())]
    choice = Choice(
        run=runs[taken],
        place=1 + int((measured[there] < measured[taken]).sum()),
        regret=float(measured[taken] - measured[best]),
        best=runs[best],
        runs=len(places),
    )
    return score, choice
