"""Proposals: what is promised, how sure it is, and what a flexible family may not do."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from olmeval.cli.olmix import cli
from olmeval.errors import UserError
from olmeval.mixing.bootstrap import refit_on_samples, resample_rows
from olmeval.mixing.fitting import MixtureFit, fit_swarm
from olmeval.mixing.output import save_mix
from olmeval.mixing.priors import Priors, load_priors, save_priors
from olmeval.mixing.problem import make_constraints
from olmeval.mixing.proposal import propose
from olmeval.mixing.regressors.base import hellinger
from olmeval.mixing.sweeps import pareto_front, sweep
from olmeval.mixing.tables import SwarmTable
from olmeval.mixing.uncertainty import span
from olmeval.trainer.recipe import MixFile

Array = NDArray[np.float64]
NAMES = ("a", "b", "c", "d", "e")
PRIOR = dict(zip(NAMES, (0.4, 0.25, 0.15, 0.15, 0.05), strict=True))
TOKENS = {name: share * 1e10 for name, share in PRIOR.items()}


@pytest.fixture(scope="module")
def swarm(planted: tuple[Array, ...]) -> SwarmTable:
    X, Y = planted[:2]
    Y = Y + np.random.default_rng(5).normal(0, 0.02, Y.shape)
    return SwarmTable(tuple(f"r{i:02}" for i in range(60)), NAMES, ("x", "y", "z"), X, Y)


@pytest.fixture(scope="module")
def fit(swarm: SwarmTable) -> MixtureFit:
    return fit_swarm(swarm, curve=False)


def test_the_planted_optimum_is_found(fit: MixtureFit, planted: tuple[Array, ...]) -> None:
    *_, c, t = planted
    proposal = propose(fit, make_constraints(NAMES), prior=PRIOR, kl=0.0)

    def truth(X: Array) -> Array:
        return (c + np.exp(X @ t.T)).mean(axis=1)

    found = np.array([list(proposal.mixture.weights.values())])
    best = truth(np.random.default_rng(0).dirichlet(np.full(5, 0.5), 50000)).min()
    natural = truth(np.array([list(PRIOR.values())]))[0]
    assert truth(found)[0] - best < 0.05 * (natural - best)
    assert proposal.gain > 0 and proposal.uncertainty.beats_natural > 0.95
    low, high = proposal.uncertainty.gain
    assert low < natural - truth(found)[0] < high


def test_bound_caps_and_what_they_cost(fit: MixtureFit) -> None:
    one = make_constraints(NAMES, tokens=TOKENS, run_tokens=2e10, max_epochs=3)
    proposal = propose(fit, one, kl=0.01, refits=20)
    held = [b for b in proposal.binding if b.kind == "tokens"]
    assert held and all(b.gain > 0 and b.share > b.at for b in held)
    assert held == sorted(held, key=lambda b: -b.gain)
    for b in held:
        assert proposal.epochs[b.domain] == pytest.approx(3, abs=1e-4)
    # Without the end of that domain alone the objective falls by as much as was said.
    freed = make_constraints(
        NAMES, tokens={**TOKENS, held[0].domain: 1e15}, run_tokens=2e10, max_epochs=3
    )
    prior = {d: w / sum(TOKENS.values()) for d, w in TOKENS.items()}
    with_kl = [
        p.mixture.objective + 0.01 * p.kl
        for p in (propose(fit, c, prior=prior, kl=0.01, refits=0) for c in (one, freed))
    ]
    assert with_kl[0] - with_kl[1] == pytest.approx(held[0].gain, abs=1e-6)


def test_extrapolation_is_said(fit: MixtureFit) -> None:
    lines = propose(fit, make_constraints(NAMES, fixed={"e": 0.99}), kl=0.01, refits=0).warnings
    assert any("'e' has 0.990, more than in any run" in line for line in lines)


def test_no_prior_is_said(fit: MixtureFit) -> None:
    proposal = propose(fit, make_constraints(NAMES), refits=0)
    assert any("swarm's mean stands in" in line for line in proposal.warnings)


def test_flexible_families_stay_amid_the_rows(swarm: SwarmTable) -> None:
    """A steep trend out of the swarm: a process that follows it would leave all rows behind."""
    rng = np.random.default_rng(1)
    X = np.concatenate([rng.uniform(0, 0.25, (50, 1)), rng.dirichlet(np.ones(4), 50)], axis=1)
    X[:, 1:] *= 1 - X[:, :1]
    Y = (3 - 4 * X[:, :1] + rng.normal(0, 0.01, (50, 1))).repeat(3, axis=1)
    fitted = fit_swarm(replace(swarm.take(range(50)), X=X, Y=Y), "gp", curve=False)
    proposal = propose(fitted, make_constraints(NAMES), prior=PRIOR, kl=0.0, refits=2)
    between = hellinger(X, X) + np.diag(np.full(50, np.inf))
    assert proposal.mixture.distance <= np.quantile(between.min(axis=1), 0.9) + 1e-9
    assert 0.2 < proposal.mixture.weights["a"] < 0.6
    again = propose(fitted, make_constraints(NAMES), prior=PRIOR, kl=0.0, refits=0)
    assert again.mixture.weights == proposal.mixture.weights


@pytest.mark.parametrize("family", ["gp", "nearest"])
def test_searched_mixtures_beat_natural_and_obey(swarm: SwarmTable, family: str, planted) -> None:
    *_, c, t = planted
    fitted = fit_swarm(swarm, family, curve=False)
    one = make_constraints(NAMES, maximum={"b": 0.3}, minimum={"a": 0.1})
    proposal = propose(fitted, one, prior=PRIOR, refits=2)
    x = np.array([list(proposal.mixture.weights.values()), list(proposal.natural.weights.values())])
    assert not one.violated(x[0], 1e-6)
    truth = (c + np.exp(x @ t.T)).mean(axis=1)
    assert truth[0] < truth[1]


def test_resampled_mixtures_keep_their_replicates() -> None:
    X = np.repeat(np.random.default_rng(0).dirichlet(np.ones(3), 8), 2, axis=0)
    drawn = resample_rows(X, 50)
    assert (drawn[:, ::2] == drawn[:, 1::2]).all() and (drawn.sum(axis=1) == 16).all()
    assert ((drawn > 0).sum(axis=1) >= 6).all()


def test_refits_of_any_family(swarm: SwarmTable) -> None:
    w = np.full(3, 1 / 3)
    for family in ("log-linear", "power-law"):
        model = fit_swarm(swarm, family, curve=False).model
        spread = refit_on_samples(model, 6).objective(swarm.X[:4], w)
        assert spread.shape == (6, 4) and (spread.std(axis=0) > 0).all()


def test_sweep(fit: MixtureFit) -> None:
    one = make_constraints(NAMES, tokens=TOKENS, run_tokens=1e10)
    lengths = np.array([1e10, 1e11])  # what np.geomspace gives is a sequence, too
    cells = sweep(fit, one, run_tokens=lengths, max_epochs=(2, 4), kl=(0.0, 0.05), prior=PRIOR)
    assert len(cells) == 8
    alone = propose(fit, replace(one, max_epochs=2), prior=PRIOR, kl=0.05, refits=0)
    same = next(c for c in cells if (c.run_tokens, c.max_epochs, c.kl) == (1e10, 2, 0.05))
    assert same.weights == pytest.approx(alone.mixture.weights, abs=1e-6)
    impossible = [c for c in cells if c.run_tokens == 1e11]
    assert all(c.weights is None and "tokens short" in c.reason for c in impossible)


def test_pareto_front(fit: MixtureFit) -> None:
    front = pareto_front(fit, make_constraints(NAMES), ["x"], ["y", "z"], points=9)
    first, second = np.array([(p.first, p.second) for p in front]).T
    assert (np.diff(first) <= 1e-7).all() and (np.diff(second) >= -1e-7).all()
    X = np.random.default_rng(0).dirichlet(np.full(5, 0.6), 20000)
    losses = fit.model.predict(X)
    for p in front:
        better = (losses[:, 0] < p.first - 1e-4) & (losses[:, 1:].mean(axis=1) < p.second - 1e-4)
        assert not better.any()


def test_mistakes(fit: MixtureFit, swarm: SwarmTable) -> None:
    one = make_constraints(NAMES)
    with pytest.raises(UserError, match="no domain 'f'"):
        propose(fit, one, prior={"f": 1})
    with pytest.raises(UserError, match="no target 'xx'"):
        propose(fit, one, weights={"xx": 1})
    with pytest.raises(UserError, match="weight 0"):
        propose(fit, one, weights={"x": 0})
    with pytest.raises(UserError, match="a KL strength of -1 cannot be"):
        propose(fit, one, kl=-1)
    with pytest.raises(UserError, match="need a convex law"):
        propose(fit_swarm(swarm, "nearest", curve=False), one, worst=True)


def test_priors_file(tmp_path: Path) -> None:
    priors = Priors(relative_sizes=PRIOR, token_counts=TOKENS)
    save_priors(priors, tmp_path / "p.yaml")
    assert load_priors(tmp_path / "p.yaml") == priors
    (tmp_path / "q.yaml").write_text("relative_size: {a: 1}\n")
    with pytest.raises(UserError, match="did you mean 'relative_sizes'"):
        load_priors(tmp_path / "q.yaml")


def test_mix_file_adds_up_and_loads(tmp_path: Path) -> None:
    weights = {"a": 1 / 3, "b": 2 / 3 - 1e-9, "c": 1e-9}
    save_mix(weights, tmp_path / "mix.yaml", "m")
    from olmeval.config import load_config

    mix = load_config(tmp_path / "mix.yaml", MixFile)
    assert sum(mix.mixture.values()) == pytest.approx(1, abs=1e-12) and list(mix.mixture) == [
        "a",
        "b",
    ]


def test_command(swarm: SwarmTable, tmp_path: Path) -> None:
    frame = pd.DataFrame(swarm.X, index=swarm.runs, columns=NAMES)
    frame.to_csv(tmp_path / "ratios.csv", index_label="run")
    pd.DataFrame(swarm.Y, index=swarm.runs, columns=list("xyz")).to_csv(
        tmp_path / "metrics.csv", index_label="run"
    )
    save_priors(Priors(token_counts=TOKENS), tmp_path / "priors.yaml")

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(cli, [a.replace("@", str(tmp_path)) for a in arguments])
        if result.exception:
            raise result.exception
        return result.stdout

    run("fit", "@/ratios.csv", "@/metrics.csv", "--output", "@/fit", "--no-curve")
    text = run(
        "optimize", "@/fit", "--priors", "@/priors.yaml", "--tokens", "30B", "--output", "@/mix",
        "--sweep-kl", "0,0.1", "--pareto", "x", "y,z", "--refits", "10", "--group", "g=a,b:..0.6",
    )  # fmt: skip
    for words in ("Held by tokens", "Over 10 refits", "sweep", "front", "mix.yaml"):
        assert words in text
    value = json.loads(run("optimize", "@/fit", "--output", "@/mix", "--refits", "0", "--json"))
    assert sum(value["mixture"]["weights"].values()) == pytest.approx(1)
    with pytest.raises(UserError, match="tokens short"):
        run("optimize", "@/fit", "--priors", "@/priors.yaml", "--tokens", "50B", "--output", "@/m")
    with pytest.raises(UserError, match=r"LOW\.\.HIGH"):
        run("optimize", "@/fit", "--output", "@/m", "--group", "g=a,b")


def test_what_is_not_predicted_has_no_say(swarm: SwarmTable) -> None:
    """One target of noise: the mixture is that of the other two with the same pull to natural."""
    noise = np.random.default_rng(0).normal(2, 0.1, 60)
    Y = np.column_stack([swarm.Y[:, 0], noise, swarm.Y[:, 2]])
    fit = fit_swarm(replace(swarm, Y=Y), curve=False)
    assert fit.predictable.tolist() == [True, False, True]
    p = propose(fit, make_constraints(NAMES), prior=PRIOR, kl=0.02, refits=0)
    assert any(w.startswith("UNPREDICTABLE: y:") for w in p.warnings)
    two = fit_swarm(replace(swarm, targets=("x", "z"), Y=swarm.Y[:, ::2]), curve=False)
    # Weights 1/3 and 0.02 of three targets are 1/2 and 0.03 of two.
    same = propose(two, make_constraints(NAMES), prior=PRIOR, kl=0.03, refits=0)
    assert p.mixture.weights == pytest.approx(same.mixture.weights, abs=1e-5)
    assert p.mixture.scores["y"] == pytest.approx(noise.mean())
    with pytest.raises(UserError, match="does not predict 'y'"):
        propose(fit, make_constraints(NAMES), prior=PRIOR, limits={"y": 2.0})
    worst = propose(fit, make_constraints(NAMES), prior=PRIOR, kl=0.02, worst=True, refits=0)
    only = propose(two, make_constraints(NAMES), prior=PRIOR, kl=0.02, worst=True, refits=0)
    assert worst.mixture.weights == pytest.approx(only.mixture.weights, abs=1e-4)


@pytest.mark.parametrize("family", ["log-linear", "nearest"])
@pytest.mark.parametrize("kl", [0.0, 0.05])
def test_a_swarm_of_noise_leaves_the_natural_mixture(
    swarm: SwarmTable, family: str, kl: float
) -> None:
    Y = np.random.default_rng(7).normal(2, 0.1, (60, 3))
    fit = fit_swarm(replace(swarm, Y=Y), family, curve=False)
    assert not fit.predictable.any()
    p = propose(fit, make_constraints(NAMES), prior=PRIOR, kl=kl, refits=5)
    assert p.mixture.weights == pytest.approx(PRIOR, abs=1e-9) and p.gain == 0
    assert any(w.startswith("UNPREDICTABLE: the fit tells no target") for w in p.warnings)


def test_refits_that_disagree_hold_the_mixture_back(swarm: SwarmTable) -> None:
    """A weak law under noise, no pull to natural: the optimum is a corner that chance made."""
    rng = np.random.default_rng(2)
    X = swarm.X[:18]
    Y = 2 + 0.03 * X[:, :1] + rng.normal(0, 0.02, (18, 1))
    fit = fit_swarm(SwarmTable(swarm.runs[:18], NAMES, ("x",), X, Y), curve=False)
    fit = replace(fit, scores=(replace(fit.scores[0], predictable=True),))
    p = propose(fit, make_constraints(NAMES), prior=PRIOR, kl=0.0, refits=0)
    (line,) = [w for w in p.warnings if "of the way there" in w]
    assert line.startswith("refits on resampled runs put the optimum before natural in")
    q, x = (np.array(list(o.weights.values())) for o in (p.natural, p.mixture))
    assert np.abs(x - q).max() < 0.6


def test_ends_over_refits_are_named_for_what_they_are(fit: MixtureFit) -> None:
    assert [span(n, 0.95) for n in (39, 40)] == ["range", "95 %"]
    assert [span(n, 0.9) for n in (19, 20)] == ["range", "90 %"]
    few, many = (propose(fit, make_constraints(NAMES), prior=PRIOR, refits=n) for n in (8, 60))
    samples = refit_on_samples(fit.model, 8)
    x = np.array([list(few.mixture.weights.values()), list(few.natural.weights.values())])
    seen = samples.objective(x, np.full(3, 1 / 3))
    gains = seen[:, 1] - seen[:, 0]
    assert few.uncertainty.gain == pytest.approx((gains.min(), gains.max()))
    assert many.uncertainty.gain[0] < many.gain < many.uncertainty.gain[1]
