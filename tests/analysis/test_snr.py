"""Signal-to-noise tables against computations by hand, on made and on real tables."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from olmeval.analysis.grid import choose, grids
from olmeval.analysis.snr import SnrSettings, snr_table
from olmeval.errors import UserError
from olmeval.results.run import LONG_COLUMNS
from olmeval.results.table import load_table

ROOT = Path(__file__).parents[2]
SHARED = ROOT / "../shared/data"
LADDER = SHARED / "ladder"


def long(**columns: object) -> pd.DataFrame:
    frame = pd.DataFrame(columns)
    defaults = {"metric": "acc", "task": "t", "higher_is_better": True, "primary": True}
    for name, value in defaults.items():
        if name not in frame:
            frame[name] = value
    if "model" not in frame:
        frame["model"] = frame["run"]
    frame = frame.reindex(columns=list(LONG_COLUMNS))
    for name in ("params", "seed", "step", "stderr"):
        frame[name] = frame[name].astype(float)
    return frame


def population(models: int = 12, steps: int = 8, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    random = np.random.default_rng(seed)
    scores = 0.5 + 0.1 * random.standard_normal((models, 1))
    scores = scores + 0.01 * random.standard_normal((models, steps))
    names = [f"m{k:02}" for k in range(models)]
    table = long(
        run=np.repeat(names, steps), step=np.tile(np.arange(steps), models), value=scores.ravel(),
        stderr=[0.02] * scores.size,
    )  # fmt: skip
    return table, scores


def test_definitions_by_hand() -> None:
    table, scores = population()
    row = snr_table(table, SnrSettings(last=5, samples=200)).iloc[0]
    tail = scores[:, -5:]
    final = tail.mean(axis=1)
    signal = (final.max() - final.min()) / final.mean()
    noise = np.sqrt(np.mean((tail.std(axis=1, ddof=1) / final) ** 2))
    assert row["signal"] == pytest.approx(signal)
    assert row["noise"] == pytest.approx(noise)
    assert row["snr"] == pytest.approx(signal / noise)
    assert (row["models"], row["runs"], row["checkpoints"]) == (12, 12, 60)
    assert row["noise_questions"] == pytest.approx(np.sqrt(np.mean((0.02 / scores[:, -1]) ** 2)))
    for name in ("signal", "noise", "snr"):
        assert row[f"{name}_low"] < row[name] < row[f"{name}_high"]
    assert row["resolvable"] == pytest.approx(final.mean() * noise * 1.4142 * 2.80, rel=0.05)


def test_checkpoints_that_do_not_differ_have_no_ratio() -> None:
    """Tiny models: every checkpoint of a run has as many questions right."""
    table = long(run=list("aabb"), step=[1, 2, 1, 2], value=[0.5, 0.5, 0.25, 0.25])
    row = snr_table(table, SnrSettings(last=2, samples=50)).iloc[0]
    assert row["noise"] == 0 and row["signal"] == pytest.approx(2 / 3)
    assert row[["snr", "snr_low", "snr_high"]].isna().all()


def test_rows_in_any_order_and_any_unit() -> None:
    table, _ = population()
    settings = SnrSettings(samples=300)
    first = snr_table(table, settings).iloc[0]
    shuffled = table.sample(frac=1, random_state=3)
    pd.testing.assert_series_equal(snr_table(shuffled, settings).iloc[0], first)
    percent = snr_table(table.assign(value=100 * table["value"]), settings).iloc[0]
    for name in ("signal", "snr_low", "snr", "snr_high", "noise"):
        assert percent[name] == pytest.approx(first[name])
    assert percent["resolvable"] == pytest.approx(100 * first["resolvable"])


def test_noise_from_other_runs() -> None:
    table, scores = population()
    reference = table[table["run"] == "m00"]
    finals = table[table["step"] == 7]
    row = snr_table(finals, SnrSettings(last=8, samples=200), reference).iloc[0]
    assert row["noise"] == pytest.approx(scores[0].std(ddof=1) / scores[0].mean())
    assert row["signal"] == pytest.approx(np.ptp(scores[:, -1]) / scores[:, -1].mean())
    assert row["runs"] == 1
    assert np.isfinite(row["snr_low"])
    without = snr_table(finals, SnrSettings(samples=100)).iloc[0]
    assert np.isnan(without["noise"]) and np.isnan(without["snr"]) and without["signal"] > 0


def test_seeds_of_one_recipe() -> None:
    values = {("a", 0): 0.50, ("a", 1): 0.52, ("b", 0): 0.60, ("b", 1): 0.63, ("b", 2): 0.66}
    table = long(
        run=[f"{mix}{seed}" for mix, seed in values], mix=[mix for mix, _ in values],
        seed=[seed for _, seed in values], value=list(values.values()),
    )  # fmt: skip
    row = snr_table(table, SnrSettings(by="mix", samples=100)).iloc[0]
    a = (np.std([0.50, 0.52], ddof=1) / 0.51) ** 2
    b = (np.std([0.60, 0.63, 0.66], ddof=1) / 0.63) ** 2
    assert row["noise_seed"] == pytest.approx(np.sqrt((a + 2 * b) / 3))
    assert (row["seed_df"], row["models"]) == (3, 2)


def test_populations_apart() -> None:
    table, _ = population()
    both = pd.concat([table.assign(params=1.0), table.assign(params=2.0, value=table["value"] / 2)])
    found = snr_table(both, SnrSettings(per="params", samples=100))
    assert found["population"].tolist() == ["1.0", "2.0"]
    assert found["snr"].iloc[0] == pytest.approx(found["snr"].iloc[1])


def test_a_grid_takes_the_last_steps_whatever_the_order() -> None:
    table = long(run=["a"] * 3 + ["b"], step=[3, 1, 2, 9], value=[3.0, 1.0, 2.0, 7.0])
    (grid,) = grids(table, 2)
    np.testing.assert_array_equal(grid.values, [[2.0, 3.0], [np.nan, 7.0]])
    np.testing.assert_array_equal(grid.final, [2.5, 7.0])
    assert grid.runs["step"].tolist() == [3, 9]


def test_bad_questions_are_refused() -> None:
    table, _ = population()
    for settings, message in (
        (SnrSettings(measure="rnge"), "did you mean 'range'"),
        (SnrSettings(by="modle"), "did you mean 'model'"),
        (SnrSettings(last=0), "at least one checkpoint"),
    ):
        with pytest.raises(UserError, match=message):
            snr_table(table, settings)
    with pytest.raises(UserError, match="some rows say that higher is better"):
        snr_table(table.assign(higher_is_better=table["step"] > 3))
    with pytest.raises(UserError, match="no row has the metric 'ac'"):
        choose(table, metrics=["ac"])
    with pytest.raises(UserError, match="the query failed"):
        choose(table, where="stepp > 3")
    with pytest.raises(UserError, match="no score is left"):
        choose(table, where="step > 300")


@pytest.fixture(scope="module")
def ladder() -> pd.DataFrame:
    if not LADDER.exists():
        pytest.skip("the ladder's CSVs are not beside the checkout")
    files = [*LADDER.glob("ladder-runs/*-1xC*.csv"), LADDER / "ladder-runs/1B-10xC.csv"]
    return load_table(sorted(files), ROOT / "examples/tables/olmo-ladder.yaml")


def test_checkpoint_noise_of_the_ladders_paper(ladder: pd.DataFrame) -> None:
    """Bhagia et al. 2024 (arXiv 2412.04403) give it with divisor n for 1B-10xC, last 10."""
    published = pd.read_csv(LADDER / "paper_results/variance.csv").set_index("Task")
    ours = snr_table(
        choose(ladder, "run = '1B-10xC'", metrics=["accuracy", "bits_per_byte"]),
        SnrSettings(last=10, samples=200),
    ).set_index(["task", "metric"])
    names = {
        "BoolQ": "boolq_val", "CommonsenseQA": "csqa_val", "ARC-Challenge": "arc_challenge_test",
        "MMLU": "mmlu_avg_test", "PIQA": "piqa_val",
    }  # fmt: skip
    for name, task in names.items():
        for metric, kind in (("bits_per_byte", "Loss"), ("accuracy", "Accuracy")):
            row = ours.loc[(f"{task}_rc_5shot", metric)]
            theirs = published.loc[name, f"{kind} Rel SD (CV)"]
            assert row["noise"] * np.sqrt(9 / 10) == pytest.approx(theirs, rel=1e-6), name
            assert row["noise_low"] < row["noise"] < row["noise_high"]


def test_reruns_of_the_ladder(ladder: pd.DataFrame) -> None:
    """Five sizes were trained twice; the pairs' differences give the noise of a rerun."""
    table = choose(ladder, "mix = '1xC'", ["arc_easy_test_rc_5shot"], ["accuracy"])
    row = snr_table(table, SnrSettings(samples=200)).iloc[0]
    assert row["seed_df"] == 5
    squares = []
    for size in ("190M", "370M", "760M", "1B", "3B"):
        a, b = (
            pd.read_csv(LADDER / f"ladder-runs/{size}-1xC{end}.csv")
            ["eval/downstream/arc_easy_test_rc_5shot_len_norm"].iloc[-1]
            for end in ("", "-rerun")
        )  # fmt: skip
        squares.append(((a - b) ** 2 / 2) / ((a + b) / 2) ** 2)
    assert row["noise_seed"] == pytest.approx(np.sqrt(np.mean(squares)))
    assert row["noise_seed_low"] < row["noise_seed"] < row["noise_seed_high"]
