"""The scaling-law report: one HTML page and a JSON file for a ladder and its targets.

For every task: what the rungs reached, the forecast with its band along the way to the target,
residuals, accuracy by loss. Then errors, back-tests, parameters, and warnings in words.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from olmeval.files import write_json, write_text
from olmeval.ladders.curves import Ladder, TaskCurves
from olmeval.ladders.forecast import ACCURACY, Held, LadderForecast, Prediction
from olmeval.ladders.laws import LAWS, law
from olmeval.ladders.predict import Measured, Scale, predict, shared_once
from olmeval.ladders.published import end_value
from olmeval.reports.page import document, section
from olmeval.reports.tables import breakable, grid

STEPS = 12
FORMAT = "olmeval-ladder-report/1"


def write_ladder_report(
    ladder: Ladder, made: LadderForecast, targets: Sequence[Scale], path: Path
) -> tuple[Path, Path]:
    """Writes the page to ``path`` and its numbers beside it as ``.json``; returns both.

    ``made`` is the forecast fitted to the ladder's rungs. Raises :class:`UserError` where they
    cannot be written.
    """
    found = [(scale, predict(ladder, made, scale)) for scale in targets]
    charts = _charts(ladder, made, found)
    page = document(
        f"Ladder {ladder.file.name}", "".join(_body(ladder, made, found, charts)), charts
    )
    numbers = path.with_suffix(".json")
    write_json(numbers, summary(ladder, made, found))
    write_text(path, page)
    return path, numbers


def summary(
    ladder: Ladder, made: LadderForecast, found: Sequence[tuple[Scale, Sequence[Measured]]]
) -> dict[str, Any]:
    """Everything on the page as JSON-ready values."""
    return {
        "format": FORMAT,
        "ladder": ladder.file.name,
        "flops": ladder.file.flops,
        "rungs": list(ladder.rungs),
        "level": made.level,
        "targets": [
            {**asdict(scale), "predictions": [
                {**asdict(row.prediction), "actual": row.actual, "error": row.error} for row in rows
            ]}
            for scale, rows in found
        ],
        "fits": _fits(made),
        "back_test": {
            quantity: {
                "nominal": made.level,
                "actual": calibration.coverage,
                "tests": calibration.tests,
                "weights": dict(
                    zip(calibration.members, map(float, calibration.weights), strict=True)
                ),
                "rows": [{**asdict(h), "error": h.error} for h in made.backtests_[quantity]],
            }
            for quantity, calibration in made.calibration_.items()
        },
        "warnings": made.warnings_,
    }  # fmt: skip


def _fits(made: LadderForecast) -> list[dict[str, Any]]:
    rows = []
    for member in made.members_:
        loss, accuracy = member.loss_parameters(), member.accuracy_parameters()
        names = law(member.loss_law).parameters
        for t, task in enumerate(member.tasks):
            rows.append({
                "task": task, "member": member.name,
                "loss": dict(zip(names, map(float, loss[t]), strict=True)),
                "accuracy": None if accuracy is None else dict(
                    zip(LAWS["sigmoid"].parameters, map(float, accuracy[t]), strict=True)
                ),
                "converged": float(member.loss.converged[t].mean()),
                "starts_and_resamples": int(member.loss.converged.shape[1]),
            })  # fmt: skip
    return rows


def _body(
    ladder: Ladder, made: LadderForecast, found: Sequence[tuple[Scale, Sequence[Measured]]],
    charts: Sequence[Mapping[str, Any]],
) -> Iterable[str]:  # fmt: skip
    counts = (
        f"{len(ladder.rungs)} rungs · {len(made.tasks_)} tasks · "
        f"C is {'exact' if ladder.file.flops == 'exact' else '6 N D'}"
    )
    lines = []
    for scale, rows in found:
        known = [row.error for row in rows if row.error is not None and _main(made, row.prediction)]
        if known:
            inside = sum(_inside(row) for row in rows if _main(made, row.prediction))
            lines.append(
                f"{scale.target}: mean error {np.abs(known).mean():.1%}; the intervals hold "
                f"{inside} of {len(known)}."
            )
    for quantity, calibration in made.calibration_.items():
        if calibration.coverage is not None:
            lines.append(
                f"Back-test of {quantity}: the nominal {made.level:.0%} held "
                f"{calibration.coverage:.0%} of {calibration.tests}."
            )
    yield f'<header><h1>Ladder {escape(ladder.file.name)}</h1><p class="lead">{counts}</p>'
    yield "".join(f"<p>{escape(line)}</p>" for line in lines) + "</header>"
    if made.warnings_:
        items = "".join(f"<li>{escape(line)}</li>" for line in made.warnings_)
        yield section("Warnings", "", f"<details open><summary>{len(made.warnings_)} "
                      f"warnings</summary><ul>{items}</ul></details>")  # fmt: skip
    yield section(
        "Predictions",
        f"{made.level:.0%} intervals, calibrated by back-test. Targets that are not trained have "
        "no measured value.",
        _predictions(found),
    )
    drawn = "".join(
        f"<figure><figcaption>{escape(c['task'])}<span>{escape(c['metric'])}</span></figcaption>"
        f'<div class="plot" role="img" aria-label="{escape(c["task"])}, {escape(c["metric"])}">'
        "</div></figure>"
        for c in charts
    )
    yield section(
        "Rungs, forecast, target",
        "Dots are runs, coloured by size; the line is the forecast with its band from the largest "
        "rung to the target; diamonds are measured targets. Compute is training FLOPs.",
        f'<div class="charts">{drawn}</div>',
    )
    yield section(
        "Back-test",
        "The largest run of every larger size, predicted from smaller sizes alone. Its interval "
        "is learnt from the other back-tests.",
        _backtests(made),
    )
    yield section(
        "Parameters",
        "On the data as they are; logarithms are natural. The share of resamples that converged.",
        "".join(f"<p class='note'>{escape(name)}: {escape(LAWS[name].formula)}. "
                f"{escape(LAWS[name].source)}</p>" for name in (*made.laws_, "sigmoid"))
        + _parameters(made),
    )  # fmt: skip


def _main(made: LadderForecast, prediction: Prediction) -> bool:
    """Whether it is of the quantity that the ladder is for: accuracy, or else the first loss."""
    return bool(prediction.quantity == made.quantities_[0])


def _inside(row: Measured) -> bool:
    p = row.prediction
    return row.actual is not None and p.low <= row.actual <= p.high


def _row(name: str, cells: Iterable[str]) -> str:
    numbers = "".join(f'<td class="number">{escape(cell)}</td>' for cell in cells)
    return f'<tr><th scope="row">{breakable(name)}</th>{numbers}</tr>'


def _heads(*names: str) -> str:
    return f'<th scope="col">{names[0]}</th>' + "".join(
        f'<th scope="col" class="number">{name}</th>' for name in names[1:]
    )


def _predictions(found: Sequence[tuple[Scale, Sequence[Measured]]]) -> str:
    rows = []
    for scale, measured in found:
        for m in shared_once(measured):
            p = m.prediction
            rows.append(
                _row(p.task, (
                    scale.target or f"N {scale.params:.3g}, D {scale.tokens:.3g}", p.quantity,
                    f"{p.value:.4f}", f"{p.low:.4f} – {p.high:.4f}",
                    "" if m.actual is None else f"{m.actual:.4f}",
                    "" if m.error is None else f"{m.error:+.1%}",
                    f"{p.spread:.4f}", f"{p.sampling:.4f}",
                ))
            )  # fmt: skip
    heads = _heads("task", "target", "quantity", "predicted", "interval", "measured", "error",
                   "members differ by", "resamples by")  # fmt: skip
    return grid("scores", "predictions", heads, rows)


def _backtests(made: LadderForecast) -> str:
    groups: dict[tuple[str, str, str], list[Held]] = {}
    for rows in made.backtests_.values():
        for h in rows:
            groups.setdefault((h.quantity, " ".join(h.fitted), h.run), []).append(h)
    body = []
    for (quantity, fitted, run), held in groups.items():
        errors = np.array([h.error for h in held])
        known = [h.inside for h in held if h.inside is not None]
        body.append(
            _row(run, (quantity, fitted, f"{np.abs(errors).mean():.1%}",
                       f"{errors[np.abs(errors).argmax()]:+.1%}",
                       f"{sum(known)} of {len(known)}" if known else ""))
        )  # fmt: skip
    heads = _heads("held out", "quantity", "fitted sizes", "mean |error|", "worst", "inside")
    return grid("scores", "back-test", heads, body)


def _parameters(made: LadderForecast) -> str:
    def text(values: Mapping[str, float] | None) -> str:
        return " ".join(f"{k} {v:.4g}" for k, v in (values or {}).items())

    body = [
        _row(row["task"], (row["member"], text(row["loss"]), text(row["accuracy"]),
                           f"{row['converged']:.0%}"))
        for row in _fits(made)
    ]  # fmt: skip
    return grid("scores", "parameters", _heads("task", "member", "loss law", "accuracy law",
                                               "converged"), body)  # fmt: skip


def _charts(
    ladder: Ladder, made: LadderForecast, found: Sequence[tuple[Scale, Sequence[Measured]]]
) -> list[dict[str, Any]]:
    features = list(dict.fromkeys(m.feature for m in made.members_))
    charts = []
    for t, task in enumerate(made.tasks_):
        for quantity in made.quantities_:
            feature = quantity.removeprefix("loss:") if quantity != ACCURACY else features[0]
            curves = ladder.fitted(task, feature)
            if quantity == ACCURACY or t == 0 or not ladder.file.features[feature].task:
                charts.append(_by_compute(ladder, made, curves, quantity, found))
        curves = ladder.fitted(task, features[0])
        charts.append(_residuals(made, curves, t, features[0]))
        if ACCURACY in made.quantities_:
            charts.append(_accuracy_by_loss(made, curves, t))
    return charts


def _layout(x: str, y: str, log: bool) -> dict[str, Any]:
    axis = {"type": "log", "exponentformat": "power", "nticks": 5} if log else {"nticks": 6}
    return {
        "xaxis": {"title": {"text": x, "standoff": 8}, **axis},
        "yaxis": {"title": {"text": y, "standoff": 4}, "nticks": 6},
        "margin": {"l": 52, "r": 12, "t": 8, "b": 42},
        "height": 260, "showlegend": False, "hovermode": "closest",
    }  # fmt: skip


def _dots(
    x: Sequence[float], y: Sequence[float], text: Sequence[str], color: int,
    symbol: str = "circle", size: int = 7,
) -> dict[str, Any]:  # fmt: skip
    return {
        "type": "scatter", "mode": "markers",
        "x": [float(v) for v in x], "y": [float(v) for v in y],
        "text": [escape(name, quote=False) for name in text],
        "hovertemplate": "%{text}<br>%{y:.4f}",
        "marker": {"symbol": symbol, "size": size}, "meta": {"color": color, "series": color},
    }  # fmt: skip


def _line(x: Sequence[float], y: Sequence[float], **more: Any) -> dict[str, Any]:
    return {
        "type": "scatter", "mode": "lines", "x": [float(v) for v in x], "y": [float(v) for v in y],
        "line": {"width": 2}, "meta": {"color": 6, "series": 6, **more.pop("meta", {})}, **more,
    }  # fmt: skip


def _colors(curves: TaskCurves) -> dict[str, int]:
    sizes = dict.fromkeys(r.size for r in sorted(curves.runs, key=lambda r: r.params))
    return {size: i % 6 for i, size in enumerate(sizes)}


def _by_compute(
    ladder: Ladder, made: LadderForecast, curves: TaskCurves, quantity: str,
    found: Sequence[tuple[Scale, Sequence[Measured]]],
) -> dict[str, Any]:  # fmt: skip
    is_accuracy = quantity == ACCURACY
    data = []
    if found:
        # From the largest rung to the largest target, straight in ln N and ln D.
        largest = max(curves.runs, key=lambda r: r.flops)
        start = (largest.params, largest.tokens, largest.flops)
        target = max((scale for scale, _ in found), key=lambda scale: scale.flops)
        path = np.geomspace(start, (target.params, target.tokens, target.flops), STEPS)
        band = [
            next(p for p in made.predict(*point) if (p.task, p.quantity) == (curves.task, quantity))
            for point in path
        ]
        x = [*path[:, 2], *path[::-1, 2]]
        y = [*(p.high for p in band), *(p.low for p in band[::-1])]
        data.append(_line(x, y, fill="toself", hoverinfo="skip", meta={"band": True}))
        data[-1]["line"] = {"width": 0}
        data.append(_line(path[:, 2].tolist(), [p.value for p in band]))
    for size, color in _colors(curves).items():
        runs = [r for r in curves.runs if r.size == size]
        ends = [end_value(r.accuracy if is_accuracy else r.loss, made.window) for r in runs]
        data.append(_dots([r.flops for r in runs], ends, [r.run for r in runs], color))
    for scale, rows in found:
        for m in rows:
            p = m.prediction
            if (p.task, p.quantity) == (curves.task, quantity) and m.actual is not None:
                name = scale.target or "target"
                data.append(_dots([scale.flops], [m.actual], [name], 7, "diamond", 9))
    what = "accuracy" if is_accuracy else f"loss ({curves.feature})"
    shared = not is_accuracy and ladder.file.features[curves.feature].task
    return {
        "task": shared or curves.task, "metric": f"{what} by compute",
        "figure": {"data": data, "layout": _layout("training FLOPs", what, True)},
    }  # fmt: skip


def _residuals(made: LadderForecast, curves: TaskCurves, t: int, feature: str) -> dict[str, Any]:
    quantity = f"loss:{feature}"
    weights = made.calibration_[quantity].weights
    data = []
    for size, color in _colors(curves).items():
        runs = [r for r in curves.runs if r.size == size]
        off = []
        for r in runs:
            center = weights @ made.draws(quantity, r.params, r.tokens, r.flops)[:, t, 0]
            off.append(float(100 * (end_value(r.loss, made.window) / np.exp(center) - 1)))
        data.append(_dots([r.flops for r in runs], off, [r.run for r in runs], color))
    return {
        "task": curves.task, "metric": f"residuals of the loss ({feature})",
        "figure": {"data": data, "layout": _layout("training FLOPs", "residual, %", True)},
    }  # fmt: skip


def _accuracy_by_loss(made: LadderForecast, curves: TaskCurves, t: int) -> dict[str, Any]:
    member = next(m for m in made.members_ if m.feature == curves.feature)
    theta = member.accuracy_parameters()
    assert theta is not None
    data = []
    for size, color in _colors(curves).items():
        runs = [r for r in curves.runs if r.size == size]
        x = [end_value(r.loss, made.window) for r in runs]
        y = [end_value(r.accuracy, made.window) for r in runs]
        data.append(_dots(x, y, [r.run for r in runs], color))
    ends = [end_value(r.loss, made.window) for r in curves.runs]
    grid_ = np.linspace(0.7 * min(ends), 1.05 * max(ends), 60)
    data.append(_line(grid_.tolist(), law("sigmoid")(theta[t], grid_).tolist()))
    return {
        "task": curves.task, "metric": f"accuracy by loss ({curves.feature})",
        "figure": {"data": data, "layout": _layout(f"loss ({curves.feature})", "accuracy", False)},
    }  # fmt: skip
