"""Paired comparison of runs against a by-hand computation on the instances."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from olmeval.analysis.compare import compare_runs, compare_suites, flipped, groups_table
from olmeval.errors import UserError
from olmeval.results.run import LONG_COLUMNS, Run
from olmeval.stats.mean import paired_difference
from olmeval.stats.mixed import upper_tail
from tests.analysis.gate_runs import MadeRun


def make_run(folder: Path, values: list[float], cluster: list[str | None] | None = None) -> Run:
    folder.mkdir(parents=True)
    n = len(values)
    pd.DataFrame(
        {
            "task": "t", "doc_id": range(n), "native_id": [str(k) for k in range(n)],
            "cluster": cluster or [None] * n, "status": "ok", "metric": "acc_raw", "value": values,
        }
    ).to_parquet(folder / "instances.parquet")  # fmt: skip
    score = {"value": float(np.nanmean(values)), "stderr": 0.1, "n": n, "higher_is_better": True}
    result = {"primary_metric": "acc_raw", "metrics": {"acc_raw": score}, "hash": "h", "errors": 0}
    (folder / "metrics.json").write_text(json.dumps({"tasks": {"t": result}}))
    (folder / "run.json").write_text(json.dumps({"model": {"metadata": {}}, "status": "complete"}))
    return Run(folder)


def test_equals_the_computation_by_hand(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random(80), rng.random(80)
    table = compare_runs([make_run(tmp_path / "a", list(a)), make_run(tmp_path / "b", list(b))])
    row = table.iloc[0]
    assert row["difference"] == pytest.approx((a - b).mean())
    assert row["stderr"] == pytest.approx((a - b).std(ddof=1) / np.sqrt(80))
    assert (row["a"], row["b"], row["n"]) == ("a", "b", 80)


def test_errors_are_left_out_of_both(tmp_path: Path) -> None:
    a = make_run(tmp_path / "a", [1.0, float("nan"), 0.0, 1.0])
    b = make_run(tmp_path / "b", [0.0, 1.0, 0.0, float("nan")])
    row = compare_runs([a, b]).iloc[0]
    assert row["n"] == 2
    assert row["difference"] == 0.5


def test_shared_passages_count_once(tmp_path: Path) -> None:
    passages = [f"p{k // 4}" for k in range(40)]
    rng = np.random.default_rng(1)
    x = np.repeat(rng.random(10), 4)
    clustered = compare_runs(
        [
            make_run(tmp_path / "a", list(x), passages),
            make_run(tmp_path / "b", [0.0] * 40, passages),
        ]
    ).iloc[0]
    one_each = np.unique(x)
    assert clustered["stderr"] == pytest.approx(one_each.std(ddof=1) / np.sqrt(10))


def test_documents_are_matched_by_their_number(tmp_path: Path) -> None:
    """Rows in another order, and documents that one run alone has."""
    rng = np.random.default_rng(2)
    x, y = rng.random(40).round(2), rng.random(40).round(2)
    passages = [f"p{k // 3}" if k < 21 else None for k in range(40)]
    a, b = (make_run(tmp_path / n, list(v), passages) for n, v in (("a", x), ("b", y)))
    table = pd.read_parquet(b.path / "instances.parquet")
    table.sample(frac=1, random_state=0).iloc[:33].to_parquet(b.path / "instances.parquet")
    kept = np.sort(table.sample(frac=1, random_state=0).iloc[:33]["doc_id"].to_numpy())
    row = compare_runs([a, b]).iloc[0]
    labels = [k // 3 if k < 21 else f"alone {k}" for k in kept]
    expected = paired_difference(x[kept], y[kept], labels)
    assert (row["n"], row["value_a"]) == (33, pytest.approx(x[kept].mean()))
    assert row["difference"] == pytest.approx(expected.value)
    assert row["stderr"] == pytest.approx(expected.stderr)
    found = flipped([a, b]).set_index("doc_id")
    assert set(found.index) == {k for k in kept.tolist() if x[k] != y[k]}
    assert all(found.loc[k, ["a", "b"]].tolist() == [x[k], y[k]] for k in found.index)


def test_different_questions_are_refused(tmp_path: Path) -> None:
    a, b = make_run(tmp_path / "a", [1.0, 0.0]), make_run(tmp_path / "b", [1.0, 0.0])
    text = (b.path / "metrics.json").read_text().replace('"hash": "h"', '"hash": "other"')
    (b.path / "metrics.json").write_text(text)
    with pytest.raises(UserError, match="different questions in 't'"):
        compare_runs([a, Run(b.path)])
    shutil.rmtree(b.path)


def flips(wins: int, losses: int, both: int) -> tuple[list[float], list[float]]:
    a = [1.0] * wins + [0.0] * losses + [1.0] * both
    return a, [0.0] * wins + [1.0] * losses + [1.0] * both


def test_right_or_wrong_scores_get_mcnemars_test(tmp_path: Path) -> None:
    a, b = flips(15, 4, 61)
    row = compare_runs([make_run(tmp_path / "a", a), make_run(tmp_path / "b", b)]).iloc[0]
    assert (row["wins"], row["losses"], row["ties"]) == (15, 4, 61)
    assert row["test"] == "McNemar"
    assert row["p_exact"] == pytest.approx(2 * stats.binom.cdf(4, 19, 0.5))
    assert row["difference"] == pytest.approx(11 / 80)
    assert row["low"] < row["difference"] < row["high"]
    assert row["high"] - row["low"] == pytest.approx(2 * 1.96 * row["stderr"], rel=0.1)
    assert np.isnan(row["p_total"])


def test_checkpoint_noise_is_added(tmp_path: Path) -> None:
    a, b = flips(15, 4, 61)
    runs = [make_run(tmp_path / "a", a), make_run(tmp_path / "b", b)]
    scores = {"a": [0.5, 0.9, 0.7, 0.8], "b": [0.6, 0.62, 0.61, 0.60]}
    table = pd.DataFrame(
        [
            {"run": run, "model": run, "step": float(k), "task": "t", "metric": "acc_raw",
             "value": value, "higher_is_better": True}
            for run, values in scores.items() for k, value in enumerate(values)
        ]
    ).reindex(columns=list(LONG_COLUMNS))  # fmt: skip
    row = compare_runs(runs, table, last=3).iloc[0]
    variances = [np.var(v[-3:], ddof=1) for v in scores.values()]
    total = row["stderr"] ** 2 + sum(variances)
    assert row["checkpoint_noise"] == pytest.approx(np.sqrt(sum(variances)))
    assert row["stderr_total"] == pytest.approx(np.sqrt(total))
    parts = [(row["stderr"] ** 2, 79), *((v, 2) for v in variances)]
    expected = 2 * upper_tail(row["difference"] / np.sqrt(total), parts)
    assert row["p_total"] == row["p_holm"] == pytest.approx(expected)
    assert row["p_total"] > row["p_exact"]
    only_one = compare_runs(runs, table[table["run"] == "a"]).iloc[0]
    assert np.isnan(only_one["p_total"]) and only_one["p_holm"] == only_one["p_exact"]


def test_flipped_questions_are_listed(tmp_path: Path) -> None:
    a, b = make_run(tmp_path / "a", [1, 0, 1, 0.25]), make_run(tmp_path / "b", [1, 1, 0, 0])
    found = flipped([a, b])
    assert found[["native_id", "a", "b", "better"]].to_numpy().tolist() == [
        ["1", 0, 1, "b"], ["2", 1, 0, "a"], ["3", 0.25, 0, "a"],
    ]  # fmt: skip


def test_runs_that_cannot_be_told_apart_share_a_letter(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    questions = random.random(400)
    rates = {"best": 0.9, "good": 0.5, "same": 0.5, "worst": 0.1}
    runs = [
        make_run(tmp_path / name, list((questions < rate).astype(float)))
        for name, rate in rates.items()
    ]
    table = groups_table(compare_runs(runs)).set_index("run")
    assert table["groups"].tolist() == ["a", "b", "b", "c"]
    assert table.index[0] == "best" and table.index[-1] == "worst"


def test_runs_of_one_name_are_told_apart_by_folder(tmp_path: Path) -> None:
    runs = []
    for step in (1, 2):
        run = make_run(tmp_path / f"x-step{step}", [1.0, 0.0])
        info = {"model": {"metadata": {"run": "x"}}, "status": "complete"}
        (run.path / "run.json").write_text(json.dumps(info))
        runs.append(Run(run.path))
    row = compare_runs(runs).iloc[0]
    assert (row["a"], row["b"]) == ("x-step1", "x-step2")
    assert row["p_exact"] == 1.0


def test_suites_have_the_paired_errors_of_their_tasks() -> None:
    random = np.random.default_rng(0)
    values = {run: {t: random.random(50) for t in ("t", "u")} for run in ("a", "b")}

    def made(name: str, how: str = "macro") -> MadeRun:
        value = float(np.mean([v.mean() for v in values[name].values()]))
        suite = {"value": value, "stderr": 0.1, "n": 100, "higher_is_better": True,
                 "aggregate": how, "status": "complete", "members": {"t": 0, "u": 0}}  # fmt: skip
        return MadeRun(name, values[name], suites={"s": suite})

    runs = [made("a"), made("b")]
    row = compare_suites(runs, compare_runs(runs)).iloc[0]
    gaps = [values["a"][t] - values["b"][t] for t in ("t", "u")]
    assert row["difference"] == pytest.approx(np.mean(gaps))
    # Tasks of one size: the mean of both gaps by question has the same error as independent tasks.
    error = np.sqrt(sum(g.var(ddof=1) / 50 for g in gaps)) / 2
    assert row["stderr"] == pytest.approx(error)
    assert row["p_holm"] == pytest.approx(2 * stats.norm.sf(abs(row["difference"]) / error))
    assert (row["n"], row["wins"] + row["losses"] + row["ties"]) == (100, 100)
    runs[1].metrics["suites"]["s"].update(status="incomplete", value=None)
    assert compare_suites(runs, compare_runs(runs)).empty
    best = [made("a", "max"), made("b", "max")]
    assert compare_suites(best, compare_runs(best)).empty
