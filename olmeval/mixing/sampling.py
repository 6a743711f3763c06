"""Mixtures for a swarm: spread around the natural distribution, obeying exactly, same everywhere.

A candidate draws a strength, then shares of sources from a Dirichlet distribution around the
natural one, then shares of topics within each source, and so on down the tree (RegMix,
arXiv:2407.01492, appendix; Olmix, arXiv:2602.12237, section 3): weak strengths give mixtures of few
domains, strong ones give mixtures near the natural. Shares below the minimum weight become zero.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from olmeval.errors import UserError
from olmeval.mixing.design import ROWS_PER_PARAMETER
from olmeval.mixing.domains import Domains
from olmeval.mixing.problem import Constraints
from olmeval.mixing.regressors.base import hellinger
from olmeval.mixing.search import obey

Array = NDArray[np.float64]
STRENGTHS = 15
OVERSAMPLE, LEAST_CANDIDATES = 10, 2000
NEAR = 0.01
"""Euclidean distance below which two mixtures are one."""
EVEN = 1e-9
"""A temperature at which all domains are alike."""
LEAST_ROWS = 3
"""Mixtures that every domain is in, where the candidates have them: else its effect is a guess."""


@dataclass(frozen=True)
class SwarmSettings:
    """How mixtures are drawn. ``strength`` (least, most) of the Dirichlet distributions;
    ``minimum_weight``: smaller shares become 0; ``temperature`` < 1 evens out the natural
    distribution."""

    runs: int
    design: str = "dirichlet"
    strength: tuple[float, float] = (0.1, 5.0)
    minimum_weight: float = 0.002
    temperature: float = 1.0
    seed: int = 42


@dataclass(frozen=True)
class Sampled:
    """``X`` (runs, m) and how it came about: candidates drawn, of which ``moved`` were pushed to
    the nearest mixture that obeys because too few did by themselves."""

    X: Array
    candidates: int
    obeying: int
    moved: int
    near_duplicates: int


def advised_runs(domains: Domains) -> int:
    """Three mixtures a parameter of the log-linear law, m + 1 for m domains with a choice."""
    free = sum(leaf.maximum > leaf.minimum for leaf in domains.leaves)
    return ROWS_PER_PARAMETER * (free + 1)


def sample_swarm(
    domains: Domains,
    settings: SwarmSettings,
    constraints: Constraints | None = None,
    existing: Array | None = None,
) -> Sampled:
    """Draws a swarm. ``constraints``: None: the shares' ends and groups, without token caps.

    ``existing`` (k, m): mixtures that were run already; none like them is drawn, and a D-optimal
    design adds to them. Raises :class:`InfeasibleError` when nothing obeys, :class:`UserError` when
    too few different mixtures do.
    """
    _check(settings)
    rules = constraints or _shares_only(domains)
    rules.check()
    drawn = _candidates(domains, settings)
    drawn = _without_crumbs(_pinned(drawn, rules), rules, settings.minimum_weight)
    fine = drawn[_obeying(drawn, rules)]
    pool, dropped = _distinct(fine, existing)
    moved = np.empty((0, drawn.shape[1]))
    for temperature in (settings.temperature, EVEN):
        if len(pool) + len(moved) >= settings.runs:
            break
        if temperature == EVEN:  # a natural mixture far outside its own ends: all end in one place
            drawn = _candidates(domains, replace(settings, temperature=EVEN))
        pushed = _without_crumbs(obey(_pinned(drawn, rules), rules), rules, settings.minimum_weight)
        pushed = pushed[_obeying(pushed, rules)]
        known = np.concatenate([pool, moved] if existing is None else [existing, pool, moved])
        more, near = _distinct(pushed, known)
        moved, dropped = np.concatenate([moved, more]), dropped + near
    have = len(pool) + len(moved)
    if have < settings.runs:
        raise UserError(
            f"only {have} different mixtures were found that obey, of {settings.runs} asked for; "
            "ask for fewer, widen the ends of shares or lower the minimum weight"
        )
    rng = np.random.default_rng([settings.seed, 1])
    if settings.design == "d-optimal":
        from olmeval.mixing.doptimal import d_optimal

        every = _nearer(np.concatenate([pool, moved]), domains.prior(), settings.runs)
        chosen = every[d_optimal(every, settings.runs, existing, rng)]
    else:
        chosen = _choose(pool, moved, settings.runs, rng)
    is_moved = (chosen[:, None] == moved).all(axis=2).any(axis=1) if len(moved) else np.zeros(1)
    return Sampled(chosen, len(drawn), len(fine), int(is_moved.sum()), dropped)


def _check(settings: SwarmSettings) -> None:
    low, high = settings.strength
    if settings.runs < 1:
        raise UserError(f"a swarm of {settings.runs} runs cannot be drawn; ask for at least 1")
    if not 0 < low <= high < np.inf:
        raise UserError(f"strengths of {low} to {high} cannot be; both are above 0 and rise")
    if not 0 <= settings.minimum_weight < 0.5:
        raise UserError(f"a minimum weight of {settings.minimum_weight} leaves no choice")
    if not 0 < settings.temperature < np.inf:
        raise UserError(f"a temperature of {settings.temperature} cannot be; give a number above 0")
    if settings.design not in ("dirichlet", "sobol", "d-optimal"):
        raise UserError(
            f"there is no design '{settings.design}'; there are dirichlet, sobol and d-optimal"
        )


def _shares_only(domains: Domains) -> Constraints:
    """Caps of tokens belong in the optimisation: a swarm that keeps to them knows less (Olmix,
    research question 6)."""
    return replace(domains.constraints(), run_tokens=None, tokens=None)


def _candidates(domains: Domains, settings: SwarmSettings) -> Array:
    """Draws (N, m) before anything is cut off."""
    rng = np.random.default_rng([settings.seed, 0])
    count = max(OVERSAMPLE * settings.runs, LEAST_CANDIDATES)
    grid = np.geomspace(*settings.strength, STRENGTHS)
    nodes = _nodes(domains, settings.temperature)
    if settings.design == "sobol":
        from scipy.stats import qmc

        dimensions = 1 + sum(len(prior) for _, prior in nodes)
        engine = qmc.Sobol(dimensions, seed=rng)
        uniform = engine.random(1 << (count - 1).bit_length())
        uniform = uniform.clip(1e-12, 1 - 1e-12)
    else:
        uniform = None
    if uniform is not None:
        strength = grid[(uniform[:, 0] * STRENGTHS).astype(np.int64)]
    else:
        strength = grid[rng.integers(0, STRENGTHS, count)]
    shares, used = np.ones((len(strength), len(domains.leaves))), 1
    for members, prior in nodes:
        alpha = strength[:, None] * prior
        if uniform is None:
            gamma = _gamma(alpha, rng)
        else:
            gamma = _gamma_quantile(alpha, uniform[:, used : used + len(prior)])
            used += len(prior)
        parts = gamma / gamma.sum(axis=1, keepdims=True)
        for leaf_places, part in zip(members, parts.T, strict=True):
            shares[:, leaf_places] *= part[:, None]
    return shares


def _gamma(alpha: Array, rng: np.random.Generator) -> Array:
    """Gamma draws scaled by row, by logarithms: shapes near 0 would all come out as 0.

    If G ~ Gamma(a + 1) and U is uniform, G U^(1/a) ~ Gamma(a) (Marsaglia and Tsang 2000).
    """
    log = np.log(rng.standard_gamma(alpha + 1)) + np.log(rng.random(alpha.shape)) / alpha
    scaled: Array = np.exp(log - log.max(axis=1, keepdims=True))
    return scaled


def _gamma_quantile(alpha: Array, uniform: Array) -> Array:
    """Gamma quantiles scaled by row. Below the smallest number, x^a / (a Gamma(a)) = u is exact."""
    from scipy.special import gammaincinv, gammaln

    value = gammaincinv(alpha, uniform)
    small = (np.log(uniform) + gammaln(alpha + 1)) / alpha
    log = np.where(value > 1e-100, np.log(np.maximum(value, 1e-300)), small)
    scaled: Array = np.exp(log - log.max(axis=1, keepdims=True))
    return scaled


def _nodes(domains: Domains, temperature: float) -> list[tuple[list[list[int]], Array]]:
    """Every branching of the tree: leaves below each branch, and the natural shares of branches."""
    natural, found = domains.prior(), []
    prefixes = {leaf.path[:k] for leaf in domains.leaves for k in range(len(leaf.path))}
    for prefix in sorted(prefixes):
        depth = len(prefix)
        branches: dict[str, list[int]] = {}
        for place, leaf in enumerate(domains.leaves):
            if leaf.path[:depth] == prefix and len(leaf.path) > depth:
                branches.setdefault(leaf.path[depth], []).append(place)
        members = [branches[name] for name in sorted(branches)]
        weight = np.array([natural[places].sum() for places in members]) ** temperature
        # A branch without a prior is drawn now and then nevertheless.
        weight = np.maximum(weight / max(weight.sum(), 1e-300), 1e-4)
        found.append((members, weight / weight.sum()))
    return found


def _pinned(X: Array, rules: Constraints) -> Array:
    """Pinned shares at their place, the others scaled to fill what is left."""
    pinned = rules.maximum <= rules.minimum
    if not pinned.any():
        return X
    free = np.where(pinned, 0.0, X)
    left = 1 - rules.minimum[pinned].sum()
    scaled = free * (left / np.maximum(free.sum(axis=1, keepdims=True), 1e-300))
    return np.where(pinned, rules.minimum, scaled)


def _without_crumbs(X: Array, rules: Constraints, least: float) -> Array:
    """Shares under ``least`` become 0, unless they must not be."""
    kept = np.where((least > X) & (rules.minimum <= 0), 0.0, X)
    # What was cut off goes to the others in proportion, but not to what is pinned. Where nothing is
    # left the row stays at 0, which obeys nothing.
    return _pinned(kept / np.maximum(kept.sum(axis=1, keepdims=True), 1e-300), rules)


def _obeying(X: Array, rules: Constraints) -> NDArray[np.bool_]:
    rows, low, high = rules.membership()
    sums = X @ rows.T
    return np.asarray(
        (rules.minimum - 1e-12 <= X).all(axis=1)
        & (rules.upper + 1e-12 >= X).all(axis=1)
        & (sums >= low - 1e-9).all(axis=1)
        & (sums <= high + 1e-9).all(axis=1)
    )


def _distinct(X: Array, known: Array | None) -> tuple[Array, int]:
    """Rows with no earlier one within :data:`NEAR`, nor one of ``known``, and how many had."""
    from scipy.spatial import cKDTree

    if not len(X):
        return X, 0
    tree = cKDTree(X)
    close = np.zeros(len(X), np.bool_)
    if known is not None and len(known):
        close |= cKDTree(known).query(X, k=1)[0] < NEAR
    for i in range(len(X)):
        if not close[i]:
            near = np.asarray(tree.query_ball_point(X[i], NEAR))
            close[near[near > i]] = True
    return X[~close], int(close.sum())


def _nearer(X: Array, natural: Array, least: int) -> Array:
    """The half of the candidates nearest to the natural mixture, ``least`` of them or more.

    The determinant is largest in corners, which is where a log-linear law is least true; a design
    for a model that holds near a place keeps to it (Box and Draper 1959, "A Basis for the Selection
    of a Response Surface Design": bias, not variance, should decide).
    """
    order = np.argsort(hellinger(natural[None], X)[0], kind="stable")
    half: Array = X[order[: max(len(X) // 2, least)]]
    return half


def _choose(pool: Array, moved: Array, runs: int, rng: np.random.Generator) -> Array:
    """A random subset that has every domain :data:`LEAST_ROWS` times where the candidates do."""
    order = rng.permutation(len(pool))
    every = np.concatenate([pool[order], moved[rng.permutation(len(moved))]])
    present = every > 0
    chosen = np.arange(runs)
    spare = np.arange(len(every)) >= runs
    wanted = min(LEAST_ROWS, runs)
    for domain in np.argsort(present.sum(axis=0), kind="stable"):
        while present[chosen, domain].sum() < wanted:
            fitting = np.flatnonzero(spare & present[:, domain])
            if not len(fitting):
                break
            # Give up the row that the other domains can best do without.
            scarce = present[chosen].sum(axis=0) <= wanted
            needed = (present[chosen] & scarce).sum(axis=1)
            needed[present[chosen, domain]] = len(scarce) + 1
            place = int(needed.argmin())
            chosen[place], spare[fitting[0]] = fitting[0], False
    picked: Array = every[chosen]
    return picked


def fill_distance(X: Array, domains: Domains, settings: SwarmSettings) -> tuple[float, float]:
    """Median and 95 % quantile of the Hellinger distance from fresh draws to the nearest row."""
    fresh = SwarmSettings(
        runs=100, strength=settings.strength, minimum_weight=settings.minimum_weight,
        temperature=settings.temperature, seed=settings.seed + 1,
    )  # fmt: skip
    rules = _shares_only(domains)
    drawn = obey(_pinned(_candidates(domains, fresh), rules), rules)
    distance = hellinger(drawn, X).min(axis=1)
    median, most = np.quantile(distance, [0.5, 0.95])
    return float(median), float(most)


def names_of(runs: int, prefix: str = "mix", taken: Collection[str] = ()) -> Sequence[str]:
    """Run names that sort as they count: mix-000, mix-001, ..., after those that are ``taken``."""
    counts = [name.removeprefix(f"{prefix}-") for name in taken if name.startswith(f"{prefix}-")]
    first = 1 + max((int(count) for count in counts if count.isdecimal()), default=-1)
    width = max(3, len(str(first + runs - 1)))
    return [f"{prefix}-{i:0{width}d}" for i in range(first, first + runs)]
