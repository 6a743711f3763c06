"""The published swarm of RegMix: accuracy and coverage on rows that no fit has seen."""

import numpy as np
import pytest

from olmeval.mixing.regressors.auto import Auto
from olmeval.mixing.regressors.base import Regressor
from olmeval.mixing.regressors.blend import Blend
from olmeval.mixing.regressors.gp import GaussianProcess
from olmeval.mixing.regressors.loglinear import LogLinear
from olmeval.mixing.regressors.simple import Linear
from olmeval.mixing.regressors.trees import Trees
from olmeval.mixing.scores import rank_correlation
from tests.mixing.conftest import Swarm


def coverage(model: Regressor, swarm: Swarm) -> float:
    low, high = model.interval(swarm.X_test)
    return float(((low < swarm.Y_test) & (swarm.Y_test < high)).mean())


def test_log_linear_on_all_rows(regmix: Swarm) -> None:
    model = LogLinear().fit(regmix.X, regmix.Y)
    rank = rank_correlation(model.predict(regmix.X_test), regmix.Y_test)
    assert rank.mean() >= 0.975 and rank[regmix.pile_cc] >= 0.964
    assert 0.90 <= coverage(model, regmix) <= 0.98


def test_log_linear_on_64_rows(regmix: Swarm) -> None:
    ranks, covered = [], []
    for seed in range(5):
        rows = np.random.default_rng(seed).permutation(512)[:64]
        model = LogLinear().fit(regmix.X[rows], regmix.Y[rows])
        ranks.append(rank_correlation(model.predict(regmix.X_test), regmix.Y_test))
        covered.append(coverage(model, regmix))
    rank = np.mean(ranks, axis=0)
    assert rank.mean() >= 0.943 and rank[regmix.pile_cc] >= 0.942
    assert 0.90 <= np.mean(covered) <= 0.98


def test_linear_as_published(regmix: Swarm) -> None:
    """Table 2 of the RegMix paper: 90.08 at 1M, 89.26 at 60M."""
    predicted = Linear().fit(regmix.X, regmix.Y).predict(regmix.X_test)
    small = rank_correlation(predicted, regmix.Y_test)[regmix.pile_cc]
    large = rank_correlation(predicted, regmix.Y_60m)[regmix.pile_cc]
    assert small == pytest.approx(0.9008, abs=0.005) and large == pytest.approx(0.8926, abs=0.005)


def test_gaussian_process(regmix: Swarm) -> None:
    """On one target in two; the benchmark does them all."""
    chosen = sorted({regmix.pile_cc, *range(0, 13, 4)})
    model = GaussianProcess().fit(regmix.X, regmix.Y[:, chosen])
    rank = rank_correlation(model.predict(regmix.X_test), regmix.Y_test[:, chosen])
    assert rank.mean() >= 0.97 and rank[chosen.index(regmix.pile_cc)] >= 0.985


def test_trees(regmix: Swarm) -> None:
    predicted = Trees().fit(regmix.X, regmix.Y[:, regmix.pile_cc]).predict(regmix.X_test)[:, None]
    columns = [regmix.pile_cc]
    assert rank_correlation(predicted, regmix.Y_test[:, columns])[0] >= 0.985
    assert rank_correlation(predicted, regmix.Y_60m[:, columns])[0] >= 0.98


def test_a_blend_of_few_rows_is_better_than_its_families(regmix: Swarm) -> None:
    """Mean over 13 targets; on 64 rows no family is the best of all."""
    rows = np.random.default_rng(0).permutation(512)[:64]
    blend = Blend().fit(regmix.X[rows], regmix.Y[rows])
    for actual in (regmix.Y_test, regmix.Y_60m):
        of_blend = rank_correlation(blend.predict(regmix.X_test), actual)
        each = [rank_correlation(part.predict(regmix.X_test), actual) for part in blend.parts_]
        assert of_blend.mean() > max(rank.mean() for rank in each) and of_blend.mean() > 0.97
    assert 0.90 <= coverage(blend, regmix) <= 0.99


def test_chosen_family_is_as_good_as_the_best(regmix: Swarm) -> None:
    """On 96 rows and three targets; the benchmark takes all."""
    rows, columns = np.arange(96) * 5, [0, 4, regmix.pile_cc]
    X, Y = regmix.X[rows], regmix.Y[rows][:, columns]
    auto = Auto(("log-linear", "power-law", "gp", "linear", "nearest")).fit(X, Y)
    actual = regmix.Y_test[:, columns]
    from olmeval.mixing.regressors.auto import make_regressor

    each = [
        rank_correlation(make_regressor(name).fit(X, Y).predict(regmix.X_test), actual)
        for name in auto.families
    ]
    chosen = rank_correlation(auto.predict(regmix.X_test), actual)
    assert (chosen >= np.max(each, axis=0) - 0.003).all()
