"""From a ladder file and scores to fits and predictions: what the ``ladder`` commands call."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from olmeval.errors import UserError, nearest
from olmeval.ladders.curves import Ladder, make_ladder, read_scores
from olmeval.ladders.forecast import LadderForecast, Prediction
from olmeval.ladders.laws import exact_flops, six_nd
from olmeval.ladders.published import Chained, LossLaw, end_value, fit_chained
from olmeval.ladders.spec import LadderFile, load_ladder
from olmeval.results.table import load_table


@dataclass(frozen=True)
class Scale:
    """A run to predict: N, D and C, and its target in the ladder file, if it is one."""

    params: float
    tokens: float
    flops: float
    target: str | None = None


@dataclass(frozen=True)
class Measured:
    """A prediction beside what was measured; None where the target has not been trained."""

    prediction: Prediction
    actual: float | None

    @property
    def error(self) -> float | None:
        """Relative error, signed."""
        return None if self.actual is None else self.prediction.value / self.actual - 1.0


def open_ladder(
    name: str | Path, data: Path | None = None, tables: Sequence[Path] = (),
    mapping: Path | None = None, fit: Sequence[str] = (), tasks: Sequence[str] = (),
) -> Ladder:  # fmt: skip
    """The ladder file ``name`` (a path or a shipped name) with its scores.

    Scores are the files that the ladder file names below ``data``, or long ``tables`` (with
    ``mapping`` foreign ones). ``fit`` and ``tasks`` replace the file's. Raises :class:`UserError`.
    """
    file, folder = load_ladder(name)
    if unknown := [task for task in tasks if task not in file.tasks]:
        raise UserError(f"the ladder has no task '{unknown[0]}'{nearest(unknown[0], file.tasks)}")
    changed: dict[str, object] = {}
    if fit:
        changed["fit"] = tuple(fit)
    if tasks:
        changed["tasks"] = {task: file.tasks[task] for task in tasks}
    file = file.model_copy(update=changed)
    if not file.tasks or not file.features:
        raise UserError(f"the ladder '{file.name}' names no tasks or no features to fit")
    if tables:
        return make_ladder(file, load_table(tables, mapping))
    if data is None:
        raise UserError(
            "give the scores: --data FOLDER for the files that the ladder names, or tables"
        )
    if not data.is_dir():
        raise UserError(f"'{data}' is no folder; give the one that holds the ladder's scores")
    if not file.data:
        raise UserError(
            f"the ladder '{file.name}' names no files under 'data'; give tables instead"
        )
    return make_ladder(file, read_scores(file, folder, data))


def forecast_features(file: LadderFile) -> list[str]:
    """Features that the forecast averages over: those whose accuracy law is the sigmoid."""
    return [name for name, f in file.features.items() if f.accuracy_law == "sigmoid"]


def fit_forecast(ladder: Ladder, samples: int = 200, level: float = 0.95) -> LadderForecast:
    """Our fit of all tasks of a ladder. Raises :class:`UserError`."""
    features = forecast_features(ladder.file)
    if not features:
        raise UserError(f"the ladder '{ladder.file.name}' has no feature with a sigmoid to fit")
    settings = {(ladder.file.features[f].window, ladder.file.features[f].skip) for f in features}
    if len(settings) > 1:
        raise UserError(
            f"the features {', '.join(features)} differ in 'window' or 'skip'; a forecast averages "
            "over features that are smoothed alike"
        )
    ((window, skip),) = settings
    made = LadderForecast(samples=samples, level=level, window=window, skip=skip)
    return made.fit({f: [ladder.fitted(task, f) for task in ladder.file.tasks] for f in features})


def fit_published(ladder: Ladder, feature: str, loss_law: LossLaw = "loss-nd") -> list[Chained]:
    """``ladder-2024`` of every task on one feature. Raises :class:`UserError`."""
    if feature not in ladder.file.features:
        raise UserError(
            f"the ladder has no feature '{feature}'{nearest(feature, ladder.file.features)}"
        )
    return [
        fit_chained(ladder.fitted(task, feature), ladder.file.features[feature], loss_law)
        for task in ladder.file.tasks
    ]


def predict_published(ladder: Ladder, chain: Chained, scale: Scale) -> dict[str, float]:
    """Loss and accuracy that ``ladder-2024`` predicts at ``scale``, with relative errors."""
    found = {
        "loss": chain.predict_loss(scale.params, scale.tokens, scale.flops),
        "accuracy": chain.predict(scale.params, scale.tokens, scale.flops),
    }
    run = None
    if scale.target is not None:
        run = ladder.target(chain.task, chain.feature, scale.target)
    if run is not None:
        window = ladder.file.features[chain.feature].window
        found["loss_error"] = found["loss"] / end_value(run.loss, window) - 1.0
        found["accuracy_error"] = found["accuracy"] / end_value(run.accuracy, window) - 1.0
    return found


def scales(
    file: LadderFile, targets: Sequence[str] = (), params: float | None = None,
    tokens: float | None = None, flops_per_token: float | None = None,
) -> list[Scale]:  # fmt: skip
    """The runs to predict: N and D, or targets by name; all targets of the file without either.

    C follows the file's convention; raises :class:`UserError` where it is exact and nothing gives
    the FLOPs of a token.
    """
    if (params is None) != (tokens is None):
        raise UserError("give --params and --tokens together")
    if params is not None and tokens is not None:
        if not (params > 0 and tokens > 0):
            raise UserError("--params and --tokens must be positive")
        if params > tokens:
            raise UserError(f"{params:.3g} parameters and {tokens:.3g} tokens: are they swapped?")
        return [_scale(file, params, tokens, flops_per_token, None)]
    names = list(targets or file.targets)
    if not names:
        raise UserError("give --params and --tokens: the ladder file has no targets")
    found = []
    for name in names:
        if name not in file.targets:
            raise UserError(f"the ladder has no target '{name}'{nearest(name, file.targets)}")
        t = file.targets[name]
        found.append(_scale(file, t.params, t.tokens, t.flops_per_token, name))
    return found


def _scale(
    file: LadderFile, params: float, tokens: float, per_token: float | None, name: str | None
) -> Scale:
    if file.flops == "6nd":
        return Scale(params, tokens, six_nd(params, tokens), name)
    if per_token is None:
        per_token = next(
            (s.flops_per_token for s in file.sizes.values() if s.params == params), None
        )
    if per_token is None:
        raise UserError(
            f"the ladder counts exact FLOPs: give --flops-per-token for {params:.4g} parameters "
            f"(6 N is {6 * params:.3g}; attention and output head come on top)"
        )
    return Scale(params, tokens, exact_flops(per_token, tokens), name)


def predict(ladder: Ladder, made: LadderForecast, scale: Scale) -> list[Measured]:
    """Every quantity of every task at ``scale``, beside what was measured."""
    rows = []
    for p in made.predict(scale.params, scale.tokens, scale.flops):
        actual = None
        if scale.target is not None:
            feature = p.quantity.removeprefix("loss:")
            is_loss = feature != p.quantity
            run = ladder.target(
                p.task, feature if is_loss else forecast_features(ladder.file)[0], scale.target
            )
            if run is not None:
                actual = end_value(run.loss if is_loss else run.accuracy, made.window)
        rows.append(Measured(p, actual))
    return rows


def shared_once(rows: Sequence[Measured]) -> list[Measured]:
    """The rows with a loss that all tasks share (a corpus loss) only once, as task "(all)"."""
    values: dict[str, list[float]] = {}
    for row in rows:
        values.setdefault(row.prediction.quantity, []).append(row.prediction.value)
    kept, seen = [], set()
    for row in rows:
        quantity = row.prediction.quantity
        if len(values[quantity]) == 1 or len(set(values[quantity])) > 1:
            kept.append(row)
        elif quantity not in seen:
            seen.add(quantity)
            kept.append(replace(row, prediction=replace(row.prediction, task="(all)")))
    return kept
