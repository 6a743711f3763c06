"""How far to believe a proposal: what refits on resampled swarms say of it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from olmeval.mixing.bootstrap import Refits
from olmeval.mixing.convex import optima
from olmeval.mixing.fitting import MixtureFit
from olmeval.mixing.problem import Constraints

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Uncertainty:
    """From refits on resampled swarms. ``gain`` holds 95 % of the refits and ``shares``, by domain,
    90 % of their optima, as far as so many refits have such quantiles (:func:`span`); ``optimism``
    is how much lower refits see their own optima than the full fit does."""

    refits: int
    shares: dict[str, tuple[float, float]]
    gain: tuple[float, float]
    beats_natural: float
    beats_best_row: float
    optimism: float | None


def span(refits: int, level: float) -> str:
    """What the ends over refits are called: "95 %" takes 40 refits or more, fewer have a range."""
    return f"{100 * level:g} %" if refits * (1 - level) >= 2 - 1e-9 else "range"


def _ends(values: Array, level: float) -> Array:
    """Quantiles (2, ...) over the first axis, or least and most where refits are too few."""
    if span(len(values), level) == "range":
        return np.stack([values.min(axis=0), values.max(axis=0)])
    ends: Array = np.quantile(values, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return ends


def uncertainty_of(
    fit: MixtureFit, samples: Refits, w: Array, constraints: Constraints, q: Array, kl: float,
    compared: Array, convex: bool,
) -> tuple[Uncertainty, Array | None]:  # fmt: skip
    """What refits say of a proposal, and the optimum that is cautious by them (m,), if any.

    ``compared`` (3, m): the proposal, the natural mixture made to obey, the best row. ``w`` (n,),
    ``q`` (m,) and ``kl`` state the problem; ``convex``: refits have optima of their own, which are
    compared, too.
    """
    seen = samples.objective(compared, w)  # (B, 3)
    gains = seen[:, 1] - seen[:, 0]
    shares: dict[str, tuple[float, float]] = {}
    optimism, cautious = None, None
    if convex:
        own = np.stack([o.x for o in samples.optima(w, constraints, q, kl)])
        ends = _ends(own, 0.9)
        shares = {d: (float(a), float(b)) for d, a, b in zip(fit.table.domains, *ends, strict=True)}
        promised = np.diag(samples.objective(own, w))
        optimism = float((fit.model.predict(own) @ w - promised).mean())
        cautious = conservative_optimum(samples, w, constraints, q, kl, compared[1])
    low, high = _ends(gains, 0.95)
    return (
        Uncertainty(
            refits=len(samples),
            shares=shares,
            gain=(float(low), float(high)),
            beats_natural=float((gains > 0).mean()),
            beats_best_row=float((seen[:, 0] < seen[:, 2]).mean()),
            optimism=optimism,
        ),
        cautious,
    )


def conservative_optimum(
    samples: Refits, w: Array, constraints: Constraints, q: Array, kl: float, natural: Array
) -> Array | None:
    """The mixture (m,) of least entropic risk over refits of a log-linear law; None for others.

    Minimises (1 / a) log mean_b exp(a F_b(x)) + kl KL, which is convex and close to the mean plus
    a / 2 times the variance over refits (Foellmer and Schied, "Stochastic Finance", example 4.34);
    a is 4 over the refits' standard deviation at the ``natural`` mixture (m,).
    """
    from olmeval.mixing.regressors.loglinear import weighted_exponentials

    if samples.theta is None:
        return None
    theta = samples.theta[:100]
    count = len(theta)
    rows = np.broadcast_to(w, (count, len(w)))
    spread = float(samples.objective(natural[None], w)[:, 0].std())
    a = 4 / max(spread, 1e-9)

    def risk(x: Array) -> tuple[Array, Array, Array]:
        every = np.broadcast_to(x, (count, x.shape[1]))
        f, g, H = weighted_exponentials(theta[:, :, 0], theta[:, :, 1:], every, rows)
        p = np.exp(a * (f - f.max()))
        value = f.max() + np.log(p.mean()) / a
        p /= p.sum()
        slope = p @ g
        bend = np.einsum("b,bij->ij", p, H)
        bend += a * ((g * p[:, None]).T @ g - np.outer(slope, slope))
        return np.array([value]), slope[None], bend[None]

    return optima(risk, [constraints], q[None], kl)[0].x
