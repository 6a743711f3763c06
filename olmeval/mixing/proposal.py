"""The mixture that a fitted swarm asks for, with what it promises and how far to believe that."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from olmeval.errors import UserError
from olmeval.mixing.binding import Binding, bindings
from olmeval.mixing.bootstrap import DEFAULT_REFITS, oracle_of, refit_on_samples
from olmeval.mixing.convex import Optimum, optima
from olmeval.mixing.design import Design, extrapolation, nearest_distance
from olmeval.mixing.fitting import UNPREDICTABLE, MixtureFit
from olmeval.mixing.problem import Constraints, known
from olmeval.mixing.regressors.base import conformal_halfwidth, hellinger
from olmeval.mixing.search import obey, search
from olmeval.mixing.second import second_opinion
from olmeval.mixing.tables import target_place
from olmeval.mixing.uncertainty import Uncertainty, uncertainty_of

Array = NDArray[np.float64]
KL = 0.05
"""As Olmix has it (arXiv:2602.12237, research question 7)."""
NEIGHBOURHOOD = 0.1
"""The rows nearest to a proposal, among which optimism is measured."""


@dataclass(frozen=True)
class Outlook:
    """A mixture's predicted objective with its interval, and its scores by target."""

    weights: dict[str, float]
    objective: float
    interval: tuple[float, float]
    scores: dict[str, float]
    distance: float
    """Hellinger, to the nearest row."""


@dataclass(frozen=True)
class Proposal:
    """``mixture`` is what to train on; ``natural`` and ``best_row`` are what it is held against.

    The objective is the weighted mean of losses, less is better. ``measured_best`` is what the best
    row measured. ``local_error``: mean of measured less predicted out of fold among the nearest
    rows; above 0 the law promises too much there. ``kl``: KL(mixture || prior) in nats.
    ``conservative`` minimises the refits' mean with a penalty on their disagreement.
    """

    mixture: Outlook
    natural: Outlook
    best_row: Outlook
    measured_best: float
    gain: float
    kl: float
    kl_strength: float
    epochs: dict[str, float] | None
    binding: tuple[Binding, ...]
    local_error: float
    uncertainty: Uncertainty | None
    conservative: Outlook | None
    design: Design
    warnings: tuple[str, ...]


def propose(
    fit: MixtureFit,
    constraints: Constraints,
    *,
    prior: Mapping[str, float] | None = None,
    weights: Mapping[str, float] | None = None,
    kl: float = KL,
    worst: bool = False,
    limits: Mapping[str, float] | None = None,
    refits: int | None = None,
    seed: int = 0,
) -> Proposal:
    """The mixture of least weighted mean loss + ``kl`` KL(x || prior) that obeys.

    ``prior``: the natural distribution; None: by tokens, or where these are not known the swarm's
    mean. ``weights`` of targets are scaled to add up to 1, so that they leave ``kl`` its meaning.
    ``worst``: minimise the largest ratio of a loss to that of the natural mixture instead.
    ``limits``: {target: worst score allowed}. ``refits``: on resampled swarms; None: by family.

    Raises :class:`UserError` on unknown names, :class:`InfeasibleError` when nothing obeys.
    """
    if constraints.domains != fit.table.domains:
        raise UserError("the constraints are for other domains than the fit")
    check_strength(kl)
    if refits is not None and refits < 0:
        raise UserError(f"{refits} refits cannot be; give 0 for none")
    constraints.check()
    w = target_weights(fit, weights)
    law = w * fit.predictable
    q, notes = natural(fit, constraints, prior)
    notes += unpredictable(fit, w, limits)
    center = _obeying(q, constraints)
    optimum: Optimum | None = None
    bounds = [(target_place(t, fit.table.targets), v) for t, v in (limits or {}).items()]
    for target, limit in (limits or {}).items():
        if not np.isfinite(limit):
            raise UserError(f"the limit on '{target}' is {limit}; give a number")
    reflections = fit.table.reflections()
    as_losses = [(j, v if np.isnan(reflections[j]) else reflections[j] - v) for j, v in bounds]
    if not law.any():
        x = center
    elif worst or limits:
        x = _several(fit, law, constraints, q, center, kl, worst, as_losses)
    elif fit.model.convex:
        optimum = optima(oracle_of(fit.model, law[None]), [constraints], q[None], kl)[0]
        x = optimum.x
        if not optimum.converged:
            notes.append(f"the solver stopped {optimum.gap:.1e} from the optimum")
    else:
        x = _searched(fit, w, constraints, q, center, kl, seed)
    opinion = None if worst or limits or not law.any() else second_opinion(fit, w, center, x, seed)
    if opinion is not None and opinion.kept < 1:
        x, optimum = opinion.x, None
        notes.append(
            f"{opinion.whose} put the optimum before natural in {100 * opinion.agree:.0f} % of "
            f"refits: the mixture goes {100 * opinion.kept:.0f} % of the way there"
        )
    held = bindings(fit, law, constraints, q, kl, optimum, x)
    count = DEFAULT_REFITS[fit.model.family] if refits is None else refits
    samples = refit_on_samples(fit.model, count, seed) if count else None
    rows_cost = fit.table.losses() @ w
    allowed = [i for i, row in enumerate(fit.table.X) if not constraints.violated(row, 2e-3)]
    best = min(allowed or range(len(rows_cost)), key=lambda i: float(rows_cost[i]))
    if not allowed:
        notes.append("no run of the swarm obeys the constraints; the best row is the best of all")
    best_row = fit.table.X[best]
    outlooks = [outlook(fit, w, mixture) for mixture in (x, center, best_row)]
    uncertainty, conservative = None, None
    if samples is not None:
        same = fit.model.convex and not worst and not limits
        uncertainty, cautious = uncertainty_of(
            fit, samples, law, constraints, q, kl, np.stack([x, center, best_row]), same
        )
        conservative = outlook(fit, w, cautious) if cautious is not None else None
    epochs = constraints.epochs(x)
    ratio = np.divide(x, q, out=np.ones_like(x), where=(x > 0) & (q > 0))
    return Proposal(
        mixture=outlooks[0],
        natural=outlooks[1],
        best_row=outlooks[2],
        measured_best=float(rows_cost[best]),
        gain=outlooks[1].objective - outlooks[0].objective,
        kl=float((x * np.log(ratio)).sum()),
        kl_strength=kl,
        epochs=None if epochs is None else _named(fit, epochs),
        binding=tuple(held),
        local_error=_local_error(fit, w, x),
        uncertainty=uncertainty,
        conservative=conservative,
        design=fit.design,
        warnings=(*notes, *extrapolation(x, fit.table.X, fit.table.domains)),
    )


def check_strength(kl: float) -> None:
    """Raises :class:`UserError` for a KL strength that is no number of 0 or more."""
    if not 0 <= kl < np.inf:
        raise UserError(f"a KL strength of {kl} cannot be; give a number of 0 or more")


def target_weights(fit: MixtureFit, weights: Mapping[str, float] | None) -> Array:
    """Weights (n,) that add up to 1; targets without one have none, and no weights mean equal."""
    if not weights:
        return np.full(len(fit.table.targets), 1 / len(fit.table.targets))
    w = np.zeros(len(fit.table.targets))
    for target, weight in weights.items():
        if not 0 <= weight < np.inf:
            raise UserError(f"the weight of '{target}' is {weight}; weights are 0 or more")
        w[target_place(target, fit.table.targets)] = weight
    if not w.sum() > 0:
        raise UserError("all targets have the weight 0; give one of them more")
    scaled: Array = w / w.sum()
    return scaled


def natural(
    fit: MixtureFit, constraints: Constraints, prior: Mapping[str, float] | None
) -> tuple[Array, list[str]]:
    """The natural distribution (m,) that adds up to 1, and what is to be said about it."""
    domains = fit.table.domains
    if prior is not None:
        for name in prior:
            known(name, domains, "prior")
        q = np.array([float(prior.get(name, 0.0)) for name in domains])
        notes = []
        if (q < 0).any() or not q.sum() > 0:
            raise UserError("the prior has negative shares or none at all")
        if (q == 0).any():
            none = ", ".join(d for d, share in zip(domains, q, strict=True) if share == 0)
            notes.append(f"the prior gives nothing to {none}; with a KL term neither does the mix")
        return q / q.sum(), notes
    if constraints.tokens is not None:
        if not constraints.tokens.any():
            raise UserError("no domain holds any tokens, so there is no natural mixture; give one")
        return constraints.tokens / constraints.tokens.sum(), []
    mean: Array = fit.table.X.mean(axis=0)
    return mean / mean.sum(), [
        "no prior and no token counts are given; the swarm's mean stands in for the natural mixture"
    ]


def unpredictable(
    fit: MixtureFit, w: Array, limits: Mapping[str, float] | None = None
) -> list[str]:
    """What is to be said of targets that have a weight but are not predicted.

    Raises :class:`UserError` for a limit on such a target: nothing could keep it.
    """
    for target in limits or {}:
        if not fit.predictable[target_place(target, fit.table.targets)]:
            raise UserError(
                f"the fit does not predict '{target}', so no limit on it can be kept; leave the "
                "limit out"
            )
    lost = [t for t, ok, v in zip(fit.table.targets, fit.predictable, w, strict=True)
            if v > 0 and not ok]  # fmt: skip
    if not lost:
        return []
    if len(lost) == int((w > 0).sum()):
        return [
            f"{UNPREDICTABLE} the fit tells no target of one mixture from that of another, so the "
            "mixture is the natural one, or as near to it as the constraints let it"
        ]
    return [
        f"{UNPREDICTABLE} {', '.join(lost)}: without a say in the mixture, which stays nearer to "
        "the natural one for that"
    ]


def outlook(fit: MixtureFit, w: Array, x: Array) -> Outlook:
    """What the fit says of a mixture (m,) under target weights (n,)."""
    objective = float((fit.losses(x[None]) @ w)[0])
    half = float(objective_halfwidth(fit, w, x[None])[0])
    scores = fit.predict(x[None])[0]
    return Outlook(
        weights=_named(fit, x),
        objective=objective,
        interval=(objective - half, objective + half),
        scores={t: float(s) for t, s in zip(fit.table.targets, scores, strict=True)},
        distance=float(nearest_distance(x[None], fit.table.X)[0]),
    )


def objective_halfwidth(fit: MixtureFit, w: Array, X: Array) -> Array:
    """Half-widths (k,) of the objective's intervals, from its own errors out of fold."""
    errors = fit.errors() @ w
    half: Array = conformal_halfwidth(errors[:, None], fit.table.X, X, fit.level)[:, 0]
    return half


def _named(fit: MixtureFit, values: Array) -> dict[str, float]:
    return {d: float(v) for d, v in zip(fit.table.domains, values, strict=True)}


def _obeying(q: Array, constraints: Constraints) -> Array:
    near = obey(q[None], constraints)
    if len(near):
        first: Array = near[0]
        return first
    raise UserError(
        "no mixture near the natural one obeys the groups; loosen them, or give the domains of "
        "each a share of the natural mixture"
    )


def _several(
    fit: MixtureFit,
    w: Array,
    constraints: Constraints,
    q: Array,
    center: Array,
    kl: float,
    worst: bool,
    limits: Sequence[tuple[int, float]],
) -> Array:
    from olmeval.mixing.conic import solve_conic

    scale = np.maximum(fit.losses(center[None])[0], 1e-12) if worst else None
    if scale is not None:
        scale[~fit.predictable] = np.inf
    return solve_conic(fit.model, w, constraints, q, kl, worst=scale, limits=limits,
                       names=fit.table.targets)  # fmt: skip


def _searched(
    fit: MixtureFit, w: Array, constraints: Constraints, q: Array, center: Array, kl: float,
    seed: int,
) -> Array:  # fmt: skip
    log_prior = np.log(np.maximum(q, 1e-12))

    def score(X: Array) -> Array:
        divergence = (X * (np.log(np.maximum(X, 1e-300)) - log_prior)).sum(axis=1)
        scored: Array = fit.losses(X) @ w + objective_halfwidth(fit, w, X) + kl * divergence
        return scored

    return search(score, fit.table.X, constraints, center[None], seed)


def _local_error(fit: MixtureFit, w: Array, x: Array) -> float:
    errors = fit.errors() @ w
    count = max(5, round(NEIGHBOURHOOD * len(errors)))
    nearest = np.argsort(hellinger(x[None], fit.table.X)[0], kind="stable")[:count]
    return float(errors[nearest].mean())
