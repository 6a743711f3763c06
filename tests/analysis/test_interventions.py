"""Interventions on tables whose right answer is known."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from olmeval.analysis.decisions import DecisionSettings
from olmeval.analysis.interventions import (
    average_checkpoints,
    choose_metrics,
    choose_subtasks,
)
from olmeval.analysis.suite_file import write_suite
from olmeval.errors import UserError
from olmeval.results.run import LONG_COLUMNS
from olmeval.tasks.suites import suite_tasks

MODELS = [f"m{k:02}" for k in range(24)]


def rows(
    size: float, task: str, metric: str, values: np.ndarray, better: bool = True
) -> pd.DataFrame:
    """``values`` [models, steps]."""
    steps = values.shape[1]
    frame = pd.DataFrame(
        {
            "run": [f"{m}-{size}" for m in MODELS for _ in range(steps)],
            "mix": np.repeat(MODELS, steps), "params": size, "task": task, "metric": metric,
            "step": np.tile(np.arange(float(steps)), len(MODELS)), "value": values.ravel(),
            "higher_is_better": better,
        }
    ).reindex(columns=list(LONG_COLUMNS))  # fmt: skip
    frame["model"] = frame["run"]
    return frame.astype({"seed": float, "stderr": float, "tokens": float, "flops": float})


def noisy(
    random: np.random.Generator, quality: np.ndarray, sd: float, steps: int = 5
) -> np.ndarray:
    return 10 + quality[:, None] + sd * random.standard_normal((len(quality), steps))


@pytest.fixture
def quality() -> np.ndarray:
    return np.random.default_rng(0).standard_normal(len(MODELS))


def test_the_metric_that_decides_best(quality: np.ndarray) -> None:
    random = np.random.default_rng(1)
    table = pd.concat(
        [
            rows(1e6, "t", "acc", noisy(random, quality, 1.5, 1)),
            rows(1e6, "t", "loss", -noisy(random, quality, 0.2, 1), better=False),
            rows(1e9, "t", "acc", noisy(random, quality, 0.1, 1)),
        ]
    )
    found = choose_metrics(table, DecisionSettings(target_metric="acc"), splits=20)
    assert found.chosen == {"t": "loss"}
    assert found.gain.low > 0
    assert found.table.set_index("metric")["chosen"].to_dict() == {"acc": False, "loss": True}
    again = choose_metrics(table.sample(frac=1), DecisionSettings(target_metric="acc"), splits=20)
    assert again.gain == found.gain
    for settings, message in (
        (DecisionSettings(), "--target-metric"),
        (DecisionSettings(target_metric="loss"), "'loss' is not in both sizes"),
    ):
        with pytest.raises(UserError, match=message):
            choose_metrics(table, settings)
    few = table[table["mix"].isin(MODELS[:4])]
    with pytest.raises(UserError, match="there are 4 models"):
        choose_metrics(few, DecisionSettings(target_metric="acc"))


def test_averaging_helps_against_checkpoint_noise(quality: np.ndarray) -> None:
    random = np.random.default_rng(2)
    table = pd.concat(
        [
            rows(1e6, "t", "acc", noisy(random, quality, 1.5, 8)),
            rows(1e9, "t", "acc", noisy(random, quality, 0.1, 8)),
        ]
    )
    found = average_checkpoints(table, DecisionSettings(last=8), splits=20)
    assert found.average >= 3
    assert found.gain.value > 0
    first, last = found.table.iloc[0], found.table.iloc[-1]
    assert last["decision_accuracy"] > first["decision_accuracy"]
    assert (first["gain"], last["gain_low"] > 0) == (0, True)
    with pytest.raises(UserError, match="2 or more"):
        average_checkpoints(table, DecisionSettings(last=1))


def test_subtasks_of_high_ratio_are_kept(quality: np.ndarray) -> None:
    random = np.random.default_rng(3)
    tables = []
    for k in range(4):
        tables.append(rows(1e6, f"good{k}", "acc", noisy(random, quality, 0.3)))
        tables.append(rows(1e6, f"poor{k}", "acc", noisy(random, 0.01 * quality, 4.0)))
        for kind in ("good", "poor"):
            tables.append(rows(1e9, f"{kind}{k}", "acc", noisy(random, quality, 0.1)))
    table = pd.concat(tables)
    found = choose_subtasks(table, DecisionSettings(last=5), splits=20)
    assert set(found.table["task"][:4]) == {f"good{k}" for k in range(4)}
    assert set(found.chosen) <= {f"good{k}" for k in range(4)}
    assert found.gain.low > 0
    with pytest.raises(UserError, match="there are 2; choose by --metric"):
        choose_subtasks(pd.concat([table, table.assign(metric="f1")]), DecisionSettings(last=5))
    with pytest.raises(UserError, match="no run with two checkpoints"):
        choose_subtasks(table, DecisionSettings(last=1))
    with pytest.raises(UserError, match="at one small size, there are 2"):
        choose_subtasks(pd.concat([table, table[table["params"] == 1e6].assign(params=1e7)]),
                        DecisionSettings(last=5))  # fmt: skip


def test_the_suite_is_one_that_runs_take(tmp_path: Path) -> None:
    chosen = {
        "arc_easy:rc:5shot": "acc_per_char", "piqa:rc:5shot": "bits_per_byte",
        "arc_challenge:rc:5shot": "bits_per_byte", "made_up": "acc",
    }  # fmt: skip
    names, unknown = write_suite(tmp_path / "suites" / "mine.yaml", "mine", "Mine: best", chosen)
    assert (names, unknown) == (["mine", "mine_bpb"], ["made_up"])
    assert suite_tasks("mine", [tmp_path]) == ["arc_easy:rc:5shot"]
    assert suite_tasks("mine_bpb", [tmp_path]) == ["piqa:bpb:5shot", "arc_challenge:bpb:5shot"]
    text = (tmp_path / "suites" / "mine.yaml").read_text()
    assert "# not a task of this package: made_up" in text
    assert yaml.safe_load(text)["suites"]["mine"]["summary"] == "Mine: best"
