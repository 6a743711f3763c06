"""The next run: a candidate like the target tells all, one among the rungs little."""

import numpy as np
import pytest

from olmeval.ladders.design import choose
from olmeval.ladders.forecast import LadderForecast
from olmeval.ladders.predict import Scale
from tests.ladders.conftest import made_ladder
from tests.ladders.test_forecast import TRUTH


def scale(n: float, multiple: float) -> Scale:
    d = 20 * n * multiple
    return Scale(n, d, 6 * n * d)


@pytest.fixture(scope="module")
def made() -> LadderForecast:
    return LadderForecast(samples=100).fit({"bpb": [made_ladder(*TRUTH, 0.005, 4)]})


def test_what_is_nearer_to_the_target_shrinks_more(made: LadderForecast) -> None:
    target = scale(1.3e10, 10)
    rows = {
        row.name: row.shrinkage
        for row in choose(made, target, [("inside", scale(7.6e8, 3)), ("near", scale(6e9, 5)),
                                         ("target", target)])
    }  # fmt: skip
    assert 0 <= rows["inside"] < rows["near"] < rows["target"] < 1
    # Measuring the target itself leaves only the noise of the measurement.
    assert rows["target"] > 0.5


def test_the_order_is_by_shrinkage_per_flop(made: LadderForecast) -> None:
    rows = choose(made, scale(1.3e10, 10), [(f"{m}", scale(6e9, m)) for m in (1, 2, 5, 10)])
    gains = [row.per_exaflop for row in rows]
    assert gains == sorted(gains, reverse=True)
    for row in rows:
        assert row.per_exaflop == pytest.approx(row.shrinkage / (row.scale.flops / 1e18))


def test_gaussian_truth_is_recovered(made: LadderForecast, monkeypatch: pytest.MonkeyPatch) -> None:
    # Two jointly normal scores with correlation r: the expected share is 1 - sqrt(1 - r^2).
    random = np.random.default_rng(0)
    r = 0.8
    a, e = random.standard_normal((2, 3, 1, 40_001))
    b = r * a + np.sqrt(1 - r**2) * e
    monkeypatch.setattr(made, "draws", lambda _q, params, *_: a if params < 1e10 else b)
    monkeypatch.setattr(made, "noise_", {"accuracy": np.zeros(1)})
    (row,) = choose(made, scale(1.3e10, 10), [("c", scale(6e9, 1))])
    assert row.shrinkage == pytest.approx(1 - np.sqrt(1 - r**2), abs=0.01)
