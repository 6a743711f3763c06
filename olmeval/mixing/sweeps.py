"""Many optima at once: over runs, passes and KL strengths, and between two families of tasks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from olmeval.errors import UserError
from olmeval.mixing.bootstrap import oracle_of
from olmeval.mixing.convex import optima
from olmeval.mixing.fitting import MixtureFit
from olmeval.mixing.problem import Constraints, InfeasibleError
from olmeval.mixing.proposal import KL, check_strength, natural, target_weights

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Cell:
    """The optimum for one run length, number of passes and KL strength; None: nothing obeys."""

    run_tokens: float | None
    max_epochs: float
    kl: float
    weights: dict[str, float] | None
    objective: float | None
    held: int
    """Domains at the end that their tokens set."""
    reason: str | None = None


def sweep(
    fit: MixtureFit,
    constraints: Constraints,
    *,
    run_tokens: Sequence[float] = (),
    max_epochs: Sequence[float] = (),
    kl: Sequence[float] = (KL,),
    prior: Mapping[str, float] | None = None,
    weights: Mapping[str, float] | None = None,
) -> list[Cell]:
    """The optimum in every cell of the grid, all of them in one batch. Convex families."""
    _require_convex(fit)
    w = target_weights(fit, weights)
    q, _ = natural(fit, constraints, prior)
    runs: list[float | None] = list(run_tokens) or [constraints.run_tokens]
    passes = list(max_epochs) or [constraints.max_epochs]
    _check_grid(run_tokens, max_epochs, kl, constraints)
    grid = list(product(runs, passes, kl))
    cells: list[Cell] = []
    solvable: list[tuple[int, Constraints, float]] = []
    for place, (run, k, strength) in enumerate(grid):
        one = replace(constraints, run_tokens=run, max_epochs=k)
        try:
            one.check()
            solvable.append((place, one, strength))
            cells.append(Cell(run, k, strength, None, None, 0))
        except InfeasibleError as error:
            cells.append(Cell(run, k, strength, None, None, 0, str(error)))
    if not solvable:
        return cells
    many = np.broadcast_to(w * fit.predictable, (len(solvable), len(w)))
    strengths = np.array([s for _, _, s in solvable])
    found = optima(oracle_of(fit.model, many), [c for _, c, _ in solvable], q[None], strengths)
    objective = fit.losses(np.stack([o.x for o in found])) @ w
    for (place, one, _), optimum, value in zip(solvable, found, objective, strict=True):
        at_end = (optimum.x >= one.upper - 1e-6) & (one.upper < one.maximum)
        mixture = {d: float(v) for d, v in zip(one.domains, optimum.x, strict=True)}
        cells[place] = replace(
            cells[place], weights=mixture, objective=float(value), held=int(at_end.sum())
        )
    return cells


def _check_grid(
    run_tokens: Sequence[float],
    max_epochs: Sequence[float],
    kl: Sequence[float],
    constraints: Constraints,
) -> None:
    """What would change nothing, or cannot be, is no axis."""
    for strength in kl:
        check_strength(strength)
    for count in (*run_tokens, *max_epochs):
        if not 0 < count < np.inf:
            raise UserError(f"a sweep over {count:g} tokens or passes cannot be; give more than 0")
    lengths, passes = len(run_tokens) > 0, len(max_epochs) > 0
    if (lengths or passes) and constraints.tokens is None:
        raise UserError(
            "to sweep over run lengths or passes, the tokens of every domain must be known"
        )
    if passes and not lengths and constraints.run_tokens is None:
        raise UserError("to sweep over passes, say how long the run is")


@dataclass(frozen=True)
class FrontPoint:
    """An optimum for ``emphasis`` on the first family, and both families' mean losses there."""

    emphasis: float
    weights: dict[str, float]
    first: float
    second: float


def pareto_front(
    fit: MixtureFit,
    constraints: Constraints,
    first: Sequence[str],
    second: Sequence[str],
    *,
    kl: float = 0.0,
    prior: Mapping[str, float] | None = None,
    points: int = 21,
) -> list[FrontPoint]:
    """Mixtures where neither family of targets can gain without the other's loss.

    For convex losses every such mixture minimises a weighted sum (Boyd and Vandenberghe 2004,
    section 4.7.4), so the front is traced by weights from one family to the other.
    """
    _require_convex(fit)
    a = target_weights(fit, dict.fromkeys(first, 1.0))
    b = target_weights(fit, dict.fromkeys(second, 1.0))
    q, _ = natural(fit, constraints, prior)
    emphasis = np.linspace(0, 1, points)
    # An end of exactly 0 leaves the other family free among equals: not on the front.
    inner = emphasis.clip(1e-4, 1 - 1e-4)
    weights = inner[:, None] * a + (1 - inner)[:, None] * b
    found = optima(
        oracle_of(fit.model, weights * fit.predictable), [constraints] * points, q[None], kl
    )
    losses = fit.losses(np.stack([o.x for o in found]))
    return [
        FrontPoint(
            emphasis=float(e),
            weights={d: float(v) for d, v in zip(fit.table.domains, o.x, strict=True)},
            first=float(loss @ a),
            second=float(loss @ b),
        )
        for e, o, loss in zip(emphasis, found, losses, strict=True)
    ]


def _require_convex(fit: MixtureFit) -> None:
    if not fit.model.convex:
        raise UserError(
            f"sweeps and fronts need a convex law, which '{fit.model.family}' is not; "
            "fit log-linear or power-law"
        )
