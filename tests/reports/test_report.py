"""The report: the right answer at the top, nothing lost, nothing dangerous, small and quick."""

import base64
import gzip
import io
import json
import re
from math import isnan, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from olmeval.errors import UserError
from olmeval.reports.report import Report, write_report
from olmeval.reports.report_contests import joint_error
from tests.reports.pages import HOSTILE, Page, long_table, make_run

RNG = np.random.default_rng(5)


def write_table(folder: Path, table: pd.DataFrame) -> Path:
    path = folder / "table.parquet"
    table.to_parquet(path)
    return path


def made(folder: Path, table: pd.DataFrame, **options: Any) -> tuple[Report, str]:
    report = write_report([write_table(folder, table)], folder / "page.html", **options)
    return report, report.page.read_text(encoding="utf-8")


def binary(rate: float, n: int = 400) -> list[float]:
    return (RNG.random(n) < rate).astype(float).tolist()


def test_the_answer_is_the_paired_difference(tmp_path: Path) -> None:
    a = {"one:rc": binary(0.7), "two:rc": binary(0.6)}
    b = {"one:rc": binary(0.5), "two:rc": binary(0.5)}
    make_run(tmp_path / "runs" / "a", a, run="good")
    make_run(tmp_path / "runs" / "b", b, run="bad")
    report = write_report([tmp_path / "runs"], tmp_path / "page.html")
    (contest,) = report.contests
    gaps = [np.array(a[t]) - np.array(b[t]) for t in a]
    gain = np.mean([g.mean() for g in gaps])
    stderr = sqrt(sum(g.var(ddof=1) / len(g) for g in gaps)) / 2
    first, second = contest["standings"]
    assert (contest["reference"], first["run"], second["run"]) == ("good", "good", "bad")
    assert second["gain"] == pytest.approx(gain)
    assert second["high"] - second["gain"] == pytest.approx(1.959964 * stderr, rel=1e-6)
    assert second["p"] == pytest.approx(2 * stats.norm.sf(gain / stderr), rel=1e-6)
    assert second["verdict"] == "better" and contest["verdict"] == "significant"
    assert contest["answer"].startswith(f"good is better than bad by {gain:.3f} (")
    page = report.page.read_text(encoding="utf-8")
    assert "McNemar" in page and "is better than" in page
    # Wins, losses and ties of the first task, as anybody can count them.
    won = [int((g == k).sum()) for g in gaps[:1] for k in (1, -1, 0)]
    assert f"{won[0]} / {won[1]} / {won[2]}" in page


def test_one_task_has_its_own_test(tmp_path: Path) -> None:
    a, b = binary(0.6), binary(0.55)
    make_run(tmp_path / "runs" / "a", {"one:rc": a}, run="a")
    make_run(tmp_path / "runs" / "b", {"one:rc": b}, run="b")
    (contest,) = write_report([tmp_path / "runs"], tmp_path / "page.html").contests
    wins = sum(x > y for x, y in zip(a, b, strict=True))
    losses = sum(x < y for x, y in zip(a, b, strict=True))
    p = stats.binomtest(wins, wins + losses).pvalue
    assert contest["standings"][1]["p"] == pytest.approx(p)
    assert contest["name"] == "one:rc (acc_raw)"


def test_losses_are_better_when_lower(tmp_path: Path) -> None:
    base = RNG.normal(1.0, 0.2, 200)
    make_run(tmp_path / "r" / "a", {"t:bpb": base.tolist()}, run="worse", upward=False)
    make_run(tmp_path / "r" / "b", {"t:bpb": (base - 0.1).tolist()}, run="finer", upward=False)
    (contest,) = write_report([tmp_path / "r"], tmp_path / "page.html").contests
    assert contest["reference"] == "finer" and not contest["higher_is_better"]
    assert contest["standings"][1]["gain"] == pytest.approx(0.1)


def test_a_baseline_turns_the_signs(tmp_path: Path) -> None:
    table = long_table(runs=3, tasks=2)
    plain, _ = made(tmp_path, table)
    held, page = made(tmp_path, table, baseline="mix0")
    (contest,) = held.contests
    assert plain.contests[0]["reference"] == "run2 (mix2)"
    assert contest["reference"] == "run0 (mix0)"
    verdicts = {s["run"]: s["verdict"] for s in contest["standings"]}
    # The baseline is worse than both, so both are better.
    assert verdicts == {"run2 (mix2)": "worse", "run1 (mix1)": "worse", "run0 (mix0)": "unknown"}
    assert contest["answer"] == "Better than run0 (mix0): run2 (mix2) and run1 (mix1)"
    assert page.count(">better</span>") >= 2
    with pytest.raises(UserError, match="--baseline 'mix9' is none of the runs"):
        made(tmp_path, table, baseline="mix9")


def test_tables_are_compared_by_their_errors(tmp_path: Path) -> None:
    table = long_table(runs=2, tasks=2, steps=1)
    (contest,) = made(tmp_path, table)[0].contests
    values = {run: rows["value"].to_numpy() for run, rows in table.groupby("run")}
    gain = (values["run1"] - values["run0"]).mean()
    stderr = sqrt(4 * 0.012**2) / 2
    rival = contest["standings"][1]
    assert rival["gain"] == pytest.approx(gain)
    assert rival["p"] == pytest.approx(2 * stats.norm.sf(gain / stderr), rel=1e-6)
    assert "not paired" in made(tmp_path, table)[1]


def test_level_runs_are_not_called_better(tmp_path: Path) -> None:
    table = long_table(runs=2, tasks=2, steps=1)
    table["value"] = 0.5 + 0.001 * (table["run"] == "run1")
    report, page = made(tmp_path, table)
    (contest,) = report.contests
    assert contest["verdict"] == "not significant"
    assert "which is within error" in contest["answer"] and "is better than" not in page


def test_unknown_errors_are_said(tmp_path: Path) -> None:
    table = long_table(runs=2, tasks=2, steps=1).assign(stderr=None)
    (contest,) = made(tmp_path, table)[0].contests
    assert contest["verdict"] == "error unknown"
    assert contest["standings"][1]["p"] is None


def test_the_spread_of_checkpoints_stands_in_for_unknown_errors(tmp_path: Path) -> None:
    table = long_table(runs=2, tasks=2, steps=7).assign(stderr=None)
    table["value"] += table["task"].map({"family0:rc:5shot": 0.0, "family1:rc:5shot": 0.1})
    report, page = made(tmp_path, table)
    (contest,) = report.contests
    means = table.groupby(["run", "step"])["value"].mean().unstack("run").iloc[-5:]
    variances = means.var(ddof=1)
    final = means.iloc[-1]
    gain, total = final["run1"] - final["run0"], sqrt(variances.sum())
    rival = contest["standings"][1]
    # Both spreads have four degrees of freedom, so the mixture of t distributions is t.
    assert rival["p"] == pytest.approx(2 * stats.t.sf(gain / total, 4), rel=1e-6)
    assert rival["high"] == pytest.approx(gain + stats.t.ppf(0.975, 4) * total, rel=1e-6)
    assert rival["by_checkpoints"] and rival["p_noise"] == rival["p"]
    assert "of the spread of the last checkpoints alone" in page


def test_the_spread_of_checkpoints_adds_to_the_error_of_questions(tmp_path: Path) -> None:
    table = long_table(runs=2, tasks=1, steps=7)
    (contest,) = made(tmp_path, table)[0].contests
    rival = contest["standings"][1]
    values = table.pivot(index="step", columns="run", values="value").iloc[-5:]
    parts = [(2 * 0.012**2, 999), *((float(v), 4) for v in values.var(ddof=1))]
    total = sqrt(sum(v for v, _ in parts))
    # Cochran and Cox: a mean of critical values, weighted by variances.
    level = rival["p_noise"] / 2
    critical = sum(v * stats.t.isf(level, df) for v, df in parts) / sum(v for v, _ in parts)
    assert critical == pytest.approx(rival["gain"] / total, rel=1e-6)
    assert rival["p"] < rival["p_noise"] and not rival["by_checkpoints"]


def test_suites_are_the_contest_where_there_are_any(tmp_path: Path) -> None:
    for name, rate in (("a", 0.7), ("b", 0.5)):
        answers = {"one:rc": binary(rate), "two:rc": binary(rate)}
        make_run(tmp_path / "runs" / name, answers, run=name, suite="easy")
    report = write_report([tmp_path / "runs"], tmp_path / "page.html")
    (contest,) = report.contests
    assert contest["name"] == "easy"
    # Tasks behind the suite are counted, not the suite itself.
    assert contest["standings"][1]["ahead"] == 2
    page = report.page.read_text(encoding="utf-8")
    assert page.index('class="suite"') < page.index('class="depth1"')


def test_the_error_of_a_mean_over_families() -> None:
    assert joint_error([("a:x", 3.0), ("b:x", 4.0)]) == pytest.approx(5 / 2)
    # Two formats of one family ask the same questions.
    assert joint_error([("a:rc", 3.0), ("a:mc", 4.0)]) == pytest.approx(7 / 2)
    assert isnan(joint_error([("a", 1.0), ("b", float("nan"))]))


def test_runs_that_lack_tasks_are_named(tmp_path: Path) -> None:
    table = long_table(runs=3, tasks=2)
    table = table[~((table["run"] == "run2") & (table["task"] == "family1:rc:5shot"))]
    table = table[~((table["run"] == "run1") & (table["task"] == "family0:rc:5shot"))]
    (contest,) = made(tmp_path, table)[0].contests
    assert contest["not_ranked"] == ["run1 (mix1)", "run2 (mix2)"]
    # The baseline's tasks decide, where there is one.
    (contest,) = made(tmp_path, table, baseline="run1")[0].contests
    assert contest["reference"] == "run1 (mix1)" and contest["not_ranked"] == ["run2 (mix2)"]
    assert contest["tasks"] == [["family1:rc:5shot", "acc_per_char"]]


def test_what_has_no_card_is_said(tmp_path: Path) -> None:
    table = long_table(runs=2, tasks=3)
    only = table[(table["run"] == "run1") | (table["metric"] == "acc_per_char")]
    report, _ = made(tmp_path, only, baseline="run0")
    assert len(report.contests) == 1
    assert report.notes == ("the baseline run0 (mix0) has no score of 'bits per byte'",)
    many = pd.concat([table.assign(metric=f"m{k}", higher_is_better=False) for k in range(6)])
    report, page = made(tmp_path, many)
    assert len(report.contests) == 4 and len(report.notes) == 2
    assert "has no card of its own" in page


def test_one_run_compares_its_checkpoints(tmp_path: Path) -> None:
    (contest, *_) = made(tmp_path, long_table(runs=1, steps=30))[0].contests
    names = {s["run"] for s in contest["standings"]}
    assert len(names) == 6 and {"step 1,000", "step 30,000"} <= names
    assert contest["reference"] == "step 30,000"


def test_one_checkpoint_scored_twice_is_two_runs(tmp_path: Path) -> None:
    for name, rate in (("before", 0.5), ("after", 0.8)):
        make_run(tmp_path / name, {"one:rc": binary(rate)}, run="same")
    # A folder that is given twice counts once.
    paths = [tmp_path / "before", tmp_path / "after", tmp_path / "after"]
    report = write_report(paths, tmp_path / "page.html")
    (contest,) = report.contests
    assert [s["run"] for s in contest["standings"]] == ["same (after)", "same (before)"]
    assert "McNemar" in report.page.read_text(encoding="utf-8")


def test_numbered_folders_of_a_checkpoint_are_one_run(tmp_path: Path) -> None:
    for name, rate in (("a", 0.7), ("b", 0.4)):
        tasks = {task: binary(rate) for task in ("x:rc", "y:rc", "z:rc")}
        make_run(tmp_path / "whole" / name, tasks)
        make_run(tmp_path / "split" / name, {t: tasks[t] for t in ("x:rc", "y:rc")})
        beside = make_run(tmp_path / "split" / f"{name}-2", {"z:rc": tasks["z:rc"]}).path
        info = json.loads((beside / "run.json").read_text())
        info["model"]["name"], info["beside"] = name, {"folder": beside.name, "run": name}
        (beside / "run.json").write_text(json.dumps(info))
    whole, split = (
        write_report([tmp_path / k], tmp_path / f"{k}.html") for k in ("whole", "split")
    )
    assert split.contests == whole.contests and len(split.contests[0]["tasks"]) == 3
    # Folders that say nothing of each other are two runs, and are not compared on other tasks.
    plain = write_report([tmp_path / "split" / "a", tmp_path / "whole" / "b"], tmp_path / "p.html")
    assert len(plain.contests[0]["tasks"]) == 2
    make_run(tmp_path / "other", {"w:rc": binary(0.5)})
    (only,) = write_report(
        [tmp_path / "split" / "a", tmp_path / "other"], tmp_path / "o.html"
    ).contests
    assert only["not_ranked"] == ["other"] and only["answer"].startswith("a: 0.")


def test_unfinished_runs_and_trainings_are_left_out(tmp_path: Path) -> None:
    make_run(tmp_path / "runs" / "a", {"one:rc": binary(0.5)})
    half = make_run(tmp_path / "runs" / "b", {"one:rc": binary(0.5)})
    (half.path / "metrics.json").unlink()
    training = tmp_path / "runs" / "train"
    training.mkdir()
    (training / "run.json").write_text('{"model": {"hidden_size": 64}}')
    report = write_report([tmp_path / "runs"], tmp_path / "page.html")
    assert report.notes == (f"1 unfinished runs in '{tmp_path / 'runs'}' are left out",)
    with pytest.raises(UserError, match="holds no finished run"):
        write_report([half.path], tmp_path / "page.html")


def test_other_questions_are_not_paired(tmp_path: Path) -> None:
    a = make_run(tmp_path / "runs" / "a", {"one:rc": binary(0.7)}, run="a")
    make_run(tmp_path / "runs" / "b", {"one:rc": binary(0.5)}, run="b")
    metrics = json.loads((a.path / "metrics.json").read_text())
    metrics["tasks"]["one:rc"]["hash"] = "other"
    (a.path / "metrics.json").write_text(json.dumps(metrics))
    report = write_report([tmp_path / "runs"], tmp_path / "page.html")
    assert any("asked different questions" in note for note in report.notes)
    assert "asked different questions" in report.page.read_text(encoding="utf-8")


def test_errors_and_counters_are_on_top(tmp_path: Path) -> None:
    values = [*binary(0.5, 20), float("nan")]
    make_run(tmp_path / "a", {"one:rc": values}, counters={"missing_bos": 3, "ties": 2})
    page = write_report([tmp_path / "a"], tmp_path / "page.html").page.read_text(encoding="utf-8")
    alerts = page.split('class="alerts"')[1].split("</ul>")[0]
    assert "1 of 21 instances could not be scored" in alerts
    assert "3 prompts lack the begin-of-sequence token" in alerts
    text = Page(page).visible
    assert "Zero everywhere: truncated." in text and "ffffffffffffffff" in text


def test_hostile_and_endless_names_stay_text(tmp_path: Path) -> None:
    table = long_table(runs=2, steps=3, tasks=2)
    table["run"] = table["run"].replace({"run0": HOSTILE, "run1": "x" * 1_000_000})
    table["task"] = table["task"].str.replace("family0", HOSTILE + "\u200f\x07")
    table["metric"] = HOSTILE
    report, page = made(tmp_path, table, title=HOSTILE, summary=[HOSTILE])
    plain = Page(made(tmp_path, long_table(runs=2, steps=3, tasks=2))[1])
    seen = Page(page)
    assert seen.elements.count("script") == plain.elements.count("script") == 2
    assert not {"img", "textarea"} & set(seen.elements) and not seen.handlers
    assert "alert('x')" in seen.visible
    assert "<" not in seen.scripts[0]
    # A name of 1 MB is cut wherever it is shown; the scores to download have all of it.
    shown = re.sub(r'href="data:[^"]*"', "", page)
    assert "x" * 91 not in shown and len(shown) < 200_000
    assert "\x07" not in shown
    # Marks of direction reach no further than the name.
    assert all(part.count("\u202e") == 0 for part in re.sub("<bdi>.*?</bdi>|<title>.*?</title>|"
               "\"[^\"]*\"", "", page.split("</style>")[1], flags=re.S).split("\n"))  # fmt: skip
    assert report.contests[0]["standings"][0]["run"] in (
        f"{HOSTILE} (mix0)",
        f"{'x' * 1_000_000} (mix1)",
    )


def test_the_page_needs_nothing_and_holds_every_score(tmp_path: Path) -> None:
    table = long_table()
    extra = table.assign(metric="other", primary=False)
    report, page = made(tmp_path, pd.concat([table, extra]))
    seen = Page(page)
    links = [r for r in seen.references if not r.startswith("#")]
    assert len(links) == 1 and links[0].startswith("data:application/gzip;base64,")
    assert {r[1:] for r in seen.references if r.startswith("#")} <= set(seen.ids)
    assert len(seen.ids) == len(set(seen.ids))
    style = page.split("<style>")[1].split("</style>")[0]
    assert "@import" not in style and "url(" not in style
    assert "default-src 'none'" in page and report.data is None
    packed = base64.b64decode(links[0].split(",")[1])
    again = pd.read_csv(io.BytesIO(gzip.decompress(packed)))
    assert len(again) == 2 * len(table)
    assert again["value"].tolist() == pd.concat([table, extra])["value"].tolist()


def test_many_scores_go_beside_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("olmeval.reports.report.EMBEDDED", 100)
    report, page = made(tmp_path, long_table())
    assert report.data == tmp_path / "page-scores.csv.gz"
    assert 'href="page-scores.csv.gz"' in page
    assert len(pd.read_csv(report.data)) == len(long_table())


def test_the_same_inputs_make_the_same_page(tmp_path: Path) -> None:
    assert made(tmp_path, long_table())[1] == made(tmp_path, long_table())[1]


def test_bad_inputs(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "other.json").write_text('{"a": 1}')
    (tmp_path / "notes.txt").write_text("")
    page = tmp_path / "page.html"
    cases = {
        "nowhere": "does not exist", "empty": "holds no runs", "other.json": "is no file that",
        "notes.txt": "is neither a folder",
    }  # fmt: skip
    for name, message in cases.items():
        with pytest.raises(UserError, match=message):
            write_report([tmp_path / name], page)
    table = write_table(tmp_path, long_table())
    with pytest.raises(UserError, match="no score is left"):
        write_report([table], page, tasks=["nothing*"])
    with pytest.raises(UserError, match="cannot write"):
        write_report([table], tmp_path / "notes.txt" / "page.html")
