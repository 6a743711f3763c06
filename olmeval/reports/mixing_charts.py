"""The figures of the mixing report, as data and layout that the page's script draws."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from olmeval.mixing.fitting import MixtureFit
from olmeval.mixing.names import short_names

Array = NDArray[np.float64]
Proposals = Mapping[str, Mapping[str, Any]]
TICKS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
GREY, BEST, WORST, NATURAL, RUN = 6, 2, 1, 7, 4
PROPOSED = (0, 3, 5)
"""Colours of the style sheet."""


def shares_of(outlook: Mapping[str, Any]) -> Array:
    """The shares (m,) of a mixture in a proposal."""
    return np.array(list(outlook["weights"].values()), np.float64)


def figures_of(fit: MixtureFit, natural: Array, given: Proposals) -> list[dict[str, Any]]:
    """Charts ``{part, title, wide, figure}`` in the order in which the page shows them.

    ``natural`` (m,); ``given``: {name: proposal.json as read}.
    """
    found = [_mixture_chart(fit, natural, given)] if given else []
    found += [_map(fit, natural, given), _spread_chart(fit, natural), _predicted(fit)]
    if fit.curve is not None:
        found.append(_learning(fit))
    return found


def _chart(
    part: str, title: str, data: list[dict[str, Any]], x: Mapping[str, Any], y: Mapping[str, Any],
    *, height: int = 320, wide: bool = False,
) -> dict[str, Any]:  # fmt: skip
    layout = {
        "xaxis": dict(x), "yaxis": dict(y), "height": height, "hovermode": "closest",
        "margin": {"l": 52, "r": 12, "t": 34, "b": 42}, "showlegend": True,
        "legend": {"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom"},
    }  # fmt: skip
    return {"part": part, "title": title, "wide": wide, "figure": {"data": data, "layout": layout}}


def _dots(
    name: str, x: Iterable[float], y: Iterable[Any], color: int, *, text: Sequence[str] = (),
    symbol: str = "circle", size: int = 6, opacity: float = 1.0, form: str = "%{text}",
) -> dict[str, Any]:  # fmt: skip
    return {
        "type": "scatter", "mode": "markers", "name": escape(name, quote=False),
        "x": [float(v) for v in x], "y": list(y), "text": [escape(t, quote=False) for t in text],
        "hovertemplate": form + "<extra></extra>", "meta": {"color": color, "series": color},
        "marker": {"symbol": symbol, "size": size, "opacity": opacity},
    }  # fmt: skip


def _share_axis(most: float) -> dict[str, Any]:
    shown = [t for t in TICKS if t <= most] or [0.0]
    return {
        "title": {"text": "share", "standoff": 8}, "range": [-0.02, 1.05 * most**0.5],
        "tickvals": [t**0.5 for t in shown], "ticktext": [f"{t:g}" for t in shown],
    }  # fmt: skip


def _domain_axis(names: Sequence[str]) -> dict[str, Any]:
    shown = [escape(n, quote=False) for n in names]
    return {"tickvals": list(range(len(names))), "ticktext": shown,
            "range": [len(names) - 0.4, -0.6]}  # fmt: skip


def _mixture_chart(fit: MixtureFit, natural: Array, given: Proposals) -> dict[str, Any]:
    names = short_names(fit.table.domains)
    places = np.arange(len(names), dtype=np.float64)
    first = next(iter(given.values()))
    shown = [("natural", natural, NATURAL, "diamond-open"),
             ("best run", shares_of(first["best_row"]), RUN, "x-thin-open")]  # fmt: skip
    data = [
        _dots(label, np.sqrt(x), places.tolist(), color, symbol=symbol, size=9,
              text=[f"{n}: {label} {v:.4f}" for n, v in zip(names, x, strict=True)])
        for label, x, color, symbol in shown
    ]  # fmt: skip
    most = max(float(x.max()) for _, x, _, _ in shown)
    for k, (label, p) in enumerate(given.items()):
        x = shares_of(p["mixture"])
        y = places + 0.22 * (k - (len(given) - 1) / 2) / max(len(given) - 1, 1)
        spread = p["uncertainty"]["shares"] if p["uncertainty"] else {}
        text = [f"{n}: {label} {v:.4f}" for n, v in zip(names, x, strict=True)]
        trace = _dots(label, np.sqrt(x), y.tolist(), PROPOSED[k % 3], size=9, text=text)
        most = max(most, float(x.max()))
        if spread:
            low, high = np.sqrt(np.array([spread[d] for d in fit.table.domains])).T
            most = max(most, float(high.max()) ** 2)
            # page.js colours vertical error bars alone, so the spreads are lines of their own.
            gaps = [None] * len(y)
            along = [v for row in zip(low.tolist(), high.tolist(), gaps, strict=True) for v in row]
            across = [v for row in zip(y.tolist(), y.tolist(), gaps, strict=True) for v in row]
            data.append({
                "type": "scatter", "mode": "lines", "x": along, "y": across,
                "line": {"width": 3}, "opacity": 0.45,
                "hoverinfo": "skip", "name": escape(f"{label}, 90 % of refits", quote=False),
                "meta": {"color": PROPOSED[k % 3], "series": PROPOSED[k % 3]},
            })  # fmt: skip
        data.append(trace)
    return _chart("mixture", "Shares by domain", data, _share_axis(most), _domain_axis(names),
                  height=120 + 24 * len(names), wide=True)  # fmt: skip


def _quarters(fit: MixtureFit) -> list[tuple[str, NDArray[np.bool_], int]]:
    """Runs by their mean loss, each target in units of its spread."""
    Y = fit.table.losses()
    cost = ((Y - Y.mean(axis=0)) / np.where(Y.std(axis=0) > 0, Y.std(axis=0), 1)).mean(axis=1)
    low, high = np.quantile(cost, [0.25, 0.75])
    best, worst = cost <= low, cost >= high
    return [("runs between", ~(best | worst), GREY), ("best quarter", best, BEST),
            ("worst quarter", worst & ~best, WORST)]  # fmt: skip


def _map(fit: MixtureFit, natural: Array, given: Proposals) -> dict[str, Any]:
    root = np.sqrt(fit.table.X)
    middle = root.mean(axis=0)
    _, s, axes = np.linalg.svd(root - middle, full_matrices=False)
    part = s**2 / max(float((s**2).sum()), 1e-300)
    axes = axes[:2]

    def at(x: Array) -> Array:
        placed: Array = (np.sqrt(np.atleast_2d(x)) - middle) @ axes.T
        return placed

    data = []
    for label, rows, color in _quarters(fit):
        text = [run for run, kept in zip(fit.table.runs, rows, strict=True) if kept]
        xy = at(fit.table.X[rows])
        data.append(_dots(label, xy[:, 0], xy[:, 1].tolist(), color, text=text, opacity=0.6))
    marked = [("natural", natural, NATURAL, "diamond")]
    marked += [(name, shares_of(p["mixture"]), PROPOSED[k % 3], "star")
               for k, (name, p) in enumerate(given.items())]  # fmt: skip
    for label, x, color, symbol in marked:
        (xy,) = at(x)
        data.append(_dots(label, xy[:1], [float(xy[1])], color, text=[label], symbol=symbol,
                          size=13))  # fmt: skip
    titles = [{"title": {"text": f"{p:.0%} of the variance", "standoff": 6}} for p in part[:2]]
    return _chart("swarm", "Map of the swarm", data, titles[0], titles[-1], height=480)


def _spread_chart(fit: MixtureFit, natural: Array) -> dict[str, Any]:
    X, names = fit.table.X, short_names(fit.table.domains)
    places = list(range(len(names)))
    data = []
    for label, rows, color in _quarters(fit):
        shift = {GREY: 0.0, BEST: -0.22, WORST: 0.22}[color]
        x = np.sqrt(X[rows]).T
        y = np.repeat(np.arange(len(names)) + shift, x.shape[1])
        text = [run for run, kept in zip(fit.table.runs, rows, strict=True) if kept]
        data.append(_dots(label, x.ravel(), y.tolist(), color, text=text * len(names), size=4,
                          opacity=0.35))  # fmt: skip
    text = [f"{n}: {q:.4f}" for n, q in zip(names, natural, strict=True)]
    data.append(_dots("natural", np.sqrt(natural), places, NATURAL, symbol="diamond", size=9,
                      text=text))  # fmt: skip
    return _chart("swarm", "Shares of the runs, by domain", data, _share_axis(float(X.max())),
                  _domain_axis(names), height=480)  # fmt: skip


def _predicted(fit: MixtureFit) -> dict[str, Any]:
    Y = fit.table.losses()
    scale = np.where(Y.std(axis=0) > 0, Y.std(axis=0), 1)
    measured = ((Y - Y.mean(axis=0)) / scale).mean(axis=1)
    predicted = ((fit.model.out_of_fold() - Y.mean(axis=0)) / scale).mean(axis=1)
    both = np.concatenate([measured, predicted])
    ends = [float(both.min()), float(both.max())]
    line = {
        "type": "scatter", "mode": "lines", "x": ends, "y": ends, "line": {"width": 1},
        "hoverinfo": "skip", "name": "equal", "meta": {"color": GREY, "series": GREY},
    }  # fmt: skip
    dots = _dots("runs", predicted, measured.tolist(), 0, text=fit.table.runs, opacity=0.6)
    return _chart("fit", "Mean of tasks, in units of their spread", [line, dots],
                  {"title": {"text": "predicted out of fold", "standoff": 8}},
                  {"title": {"text": "measured", "standoff": 4}})  # fmt: skip


def _learning(fit: MixtureFit) -> dict[str, Any]:
    curve = fit.curve
    assert curve is not None
    measured = _dots("measured", [p.rows for p in curve.points], [p.error for p in curve.points], 0,
                     text=[f"{p.rows} runs: {p.error:.4f}, rank correlation "
                           f"{p.rank_correlation:.3f}" for p in curve.points], size=8)  # fmt: skip
    ahead = _dots("expected", [curve.rows, curve.rows + curve.more],
                  [curve.error_now, curve.error_then], 1, symbol="circle-open", size=9,
                  text=[f"{n} runs: {e:.4f}" for n, e in (
                      (curve.rows, curve.error_now),
                      (curve.rows + curve.more, curve.error_then))])  # fmt: skip
    title = f"Learning curve: {curve.more} more runs would gain {curve.gain:.1%}"
    return _chart("fit", title, [measured, ahead],
                  {"title": {"text": "runs", "standoff": 8}},
                  {"title": {"text": "error, in units of the spread", "standoff": 4},
                   "rangemode": "tozero"})  # fmt: skip
