"""Batched least squares: against scipy, against known parameters, alone and in a batch."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize

from olmeval.ladders.batched import best_start, least_squares
from olmeval.ladders.laws import law

N = np.repeat([0.5, 1.0, 2.0, 4.0], 4)
D = N * np.tile([0.2, 0.5, 1.0, 2.0], 4)
SIGMOID = law("sigmoid")


def test_known_parameters_are_found_without_noise() -> None:
    truth = np.array([-1.2, -0.9, 0.35, 0.25, 0.6])
    y = law("loss-nd")(truth, N, D)
    starts = np.array([[-1.0, -1.0, al, 0.4, e] for al in (0.2, 0.6) for e in (0.3, 0.9)])
    fit = best_start(least_squares(law("loss-nd"), (N, D), y, starts, log=True,
                                   lower=np.array([-9, -9, 0, 0, 0.0]), max_steps=500))  # fmt: skip
    np.testing.assert_allclose(fit.theta, truth, rtol=1e-4, atol=1e-4)
    assert fit.converged


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6))
def test_the_optimum_is_that_of_scipy(seed: int) -> None:
    random = np.random.default_rng(seed)
    truth = np.array(
        [-random.uniform(0.4, 0.8), random.uniform(0.5, 1.2), random.uniform(3, 8), 0.95]
    )
    x = np.sort(random.uniform(0.4, 1.8, 60))
    y = SIGMOID(truth, x) + 0.01 * random.standard_normal(60)
    w = random.exponential(size=60)
    ours = least_squares(
        SIGMOID, (x,), y, np.array([-0.6, 0.8, 5.0, 1.0]), weights=w, max_steps=500
    )
    theirs = optimize.least_squares(
        lambda p: np.sqrt(w / w.sum()) * (SIGMOID(p, x) - y), ours.theta,
        bounds=(SIGMOID.lower, SIGMOID.upper), xtol=1e-14, ftol=1e-14, gtol=1e-14,
    )  # fmt: skip
    assert ours.converged
    # From where ours stopped, scipy finds nothing lower that counts.
    assert float(ours.cost) <= theirs.cost * (1 + 1e-6)


def test_a_member_is_the_same_alone_and_in_a_batch() -> None:
    random = np.random.default_rng(1)
    x = np.linspace(0.5, 1.6, 40)
    y = SIGMOID(np.array([-0.7, 0.9, 5.0, 1.0]), x) + 0.02 * random.standard_normal((7, 40))
    start = np.array([-0.5, 0.7, 3.0, 0.9])
    together = least_squares(SIGMOID, (x,), y, start)
    for i in range(7):
        alone = least_squares(SIGMOID, (x,), y[i], start)
        np.testing.assert_allclose(alone.theta, together.theta[i], rtol=1e-6)


def test_bounds_hold_and_the_rest_is_optimal_given_them() -> None:
    x = np.linspace(0.1, 1.0, 30)
    y = 1.2 - x  # steeper than any curve with b <= 1
    fit = least_squares(SIGMOID, (x,), y, np.array([-0.5, 0.5, 3.0, 0.9]), max_steps=500)
    assert (fit.theta >= np.array(SIGMOID.lower)).all()
    assert (fit.theta <= np.array(SIGMOID.upper)).all()
    theirs = optimize.least_squares(
        lambda p: (SIGMOID(p, x) - y) / np.sqrt(30), np.array([-0.9, 0.5, 3.0, 0.9]),
        bounds=(SIGMOID.lower, SIGMOID.upper), xtol=1e-14, ftol=1e-14,
    )  # fmt: skip
    assert float(fit.cost) == pytest.approx(theirs.cost, rel=1e-3)


def test_weights_count_points_as_repetition_does() -> None:
    x = np.array([0.5, 0.7, 0.9, 1.2, 1.5])
    y = np.array([0.8, 0.7, 0.5, 0.4, 0.35])
    times = np.array([1, 3, 2, 1, 2])
    start = np.array([-0.6, 0.8, 5.0, 0.9])
    weighted = least_squares(SIGMOID, (x,), y, start, weights=times.astype(float), max_steps=500)
    repeated = least_squares(
        SIGMOID, (np.repeat(x, times),), np.repeat(y, times), start, max_steps=500
    )
    assert float(weighted.cost) == pytest.approx(float(repeated.cost), rel=1e-6)


def test_huber_leaves_an_outlier_out() -> None:
    c = np.geomspace(1, 1000, 12)
    truth = np.array([0.0, 0.2])
    y = law("loss-c2")(truth, c)
    y[5] *= 1.5
    start = np.array([0.1, 0.1])
    robust = least_squares(
        law("loss-c2"), (c,), y, start, log=True, delta=1e-3, lower=np.array([-9, 0.0])
    )
    plain = least_squares(law("loss-c2"), (c,), y, start, log=True, lower=np.array([-9, 0.0]))
    assert abs(robust.theta[1] - 0.2) < 1e-3 < abs(plain.theta[0])


def test_a_prior_is_a_data_point_on_the_parameter() -> None:
    c = np.geomspace(1, 1000, 12)
    y = law("loss-c2")(np.array([0.0, 0.2]), c)
    prior = (np.array([0.0, 0.4]), np.array([np.inf, 1e-6]))
    fit = least_squares(law("loss-c2"), (c,), y, np.array([0.1, 0.1]), log=True, prior=prior,
                        lower=np.array([-9, 0.0]))  # fmt: skip
    assert fit.theta[1] == pytest.approx(0.4, abs=1e-6)
