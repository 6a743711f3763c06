"""``olmeval ladder`` end to end, on the real ladder and on wrong input."""

import json
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner, Result

from olmeval.cli.ladder import ladder
from olmeval.errors import UserError
from olmeval.results.run import LONG_COLUMNS
from tests.ladders.conftest import SHARED, made_ladder
from tests.ladders.test_forecast import TRUTH

RUNS = SHARED / "ladder-runs"
real = pytest.mark.skipif(
    not RUNS.is_dir(), reason="the ladder's runs are not beside the repository"
)
REAL = ("--ladder", "olmo2-2024", "--data", str(RUNS), "--tasks", "piqa_val", "--tasks", "csqa_val")


def call(*arguments: str) -> Result:
    return CliRunner().invoke(ladder, arguments, catch_exceptions=False)


@real
def test_targets_are_predicted_beside_what_was_measured() -> None:
    found = json.loads(call("predict", *REAL, "--json").output)
    assert [t["target"] for t in found["targets"]] == ["7B-4T", "13B-5T"]
    rows = [r for r in found["targets"][1]["predictions"] if r["quantity"] == "accuracy"]
    assert [r["task"] for r in rows] == ["piqa_val", "csqa_val"]
    for row in rows:
        assert row["low"] < row["value"] < row["high"]
        assert row["error"] == pytest.approx(row["value"] / row["actual"] - 1)


@pytest.fixture
def made(tmp_path: Path) -> tuple[Path, Path]:
    """A ladder file and a long table of a ladder that follows known laws."""
    curves = made_ladder(*TRUTH, 0.005, 3)
    rows = []
    for run in curves.runs:
        for step, (loss, accuracy) in enumerate(zip(run.loss, run.accuracy, strict=True), 1):
            done = step / 60
            at = {"run": run.run, "model": run.size, "params": run.params, "step": step,
                  "tokens": run.tokens * done, "flops": run.flops * done, "task": "t"}  # fmt: skip
            rows.append({**at, "metric": "bits_per_byte", "value": loss, "higher_is_better": False})
            rows.append({**at, "metric": "accuracy", "value": accuracy, "higher_is_better": True})
    table = tmp_path / "table.csv"
    pd.DataFrame(rows).reindex(columns=list(LONG_COLUMNS)).to_csv(table, index=False)
    file = tmp_path / "ladder.yaml"
    file.write_text(
        "name: made\nflops: 6nd\nfeatures: {bpb: {metric: bits_per_byte}}\n"
        "tasks: {t: {chance: 0.25}}\n"
        "sizes: {large: {params: 3200000000}, huge: {params: 6400000000}}\n"
        "targets: {big: {params: 13000000000, tokens: 2600000000000}}\n"
    )
    return file, table


def test_a_long_table_is_predicted_at_any_scale(made: tuple[Path, Path]) -> None:
    file, table = made
    output = call(
        "predict", str(table), "--ladder", str(file), "--params", "13e9", "--tokens", "2.6e12"
    )
    assert "N 1.3e+10, D 2.6e+12" in output.output
    assert "back-test of accuracy: nominal 95%" in output.output


def test_fits_are_printed_with_their_parameters(made: tuple[Path, Path]) -> None:
    file, table = made
    arguments = ("fit", str(table), "--ladder", str(file), "--json")
    (published,) = json.loads(call(*arguments, "--procedure", "ladder-2024").output)
    assert set(published["loss"]["theta"]) == {"a", "b", "alpha", "beta", "E"}
    assert published["loss"]["error"] < 0.02
    assert 0.5 < published["targets"]["big"]["accuracy"] < 1
    ours = json.loads(call(*arguments).output)
    assert [row["member"] for row in ours] == ["bpb/loss-nd", "bpb/loss-c3", "bpb/loss-c2"]
    assert {row["converged"] for row in ours} == {"100%"}


def test_back_tests_and_designs_are_printed(made: tuple[Path, Path]) -> None:
    file, table = made
    held = json.loads(call("backtest", str(table), "--ladder", str(file), "--json").output)
    assert {row["run"] for row in held["rows"]} == {"7.6e+08-10x", "1.28e+09-10x", "3.2e+09-10x"}
    rows = json.loads(
        call("design", str(table), "--ladder", str(file), "--target", "big", "--json").output
    )
    assert {row["run"].split("-")[0] for row in rows} == {"huge"}
    assert all(0 <= row["shrinkage"] < 1 for row in rows)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--ladder", "olmo2-2042", "--data", "."),
            "there is no ladder 'olmo2-2042'; did you mean",
        ),
        (("--ladder", "olmo2-2024"), "--data FOLDER"),
        (("--ladder", "olmo2-2024", "--data", "nowhere"), "'nowhere' is no folder"),
        (("--ladder", "olmo2-2024", "--data", ".", "--tasks", "piqa"), "no task 'piqa'"),
    ],
)
def test_wrong_ladders_are_named(arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        call("predict", *arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--params", "1e9"), "together"),
        (("--params", "1e12", "--tokens", "1e9"), "swapped"),
        (("--target", "bigg"), "no target 'bigg'; did you mean 'big'"),
    ],
)
def test_wrong_scales_are_named(
    made: tuple[Path, Path], arguments: tuple[str, ...], message: str
) -> None:
    file, table = made
    with pytest.raises(UserError, match=message):
        call("predict", str(table), "--ladder", str(file), *arguments)
