"""Swarms obey exactly, depend on nothing but the seed, and say what they can tell."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from olmeval.cli.olmix import cli
from olmeval.config import parse_config
from olmeval.errors import UserError
from olmeval.mixing.domains import Domains, DomainsFile, build_domains, load_domains
from olmeval.mixing.doptimal import _features, d_optimal
from olmeval.mixing.problem import InfeasibleError
from olmeval.mixing.sampling import SwarmSettings, _candidates, _shares_only, sample_swarm
from olmeval.mixing.swarm import design_swarm
from olmeval.mixing.tables import read_ratios

Array = NDArray[np.float64]
TREE = """
domains:
  web:
    min: 0.3
    topics:
      health: {tokens: 20B}
      sports: {tokens: 30B, max: 0.2}
      science: {quality: {high: {tokens: 2B}, low: {tokens: 8B}}}
  code: {tokens: 10B, min: 0.05}
  papers: {quality: {high: {tokens: 1B}, low: {tokens: 4B}}}
  old: {fix: 0.1, members: {books: {share: 1, tokens: 1B}, news: {share: 3, tokens: 9B}}}
run: {tokens: 100B, max_epochs: 4}
"""
DESIGNS = ("dirichlet", "sobol", "d-optimal")


def tree(text: str = TREE) -> Domains:
    return build_domains(parse_config(text, DomainsFile, "domains.yaml"))


def flat(shares: dict[str, float]) -> Domains:
    return tree(yaml.safe_dump({"domains": {n: {"prior": s} for n, s in shares.items()}}))


def test_leaves_and_what_they_hold() -> None:
    domains = tree()
    assert domains.names == (
        "code", "old", "papers:high", "papers:low", "web:health", "web:science:high",
        "web:science:low", "web:sports",
    )  # fmt: skip
    block = domains.leaves[1]
    # Public defects 10 and lemma 1: a quarter of 4B is books' 1B; not 10B, the sum.
    assert block.tokens == pytest.approx(4e9)
    assert domains.expand({"old": 0.4, "code": 0.6}) == pytest.approx(
        {"books": 0.1, "news": 0.3, "code": 0.6} | dict.fromkeys(domains.names[2:], 0.0)
    )
    rules = domains.constraints()
    assert [g.name for g in rules.groups] == ["web"] and len(rules.groups[0].members) == 4
    np.testing.assert_allclose(domains.prior()[0], 10 / 79)


def test_natural_mixture_follows_names_and_not_order() -> None:
    """Public defect 2: names that sort otherwise, and one that begins another."""
    shares = {"z": 0.9, "a": 0.1}
    assert dict(zip(flat(shares).names, flat(shares).prior(), strict=True)) == shares
    text = "domains:\n  dclm: {topics: {x: {tokens: 600}, y: {tokens: 300}}}\n"
    domains = tree(text + "  dclm-edu: {tokens: 100}\n")
    other = tree("domains:\n  dclm-edu: {tokens: 100}\n" + text.removeprefix("domains:\n"))
    assert domains.names == other.names == ("dclm-edu", "dclm:x", "dclm:y")
    np.testing.assert_allclose(domains.prior(), [0.1, 0.6, 0.3])
    drawn = _candidates(domains, SwarmSettings(runs=4000, strength=(3, 3)))
    np.testing.assert_allclose(drawn.mean(axis=0), [0.1, 0.6, 0.3], atol=0.01)
    np.testing.assert_array_equal(drawn, _candidates(other, SwarmSettings(4000, strength=(3, 3))))


@pytest.mark.parametrize("design", DESIGNS)
def test_everything_is_kept_exactly(design: str) -> None:
    """Ends, groups and pins; frozen members keep their ratio to the last digit."""
    domains = tree()
    chosen = sample_swarm(domains, SwarmSettings(runs=60, design=design))
    X, rules = chosen.X, domains.constraints(run_tokens=1)
    assert np.abs(X.sum(axis=1) - 1).max() < 1e-12
    assert (rules.minimum - 1e-12 <= X).all() and (rules.maximum + 1e-12 >= X).all()
    assert (X[:, 4:].sum(axis=1) >= 0.3 - 1e-9).all()
    np.testing.assert_allclose(X[:, 1], 0.1, rtol=1e-12)
    assert ((X == 0) | (X >= 0.002 - 1e-9)).all()
    for row in X[:5]:
        spread = domains.expand(dict(zip(domains.names, row, strict=True)))
        assert spread["news"] / spread["books"] == pytest.approx(3, rel=1e-12)


def test_ten_thousand_draws_obey() -> None:
    """Public defect 9: pins that drift, caps that are broken."""
    domains = tree()
    drawn = sample_swarm(domains, SwarmSettings(runs=1000, strength=(0.5, 5)))
    assert drawn.candidates >= 10_000 and len(np.unique(drawn.X, axis=0)) == 1000
    assert np.ptp(drawn.X[:, 1]) < 1e-12 and drawn.X[:, 7].max() <= 0.2 + 1e-12


@pytest.mark.parametrize("design", DESIGNS)
def test_reproducible_by_seed(design: str) -> None:
    a, b, c = (sample_swarm(tree(), SwarmSettings(20, design, seed=s)).X for s in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)


def test_draws_on_every_machine() -> None:
    """Numbers recorded once; the generators are fixed by their specification."""
    X = sample_swarm(flat({"a": 0.5, "b": 0.3, "c": 0.2}), SwarmSettings(2, strength=(1, 1))).X
    np.testing.assert_allclose(X, RECORDED, rtol=1e-9)


def test_dirichlet_moments() -> None:
    """Mean q and variance q (1 - q) / (s + 1) of Dirichlet(s q), random and low-discrepancy."""
    q, s = np.array([0.6, 0.3, 0.1]), 2.0
    domains = flat({"a": 0.6, "b": 0.3, "c": 0.1})
    for design, slack in (("dirichlet", 0.01), ("sobol", 0.002)):
        X = _candidates(domains, SwarmSettings(4000, design, strength=(s, s)))
        np.testing.assert_allclose(X.mean(axis=0), q, atol=slack)
        np.testing.assert_allclose(X.var(axis=0), q * (1 - q) / (s + 1), atol=slack)


def test_weak_draws_of_many_domains_stay_finite() -> None:
    shares = {f"d{i}": 1.0 + i for i in range(300)}
    X = sample_swarm(flat(shares), SwarmSettings(50, strength=(0.01, 0.01))).X
    assert np.isfinite(X).all() and np.abs(X.sum(axis=1) - 1).max() < 1e-12


def test_every_domain_is_sampled() -> None:
    """Public behaviour: with 64 variants one or two of 17 domains never came up."""
    shares = dict(zip([f"d{i:02}" for i in range(17)], np.geomspace(0.3, 0.001, 17), strict=True))
    for seed in range(5):
        X = sample_swarm(
            flat({k: float(v) for k, v in shares.items()}), SwarmSettings(64, seed=seed)
        ).X
        assert ((X > 0).sum(axis=0) >= 3).all()


def test_nothing_like_what_was_run() -> None:
    domains = flat({"a": 0.5, "b": 0.5})
    first = sample_swarm(domains, SwarmSettings(20))
    second = sample_swarm(domains, SwarmSettings(20, seed=7), existing=first.X)
    gaps = np.linalg.norm(first.X[:, None] - second.X, axis=2)
    assert gaps.min() >= 0.01 and second.near_duplicates > 0


def test_d_optimal_knows_more() -> None:
    """A larger determinant than random rows, and close to exhaustive search on a small case."""
    rng = np.random.default_rng(0)
    X = rng.dirichlet(np.full(3, 0.7), 12)
    t = np.random.default_rng(1).normal(0, 2.0, (8, 3))
    t -= t.mean(axis=1, keepdims=True)
    f = _features(X, t)

    def value(rows: "list[int]") -> float:
        g = f[:, rows]
        return float(np.linalg.slogdet(np.einsum("lnp,lnq->lpq", g, g))[1].mean())

    from itertools import combinations

    every = [value(list(rows)) for rows in combinations(range(12), 5)]
    ours = value(d_optimal(X, 5, None, np.random.default_rng(1)).tolist())
    assert ours > np.quantile(every, 0.95)


def test_effects_are_known_better_by_d_optimal_designs() -> None:
    shares = {f"d{i}": 1.0 for i in range(8)}
    designs = [design_swarm(flat(shares), SwarmSettings(27, d)).design for d in DESIGNS]
    worst = [max(d.effect) for d in designs]
    assert worst[2] < worst[0]


@given(st.integers(2, 9), st.integers(0, 10**6), st.sampled_from(DESIGNS))
@example(2, 6399, "dirichlet")  # a natural mixture outside the ends
@settings(max_examples=25, deadline=None)
def test_any_ends_are_kept(m: int, seed: int, design: str) -> None:
    rng = np.random.default_rng(seed)
    low, high = rng.uniform(0, 0.6 / m, m), rng.uniform(1.2 / m, 1, m)
    spec = {
        f"d{i}": {"prior": float(p), "min": float(a), "max": float(b)}
        for i, (p, a, b) in enumerate(zip(rng.dirichlet(np.ones(m)), low, high, strict=True))
    }
    domains = tree(yaml.safe_dump({"domains": spec}))
    X = sample_swarm(domains, SwarmSettings(5, design, seed=seed, minimum_weight=0.0)).X
    rules = _shares_only(domains)
    assert (rules.minimum - 1e-12 <= X).all() and (rules.maximum + 1e-12 >= X).all()
    assert np.abs(X.sum(axis=1) - 1).max() < 1e-12


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("domains: {a: {tokens: 1}, b: {tokens: 2, mn: 1}}", "unknown key 'domains.b.mn'"),
        ("domains: {a: {}}", "neither tokens nor a prior"),
        ("domains: {a: {tokens: 5, topics: {x: {tokens: 1}}}}", "tokens are those of its topics"),
        ("domains: {a: {fix: 0.1, max: 0.2, tokens: 3}}", "minimum and maximum in one"),
        ("domains: {a: {tokens: lots}}", "not a count"),
        ("domains: {a: {prior: .inf}, b: {prior: 1}}", "the prior of 'a' is infinite"),
        ("domains: {a: {tokens: 1}}\ngroups: {g: {domains: [b]}}", "group 'g': there is no domain"),
    ],
)
def test_mistakes_in_domains(text: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        tree(text)


def test_impossible_swarms_say_why() -> None:
    small = tree("domains: {a: {tokens: 1, max: 0.3}, b: {tokens: 1, max: 0.4}}")
    with pytest.raises(InfeasibleError, match=r"largest shares add up to 0\.7"):
        sample_swarm(small, SwarmSettings(4))
    with pytest.raises(InfeasibleError, match="tokens short"):
        design_swarm(tree(), SwarmSettings(4), proxy_tokens=1e12, proxy_epochs=1)
    # Public defect 11: fewer different mixtures than were asked for.
    narrow = tree("domains: {a: {tokens: 1}, b: {tokens: 1, max: 0.05}}")
    with pytest.raises(UserError, match="different mixtures were found"):
        sample_swarm(narrow, SwarmSettings(64))


def test_command(tmp_path: Path) -> None:
    (tmp_path / "domains.yaml").write_text(TREE)

    def run(*arguments: str) -> str:
        arguments = ("swarm", str(tmp_path / "domains.yaml"), *arguments)
        result = CliRunner().invoke(cli, [*arguments, "--output", str(tmp_path / "out")])
        if result.exception:
            raise result.exception
        return result.stdout

    text = run("--proxy-tokens", "1B")
    assert "24 mixtures (24 advised)" in text and "fresh mixture" in text
    value = json.loads(run("--runs", "30", "--design", "sobol", "--json"))
    assert value["runs"] == 30 and value["rank"] == 7
    names, domains, X = read_ratios(tmp_path / "out" / "ratios.csv")
    assert len(names) == 30 and domains == load_domains(tmp_path / "domains.yaml").names
    again = run("--existing", str(tmp_path / "out" / "ratios.csv"), "--seed", "7", "--runs", "5")
    assert "5 mixtures" in again
    assert X.shape == (30, 8)
    # Rows of both swarms go into one table: no name twice.
    assert read_ratios(tmp_path / "out" / "ratios.csv")[0] == tuple(
        f"mix-{k:03d}" for k in range(30, 35)
    )


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--strength 1 inf", "strengths of 1.0 to inf cannot be"),
        ("--temperature inf", "a temperature of inf cannot be"),
        ("--proxy-tokens 1B --proxy-epochs 0", "0.0 passes over a domain cannot be"),
        ("--proxy-tokens 0", "a proxy of 0 tokens cannot be"),
        ("--proxy-tokens 1B,2B", "takes one number"),
    ],
)
def test_settings_that_cannot_be(tmp_path: Path, words: str, sentence: str) -> None:
    (tmp_path / "d.yaml").write_text(TREE)
    command = ["swarm", str(tmp_path / "d.yaml"), "-o", str(tmp_path), *words.split()]
    error = CliRunner().invoke(cli, command).exception
    assert isinstance(error, UserError) and sentence in str(error)


RECORDED = [
    [0.5971073050325498, 0.34701880700007554, 0.05587388796737464],
    [0.0389119221917911, 0.8430431759144622, 0.11804490189374678],
]


def test_the_shipped_example_loads() -> None:
    from olmeval.mixing import domains as module

    example = load_domains(Path(module.__file__).parent / "examples" / "domains.yaml")
    example.constraints().check()
    assert {g.name for g in example.groups} == {"web", "knowledge"}
