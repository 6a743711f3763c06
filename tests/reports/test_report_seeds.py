"""Means over seeds in a report: their errors by hand and by simulation, and what is merged."""

from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from olmeval.reports.report import write_report
from olmeval.reports.report_seeds import merge_seeds
from tests.reports.pages import make_run

RNG = np.random.default_rng(11)


def row(run: str, seed: float | None, value: float, **more: Any) -> dict[str, Any]:
    return {
        "run": run, "model": run, "family": "olmo2", "params": 1e9, "params_total": 1.1e9,
        "tokens": 1e9, "flops": 6e18, "step": 1000, "seed": seed, "mix": "m", "task": "one:rc",
        "metric": "acc_raw", "value": value, "stderr": 0.01, "n": 1000,
        "higher_is_better": True, "primary": True,
    } | more  # fmt: skip


def test_the_mean_and_its_interval_by_hand() -> None:
    values = [0.50, 0.53, 0.56]
    errors = [0.010, 0.012, 0.011]
    rows = [row("a", k, v, stderr=e) for k, (v, e) in enumerate(zip(values, errors, strict=True))]
    table, seeds = merge_seeds(pd.DataFrame(rows))
    (one,) = table.to_dict("records")
    spread, questions = np.var(values, ddof=1) / 3, np.mean(np.square(errors))
    t, z = stats.t.ppf(0.975, 2), stats.norm.ppf(0.975)
    half = (spread * t + questions * z) / sqrt(spread + questions)  # Cochran and Cox
    assert one["value"] == pytest.approx(0.53)
    assert one["questions"] == pytest.approx(sqrt(questions))
    assert 1.959964 * one["stderr"] == pytest.approx(half, rel=1e-4)
    assert (one["run"], one["seeds"], seeds["a"].runs) == ("a", 3, [("a", 0), ("a", 1), ("a", 2)])
    assert seeds["a"].variance([("one:rc", "acc_raw")], 1000) == (pytest.approx(spread), 2)


@pytest.mark.parametrize(("seeds", "noise"), [(2, 0.02), (3, 0.02), (5, 0.005), (3, 0.0)])
def test_the_interval_holds_the_truth(seeds: int, noise: float) -> None:
    """The questions are the same for all seeds, and every seed errs by itself."""
    tasks = 1500
    questions = 0.01 * RNG.standard_normal(tasks)
    values = 0.5 + questions + noise * RNG.standard_normal((seeds, tasks))
    rows = [row("a", s, values[s, t], task=f"t{t}") for s in range(seeds) for t in range(tasks)]
    table, _ = merge_seeds(pd.DataFrame(rows))
    held = ((table["value"] - 0.5).abs() <= 1.959964 * table["stderr"]).mean()
    assert 0.94 <= held <= 0.99 or (seeds == 2 and held >= 0.94)


def test_only_what_differs_in_seed_alone_is_merged() -> None:
    rows = [
        row("big-seed1", 1, 0.5), row("big-seed2", 2, 0.6),  # one setting, two names
        row("other-1", 1, 0.5, mix="n"), row("other-2", 1, 0.6, mix="n"),  # the same seed
        row("wide", 1, 0.5, mix="w"), row("wide", 2, 0.5, mix="w", params=2e9),  # two sizes
        row("x", 1, 0.5, mix=None), row("y", 2, 0.5, mix=None),  # nobody knows the mixture
        row("alone", 3, 0.4, mix="z"), row("unknown", None, 0.3, mix="z"),
    ]  # fmt: skip
    frame = pd.DataFrame(rows)
    table, seeds = merge_seeds(frame)
    assert seeds.keys() == {"big"} and len(table) == len(rows) - 1
    assert table.iloc[0]["value"] == pytest.approx(0.55)
    again, none = merge_seeds(frame.iloc[2:])
    assert not none and again["value"].tolist() == frame["value"].tolist()[2:]
    # What one seed lacks has no mean; a name that is taken gets a number.
    more = [row("big-seed1", 1, 0.2, task="two:rc"), row("big", 7, 0.1, mix="q")]
    table, seeds = merge_seeds(pd.DataFrame(rows[:2] + more))
    assert seeds.keys() == {"big (2)"} and table["run"].tolist() == ["big (2)", "big"]
    assert "two:rc" not in set(table["task"])


def test_a_difference_within_the_seeds_is_not_significant(tmp_path: Path) -> None:
    values = {"a": (0.50, 0.60, 0.70), "b": (0.45, 0.55, 0.65)}
    rows = [
        row(name, seed, value, mix=name, task=task, stderr=0.001)
        for name, of in values.items()
        for seed, value in enumerate(of)
        for task in ("one:rc", "two:rc")
    ]
    pd.DataFrame(rows).to_parquet(tmp_path / "table.parquet")
    report = write_report([tmp_path / "table.parquet"], tmp_path / "page.html")
    (contest,) = report.contests
    first, second = contest["standings"]
    assert (first["run"], second["run"]) == ("a", "b") and contest["verdict"] == "not significant"
    # Both tasks move together from seed to seed, so their mean is no surer than one of them.
    spread = 2 * 0.01 / 3 + 2 * 0.001**2 / 2
    assert second["gain"] == pytest.approx(0.05)
    half = (second["high"] - second["low"]) / 2
    assert half == pytest.approx(stats.t.ppf(0.975, 2) * sqrt(spread), rel=0.01)
    page = report.page.read_text(encoding="utf-8")
    assert page.count("its 3 seeds") == 2 and "seeds and questions" in page
    assert "0.55<" in page or "0.55 <" in page
    assert "intervals hold their spread" in page


def test_a_run_of_one_seed_is_taken_to_vary_like_its_rival(tmp_path: Path) -> None:
    rows = [row("a", seed, v, mix="a", stderr=0.001) for seed, v in enumerate((0.5, 0.6, 0.7))]
    rows.append(row("b", 0, 0.2, mix="b", stderr=0.001))
    pd.DataFrame(rows).to_parquet(tmp_path / "table.parquet")
    (contest,) = write_report([tmp_path / "table.parquet"], tmp_path / "page.html").contests
    second = contest["standings"][1]
    half = stats.t.ppf(0.975, 2) * sqrt(0.01 / 3 + 0.01)
    assert (second["high"] - second["low"]) / 2 == pytest.approx(half, rel=0.01)
    assert second["p"] == pytest.approx(2 * stats.t.sf(0.4 / sqrt(0.01 / 3 + 0.01), 2), rel=0.02)


@pytest.mark.parametrize("baseline", ["b", "b-seed102", "mix-b"])
def test_a_baseline_may_be_called_by_a_seeds_name(tmp_path: Path, baseline: str) -> None:
    rows = [
        row(f"{name}-seed{seed}", seed, 0.5 + RNG.normal(0, 0.01), mix=f"mix-{name}")
        for name in "ab"
        for seed in (101, 102, 103)
    ]
    pd.DataFrame(rows).to_parquet(tmp_path / "t.parquet")
    paths, page = [tmp_path / "t.parquet"], tmp_path / "page.html"
    (contest,) = write_report(paths, page, baseline=baseline).contests
    assert contest["reference"] == "b (mix-b)" and len(contest["standings"]) == 2


def test_folders_of_seeds_are_paired_by_question(tmp_path: Path) -> None:
    n, easy = 300, RNG.random(300)
    answers = {
        (name, seed): (RNG.random(n) < np.clip(easy + gain, 0, 1)).astype(float)
        for name, gain in (("a", 0.1), ("b", 0.0))
        for seed in range(3)
    }
    for (name, seed), values in answers.items():
        make_run(tmp_path / "runs" / f"{name}{seed}", {"one:rc": values.tolist()}, run=name,
                 seed=seed, mix=name)  # fmt: skip
    (contest,) = write_report([tmp_path / "runs"], tmp_path / "page.html").contests
    means = {k: np.mean([answers[k, s] for s in range(3)], axis=0) for k in "ab"}
    gaps = means["a"] - means["b"]
    spreads = [np.var([answers[k, s].mean() for s in range(3)], ddof=1) / 3 for k in "ab"]
    parts = [(gaps.var(ddof=1) / n, n - 1), *((v, 2) for v in spreads)]
    total = sum(v for v, _ in parts)
    half = sum(v * stats.t.ppf(0.975, df) for v, df in parts) / sqrt(total)
    second = contest["standings"][1]
    assert (second["run"], second["gain"]) == ("b", pytest.approx(gaps.mean()))
    assert second["high"] - second["gain"] == pytest.approx(half, rel=1e-6)
