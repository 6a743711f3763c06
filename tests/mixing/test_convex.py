"""The exact optimum beside brute force, a general solver and a cone solver."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize

from olmeval.mixing.bootstrap import oracle_of
from olmeval.mixing.conic import solve_conic
from olmeval.mixing.convex import optima
from olmeval.mixing.interior import Oracle, with_kl
from olmeval.mixing.problem import Constraints, Group, InfeasibleError, make_constraints
from olmeval.mixing.regressors.auto import make_regressor
from olmeval.mixing.regressors.loglinear import LogLinear, weighted_exponentials

Array = NDArray[np.float64]
NAMES = tuple(f"d{i:02}" for i in range(17))


def random_problem(rng: np.random.Generator, m: int) -> tuple[Oracle, Array, float, Constraints]:
    """A log-linear objective, a prior, a KL strength and caps of k N / R, tight or loose."""
    targets = int(rng.integers(1, 8))
    t = rng.normal(0, rng.uniform(0.5, 3), (1, targets, m))
    c, w = np.zeros((1, targets)), rng.dirichlet(np.ones(targets))[None]
    prior = rng.dirichlet(np.ones(m)) * 0.98 + 0.02 / m
    kl = float(rng.choice([0.0, 0.01, 0.05, 0.5]))
    names = NAMES[:m]
    tokens = dict(zip(names, prior * 1e9, strict=True))
    one = make_constraints(
        names, tokens=tokens, run_tokens=1e9 * rng.uniform(0.3, 0.95), max_epochs=1.0
    )

    def oracle(x: Array) -> tuple[Array, Array, Array]:
        return weighted_exponentials(c, t, x, np.broadcast_to(w, (len(x), targets)))

    return oracle, prior, kl, one


def value_of(oracle: Oracle, prior: Array, kl: float, X: Array) -> Array:
    return with_kl(oracle, prior, np.full(len(X), kl))(np.maximum(X, 1e-300))[0]


def test_brute_force_on_three_domains() -> None:
    """100 problems: nothing on a fine grid around the answer, or over all, is better."""
    rng = np.random.default_rng(0)
    for _ in range(100):
        oracle, prior, kl, one = random_problem(rng, 3)
        best = optima(oracle, [one], prior[None], kl)[0]
        assert best.converged and not one.violated(best.x, 1e-7)
        step = 1e-2
        center = np.full(2, 0.5)
        for _ in range(7):  # a grid of 101 a side, refined around its best
            a, b = np.meshgrid(*(c + step * np.arange(-50, 51) for c in center))
            grid = np.stack([a.ravel(), b.ravel(), 1 - a.ravel() - b.ravel()], axis=1)
            grid = grid[(grid >= 0).all(axis=1) & (grid <= one.upper).all(axis=1)]
            if not len(grid):
                break
            values = value_of(oracle, prior, kl, grid)
            center, step = grid[values.argmin()][:2], step / 12
        assert best.value == pytest.approx(values.min(), abs=1e-5)
        assert best.value <= values.min() + 1e-7


def test_sequential_quadratic_programming_on_seventeen_domains() -> None:
    """100 problems."""
    rng = np.random.default_rng(1)
    for _ in range(100):
        oracle, prior, kl, one = random_problem(rng, 17)
        best = optima(oracle, [one], prior[None], kl)[0]
        full = with_kl(oracle, prior, np.array([kl]))
        ends = [(0, end) for end in one.upper]

        def fun(x: Array, full: Oracle = full) -> tuple[float, Array]:
            f, g, _ = full(np.maximum(x, 1e-15)[None])
            return float(f[0]), g[0]

        rule = {"type": "eq", "fun": lambda x: x.sum() - 1, "jac": np.ones_like}
        least, x = np.inf, prior
        for _ in range(6):  # it stops early where KL is steep; begun again it goes on
            found = minimize(
                fun, x, jac=True, method="SLSQP", bounds=ends, constraints=[rule],
                options={"maxiter": 3000, "ftol": 1e-15},
            )  # fmt: skip
            if found.fun < least and abs(found.x.sum() - 1) < 1e-9:
                least, x = found.fun, found.x
        assert best.converged and not one.violated(best.x, 1e-7)
        assert best.value == pytest.approx(least, abs=1e-5)
        assert best.value <= least + 1e-7


def test_scarce_domains_and_groups() -> None:
    """Caps from thousandths of a percent to all, and overlapping groups, beside SLSQP.

    A share next to its end ran into it before its slack did, and stood still far from the optimum.
    """
    rng, solved = np.random.default_rng(11), 0
    for k in range(100):
        n, t = 6, rng.normal(0, 1.5, (6, 17))
        w, q = rng.dirichlet(np.ones(n))[None], rng.dirichlet(np.ones(17))
        kl, passes = float(rng.choice([0.0, 0.001, 0.05])), float(rng.choice([1.02, 1.5, 4, 50]))
        tokens = dict(zip(NAMES, rng.dirichlet(np.full(17, 0.5)) * 1e9, strict=True))
        groups = (Group("g", NAMES[:4], 0, 0.3), Group("h", NAMES[3:8], 0.1, 0.9)) if k % 2 else ()
        one = make_constraints(
            NAMES, tokens=tokens, run_tokens=1e9, max_epochs=passes, groups=groups
        )
        try:
            one.check()
        except InfeasibleError:
            continue
        full = with_kl(
            lambda x, t=t, w=w: weighted_exponentials(  # type: ignore[misc]
                np.zeros((1, 6)), t[None], x, np.broadcast_to(w, (len(x), 6))
            ),
            q,
            np.array([kl]),
        )
        best = optima(full, [one])[0]
        assert best.gap < 1e-5 and not one.violated(best.x, 1e-7), k

        def fun(x: Array, full: Oracle = full) -> tuple[float, Array]:
            f, g, _ = full(np.maximum(x, 1e-12)[None])
            return float(f[0]), g[0]

        rows, low, high = one.membership()
        rules = [{"type": "eq", "fun": lambda x: x.sum() - 1}]
        for row, a, b in zip(rows, low, high, strict=True):
            rules.append({"type": "ineq", "fun": lambda x, row=row, a=a: row @ x - a})
            rules.append({"type": "ineq", "fun": lambda x, row=row, b=b: b - row @ x})
        found = minimize(
            fun, best.x, jac=True, method="SLSQP", constraints=rules,
            bounds=[(0, min(end, 1)) for end in one.upper], options={"ftol": 1e-14},
        )  # fmt: skip
        if not one.violated(found.x, 1e-9):
            solved += 1
            assert best.value <= found.fun + 1e-5, k
    assert solved > 50


def test_a_batch_is_its_problems() -> None:
    rng = np.random.default_rng(2)
    t, w = rng.normal(0, 2, (1, 4, 6)), np.full((1, 4), 0.25)
    prior = rng.dirichlet(np.ones(6), 5)
    tokens = dict(zip(NAMES[:6], np.full(6, 1e9), strict=True))
    many = [
        make_constraints(NAMES[:6], tokens=tokens, run_tokens=r, max_epochs=k, fixed={"d03": f})
        for r, k, f in [(3e9, 1, 0.1), (3e9, 4, 0.0), (1e9, 1, 0.2), (6e9, 1.2, 0.1), (2e9, 1, 0.3)]
    ]
    kl = np.array([0.0, 0.02, 0.1, 0.05, 0.3])

    def oracle(x: Array) -> tuple[Array, Array, Array]:
        rows = np.broadcast_to(w, (len(x), 4))
        return weighted_exponentials(np.zeros((1, 4)), t, x, rows)

    together = optima(oracle, many, prior, kl)
    for b, one in enumerate(many):
        alone = optima(oracle, [one], prior[b : b + 1], kl[b])[0]
        np.testing.assert_allclose(together[b].x, alone.x, atol=1e-6)
        assert together[b].x[3] == pytest.approx([0.1, 0, 0.2, 0.1, 0.3][b], abs=1e-9)


def test_prices_are_what_a_wider_end_buys() -> None:
    """Central differences of the optimal value by each cap."""
    rng = np.random.default_rng(3)
    oracle, prior, _, _ = random_problem(rng, 5)
    top = np.array([0.25, 0.3, 0.2, 0.35, 0.3])
    one = make_constraints(NAMES[:5], maximum=dict(zip(NAMES, top, strict=False)))
    best = optima(oracle, [one], prior[None], 0.05)[0]
    assert (best.price_upper > 1e-3).any()
    for i in range(5):
        values = []
        for change in (1e-4, -1e-4):
            moved = dict(zip(NAMES, top + change * np.eye(5)[i], strict=False))
            moved_one = make_constraints(NAMES[:5], maximum=moved)
            values.append(optima(oracle, [moved_one], prior[None], 0.05)[0].value)
        assert best.price_upper[i] == pytest.approx((values[1] - values[0]) / 2e-4, abs=1e-4)


def test_one_mixture_only() -> None:
    oracle, prior, _, _ = random_problem(np.random.default_rng(4), 3)
    tight = make_constraints(NAMES[:3], maximum={"d00": 0.2, "d01": 0.3, "d02": 0.5})
    np.testing.assert_allclose(optima(oracle, [tight], prior[None], 0.1)[0].x, [0.2, 0.3, 0.5])
    pinned = make_constraints(NAMES[:3], fixed={"d00": 0.2, "d01": 0.3, "d02": 0.5})
    np.testing.assert_allclose(optima(oracle, [pinned], prior[None], 0.1)[0].x, [0.2, 0.3, 0.5])


@pytest.mark.parametrize("family", ["log-linear", "power-law", "linear"])
def test_cone_solver(family: str, planted: tuple[Array, ...]) -> None:
    """Every convex family, with groups and pins, by cvxpy and Clarabel."""
    X, Y = planted[:2]
    model = make_regressor(family).fit(X, Y)
    prior, w = np.array([0.4, 0.2, 0.2, 0.1, 0.1]), np.array([0.5, 0.3, 0.2])
    one = make_constraints(
        NAMES[:5],
        maximum={"d00": 0.3},
        fixed={"d04": 0.05},
        groups=[Group("g", ("d01", "d02"), 0.2, 0.35), Group("h", ("d02", "d03"), 0.4, 0.4)],
    )
    ours = optima(oracle_of(model, w[None]), [one], prior[None], 0.05)[0]
    theirs = solve_conic(model, w, one, prior, 0.05)
    np.testing.assert_allclose(ours.x, theirs, atol=2e-4)
    values = value_of(oracle_of(model, np.stack([w, w])), prior, 0.05, np.stack([ours.x, theirs]))
    assert values[0] == pytest.approx(values[1], abs=1e-6)


def test_worst_case_and_limits(planted: tuple[Array, ...]) -> None:
    X, Y = planted[:2]
    model = LogLinear().fit(X, Y)
    prior, w = np.full(5, 0.2), np.full(3, 1 / 3)
    one = make_constraints(NAMES[:5])
    scale = model.predict(prior[None])[0]
    worst = solve_conic(model, w, one, prior, 0.0, worst=scale)
    mean = optima(oracle_of(model, w[None]), [one], prior[None], 0.0)[0].x
    ratios = model.predict(np.stack([worst, mean, prior])) / scale
    assert ratios[0].max() < min(ratios[1].max() + 1e-6, ratios[2].max())
    grid = np.random.default_rng(0).dirichlet(np.full(5, 0.6), 20000)
    assert ratios[0].max() <= (model.predict(grid) / scale).max(axis=1).min() + 1e-6
    limit = float(model.predict(mean[None])[0, 0]) - 0.02
    limited = solve_conic(model, w, one, prior, 0.0, limits=[(0, limit)])
    assert model.predict(limited[None])[0, 0] <= limit + 1e-6
