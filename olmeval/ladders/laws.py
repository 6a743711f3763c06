"""The laws of model ladders: how loss follows size, tokens and compute, and accuracy the loss.

A :class:`Law` is a formula with its gradient, bounds, units and source; nothing here fits anything.
Logarithms are natural. N is weights without the input embedding, D training tokens, C training
FLOPs; losses are bits a byte, nats a token or whatever else is positive, accuracies fractions.
``a`` and ``b`` of power laws are logarithms of the coefficients, so that they stay positive.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from olmeval.errors import UserError, nearest

Array = NDArray[np.float64]
Evaluate = Callable[..., tuple[Array, Array]]

LADDER = "Bhagia et al. 2024, arXiv:2412.04403"
DATADECIDE = "Magnusson et al. 2025, arXiv:2504.11393"
CHINCHILLA = "Hoffmann et al. 2022, arXiv:2203.15556, section 3.3"


@dataclass(frozen=True)
class Law:
    """One formula.

    ``evaluate(theta, *x)`` takes parameters [..., P] and one array [..., n] or [n] for each of
    ``inputs``, and returns values [..., n] and their gradient with respect to the parameters
    [..., n, P]. ``lower`` and ``upper`` are the bounds of the published procedures.
    """

    name: str
    formula: str
    inputs: tuple[str, ...]
    parameters: tuple[str, ...]
    lower: tuple[float, ...]
    upper: tuple[float, ...]
    source: str
    evaluate: Evaluate

    def __call__(self, theta: Array, *x: Array) -> Array:
        """Values [..., n]; see :class:`Law`."""
        return self.evaluate(np.asarray(theta, np.float64), *x)[0]


def expit(z: Array) -> Array:
    """1 / (1 + e^-z) without overflow."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * z)))


def _power(log_scale: Array, exponent: Array, x: Array) -> tuple[Array, Array]:
    """e^a / x^alpha [..., n] and ln x; huge exponents underflow to zero rather than overflow."""
    log_x = np.log(np.asarray(x, np.float64))
    with np.errstate(over="ignore", under="ignore"):
        return np.exp(log_scale[..., None] - exponent[..., None] * log_x), log_x


def _loss_nd(theta: Array, n: Array, d: Array) -> tuple[Array, Array]:
    of_n, log_n = _power(theta[..., 0], theta[..., 2], n)
    of_d, log_d = _power(theta[..., 1], theta[..., 3], d)
    value = of_n + of_d + theta[..., 4, None]
    gradient = (of_n, of_d, -of_n * log_n, -of_d * log_d, np.ones_like(value))
    return value, np.stack(gradient, axis=-1)


def _accuracy_nd(theta: Array, n: Array, d: Array) -> tuple[Array, Array]:
    of_n, log_n = _power(theta[..., 0], theta[..., 2], n)
    of_d, log_d = _power(theta[..., 1], theta[..., 3], d)
    value = theta[..., 4, None] - of_n - of_d
    gradient = (-of_n, -of_d, of_n * log_n, of_d * log_d, np.ones_like(value))
    return value, np.stack(gradient, axis=-1)


def _loss_c3(theta: Array, c: Array) -> tuple[Array, Array]:
    of_c, log_c = _power(theta[..., 0], theta[..., 1], c)
    value = of_c + theta[..., 2, None]
    return value, np.stack((of_c, -of_c * log_c, np.ones_like(value)), axis=-1)


def _loss_c2(theta: Array, c: Array) -> tuple[Array, Array]:
    of_c, log_c = _power(theta[..., 0], theta[..., 1], c)
    return of_c, np.stack((of_c, -of_c * log_c), axis=-1)


def _sigmoid(theta: Array, loss: Array) -> tuple[Array, Array]:
    a, x0, k, b = (theta[..., i, None] for i in range(4))
    s = expit(k * (loss - x0))
    slope = a * s * (1 - s)
    gradient = (s, -slope * k, slope * (loss - x0), np.ones_like(s))
    return a * s + b, np.stack(gradient, axis=-1)


def _log_sigmoid(theta: Array, loss: Array) -> tuple[Array, Array]:
    a, x0, k = (theta[..., i, None] for i in range(3))
    z = k * (loss - x0)
    # ln(1 - 1/(1+e^-z)) = -ln(1+e^z), whose derivative is -1/(1+e^-z).
    log_term, s = -np.logaddexp(0.0, z), expit(z)
    gradient = (-log_term, -a * s * k, a * s * (loss - x0))
    return 1 - a * log_term, np.stack(gradient, axis=-1)


def _squashed(power: tuple[Array, Array], p: Array, q: Array) -> tuple[Array, Array]:
    """p / (1 + e^-L) + q of a loss law's values and gradient, at least 1e-6 as published."""
    loss, inner = power
    s = expit(loss)
    value = p[..., None] * s + q[..., None]
    slope = (p[..., None] * s * (1 - s))[..., None]
    gradient = np.concatenate((slope * inner, s[..., None], np.ones_like(s)[..., None]), axis=-1)
    kept = value > 1e-6
    return np.where(kept, value, 1e-6), np.where(kept[..., None], gradient, 0.0)


def _single_step(theta: Array, n: Array, d: Array) -> tuple[Array, Array]:
    return _squashed(_loss_nd(theta[..., :5], n, d), theta[..., 5], theta[..., 6])


def _chained_c(theta: Array, c: Array) -> tuple[Array, Array]:
    loss, inner = _loss_c3(theta[..., :3], c)
    p, x0, k, q = (theta[..., i, None] for i in range(3, 7))
    s = expit(k * (loss - x0))
    slope = p * s * (1 - s)
    outer = (s, -slope * k, slope * (loss - x0), np.ones_like(s))
    gradient = np.concatenate(((slope * k)[..., None] * inner, np.stack(outer, -1)), axis=-1)
    return p * s + q, gradient


INF = float("inf")
LAWS = {
    law.name: law
    for law in (
        Law("loss-nd", "L = e^a / N^alpha + e^b / D^beta + E", ("params", "tokens"),
            ("a", "b", "alpha", "beta", "E"), (0.0,) * 5, (INF,) * 5,
            f"{CHINCHILLA}; {LADDER}, section 3.1", _loss_nd),
        Law("loss-c3", "L = e^a / C^alpha + E", ("flops",), ("a", "alpha", "E"),
            (0.0, 0.0, 0.0), (INF, 1.0, INF), f"{LADDER}; {DATADECIDE}", _loss_c3),
        Law("loss-c2", "L = e^a / C^alpha", ("flops",), ("a", "alpha"),
            (0.0, 0.0), (INF, 1.0), DATADECIDE, _loss_c2),
        Law("accuracy-nd", "Acc = E - e^a / N^alpha - e^b / D^beta", ("params", "tokens"),
            ("a", "b", "alpha", "beta", "E"), (0.0, 0.0, 0.0, -INF, -INF), (INF,) * 5,
            LADDER, _accuracy_nd),
        Law("sigmoid", "Acc = a / (1 + e^(-k (L - x0))) + b", ("loss",), ("a", "x0", "k", "b"),
            (-1.0, 0.0, 0.0, 0.0), (0.0, INF, INF, 1.0), f"{LADDER}, section 3.2", _sigmoid),
        Law("log-sigmoid", "Acc = 1 - a ln(1 - 1 / (1 + e^(-k (L - x0))))", ("loss",),
            ("a", "x0", "k"), (-INF, 0.0, 0.0), (0.0, INF, INF), LADDER, _log_sigmoid),
        Law("single-step", "Acc = p / (1 + e^-(e^a / N^alpha + e^b / D^beta + E)) + q",
            ("params", "tokens"), ("a", "b", "alpha", "beta", "E", "p", "q"),
            (0.0, 0.0, 0.0, 0.0, 0.0, -1.0, 0.0), (INF, INF, INF, INF, INF, 0.0, 1.0),
            LADDER, _single_step),
        Law("chained-c7", "Acc = p / (1 + e^(-k (e^a / C^alpha + E - x0))) + q", ("flops",),
            ("a", "alpha", "E", "p", "x0", "k", "q"), (0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0),
            (INF, 1.0, INF, 0.0, INF, INF, 1.0), DATADECIDE, _chained_c),
    )
}  # fmt: skip


def law(name: str) -> Law:
    """The law called ``name``; :class:`UserError` with the nearest names if there is none."""
    if name not in LAWS:
        known = nearest(name, LAWS) or f"; known are {', '.join(LAWS)}"
        raise UserError(f"there is no law '{name}'{known}")
    return LAWS[name]


def six_nd(params: float, tokens: float) -> float:
    """C = 6 N D, the convention that leaves attention out (Kaplan et al. 2020, section 2.1)."""
    return 6.0 * params * tokens


def exact_flops(per_token: float, tokens: float) -> float:
    """C = D times the FLOPs of one token, forward and backward, attention included."""
    return float(per_token) * float(tokens)
