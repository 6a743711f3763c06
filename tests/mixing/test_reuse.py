"""Reuse: the small problem is the large one with frozen ratios, exactly."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from numpy.typing import NDArray
from scipy.optimize import minimize

from olmeval.cli.olmix import cli
from olmeval.errors import UserError
from olmeval.mixing.asked import ask
from olmeval.mixing.domains import Domains, DomainsFile, build_domains, load_domains
from olmeval.mixing.evidence import save_evidence
from olmeval.mixing.fitting import fit_swarm
from olmeval.mixing.interior import with_kl
from olmeval.mixing.proposal import propose
from olmeval.mixing.reuse import block_prior, compare, plan_reuse, save_reuse
from olmeval.mixing.sampling import SwarmSettings, sample_swarm
from olmeval.mixing.tables import SwarmTable, read_swarm

Array = NDArray[np.float64]
OLD = {"a": (4e9, "1"), "b": (2e9, "2"), "c": (2e9, "3"), "d": (1e9, "4")}
MIX = {"a": 0.2, "b": 0.2, "c": 0.4, "d": 0.2}


def domains(spec: dict[str, tuple[float, str]], **more: object) -> Domains:
    nodes = {name: {"tokens": int(n), "fingerprint": mark} for name, (n, mark) in spec.items()}
    return build_domains(DomainsFile.model_validate({"domains": nodes, **more}))


def test_kl_of_the_block_is_that_of_its_members() -> None:
    """KL(expanded || q) - KL(collapsed || q') is one constant for all mixtures."""
    rng = np.random.default_rng(0)
    frozen = dict(zip("abc", [0.25, 0.25, 0.5], strict=True))
    q = dict(zip("abcde", rng.dirichlet(np.ones(5)), strict=True))
    prior = np.array([block_prior(frozen, q), q["d"], q["e"]])

    def kl(x: Array, p: Array) -> float:
        return float((x * np.log(x / p)).sum())

    gaps = []
    for r in rng.dirichlet(np.ones(3), 20):
        whole = np.concatenate([r[0] * np.array(list(frozen.values())), r[1:]])
        gaps.append(kl(whole, np.array(list(q.values()))) - kl(r, prior))
    assert np.ptp(gaps) < 1e-12 and gaps[0] == pytest.approx(0, abs=1e-12)


def test_changes_are_told_by_contents() -> None:
    new = {"a": (4e9, "1"), "b": (2e9, "9"), "c": (3e9, "3"), "e": (1e9, "5")}
    plan = plan_reuse(domains(OLD), MIX, domains(new))
    assert plan.change.added == ("e",) and plan.change.removed == ("d",)
    # b has other contents; c has other tokens.
    assert plan.change.revised == ("b", "c") and plan.frozen == {"a": 1.0}
    assert compare({"a": None}, {"a": "1"}).unproved == ("a",)


def test_removal_needs_no_runs(tmp_path: Path) -> None:
    plan = plan_reuse(domains(OLD), MIX, domains({k: OLD[k] for k in "abc"}))
    assert plan.proxies == 0 and plan.mixture == pytest.approx({"a": 0.25, "b": 0.25, "c": 0.5})
    save_reuse(plan, domains({k: OLD[k] for k in "abc"}), tmp_path)
    assert yaml.safe_load((tmp_path / "mix.yaml").read_text())["mixture"]["c"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"run": {"tokens": 40_000_000_000}}, "'c' has 0.5, outside of its ends 0 and 0.2"),
        (
            {"groups": {"g": {"domains": ["a", "b"], "max": 0.4}}},
            "the group 'g' has 0.5, outside of its ends 0 and 0.4",
        ),
    ],
)
def test_a_removal_that_breaks_the_ends_is_refused(
    tmp_path: Path, more: dict[str, object], words: str
) -> None:
    """Scaled shares took more of a domain than the run may repeat, and nothing said so."""
    large = {"a": (9e12, "1"), "b": (9e12, "2"), "c": OLD["c"]}
    new = domains(large, **more)
    plan = plan_reuse(domains({**large, "d": OLD["d"]}), MIX, new)
    assert plan.mixture is not None
    with pytest.raises(UserError, match=words):
        save_reuse(plan, new, tmp_path)
    assert not (tmp_path / "mix.yaml").exists()


@pytest.mark.parametrize("text", ["[]", '{"steps": 3}', '{"x": 3}'])
def test_a_file_that_is_no_history(tmp_path: Path, text: str) -> None:
    (tmp_path / "h.json").write_text(text)
    new = domains({**OLD, "e": (1e9, "5")})
    with pytest.raises(UserError, match="is no history of 'olmix reuse'"):
        save_reuse(plan_reuse(domains(OLD), MIX, new), new, tmp_path, history=tmp_path / "h.json")


@pytest.mark.parametrize("share", [-0.1, float("nan"), float("inf")])
def test_shares_that_are_none(share: float) -> None:
    with pytest.raises(UserError, match="the mixture gives 'a'"):
        plan_reuse(domains(OLD), {**MIX, "a": share}, domains({**OLD, "e": (1e9, "5")}))


def test_the_small_problem_and_its_answer(tmp_path: Path) -> None:
    """Added domain: cap of the block by its first member, frozen ratios kept, fewer proxies; the
    optimum equals a general solver's on the whole simplex with the ratios as constraints."""
    new = domains({**OLD, "e": (3e9, "5")}, run={"tokens": 20_000_000_000, "max_epochs": 4})
    plan = plan_reuse(domains(OLD), MIX, new)
    assert plan.proxies == 9 and plan.full_proxies == 18 and plan.saved == pytest.approx(0.5)
    save_reuse(plan, new, tmp_path)
    small = load_domains(tmp_path / "domains.yaml")
    assert small.names == ("e", "existing")
    block = small.leaves[1]
    assert block.tokens == pytest.approx(min(4e9 / 0.2, 2e9 / 0.2, 2e9 / 0.4, 1e9 / 0.2))
    assert small.fingerprints() == new.fingerprints()

    rng = np.random.default_rng(1)
    t = rng.normal(0, 1.5, (2, 5))
    X = sample_swarm(small, SwarmSettings(12)).X
    whole = np.array(
        [list(small.expand(dict(zip(small.names, x, strict=True))).values()) for x in X]
    )
    order = list(small.expand(dict(zip(small.names, X[0], strict=True))))
    whole = whole[:, [order.index(name) for name in "abcde"]]
    np.testing.assert_allclose(whole[:, 1] / whole[:, 0], 1, rtol=1e-12)
    np.testing.assert_allclose(whole[:, 2] / whole[:, 0], 2, rtol=1e-12)
    Y = 1 + np.exp(whole @ t.T)
    table = SwarmTable(tuple(map(str, range(12))), small.names, ("x", "y"), X, Y)
    fit = fit_swarm(table, curve=False)
    prior = dict(zip(small.names, small.prior().tolist(), strict=True))
    proposal = propose(fit, small.constraints(), prior=prior, kl=0.05, refits=0)
    ours = small.expand(proposal.mixture.weights)

    q, p = np.array([4, 2, 2, 1, 3]) / 12, np.array([0.2, 0.2, 0.4, 0.2])

    def cost(e: Array) -> float:
        x = np.append((1 - e[0]) * p, e[0])
        full = with_kl(lambda x: ((1 + np.exp(x @ t.T)).mean(axis=1), x, np.eye(5)[None] * 0),
                       q, np.array([0.05]))  # fmt: skip
        return float(full(x[None])[0][0])

    # The block gives at most 4 x 5B of 20B; the newcomer 4 x 3B.
    found = minimize(cost, [0.3], bounds=[(1e-9, 0.6)], tol=1e-12)
    assert ours["e"] == pytest.approx(found.x[0], abs=0.02)
    assert ours["c"] / ours["a"] == pytest.approx(2)


def test_partial_reuse_and_couplings(planted: tuple[Array, ...]) -> None:
    X, Y = planted[:2]
    spec = {name: (1e9 * (i + 1), str(i)) for i, name in enumerate("abcde")}
    old = domains(spec)
    mixture = dict.fromkeys("abcde", 0.2)
    fit = fit_swarm(
        SwarmTable(tuple(map(str, range(60))), tuple("abcde"), tuple("xyz"), X, Y), curve=False
    )
    new = domains(
        {n: (1e9 * (i + 1), "new" if n == "e" else str(i)) for i, n in enumerate("abcde")}
    )
    plan = plan_reuse(old, mixture, new, release=["b"], fit=fit)
    assert plan.free == ("b", "e") and set(plan.frozen) == {"a", "c", "d"}
    t = planted[3] - planted[3].mean(axis=1, keepdims=True)
    fixed, moved = (np.linalg.norm(t[:, c], axis=1) for c in ([0, 2, 3], [1, 4]))
    expected = np.linalg.norm((1 + fixed + moved) * fixed)
    assert plan.kappa == pytest.approx(expected, rel=0.05)
    with pytest.raises(UserError, match="'e' cannot be released"):
        plan_reuse(old, mixture, new, release=["e"])


def test_history_traces_every_step(tmp_path: Path) -> None:
    new = domains({**OLD, "e": (3e9, "5")})
    save_reuse(plan_reuse(domains(OLD), MIX, new), new, tmp_path / "1")
    less = domains({k: OLD[k] for k in "abc"})
    again = plan_reuse(domains(OLD), MIX, less)
    save_reuse(again, less, tmp_path / "2", history=tmp_path / "1" / "history.json")
    steps = json.loads((tmp_path / "2" / "history.json").read_text())["steps"]
    assert [s["added"] for s in steps] == [["e"], []] and steps[0]["id"] != steps[1]["id"]


def test_stale_evidence_is_refused(tmp_path: Path) -> None:
    """Between two tables, and between a fit and the domains as they are now."""
    for name, marks in (("one", {"a": "1", "b": "2"}), ("other", {"a": "1", "b": "3"})):
        save_evidence(tmp_path / name, marks)
        (tmp_path / name / "ratios.csv").write_text("run,a,b\nr0,0.2,0.8\nr1,0.5,0.5\n")
        (tmp_path / name / "metrics.csv").write_text("run,x\nr0,1\nr1,2\n")
    one, other = tmp_path / "one", tmp_path / "other"
    table = read_swarm(one / "ratios.csv", one / "metrics.csv")
    assert table.contents == {"a": "1", "b": "2"}
    with pytest.raises(UserError, match="other contents of b than"):
        read_swarm(one / "ratios.csv", other / "metrics.csv")
    for mark, stale in (("2", False), ("3", True)):
        nodes = {n: {"tokens": 1, "fingerprint": m} for n, m in (("a", "1"), ("b", mark))}
        (tmp_path / "now.yaml").write_text(yaml.safe_dump({"domains": nodes}))
        if stale:
            with pytest.raises(UserError, match="the fit speaks of other contents of b"):
                ask(("a", "b"), tree=tmp_path / "now.yaml", contents=table.contents)
        else:
            ask(("a", "b"), tree=tmp_path / "now.yaml", contents=table.contents)


def test_mistakes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing changed"):
        plan_reuse(domains(OLD), MIX, domains(OLD))
    with pytest.raises(UserError, match="the mixture has 'z'"):
        plan_reuse(domains(OLD), {"z": 1.0}, domains(OLD))
    with pytest.raises(UserError, match="nothing to reuse"):
        plan_reuse(domains(OLD), MIX, domains({k: (n, "new" + k) for k, (n, _) in OLD.items()}))
    new = domains({**OLD, "e": (3e9, "5")}, groups={"g": {"domains": ["a", "e"], "max": 0.5}})
    with pytest.raises(UserError, match="bounds the frozen domain 'a'"):
        save_reuse(plan_reuse(domains(OLD), MIX, new), new, tmp_path)


def test_command(tmp_path: Path) -> None:
    for name, spec in (("old", OLD), ("new", {**OLD, "e": (3e9, "5")})):
        nodes = {n: {"tokens": int(k), "fingerprint": mark} for n, (k, mark) in spec.items()}
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump({"domains": nodes}))
    (tmp_path / "mix.yaml").write_text(yaml.safe_dump({"mixture": MIX}))
    result = CliRunner().invoke(
        cli,
        ["reuse", *(str(tmp_path / f"{n}.yaml") for n in ("old", "new")),
         "--mix", str(tmp_path / "mix.yaml"), "--output", str(tmp_path / "out")],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "9 proxies instead of 18, 50 % saved" in result.stdout
