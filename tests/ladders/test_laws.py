"""Laws: gradients against finite differences in high precision, values by hand."""

import numpy as np
import pytest

from olmeval.errors import UserError
from olmeval.ladders.laws import LAWS, exact_flops, law, six_nd

THETA = {
    "loss-nd": (3.6, 4.6, 0.23, 0.24, 0.45),
    "loss-c3": (6.6, 0.155, 0.63),
    "loss-c2": (4.0, 0.08),
    "accuracy-nd": (2.0, 2.0, 0.2, 0.2, 1.0),
    "sigmoid": (-0.74, 0.62, 4.8, 1.0),
    "log-sigmoid": (-0.1, 0.97, 24.5),
    "single-step": (3.0, 5.0, 0.2, 0.3, 0.1, -0.7, 1.0),
    "chained-c7": (6.6, 0.155, 0.63, -0.7, 0.7, 5.0, 0.98),
}
X = {
    "params": np.array([1.9e8, 1.3e9, 1.3e10]),
    "tokens": np.array([3.8e9, 2.5e11, 5e12]),
    "flops": np.array([7e18, 2.6e21, 4.6e23]),
    "loss": np.array([0.7, 0.95, 1.6]),
}


@pytest.mark.parametrize("name", LAWS)
def test_gradients_are_those_of_central_differences(name: str) -> None:
    chosen = LAWS[name]
    theta = np.array(THETA[name])
    x = [X[field] for field in chosen.inputs]
    _, gradient = chosen.evaluate(theta, *x)
    for i in range(len(theta)):
        step = np.zeros_like(theta)
        step[i] = 1e-6 * max(1.0, abs(theta[i]))
        numeric = (chosen(theta + step, *x) - chosen(theta - step, *x)) / (2 * step[i])
        np.testing.assert_allclose(gradient[:, i], numeric, rtol=2e-6, atol=1e-9)


@pytest.mark.parametrize("name", LAWS)
def test_batches_are_what_their_members_are_alone(name: str) -> None:
    chosen = LAWS[name]
    x = [X[field] for field in chosen.inputs]
    batch = np.array(THETA[name]) * np.linspace(0.9, 1.1, 6).reshape(2, 3, 1)
    values, gradients = chosen.evaluate(batch, *x)
    assert gradients.shape == (2, 3, 3, len(chosen.parameters))
    for i in range(2):
        for j in range(3):
            alone = chosen.evaluate(batch[i, j], *x)
            np.testing.assert_array_equal(values[i, j], alone[0])
            np.testing.assert_array_equal(gradients[i, j], alone[1])


def test_values_by_hand() -> None:
    # e^ln2 / 4^0.5 + e^ln3 / 9^0.5 + 0.5 = 1 + 1 + 0.5
    theta = np.array([np.log(2), np.log(3), 0.5, 0.5, 0.5])
    assert law("loss-nd")(theta, np.array([4.0]), np.array([9.0]))[0] == pytest.approx(2.5)
    # At the inflection the sigmoid is halfway.
    assert law("sigmoid")(np.array([-0.6, 0.8, 5.0, 1.0]), np.array([0.8]))[0] == pytest.approx(0.7)
    # log-sigmoid at x0: 1 - a ln(1/2)
    value = law("log-sigmoid")(np.array([-0.5, 0.8, 5.0]), np.array([0.8]))[0]
    assert value == pytest.approx(1 + 0.5 * np.log(0.5))


def test_extreme_parameters_overflow_nowhere() -> None:
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        values = law("sigmoid")(np.array([-1.0, 0.5, 1e4, 1.0]), np.array([0.0, 0.5, 50.0]))
        law("log-sigmoid")(np.array([-1.0, 0.5, 1e4]), np.array([0.0, 0.5, 50.0]))
    np.testing.assert_allclose(values, [1.0, 0.5, 0.0], atol=1e-12)


def test_conventions_of_compute() -> None:
    assert six_nd(190354176, 3.8e9) == pytest.approx(4.34e18, rel=1e-3)
    # A 190M with head and attention costs two thirds more than 6N.
    assert exact_flops(1903391232, 1.0) / six_nd(190354176, 1.0) == pytest.approx(1.667, rel=1e-3)


def test_an_unknown_law_is_named_with_its_nearest() -> None:
    with pytest.raises(UserError, match="there is no law 'sigmoids'; did you mean 'sigmoid'"):
        law("sigmoids")
