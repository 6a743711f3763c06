"""A fit says how good it is, survives its file, and warns of what it cannot know."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from olmeval.errors import UserError
from olmeval.mixing.bootstrap import refit_on_samples
from olmeval.mixing.curve import Point, _extrapolate
from olmeval.mixing.design import assess, noise_floor
from olmeval.mixing.fitting import fit_swarm, load_fit, predictable
from olmeval.mixing.regressors.auto import FAMILIES, make_regressor
from olmeval.mixing.tables import SwarmTable

Array = NDArray[np.float64]


@pytest.fixture
def table(planted: tuple[Array, ...]) -> SwarmTable:
    X, Y = planted[:2]
    Y = Y + np.random.default_rng(5).normal(0, 0.02, Y.shape)
    runs = tuple(f"run{i:02}" for i in range(60))
    return SwarmTable(runs, ("a", "b", "c", "d", "e"), ("x", "y", "z"), X, Y)


@pytest.mark.parametrize("family", ["log-linear", "gp", "auto"])
def test_saved_and_loaded(table: SwarmTable, family: str, tmp_path: Path) -> None:
    some = {"families": ("log-linear", "gp", "linear")} if family == "auto" else {}
    fit = fit_swarm(table, family, curve=family == "log-linear", parameters=some)
    again = load_fit(fit.save(tmp_path).parent)
    np.testing.assert_allclose(again.predict(table.X), fit.predict(table.X), rtol=1e-10)
    for a, b in zip(again.interval(table.X), fit.interval(table.X), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-8)
    assert again.scores == fit.scores and again.curve == fit.curve
    assert all(score.rank_correlation > 0.9 for score in fit.scores)


@pytest.mark.parametrize("family", ["log-linear", "power-law", "autoscale", "linear"])
@pytest.mark.parametrize("value", [0.0, 2.5])
def test_a_constant_target_has_no_r2(
    table: SwarmTable, family: str, value: float, tmp_path: Path
) -> None:
    """JSON has no nan: such a swarm could not be written."""
    table = table.take(range(16))
    table.Y[:, 1] = value
    fit = fit_swarm(table, family, curve=False)
    fit.save(tmp_path)
    again = load_fit(tmp_path)
    assert again.scores == fit.scores and fit.scores[1].r2 is None and not fit.predictable[1]
    assert (fit.predict(table.X)[:, 1] == value).all()


def test_scores_below_zero_are_said_to_laws_of_positive_losses(table: SwarmTable) -> None:
    """It looked as if the proxies were too short."""
    negative = replace(table, Y=table.Y - [0, 0, 10]).take(range(30))
    said = "z: scores below 0, which a log-linear law cannot follow; say --higher"
    assert any(said in warning for warning in fit_swarm(negative, curve=False).warnings)
    assert not any(
        "scores below 0" in w for w in fit_swarm(negative, "linear", curve=False).warnings
    )
    turned = replace(negative, higher=frozenset("z"))
    assert not any("scores below 0" in w for w in fit_swarm(turned, curve=False).warnings)


def test_too_few_mixtures(table: SwarmTable) -> None:
    for family in FAMILIES:
        with pytest.raises(UserError, match="3 different mixtures are too few"):
            fit_swarm(table.take([0, 0, 1, 1, 2, 2]), family)
        with pytest.raises(UserError, match="all runs have the same mixture"):
            make_regressor(family).fit(table.X[[0, 0, 0]], table.Y[[0, 1, 2]])


def test_scores_are_out_of_fold(table: SwarmTable) -> None:
    """Public defects 6 and 12: with losses of pure noise nothing is claimed."""
    noise = np.random.default_rng(0).normal(2, 0.1, (60, 3))
    fit = fit_swarm(replace(table, Y=noise), curve=False)
    assert max(score.r2 or 0 for score in fit.scores) < 0.2
    assert max(score.rank_correlation for score in fit.scores) < 0.5


def test_domains_never_sampled_are_said(table: SwarmTable) -> None:
    X = table.X.copy()
    X[:, 2] = 0
    X /= X.sum(axis=1, keepdims=True)
    fit = fit_swarm(replace(table, X=X), curve=False)
    assert fit.design.never == ("c",) and fit.design.rank == 4
    assert any("never sampled: c" in w for w in fit.warnings)
    assert np.isinf(fit.design.effect[2]) and np.isfinite(fit.design.effect[0])


def test_design_effects_are_those_of_least_squares(planted: tuple[Array, ...]) -> None:
    X = planted[0]
    expected = np.sqrt(np.diag(np.linalg.inv(X.T @ X)))
    np.testing.assert_allclose(assess(X, tuple("abcde")).effect, expected)


def test_noise_floor() -> None:
    rng = np.random.default_rng(0)
    X = np.repeat(rng.dirichlet(np.ones(4), 400), 3, axis=0)
    Y = 5 * X[:, :1] + rng.normal(0, 0.3, (1200, 1))
    floor, freedom = noise_floor(X, Y)
    assert freedom == 800 and floor[0] == pytest.approx(0.3, rel=0.06)
    assert noise_floor(X[::3], Y[::3])[1] == 0


def test_scores_of_which_more_is_better_keep_their_direction(table: SwarmTable) -> None:
    """Public defect 18."""
    accuracy = 1 - table.Y / (table.Y.max() + 0.1)
    fit = fit_swarm(replace(table, Y=accuracy, higher=frozenset("xyz")), curve=False)
    predicted = fit.predict(table.X)
    assert np.corrcoef(predicted[:, 0], accuracy[:, 0])[0, 1] > 0.98
    low, high = fit.interval(table.X)
    assert (low < predicted).all() and (predicted < high).all()


def test_learning_curve(table: SwarmTable) -> None:
    curve = fit_swarm(table).curve
    assert curve is not None
    errors = [point.error for point in curve.points]
    assert errors[0] > errors[-1] and curve.error_then <= curve.error_now
    points = tuple(Point(n, 0.9, float(np.sqrt(0.04 + 3 / n))) for n in (20, 40, 80))
    expected = [np.sqrt(0.04 + 3 / n) for n in (100, 132)]
    np.testing.assert_allclose(_extrapolate(points, [100, 132]), expected, rtol=1e-6)


def test_constant_and_hopeless_targets_are_said(table: SwarmTable) -> None:
    Y = table.Y.copy()
    Y[:, 1] = 3.0
    fit = fit_swarm(replace(table, Y=Y), curve=False)
    assert any(w.startswith("y: the same in every run") for w in fit.warnings)
    assert fit.scores[1].rank_correlation == 0
    np.testing.assert_allclose(fit.predict(table.X)[:, 1], 3, atol=1e-3)


def test_a_file_of_another_kind(tmp_path: Path, table: SwarmTable) -> None:
    (tmp_path / "fit.json").write_text("{}")
    with pytest.raises(UserError, match="not a fit of this version"):
        load_fit(tmp_path)
    value = json.loads(fit_swarm(table, "linear", curve=False).save(tmp_path).read_text())
    del value["model"]["state"]["coef"]
    (tmp_path / "fit.json").write_text(json.dumps(value))
    with pytest.raises(UserError, match="damaged"):
        load_fit(tmp_path)


def saturating(seed: int) -> SwarmTable:
    """Runs of which only two have more than a trace of 'e', and its effect is in the trace."""
    rng = np.random.default_rng(seed)
    X = rng.dirichlet([4, 3, 2, 1, 0.05], 24)
    X[:, 4] = np.minimum(X[:, 4], 0.004)
    X[::12, 4] = 0.4 + 0.2 * rng.random(2)
    X /= X.sum(axis=1, keepdims=True)
    Y = 2.5 + 0.12 * (1 - np.exp(-X[:, 4:] / 0.002)) + 0.005 * rng.standard_normal((24, 6))
    names = tuple(f"r{i:02}" for i in range(24))
    return SwarmTable(names, ("a", "b", "c", "d", "e"), tuple("uvwxyz"), X, Y)


@pytest.mark.parametrize("seed", [3, 5])
def test_predictions_do_not_explode(seed: int) -> None:
    """A law that is steep in a trace, at a run where the trace is half: the exponential alone has
    an out-of-fold R2 below -100,000 here."""
    table = saturating(seed)
    fit = fit_swarm(table, curve=False)
    low, high = table.Y.min(axis=0), table.Y.max(axis=0)
    held_out = fit.model.out_of_fold()
    assert (held_out <= 2 * high - low).all() and (held_out >= 2 * low - high).all()
    assert min(score.r2 or 0 for score in fit.scores) > -2
    corners = np.eye(5)
    assert (fit.model.predict(corners) <= 2 * high - low).all()
    refits = refit_on_samples(fit.model, 50).losses(corners)
    assert (refits <= 2 * high - low).all() and (refits >= 2 * low - high).all()


def test_targets_of_noise_are_named(table: SwarmTable) -> None:
    Y = table.Y.copy()
    Y[:, 1] = np.random.default_rng(0).normal(2, 0.1, 60)
    fit = fit_swarm(replace(table, Y=Y), curve=False)
    assert fit.predictable.tolist() == [True, False, True]
    (line,) = [w for w in fit.warnings if w.startswith("UNPREDICTABLE: 1 of 3 targets")]
    assert "y (R2 " in line and "x (" not in line
    np.testing.assert_allclose(fit.predict(table.X)[:, 1], Y[:, 1].mean())
    np.testing.assert_allclose(
        fit.errors()[:, 1], [y - np.delete(Y[:, 1], i).mean() for i, y in enumerate(Y[:, 1])]
    )
    low, high = fit.interval(table.X[:1])
    assert low[0, 1] < Y[:, 1].mean() < high[0, 1]


def test_noise_is_seldom_taken_for_a_law() -> None:
    """One in twenty at most, by the test's own level."""
    X = np.random.default_rng(9).dirichlet(np.full(5, 0.5), 24)
    Y = np.random.default_rng(1).normal(2, 0.1, (24, 200))
    model = make_regressor("log-linear").fit(X, Y)
    assert predictable(model.out_of_fold(), X, Y).mean() <= 0.08


def test_noise_no_larger_than_the_spread_is_said(table: SwarmTable) -> None:
    """Twelve mixtures, two runs of each, that differ by chance alone."""
    X = table.X[:12].repeat(2, axis=0)
    Y = np.random.default_rng(0).normal(2, 0.1, (24, 3))
    fit = fit_swarm(SwarmTable(table.runs[:24], table.domains, table.targets, X, Y), curve=False)
    assert any("differ about as much as runs of different" in w for w in fit.warnings)


def test_a_run_far_off_is_named(table: SwarmTable) -> None:
    """A corner of one domain alone, at four times the others' loss."""
    X, Y = table.X[:24].copy(), table.Y[:24].copy()
    X[5] = np.eye(5)[2]
    Y[5] = 4 * Y.max()
    fit = fit_swarm(SwarmTable(table.runs[:24], table.domains, table.targets, X, Y), curve=False)
    far = [s.target for s in fit.scores if s.predictable and (s.r2 or 0) < 0]
    assert far
    (line,) = [w for w in fit.warnings if "drawn nearer to natural" in w]
    assert all(f"{target} (run05)" in line for target in far)
