"""The mixing report: the page says what the JSON has, and its effects are those of the law."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from olmeval.cli.olmix import cli
from olmeval.errors import UserError
from olmeval.mixing.effects import effects_at
from olmeval.mixing.fitting import MixtureFit, fit_swarm
from olmeval.mixing.output import save_proposal
from olmeval.mixing.problem import make_constraints
from olmeval.mixing.proposal import propose
from olmeval.mixing.regressors.base import cross_coverage
from olmeval.mixing.tables import SwarmTable
from olmeval.reports.mixing import write_mixing_report

NAMES = ("<i>a</i>", "b", "c", "d", "e")
PRIOR = dict(zip(NAMES, (0.4, 0.25, 0.15, 0.15, 0.05), strict=True))
C, T = np.array([0.5, 1.5, 2.0]), np.random.default_rng(0).normal(0, 1.5, (3, 5))


@pytest.fixture(scope="module")
def fit() -> MixtureFit:
    """60 runs of a known law with a little noise; of the last target more is better."""
    rng = np.random.default_rng(1)
    X = rng.dirichlet(np.full(5, 0.7), 60)
    Y = C + np.exp(X @ T.T) + rng.normal(0, 0.01, (60, 3))
    Y[:, 2] = 100 - Y[:, 2]
    table = SwarmTable(
        tuple(f"r{i:02}" for i in range(60)), NAMES, ("x", "y", "z"), X, Y, frozenset("z")
    )
    return fit_swarm(table)


@pytest.fixture(scope="module")
def folder(fit: MixtureFit, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fit, two proposals and the report on them, made from the command line."""
    out = tmp_path_factory.mktemp("report")
    fit.save(out / "fit")
    for name, kl in (("near & far", 0.05), ("free", 0.0)):
        one = make_constraints(NAMES, maximum=dict.fromkeys(NAMES, 0.3))
        save_proposal(propose(fit, one, prior=PRIOR, kl=kl, refits=20), out / name, about={})
    result = CliRunner().invoke(
        cli,
        ["report", str(out / "fit"), str(out / "near & far"), str(out / "free"),
         "--output", str(out / "page.html"), "--refits", "30"],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    return out


def law(X: NDArray[np.float64]) -> NDArray[np.float64]:
    Y = C + np.exp(X @ T.T)
    Y[:, 2] = 100 - Y[:, 2]
    return Y


def test_effects_are_those_of_the_planted_law(fit: MixtureFit) -> None:
    center = np.array(list(PRIOR.values()))
    effects = effects_at(fit, center, step=0.05, refits=60)
    raised = 0.95 * center + 0.05 * np.eye(5)
    truth = law(raised) - law(center[None])
    inside = (effects.low <= truth) & (truth <= effects.high)
    assert inside.mean() >= 0.8
    np.testing.assert_allclose(effects.value, truth, atol=0.02)
    assert np.sign(effects.value[np.abs(truth) > 0.05] / truth[np.abs(truth) > 0.05]).min() > 0
    without = effects_at(fit, center, refits=0)
    assert np.isinf(without.high).all() and (without.value == effects.value).all()


def test_coverage_of_folds_can_miss_the_level() -> None:
    """About the level for errors of one kind, far below it where one fold's errors are larger."""
    rng = np.random.default_rng(0)
    X = rng.dirichlet(np.ones(4), 400)
    errors = rng.normal(0, 1, (400, 2))
    assert np.abs(cross_coverage(errors, X, 0.9) - 0.9).max() < 0.04
    errors[:, 1] *= np.where(rng.uniform(size=400) < 0.08, 100, 1)
    assert cross_coverage(errors, X, 0.9)[1] == pytest.approx(0.9, abs=0.04)
    assert np.isnan(cross_coverage(errors[:12], X[:12], 0.95)).all()


def test_numbers(folder: Path, fit: MixtureFit) -> None:
    value = json.loads((folder / "page.json").read_text())
    assert value["format"] == "olmeval-mixing-report/1"
    # As near to the prior as the largest share of 0.3 lets it be.
    assert value["natural"] == pytest.approx(
        {n: 0.3 if q == 0.4 else q * 0.7 / 0.6 for n, q in PRIOR.items()}
    )
    assert [s["target"] for s in value["fit"]] == ["x", "y", "z"]
    assert all(0.8 < s["coverage"] <= 1 for s in value["fit"])
    assert value["design"]["rank"] == 5 and value["effects"]["refits"] == 30
    one = value["effects"]["by_domain"]["b"]["z"]
    assert one["low"] < one["value"] < one["high"]
    assert set(value["proposals"]) == {"near & far", "free"}
    assert value["proposals"]["free"]["design"]["advised"] == 18
    assert value["curve"]["points"]


def test_every_figure_is_drawn(folder: Path) -> None:
    page = (folder / "page.html").read_text()
    found = re.search(r'<script type="application/json" id="charts">(.*?)</script>', page, re.S)
    assert found is not None
    figures = json.loads(found[1])
    assert len(figures) == page.count('class="plot"') == 5
    for figure in figures:
        for trace in figure["data"]:
            known = [v for v in [*trace["x"], *trace["y"]] if v is not None]
            assert np.isfinite(known).all() and set(trace["meta"]) >= {"color", "series"}
            assert len(trace["x"]) == len(trace["y"])
    runs = [t for t in figures[1]["data"] if "quarter" in t["name"] or "between" in t["name"]]
    assert sum(len(t["x"]) for t in runs) == 60


def test_the_page_says_what_a_reader_needs(folder: Path) -> None:
    page = (folder / "page.html").read_text().split("<script")[0]
    assert "<i>a</i>" not in page and "&lt;i&gt;a" in page and "near &amp; far" in page
    for words in ("predicted gain over natural", "(range over 20 refits",
                  "maximum at 0.300", "Rank 5 of 5",
                  "out of fold", "Effect of each domain", "90 % of refits"):  # fmt: skip
        assert words in page
    # A coloured cell for every effect whose interval leaves 0 out.
    effects = json.loads((folder / "page.json").read_text())["effects"]["by_domain"]
    sure = [e for row in effects.values() for e in row.values() if e["low"] > 0 or e["high"] < 0]
    assert page.count("color-mix") == len(sure) > 3


def test_without_proposals_and_with_those_of_others(fit: MixtureFit, tmp_path: Path) -> None:
    page, numbers = write_mixing_report(fit, tmp_path / "only.html", refits=2)
    assert "Shares of the runs" in page.read_text()
    natural = json.loads(numbers.read_text())["natural"]
    assert natural["b"] == pytest.approx(fit.table.X[:, 1].mean())
    other = {"mixture": {"weights": {"q": 1.0}}}
    with pytest.raises(UserError, match="'mine' has other domains"):
        write_mixing_report(fit, tmp_path / "no.html", proposals={"mine": other})


def test_an_older_proposal_is_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "proposal.json").write_text("{}")
    arguments = ["report", str(folder / "fit"), str(tmp_path), "--output", str(tmp_path / "p.html")]
    result = CliRunner().invoke(cli, arguments)
    assert isinstance(result.exception, UserError) and "no 'mixture'" in str(result.exception)
