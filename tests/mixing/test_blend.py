"""A blend is the mean of its families, weighted by what they got wrong on rows not seen."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.base import clone

from olmeval.errors import UserError
from olmeval.mixing.fitting import fit_swarm, load_fit
from olmeval.mixing.regressors.auto import make_regressor
from olmeval.mixing.regressors.blend import Blend
from olmeval.mixing.tables import SwarmTable

Array = NDArray[np.float64]
TWO = ("log-linear", "power-law")


@pytest.fixture
def noisy(planted: tuple[Array, ...]) -> tuple[Array, Array]:
    X, Y = planted[0][:24], planted[1][:24]
    return X, Y + np.random.default_rng(2).normal(0, 0.05, Y.shape)


def test_weights_are_inverse_squared_errors(noisy: tuple[Array, Array]) -> None:
    X, Y = noisy
    model = Blend(TWO).fit(X, Y)
    alone = [make_regressor(name).fit(X, Y) for name in TWO]
    error = np.array([((one.out_of_fold() - Y) ** 2).mean(axis=0) for one in alone])
    expected = error**-2 / (error**-2).sum(axis=0)
    np.testing.assert_allclose(model.weights_, expected, rtol=1e-6)
    assert (model.weights_[0] > 0.5).all()  # The planted law is log-linear.
    mixed = sum(w * one.predict(X) for w, one in zip(expected, alone, strict=True))
    np.testing.assert_allclose(model.predict(X), mixed, rtol=1e-6)


def test_a_row_has_no_say_in_its_own_weights(noisy: tuple[Array, Array]) -> None:
    """What is held out of fold would else be too good."""
    X, Y = noisy
    model = Blend(TWO).fit(X, Y)
    held_out = np.stack([part.out_of_fold() for part in model.parts_])
    squared = (held_out - Y) ** 2
    weights = model._weights_elsewhere(squared, X, Y)
    changed = squared.copy()
    changed[1, 5] *= 100
    again = model._weights_elsewhere(changed, X, Y)
    assert (again[:, 5] == weights[:, 5]).all() and (again != weights).any()
    np.testing.assert_allclose(model.out_of_fold(), (held_out * weights).sum(axis=0))


def test_saved_loaded_cloned_and_fitted_to_others(
    noisy: tuple[Array, Array], tmp_path: Path
) -> None:
    X, Y = noisy
    table = SwarmTable(tuple(f"r{k:02}" for k in range(24)), tuple("abcde"), ("x", "y", "z"), X, Y)
    Y[:, 2] = 1.0
    fit = fit_swarm(replace(table, Y=Y), "blend", curve=False, parameters={"families": TWO})
    again = load_fit(fit.save(tmp_path))
    np.testing.assert_allclose(again.predict(X), fit.predict(X), rtol=1e-10)
    np.testing.assert_allclose(again.interval(X), fit.interval(X), rtol=1e-8)
    assert again.scores == fit.scores and not fit.predictable[2]
    assert isinstance(fit.model, Blend)
    other = fit.model.refit(X[::2], Y[::2])
    assert (other.weights_ == fit.model.weights_).all() and other.predict(X).shape == (24, 3)
    assert clone(fit.model).get_params() == {"families": TWO}
    assert not fit.model.convex


def test_mistakes(noisy: tuple[Array, Array]) -> None:
    with pytest.raises(UserError, match="'gpp' is no family of a blend; did you mean 'gp'"):
        Blend(("gpp",)).fit(*noisy)
