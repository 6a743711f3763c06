"""Decision tables against counting pairs by hand, on made tables and on RegMix."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from olmeval.analysis.decisions import DecisionSettings, decision_table
from olmeval.errors import UserError
from olmeval.results.run import LONG_COLUMNS
from olmeval.results.table import load_table

ROOT = Path(__file__).parents[2]
REGMIX = ROOT / "../shared/data/regmix"


def rows(
    size: float, scores: dict[str, list[float]], metric: str = "acc", better: bool = True
) -> pd.DataFrame:
    """A table of one size: ``scores`` are the scores of each mix by seed."""
    found = pd.DataFrame(
        [
            {"run": f"{mix}-{seed}-{size}", "model": mix, "mix": mix, "params": size, "seed": seed,
             "task": "t", "metric": metric, "value": value, "higher_is_better": better}
            for mix, values in scores.items() for seed, value in enumerate(values)
        ]
    )  # fmt: skip
    found = found.reindex(columns=list(LONG_COLUMNS))
    return found.astype({"step": float, "tokens": float, "flops": float}).assign(primary=False)


LARGE = {"a": [0.1], "b": [0.2], "c": [0.3], "d": [0.4]}


def test_joined_by_key_with_ties_one_half() -> None:
    small = {"d": [0.9], "b": [0.5], "a": [0.5], "c": [0.2]}
    table = pd.concat([rows(1e6, small), rows(1e9, LARGE)])
    row = decision_table(table).iloc[0]
    # ab tie (1/2), ac wrong, ad right, bc wrong, bd right, cd right
    assert row["decision_accuracy"] == pytest.approx(3.5 / 6)
    assert row["tied"] == pytest.approx(1 / 6)
    x, y = [0.5, 0.5, 0.2, 0.9], [0.1, 0.2, 0.3, 0.4]
    assert row["spearman"] == pytest.approx(stats.spearmanr(x, y).statistic)
    assert row["kendall"] == pytest.approx(stats.kendalltau(x, y).statistic)
    shuffled = decision_table(table.sample(frac=1, random_state=1))
    pd.testing.assert_frame_equal(shuffled, decision_table(table))


def test_a_loss_is_turned_round() -> None:
    small = rows(1e6, {"a": [4.0], "b": [3.0], "c": [2.0], "d": [1.0]}, "loss", better=False)
    table = pd.concat([small, rows(1e9, LARGE)])
    row = decision_table(table, DecisionSettings(target_metric="acc")).iloc[0]
    assert row["decision_accuracy"] == 1.0
    assert (row["metric"], row["target_metric"]) == ("loss", "acc")
    assert row["low"] == pytest.approx(0.025**0.5)


def test_seeds_each_or_their_mean() -> None:
    small = {"a": [0.0, 0.4], "b": [0.1, 0.3], "c": [0.2, 0.4]}
    table = pd.concat([rows(1e6, small), rows(1e9, {k: LARGE[k] for k in small})])
    each = decision_table(table, DecisionSettings(seeds="each")).iloc[0]
    # Seed 0: 3 of 3. Seed 1: ab wrong, ac tied, bc right.
    assert each["decision_accuracy"] == pytest.approx((3 + 1.5) / 6)
    mean = decision_table(table, DecisionSettings(seeds="mean")).iloc[0]
    # Means 0.2, 0.2, 0.3: ab tied.
    assert mean["decision_accuracy"] == pytest.approx(2.5 / 3)
    assert each["seeds"] == mean["seeds"] == 2


def test_which_proxy_decides_best_is_paired() -> None:
    random = np.random.default_rng(0)
    quality = random.standard_normal(40)
    names = [f"m{k}" for k in range(40)]

    def scores(noise: float) -> dict[str, list[float]]:
        values = quality + noise * random.standard_normal(40)
        return {name: [value] for name, value in zip(names, values, strict=True)}

    table = pd.concat(
        [
            rows(1e6, scores(1.0)), rows(1e9, scores(0.1)),
            rows(1e6, scores(0.2), "soft"), rows(1e6, scores(5.0), "noise"),
        ]
    )  # fmt: skip
    found = decision_table(table, DecisionSettings(target_metric="acc")).set_index("metric")
    assert found.loc["soft", "gain_low"] > 0
    assert found.loc["noise", "gain_high"] < 0
    assert np.isnan(found.loc["acc", "gain"])
    gain = found.loc["soft", "decision_accuracy"] - found.loc["acc", "decision_accuracy"]
    assert found.loc["soft", "gain"] == pytest.approx(gain)


def test_curve_over_steps_that_all_runs_have() -> None:
    early = rows(1e6, {"a": [3.0], "b": [2.0], "c": [1.0]}).assign(step=1.0, tokens=10.0)
    late = rows(1e6, {"a": [1.0], "b": [2.0], "c": [3.0]}).assign(step=2.0, tokens=20.0)
    stray = rows(1e6, {"a": [9.0]}).assign(step=3.0)
    large = rows(1e9, {k: LARGE[k] for k in "abc"}).assign(step=2.0)
    table = pd.concat([early, late, stray, large])
    found = decision_table(table, DecisionSettings(curve=True))
    assert found["step"].tolist() == [1.0, 2.0]
    assert found["decision_accuracy"].tolist() == [0.0, 1.0]
    assert found["flops"].tolist() == [6 * 1e6 * 10, 6 * 1e6 * 20]


def test_mismatches_are_errors() -> None:
    small = rows(1e6, {"a": [1.0], "b": [2.0], "e": [3.0]})
    with pytest.raises(UserError, match="the small size lacks 2 of the models, first mix = 'c'"):
        decision_table(pd.concat([small, rows(1e9, LARGE)]))
    extra = rows(1e6, {**LARGE, "z": [1.0]})
    with pytest.raises(UserError, match="the target lacks 1 of the models, first mix = 'z'"):
        decision_table(pd.concat([extra, rows(1e9, LARGE)]))
    with pytest.raises(UserError, match="has 1 values"):
        decision_table(small)
    both = pd.concat([rows(1e6, LARGE), rows(1e9, LARGE)])
    for settings, message in (
        (DecisionSettings(target="1e8"), "no row has params = 1e8"),
        (DecisionSettings(target="1e6"), "no size is smaller"),
        (DecisionSettings(target="big"), "holds numbers"),
        (DecisionSettings(target_metric="f1"), "no task has a proxy"),
        (DecisionSettings(key="mixx"), "did you mean 'mix'"),
        (DecisionSettings(curve=True), "no step in common"),
    ):
        with pytest.raises(UserError, match=message):
            decision_table(both, settings)


@pytest.mark.skipif(not REGMIX.exists(), reason="RegMix' losses are not beside the checkout")
def test_regmix_against_counting_all_pairs() -> None:
    files = [REGMIX / f"test_pile_loss_{size}.csv" for size in ("1m", "60m")]
    table = load_table(files, ROOT / "examples/tables/regmix.yaml")
    found = decision_table(table).set_index("task")["decision_accuracy"]
    small, large = (pd.read_csv(f).set_index("index").sort_index() for f in files)
    assert (small.index == large.index).all() and len(small) == 256
    for frame in (small, large):
        frame["metric/the_pile_mean_val_loss"] = frame.mean(axis=1)
    assert len(found) == 14
    for column in small.columns:
        x, y = small[column].tolist(), large[column].tolist()
        alike = 0.0
        for i, j in combinations(range(256), 2):
            if x[i] == x[j] or y[i] == y[j]:
                alike += 0.5
            else:
                alike += (x[i] < x[j]) == (y[i] < y[j])
        task = column.removeprefix("metric/the_pile_").removesuffix("_val_loss")
        assert round(float(found[task]), 4) == round(alike / (256 * 255 / 2), 4), task
