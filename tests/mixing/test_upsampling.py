"""Repetition by quality: the budget is met, the most is kept, better is never repeated less."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.integrate import quad

from olmeval.cli.olmix import cli
from olmeval.config import load_config
from olmeval.errors import UserError
from olmeval.mixing.upsampling import _integrals, upsample
from olmeval.trainer.recipe import MixFile

TENTHS = {f"q{i}": 1e9 for i in range(10)}


def test_budget_most_and_drop() -> None:
    plan = upsample(TENTHS, 1e10)
    repetition = np.array(list(plan.repetition.values()))
    assert sum(plan.tokens.values()) == pytest.approx(1e10)
    assert (repetition[:4] == 0).all() and (np.diff(repetition[4:]) > 0).all()
    assert repetition[-1] == pytest.approx(7, rel=1e-6)


@pytest.mark.parametrize("steepness", [0.0, 4.0])
def test_integrals(steepness: float) -> None:
    """Beside adaptive quadrature, up to the common factor that C takes."""
    ends = np.array([0.4, 0.5, 0.9, 1.0])
    ours = _integrals(ends, 0.4, 1.5, steepness)

    def curve(x: float) -> float:
        return float((x - 0.4) ** 1.5 * np.exp(steepness * (x - 0.4)))

    expected = np.array([quad(curve, *ends[k : k + 2])[0] for k in range(3)])
    np.testing.assert_allclose(ours / ours.sum(), expected / expected.sum(), rtol=1e-5)


@given(
    st.lists(st.floats(1e6, 1e9), min_size=1, max_size=12),
    st.floats(0.01, 0.99),
    st.floats(0, 0.8),
    st.floats(1, 10),
)
def test_any_buckets(tokens: list[float], fill: float, drop: float, most: float) -> None:
    assume(drop < 0.8)
    buckets = {f"b{i:02}": n for i, n in enumerate(tokens)}
    budget = fill * most * (1 - drop) * sum(tokens)
    plan = upsample(buckets, budget, drop=drop, most=most)
    assert sum(plan.tokens.values()) == pytest.approx(budget, rel=1e-6)
    repetition = list(plan.repetition.values())
    assert max(repetition) <= most * (1 + 1e-6)
    assert (np.diff(repetition) >= -1e-9 * most).all()


@pytest.mark.parametrize("odd", [{"power": np.nan}, {"power": 1e6}, {"most": np.inf}, {"drop": 1}])
def test_curves_that_cannot_be(odd: dict[str, float]) -> None:
    with pytest.raises(UserError, match="power is 0 to 60"):
        upsample({"low": 10.0, "high": 10.0}, 5.0, **odd)


def test_command(tmp_path: Path) -> None:
    nodes = {n: {"tokens": t} for n, t in (("low", 40), ("mid", 40), ("high", 20))}
    path = tmp_path / "domains.yaml"
    path.write_text(yaml.safe_dump({"domains": {"web": {"quality": nodes}, "code": {"prior": 1}}}))

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(cli, ["upsample", str(path), *arguments])
        if result.exception:
            raise result.exception
        return result.stdout

    buckets = ("web:low", "web:mid", "web:high")
    out = tmp_path / "web.yaml"
    value = json.loads(run(*buckets, "--tokens", "150", "--output", str(out), "--json"))
    assert value["repetition"]["web:low"] == 0
    assert value["repetition"]["web:high"] == pytest.approx(7, rel=1e-6)
    mixture = load_config(out, MixFile).mixture
    assert mixture == pytest.approx({"web:mid": 10 / 150, "web:high": 140 / 150})
    assert "Written" in run(*buckets, "--tokens", "150", "--output", str(out))
    for arguments, words in (
        (("web:hi", "--tokens", "9"), "did you mean 'web:high'"),
        (("web:low", "web:low", "--tokens", "9"), "given twice"),
        (("code", "--tokens", "9"), "has no tokens"),
        ((*buckets, "--tokens", "1K"), "580 short"),
    ):
        with pytest.raises(UserError, match=words):
            run(*arguments)


def test_too_few_tokens() -> None:
    with pytest.raises(UserError, match="8,000,000,000 short"):
        upsample(TENTHS, 5e10)
    with pytest.raises(UserError, match="must hold tokens"):
        upsample({"a": 0}, 1)
