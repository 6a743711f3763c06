"""Every family: the contract, and truth where it is known."""

import json

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.stats import spearmanr
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold, cross_val_predict

from olmeval.errors import UserError
from olmeval.mixing.fitting import fit_swarm
from olmeval.mixing.regressors import gp as gp_module
from olmeval.mixing.regressors.auto import FAMILIES, Auto, make_regressor
from olmeval.mixing.regressors.base import folds_of, hellinger
from olmeval.mixing.regressors.loglinear import LogLinear
from olmeval.mixing.regressors.powerlaws import AutoScale, BiMix, PowerLaw, Separable
from olmeval.mixing.scores import mae, r_squared, rank_correlation, rmse
from olmeval.mixing.tables import SwarmTable

Array = NDArray[np.float64]


@pytest.mark.parametrize("family", FAMILIES)
def test_contract(family: str, planted: tuple[Array, ...]) -> None:
    X, Y = planted[:2]
    model = make_regressor(family).fit(X, Y)
    assert model.predict(X[:7]).shape == (7, 3)
    assert model.fit(X, Y[:, 0]).predict(X).shape == (60,)
    low, high = model.interval(X[:7])
    assert low.shape == (7,) and (low < high).all()
    # scikit-learn's own tools take it for one of theirs.
    held_out = cross_val_predict(make_regressor(family), X, Y, cv=KFold(3))
    assert held_out.shape == Y.shape and clone(model).get_params() == model.get_params()


@pytest.mark.parametrize("family", [*FAMILIES, "auto"])
def test_restored_from_json(family: str, planted: tuple[Array, ...]) -> None:
    X, Y = planted[:2]
    some = {"families": ("log-linear", "linear", "nearest")} if family == "auto" else {}
    model = make_regressor(family, **some).fit(X, Y)
    state = json.loads(json.dumps(model.state()))
    again = make_regressor(family, **some).restore(X, Y, state)
    np.testing.assert_allclose(again.predict(X[::5]), model.predict(X[::5]), rtol=1e-12)


@pytest.mark.parametrize("family", ["log-linear", "power-law", "gp", "linear", "nearest"])
def test_each_target_is_fitted_by_itself(family: str, planted: tuple[Array, ...]) -> None:
    """So the order of targets does not matter, nor which others are fitted."""
    X, Y = planted[:2]
    both = make_regressor(family).fit(X, Y).predict(X[:9])
    alone = make_regressor(family).fit(X, Y[:, 1]).predict(X[:9])
    np.testing.assert_allclose(both[:, 1], alone, rtol=1e-7)


@pytest.mark.parametrize("family", ["log-linear", "power-law", "linear", "nearest"])
def test_order_of_rows_does_not_matter(family: str, planted: tuple[Array, ...]) -> None:
    X, Y = planted[:2]
    order = np.random.default_rng(0).permutation(len(X))
    first = make_regressor(family).fit(X, Y).predict(X)
    second = make_regressor(family).fit(X[order], Y[order]).predict(X)
    np.testing.assert_allclose(first, second, rtol=1e-5)


def test_log_linear_finds_the_planted_law(planted: tuple[Array, ...]) -> None:
    X, Y, c, t = planted
    model = LogLinear().fit(X, Y)
    np.testing.assert_allclose(np.exp(model.log_c_), c, rtol=0.02)
    np.testing.assert_allclose(model.t_, t, atol=0.05)
    assert r_squared(model.predict(X), Y).min() > 0.9999
    assert model.converged_.all()


def test_log_linear_is_least_squares_when_rows_are_many() -> None:
    """The prior does not show: scipy's solution of plain least squares, from the truth."""
    rng = np.random.default_rng(2)
    X = rng.dirichlet(np.ones(4), 3000)
    truth = np.array([0.2, 1.0, -1.0, 0.5, -2.0])
    y = np.exp(truth[0]) + np.exp(X @ truth[1:]) + rng.normal(0, 0.05, 3000)
    found = least_squares(lambda p: np.exp(p[0]) + np.exp(X @ p[1:]) - y, truth)
    model = LogLinear().fit(X, y)
    best = np.exp(found.x[0]) + np.exp(X @ found.x[1:])
    assert np.abs(model.predict(X) - best).max() < 0.005
    residual = ((model.predict(X) - y) ** 2).sum()
    assert residual < (2 * found.cost) * 1.001


def test_log_linear_refits_equal_cold_fits(planted: tuple[Array, ...]) -> None:
    """A bootstrap sample given as row weights is the fit of the repeated rows."""
    X, Y = planted[:2]
    Y = Y + np.random.default_rng(0).normal(0, 0.02, Y.shape)
    picked = np.random.default_rng(1).integers(0, 60, 60)
    weights = np.bincount(picked, minlength=60).astype(float)[None]
    theta = LogLinear().fit(X, Y).resample(weights)[0]
    warm = np.exp(theta[:, 0]) + np.exp(X @ theta[:, 1:].T)
    np.testing.assert_allclose(warm, LogLinear().fit(X[picked], Y[picked]).predict(X), atol=2e-3)


def test_log_linear_folds_equal_refits(planted: tuple[Array, ...]) -> None:
    X, Y = planted[:2]
    Y = Y + np.random.default_rng(0).normal(0, 0.02, Y.shape)
    model = LogLinear().fit(X, Y)
    folds = folds_of(X)
    for fold in range(5):
        seen = folds != fold
        refit = LogLinear().fit(X[seen], Y[seen]).predict(X[~seen])
        np.testing.assert_allclose(model.out_of_fold()[~seen], refit, atol=1e-3)


@pytest.mark.parametrize(
    ("law", "theta"),
    [
        (PowerLaw(), [0.1, -2.0, -0.5, 0.3, -1.0, -3.0]),
        (BiMix(), [0.2, -0.5, -1.0, -2.0, -1.5, -2.5]),
        (AutoScale(1e6), [0.1, -1.0, -1.5, -0.5, -2.0, -1.7, -2.5]),
    ],
    ids=["power-law", "bimix", "autoscale"],
)
def test_power_laws(law: Separable, theta: list[float]) -> None:
    """Derivatives by parameter and by share equal differences; a planted law is found."""
    rng = np.random.default_rng(3)
    X = rng.dirichlet(np.ones(3), 80)
    law._prepare(X)
    parameters = np.array([theta])
    f, J = law._evaluate(parameters, X)
    for k in range(len(theta)):
        step = 1e-6 * np.eye(len(theta))[k]
        difference = law._evaluate(parameters + step, X)[0] - law._evaluate(parameters - step, X)[0]
        np.testing.assert_allclose(J[:, :, k], difference / 2e-6, rtol=1e-4, atol=1e-8)
    y = f[0]
    law.fit(X, y)
    assert r_squared(law.predict(X)[:, None], y[:, None])[0] > 0.995
    slope, bend = law.slopes(X)
    assert (slope < 0).all() and (bend > 0).all()


@pytest.mark.parametrize("family", ["log-linear", "power-law", "bimix", "autoscale", "linear"])
def test_derivatives_of_convex_families(family: str, planted: tuple[Array, ...]) -> None:
    """Value, gradient and Hessian of weighted losses equal predictions and their differences."""
    X, Y = planted[:2]
    model = make_regressor(family).fit(X, Y)
    rng = np.random.default_rng(0)
    x, w = rng.dirichlet(np.ones(5), 4) * 0.9 + 0.02, rng.uniform(0, 1, (4, 3))
    value, gradient, hessian = model.weighted(x, w)
    np.testing.assert_allclose(value, (model._predict(x) * w).sum(axis=1))
    for i in range(5):
        step = 1e-5 * np.eye(5)[i]
        up, down = model.weighted(x + step, w), model.weighted(x - step, w)
        np.testing.assert_allclose(gradient[:, i], (up[0] - down[0]) / 2e-5, rtol=1e-4, atol=1e-8)
        np.testing.assert_allclose(hessian[:, i], (up[1] - down[1]) / 2e-5, rtol=1e-3, atol=1e-6)


def test_gaussian_process_equals_scikit_learn(planted: tuple[Array, ...]) -> None:
    """Posterior mean and spread at our lengths, by another implementation."""
    X, Y = planted[:2]
    model = gp_module.GaussianProcess().fit(X, Y[:, 0])
    signal, noise, *lengths = np.exp(model.theta_[0])
    kernel = ConstantKernel(signal) * RBF(lengths) + WhiteKernel(noise)
    other = GaussianProcessRegressor(kernel, optimizer=None, alpha=0.0)
    z = (Y[:, 0] - Y[:, 0].mean()) / Y[:, 0].std()
    other.fit(np.sqrt(X[:50]), z[:50])
    model.X_, model.Y_ = X[:50], Y[:50, :1]
    model._condition(np.sqrt(X[:50]), z[:50, None])
    mean, spread = other.predict(np.sqrt(X[50:]), return_std=True)
    scale = Y[:, 0].std()
    np.testing.assert_allclose(model.predict(X[50:]), Y[:, 0].mean() + scale * mean, rtol=1e-6)
    ours = np.sqrt(model.spread(X[50:])[:, 0] ** 2 + scale**2 * noise)
    np.testing.assert_allclose(ours, scale * spread, rtol=1e-4)


def test_gaussian_process_gradient(planted: tuple[Array, ...]) -> None:
    X, Y = planted[:2]
    z = (Y[:, 1] - Y[:, 1].mean()) / Y[:, 1].std()
    p = np.array([0.3, -2.0, 0.1, -0.4, 0.7, 0.2, 1.0])
    H = np.sqrt(X)
    gradient = gp_module._negative_posterior(p, H, z)[1]
    for k in range(7):
        step = 1e-5 * np.eye(7)[k]
        up, down = (gp_module._negative_posterior(p + s, H, z)[0] for s in (step, -step))
        assert gradient[k] == pytest.approx((up - down) / 2e-5, rel=1e-4, abs=1e-6)


def test_linear_is_ridge(planted: tuple[Array, ...]) -> None:
    X, Y = planted[:2]
    model = make_regressor("linear").fit(X, Y[:, 2])
    penalty = float(model.penalty_[0])
    other = RidgeCV(alphas=[penalty * len(X)]).fit(X, Y[:, 2])
    np.testing.assert_allclose(model.predict(X), other.predict(X), rtol=1e-6)


def test_nearest_returns_a_row_at_its_place(planted: tuple[Array, ...]) -> None:
    X, Y = planted[:2]
    np.testing.assert_allclose(make_regressor("nearest").fit(X, Y).predict(X), Y, rtol=1e-4)


def test_auto_takes_the_best_out_of_fold(planted: tuple[Array, ...]) -> None:
    X, Y = planted[:2]
    rng = np.random.default_rng(0)
    line = X @ np.array([3.0, 1.0, 2.0, -1.0, 0.5]) + rng.normal(0, 0.01, 60) + 4
    both = np.stack([Y[:, 0], line], axis=1)
    model = Auto(("log-linear", "linear", "nearest")).fit(X, both)
    ranks = np.stack([model.compared_[name][0] for name in model.families])
    assert model.choice_ == [model.families[i] for i in ranks.argmax(axis=0)]
    for j, name in enumerate(model.choice_):
        alone = make_regressor(name).fit(X, both[:, j])
        np.testing.assert_allclose(model.predict(X)[:, j], alone.predict(X), rtol=1e-6)
        np.testing.assert_allclose(model.out_of_fold()[:, j], alone.out_of_fold()[:, 0], rtol=1e-6)


def test_replicates_share_a_fold() -> None:
    X = np.repeat(np.random.default_rng(0).dirichlet(np.ones(3), 10), 3, axis=0)
    folds = folds_of(X).reshape(10, 3)
    assert (folds == folds[:, :1]).all() and len(np.unique(folds)) == 5


def test_hellinger() -> None:
    A = np.eye(3)
    np.testing.assert_allclose(hellinger(A, A), 1 - np.eye(3))
    x, y = np.array([[0.5, 0.3, 0.2]]), np.array([[0.1, 0.1, 0.8]])
    expected = np.sqrt(((np.sqrt(x) - np.sqrt(y)) ** 2).sum() / 2)
    assert hellinger(x, y)[0, 0] == pytest.approx(expected)


def test_scores() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 6, (40, 2)).astype(float), rng.integers(0, 6, (40, 2)).astype(float)
    expected = [spearmanr(a[:, j], b[:, j])[0] for j in range(2)]
    np.testing.assert_allclose(rank_correlation(a, b), expected)
    assert rank_correlation(np.ones((40, 2)), b).tolist() == [0, 0]
    p, y = np.array([[1.0], [2.0], [4.0]]), np.array([[1.0], [3.0], [5.0]])
    assert rmse(p, y)[0] == pytest.approx(np.sqrt(2 / 3)) and mae(p, y)[0] == pytest.approx(2 / 3)
    assert r_squared(p, y)[0] == pytest.approx(1 - 2 / 8)


@pytest.mark.parametrize(
    ("X", "y", "words"),
    [
        ([[0.5, 0.6]] * 4, [1.0] * 4, "add up to 1.1000"),
        ([[1.2, -0.2]] * 4, [1.0] * 4, "negative"),
        ([[0.5, 0.5]] * 4, [1.0] * 3, "4 mixtures but 3"),
        ([[0.5, 0.5]] * 4, [1.0, np.nan, 1, 1], "missing"),
        ([[0.5, 0.5]] * 2, [1.0] * 2, "too few"),
    ],
)
def test_bad_input(X: list[list[float]], y: list[float], words: str) -> None:
    with pytest.raises(UserError, match=words):
        LogLinear().fit(X, y)


def test_unknown_family() -> None:
    with pytest.raises(UserError, match="did you mean 'log-linear'"):
        make_regressor("loglinear")


@pytest.mark.parametrize("family", ["log-linear", "gp", "linear"])
def test_data_frames_are_matched_by_name(family: str, planted: tuple[Array, ...]) -> None:
    """Columns in another order were taken by position: another mixture, and no word of it."""
    X, Y = planted[:2]
    frame = pd.DataFrame(X, columns=list("vwxyz"))
    model = make_regressor(family).fit(frame, pd.DataFrame(Y))
    assert list(model.feature_names_in_) == list("vwxyz")
    assert (model.predict(frame[list("zxvyw")]) == model.predict(X)).all()
    assert (model.interval(frame[list("zxvyw")])[0] == model.interval(X)[0]).all()
    with pytest.raises(UserError, match="'q' is not a domain of the fit"):
        model.predict(frame.rename(columns={"w": "q"}))
    with pytest.raises(UserError, match="'z' is not among the mixtures"):
        model.predict(frame[list("vwxy")])
    with pytest.raises(UserError, match="the mixtures have 4 domains, the fit has 5"):
        model.predict(np.full((1, 4), 0.25))
    assert not hasattr(model.fit(X, Y), "feature_names_in_")


def test_fits_of_tables_match_frames_by_name(planted: tuple[Array, ...]) -> None:
    X, Y = planted[:2]
    runs = tuple(f"r{k:02}" for k in range(60))
    fit = fit_swarm(SwarmTable(runs, tuple("vwxyz"), ("a", "b", "c"), X, Y), curve=False)
    frame = pd.DataFrame(X, columns=list("vwxyz"))[list("zxvyw")]
    assert (fit.predict(frame) == fit.predict(X)).all()
    assert (fit.interval(frame)[1] == fit.interval(X)[1]).all()


def test_use_before_the_fit_and_what_are_no_numbers(planted: tuple[Array, ...]) -> None:
    X, Y = planted[:2]
    for use in (LogLinear().predict, LogLinear().interval):
        with pytest.raises(NotFittedError):
            use(X)
    with pytest.raises(NotFittedError):
        LogLinear().out_of_fold()
    for x, y in (([["a", "b"]] * 60, Y), (X, ["a"] * 60), (X, Y[:, :, None])):
        with pytest.raises(UserError, match=r"must be numbers|a column or columns"):
            LogLinear().fit(x, y)
