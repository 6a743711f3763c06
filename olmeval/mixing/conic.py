"""Convex problems with several losses at once: the worst case, and losses with a limit.

They are handed to Clarabel through cvxpy as a cone programme, which also is an independent check of
:mod:`olmeval.mixing.interior`.
"""

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from olmeval.errors import UserError
from olmeval.mixing.problem import Constraints, InfeasibleError
from olmeval.mixing.regressors.auto import Auto
from olmeval.mixing.regressors.base import Regressor
from olmeval.mixing.regressors.loglinear import LogLinear
from olmeval.mixing.regressors.powerlaws import PowerLaw
from olmeval.mixing.regressors.simple import Linear

Array = NDArray[np.float64]


def expressions(model: Regressor, x: Any) -> list[Any]:
    """The losses of all targets as convex cvxpy expressions of the mixture ``x``.

    Raises :class:`UserError` for families that have none: use a log-linear, linear or power law.
    """
    cp: Any = import_module("cvxpy")
    if isinstance(model, LogLinear):
        return [np.exp(c) + cp.exp(t @ x) for c, t in zip(model.log_c_, model.t_, strict=True)]
    if isinstance(model, Linear):
        return [
            mean + coef @ (x - model.centre_)
            for mean, coef in zip(model.mean_, model.coef_, strict=True)
        ]
    if isinstance(model, PowerLaw):
        found = []
        for p in model.theta_:
            c, a, b = np.exp(p[:3])
            # k (x + a)^-b = exp(log k - b log(x + a)).
            found.append(c + cp.sum(cp.exp(p[3:] - b * cp.log(x + a))))
        return found
    if isinstance(model, Auto):
        every: list[Any] = [None] * model.Y_.shape[1]
        for part, targets in model.parts_:
            for place, expression in zip(targets, expressions(part, x), strict=True):
                every[place] = expression
        return every
    raise UserError(
        f"the worst case and limits on targets need a convex law, which '{model.family}' is not or "
        "not in a form that the solver takes; fit log-linear, power-law or linear"
    )


def solve_conic(
    model: Regressor,
    weights: Array,
    constraints: Constraints,
    prior: Array,
    kl: float,
    *,
    worst: Array | None = None,
    limits: Sequence[tuple[int, float]] = (),
    names: Sequence[str] = (),
) -> Array:
    """The mixture (m,) that minimises the weighted losses, or the worst of ``loss / worst``.

    ``worst`` (n,): what each loss is divided by; None: the weighted sum with ``weights`` (n,).
    ``limits``: (target, largest loss); ``names``: of all targets, for messages. Both plus
    kl KL(x || prior). Raises :class:`InfeasibleError` when the limits cannot all be kept.
    """
    cp: Any = import_module("cvxpy")
    constraints.check()
    x = cp.Variable(len(constraints.domains))
    losses = expressions(model, x)
    rows, low, high = constraints.membership()
    upper = constraints.upper
    if kl > 0:
        upper = np.where((prior <= 0) & (constraints.minimum <= 0), 0.0, upper)
    rules = [cp.sum(x) == 1, x >= constraints.minimum, x <= np.maximum(upper, constraints.minimum)]
    if len(rows):
        rules += [rows @ x >= low, rows @ x <= high]
    rules += [losses[place] <= limit for place, limit in limits]
    if worst is None:
        goal = cp.sum([w * f for w, f in zip(weights, losses, strict=True) if w])
    else:
        goal = cp.max(cp.hstack([f / s for f, s in zip(losses, worst, strict=True)]))
    if kl > 0:
        floor = np.maximum(prior, 1e-12)
        goal = goal + kl * cp.sum(cp.rel_entr(x, floor))
    programme = cp.Problem(cp.Minimize(goal), rules)
    try:
        programme.solve(solver=cp.CLARABEL)
    except cp.SolverError as error:
        raise UserError(f"the solver gave up on this problem: {error}") from None
    if programme.status in (cp.INFEASIBLE, cp.INFEASIBLE_INACCURATE):
        raise InfeasibleError(
            "no mixture keeps all limits on targets: "
            + ", ".join(f"'{names[place]}'" if names else f"target {place}" for place, _ in limits)
            + "; loosen one"
        )
    if x.value is None:
        raise UserError(f"the solver found no optimum: {programme.status}")
    solution: Array = np.clip(x.value, constraints.minimum, constraints.upper)
    solution /= solution.sum()
    return solution
