"""From a swarm's tables to a fitted model with everything one must know to trust it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from olmeval.errors import CorruptFileError, UserError
from olmeval.files import read_json, write_json
from olmeval.mixing.curve import LearningCurve, Point, learning_curve
from olmeval.mixing.design import Design, assess, noise_floor
from olmeval.mixing.regressors.auto import Auto, make_regressor
from olmeval.mixing.regressors.base import (
    Regressor,
    as_mixtures,
    conformal_halfwidth,
    folds_of,
    in_order,
    replicate_groups,
    typical_halfwidth,
)
from olmeval.mixing.scores import mae, r_squared, rank_correlation, rmse
from olmeval.mixing.tables import SwarmTable

Array = NDArray[np.float64]
FORMAT = 2
UNPREDICTABLE = "UNPREDICTABLE:"
"""How a warning begins that takes the ground from under a proposal."""
FILE = "fit.json"
OF_POSITIVE_LOSSES = ("log-linear", "power-law", "bimix", "autoscale")
"""Families whose predictions are above 0 whatever the mixture."""
Z = 1.645
"""The 95 % quantile of the normal distribution."""


@dataclass(frozen=True)
class TargetScore:
    """How well one target is predicted, on rows that the fit had not seen.

    ``noise`` is the standard deviation of repeated runs, None without replicates; an error close
    to it cannot be lowered. ``halfwidth``: of the interval, its median over the rows were they new.
    ``r2``: None for a target that is the same in every run.
    """

    target: str
    family: str
    rank_correlation: float
    r2: float | None
    mae: float
    rmse: float
    train_rmse: float
    halfwidth: float | None
    noise: float | None
    predictable: bool
    """Whether runs that the fit had not seen are put in an order that is not chance."""


@dataclass(frozen=True)
class MixtureFit:
    """A fitted swarm: scores are predicted by :meth:`predict`, in the targets' own direction.

    ``model`` is the law alone. A target that it does not predict is predicted by the mean of its
    runs here, which is better; so it has no say in what mixture is best.
    """

    table: SwarmTable
    model: Regressor
    level: float
    scores: tuple[TargetScore, ...]
    design: Design
    curve: LearningCurve | None
    warnings: tuple[str, ...]

    @property
    def predictable(self) -> NDArray[np.bool_]:
        """Of each target (n,) whether the law predicts it."""
        return np.array([score.predictable for score in self.scores])

    def losses(self, X: ArrayLike) -> Array:
        """Losses (k, n) of mixtures, whose columns are the domains; a data frame's in any order."""
        X = in_order(X, self.table.domains)
        mean = self.table.losses().mean(axis=0)
        return np.where(self.predictable, self.model.predict(X), mean)

    def errors(self) -> Array:
        """Measured less predicted losses (K, n) of the runs, each by a fit that has not seen it."""
        losses = self.table.losses()
        return losses - np.where(
            self.predictable, self.model.out_of_fold(), means_of_others(losses)
        )

    def predict(self, X: ArrayLike) -> Array:
        """Scores (k, n) of mixtures, in the targets' own direction."""
        return self._own_direction(self.losses(X))

    def interval(self, X: ArrayLike, level: float | None = None) -> tuple[Array, Array]:
        """Lower and upper ends (k, n) of the scores' intervals."""
        asked = self.level if level is None else level
        mixtures = as_mixtures(in_order(X, self.table.domains), len(self.table.domains))
        half = conformal_halfwidth(self.errors(), self.table.X, mixtures, asked)
        center = self.losses(mixtures)
        a, b = self._own_direction(center - half), self._own_direction(center + half)
        return np.minimum(a, b), np.maximum(a, b)

    def _own_direction(self, losses: Array) -> Array:
        reflections = self.table.reflections()
        return np.where(np.isnan(reflections), losses, reflections - losses)

    def save(self, folder: Path) -> Path:
        """Writes ``fit.json``: data, parameters and scores; no code, readable by anything."""
        table = self.table
        value = {
            "format": FORMAT,
            "sources": dict(table.sources or {}),
            "contents": dict(table.contents),
            "runs": table.runs,
            "domains": table.domains,
            "targets": table.targets,
            "higher": sorted(table.higher),
            "notes": table.notes,
            "mixtures": table.X.tolist(),
            "values": table.Y.tolist(),
            "model": {
                "family": self.model.family,
                "parameters": self.model.get_params(deep=False),
                "state": self.model.state(),
                "out_of_fold": self.model.out_of_fold().tolist(),
            },
            "level": self.level,
            "scores": [asdict(score) for score in self.scores],
            "design": _finite(asdict(self.design)),
            "curve": self.curve and asdict(self.curve),
            "warnings": self.warnings,
        }
        write_json(folder / FILE, value)
        return folder / FILE


def fit_swarm(
    table: SwarmTable,
    family: str = "log-linear",
    *,
    level: float = 0.95,
    curve: bool = True,
    parameters: Mapping[str, Any] | None = None,
) -> MixtureFit:
    """Fits a family, or the best family of every target ("auto"), and judges it.

    Scores and intervals come from cross-validation; runs of one mixture stay in one fold. Raises
    :class:`UserError` on an unknown family or a swarm that cannot be fitted.
    """
    X, Y = table.X, table.losses()
    folds_of(X)  # Too few mixtures are said before the time goes into a fit.
    model = make_regressor(family, **(parameters or {})).fit(X, Y)
    held_out, inside = model.out_of_fold(), model.predict(X)
    floor, freedom = noise_floor(X, Y)
    half = typical_halfwidth(Y - held_out, X, level)
    families = model.choice_ if isinstance(model, Auto) else [model.family] * Y.shape[1]
    columns = zip(
        table.targets,
        families,
        rank_correlation(held_out, Y).tolist(),
        [float(r2) if np.isfinite(r2) else None for r2 in r_squared(held_out, Y)],
        mae(held_out, Y).tolist(),
        rmse(held_out, Y).tolist(),
        rmse(inside, Y).tolist(),
        [float(h) if np.isfinite(h) else None for h in half],
        [float(n) if freedom else None for n in floor],
        predictable(held_out, X, Y).tolist(),
        strict=True,
    )
    design = assess(X, table.domains)
    scores = tuple(TargetScore(*row) for row in columns)
    return MixtureFit(
        table=table,
        model=model,
        level=level,
        scores=scores,
        design=design,
        curve=learning_curve(model, X, Y) if curve else None,
        warnings=(*table.notes, *design.warnings(), *_doubts(scores, table, model)),
    )


def predictable(held_out: Array, X: Array, Y: Array) -> NDArray[np.bool_]:
    """Of which targets (n,) held-out predictions (K, n) order the mixtures, as a proposal needs.

    Their rank correlation would come by chance in one case of twenty at most: without
    association its variance is 1 / (K - 1) over K mixtures (Hotelling and Pabst 1936, "Rank
    Correlation and Tests of Significance"). R2 would not do: one run far off turns it negative.
    """
    mixtures = int(replicate_groups(X).max()) + 1
    by_chance = Z / np.sqrt(max(mixtures - 1, 1))
    ordered: NDArray[np.bool_] = rank_correlation(held_out, Y) > by_chance
    return ordered


def means_of_others(Y: Array) -> Array:
    """For every row of ``Y`` (K, n) the mean of the other rows."""
    means: Array = (Y.sum(axis=0) - Y) / (len(Y) - 1)
    return means


def load_fit(path: Path) -> MixtureFit:
    """Reads what :meth:`MixtureFit.save` wrote: the file or its folder. Raises UserError."""
    path = path / FILE if path.is_dir() else path
    value = read_json(path)
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise UserError(f"'{path}' is not a fit of this version; run 'olmix fit' again")
    try:
        table = SwarmTable(
            runs=tuple(value["runs"]),
            domains=tuple(value["domains"]),
            targets=tuple(value["targets"]),
            X=np.asarray(value["mixtures"], np.float64),
            Y=np.asarray(value["values"], np.float64),
            higher=frozenset(value["higher"]),
            notes=tuple(value["notes"]),
            sources=value["sources"],
            contents=value.get("contents", {}),
        )
        saved = value["model"]
        model = make_regressor(saved["family"], **saved["parameters"])
        model.restore(table.X, table.losses(), saved["state"])
        model.restore_out_of_fold(np.asarray(saved["out_of_fold"], np.float64))
        curve = value["curve"]
        if curve is not None:
            curve = LearningCurve(**curve | {"points": tuple(Point(**p) for p in curve["points"])})
        return MixtureFit(
            table=table,
            model=model,
            level=value["level"],
            scores=tuple(TargetScore(**score) for score in value["scores"]),
            design=assess(table.X, table.domains),
            curve=curve,
            warnings=tuple(value["warnings"]),
        )
    except (KeyError, TypeError, IndexError, ValueError) as error:
        raise CorruptFileError(f"'{path}' is damaged: {error!r}; run 'olmix fit' again") from None


def _all_or(count: int, scores: Sequence[TargetScore]) -> str:
    return "all targets" if count == len(scores) else f"{count} of {len(scores)} targets"


def _doubts(scores: tuple[TargetScore, ...], table: SwarmTable, model: Regressor) -> list[str]:
    found, Y = [], table.losses()
    constant = [s.target for s, y in zip(scores, Y.T, strict=True) if np.ptp(y) == 0]
    if constant:
        found.append(f"{', '.join(constant)}: the same in every run, so nothing to predict")
    lost = [s for s in scores if not s.predictable and s.target not in constant]
    if lost:
        found.append(
            f"{UNPREDICTABLE} {_all_or(len(lost), scores)} cannot be told from the mixture, so no "
            f"mixture can be chosen for {'it' if len(lost) == 1 else 'them'}: "
            + ", ".join(
                f"{s.target} (R2 {s.r2 or 0:.2f}, rank {s.rank_correlation:.2f} out of fold)"
                for s in lost
            )
            + "; train proxies for longer, run more of them, or choose other targets"
        )
    below = [s.target for s, y in zip(scores, Y.T, strict=True) if y.min() < 0]
    if below and model.family in OF_POSITIVE_LOSSES:
        found.append(
            f"{', '.join(below)}: scores below 0, which a {model.family} law cannot follow; "
            "say --higher if more is better, add a constant, or take --family gp or linear"
        )
    worst = np.abs(Y - model.out_of_fold()).argmax(axis=0)
    far = [
        f"{s.target} ({table.runs[row]})"
        for s, row in zip(scores, worst, strict=True)
        if s.predictable and (s.r2 or 0) < 0
    ]
    if far:
        found.append(
            f"{', '.join(far)}: the order of runs is predicted, but the run named is so far off "
            "that errors are larger than those of the mean; a swarm drawn nearer to natural "
            "('olmix swarm --strength 1 20') has no such corners"
        )
    floor = [s.target for s in lost if s.noise is not None and s.rmse < 2 * s.noise]
    if floor:
        found.append(
            f"{', '.join(floor)}: runs of one mixture differ about as much as runs of different "
            "ones do; scores of more documents or longer proxies would tell them apart"
        )
    converged = np.asarray(getattr(model, "converged_", True))
    both = zip(scores, np.broadcast_to(converged, len(scores)), strict=True)
    if names := [s.target for s, ok in both if s.predictable and not ok]:
        found.append(f"{', '.join(names)}: the fit had not converged when it was stopped")
    return found


def _finite(value: Any) -> Any:
    """Infinities as None, which JSON has."""
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
