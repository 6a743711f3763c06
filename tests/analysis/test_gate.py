"""The regression gate: verdicts by hand, files, and its promises by simulation."""

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from olmeval.analysis import gate_write
from olmeval.analysis.gate import GateReport, check
from olmeval.analysis.gate_baseline import load_baseline, pack, record, unpack
from olmeval.analysis.gate_history import extended, load_history, save_history, with_drift
from olmeval.analysis.gate_policy import Drift, Policy, load_policy
from olmeval.errors import CorruptFileError, UserError
from olmeval.results.run import LONG_COLUMNS
from tests.analysis.gate_runs import MadeRun

ONES = [1.0] * 80 + [0.0] * 20


def report(
    tmp_path: Path,
    before: MadeRun,
    now: MadeRun,
    noise: pd.DataFrame | None = None,
    **policy: object,
) -> GateReport:
    record(before, tmp_path / "b.json", noise)
    return check(now, load_baseline(tmp_path / "b.json"), Policy.model_validate(policy))


def history_table(run: str, values: list[float], task: str = "t") -> pd.DataFrame:
    rows = [
        {"run": run, "model": run, "step": float(k), "task": task, "metric": "acc", "value": v,
         "higher_is_better": True}
        for k, v in enumerate(values)
    ]  # fmt: skip
    return pd.DataFrame(rows).reindex(columns=list(LONG_COLUMNS))


@settings(deadline=None)
@given(st.lists(st.sampled_from([0.0, 1.0, float("nan")]), max_size=40))
def test_right_or_wrong_answers_are_packed_exactly(values: list[float]) -> None:
    x = np.array(values, float)
    packed = json.loads(json.dumps(pack(x)))
    assert packed["kind"] == "bits"
    np.testing.assert_array_equal(unpack(packed), x)


@settings(deadline=None)
@given(st.lists(st.floats(0.001, 60), min_size=1, max_size=40))
def test_other_answers_keep_three_digits(values: list[float]) -> None:
    np.testing.assert_allclose(unpack(pack(np.array(values))), values, rtol=5e-4)


def test_large_answers_are_kept_too() -> None:
    values = np.array([1e6, 3.25, np.nan])
    np.testing.assert_allclose(unpack(pack(values)), values, rtol=1e-6)


def test_a_baseline_of_many_questions_is_small(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    run = MadeRun("a", {"t": random.integers(0, 2, 14_042)})
    record(run, tmp_path / "b.json")
    assert (tmp_path / "b.json").stat().st_size < 4000


def test_one_sided_paired_test_by_hand(tmp_path: Path) -> None:
    now = [0.0] * 12 + ONES[12:96] + [1.0] * 4
    found = report(tmp_path, MadeRun("a", {"t": ONES}), MadeRun("b", {"t": now}))
    (finding,) = found.findings
    gap = np.array(ONES) - now
    error = gap.std(ddof=1) / 10
    assert finding.drop == pytest.approx(0.08)
    assert finding.stderr == pytest.approx(error)
    assert finding.p == pytest.approx(stats.t.sf(0.08 / error, 99))
    expected = error * (stats.t.isf(0.05, 99) + stats.t.ppf(0.8, 99))
    assert finding.detectable == pytest.approx(expected)
    assert (finding.verdict, found.exit_code) == ("regressed", 1)


def test_an_averaged_baseline_is_less_noisy(tmp_path: Path) -> None:
    random = np.random.default_rng(4)
    runs = [MadeRun(f"a-{k}", {"t": random.random(100) < 0.7}, step=k) for k in (1, 2, 3, 4)]
    noise = history_table("a", [0.7, 0.72, 0.69, 0.71])
    record(runs[-1], tmp_path / "b.json", noise, earlier=runs[:-1])
    (finding,) = check(runs[0], load_baseline(tmp_path / "b.json"), Policy()).findings
    answers = np.array([r.instances().sort_values("doc_id")["value"] for r in runs])
    gap = answers.mean(axis=0) - answers[0]
    variance = np.var([0.7, 0.72, 0.69, 0.71], ddof=1)
    assert finding.drop == pytest.approx(gap.mean())
    assert finding.baseline == pytest.approx(answers.mean())
    expected = gap.var(ddof=1) / 100 + (1 + 1 / 4) * variance
    assert finding.stderr == pytest.approx(np.sqrt(expected), rel=1e-3)  # answers keep 3 digits
    with pytest.raises(UserError, match="checkpoints of one run, not of a, b"):
        record(runs[-1], tmp_path / "b.json", earlier=[MadeRun("b-1", {"t": ONES}, step=1)])
    other = MadeRun("a-9", {"u": ONES}, step=9)
    with pytest.raises(UserError, match="lacks the task 't'"):
        record(runs[-1], tmp_path / "b.json", earlier=[other])


def test_losses_and_improvements(tmp_path: Path) -> None:
    low, high = [1.0 + 0.01 * (k % 7) for k in range(60)], [1.5 + 0.01 * (k % 5) for k in range(60)]
    for before, now, better, code in (
        (low, high, True, 0), (low, high, False, 1), (high, low, True, 1), (high, low, False, 0),
    ):  # fmt: skip
        a, b = (MadeRun(n, {"t": x}, better=better) for n, x in (("a", before), ("b", now)))
        assert report(tmp_path, a, b).exit_code == code


def test_tolerances(tmp_path: Path) -> None:
    now = [0.0] * 16 + ONES[16:]  # 0.8 to 0.64: worse by 0.16 = 20 %, standard error 0.037
    runs = MadeRun("a", {"t": ONES}), MadeRun("b", {"t": now})
    noise = history_table("a", [0.70, 0.75, 0.80, 0.72, 0.78])
    sd = np.std([0.70, 0.75, 0.80, 0.72, 0.78], ddof=1)
    for tolerance, amount, code in (
        ({"absolute": 0.0}, 0.0, 1), ({"absolute": 0.16}, 0.16, 0),
        ({"relative": 0.02}, 0.016, 1), ({"relative": 0.25}, 0.2, 0),
    ):  # fmt: skip
        found = report(tmp_path, *runs, tolerance=tolerance)
        assert found.findings[0].tolerance == pytest.approx(amount)
        assert found.exit_code == code, tolerance
    found = report(tmp_path, *runs, noise, tolerance={"noise_units": 2})
    assert found.findings[0].tolerance == pytest.approx(2 * sd)
    assert found.findings[0].stderr > 2**0.5 * sd
    without = report(tmp_path, *runs, tolerance={"noise_units": 2})
    assert without.exit_code == 2
    assert "--checkpoints" in without.findings[0].reason


def test_false_alarms_are_shared_among_tests(tmp_path: Path) -> None:
    now = [0.0] * 12 + ONES[12:96] + [1.0] * 4  # p = 0.02 alone
    names = [f"t{k}" for k in range(5)]
    a = MadeRun("a", dict.fromkeys(names, ONES))
    b = MadeRun("b", {n: now if n == "t0" else ONES for n in names})
    found = report(tmp_path, a, b)
    assert found.exit_code == 0
    assert found.findings[0].p == pytest.approx(5 * stats.t.sf(0.08 / found.findings[0].stderr, 99))
    assert report(tmp_path, a, b, tasks=["t0"]).exit_code == 1


def test_what_cannot_be_told(tmp_path: Path) -> None:
    a = MadeRun("a", {"t": ONES, "u": ONES})
    for now, policy, reason in (
        (MadeRun("b", {"u": ONES}), {}, "the task was not run"),
        (MadeRun("b", {"t": ONES, "u": ONES}, hashes={"t": "x"}), {}, "hash differs"),
        (MadeRun("b", {"t": ONES[:50], "u": ONES}), {}, "50 questions, 100 in the baseline"),
        (MadeRun("b", {"t": [np.nan, *ONES[1:]], "u": ONES}), {}, "1 errors, 0 allowed"),
        (MadeRun("b", {"t": ONES, "u": ONES}), {"min_instances": 101}, "100 questions, 101 needed"),
    ):  # fmt: skip
        found = report(tmp_path, a, now, **policy)
        assert found.exit_code == 2
        assert found.findings[0].verdict == "unknown" and reason in found.findings[0].reason
        optional = {"match": "*", "required": False}
        assert report(tmp_path, a, now, tasks=[optional], **policy).exit_code == 0
    # What got worse is said even where something else is not known.
    worse = MadeRun("b", {"u": [0.0] * 100})
    assert report(tmp_path, a, worse).exit_code == 1
    allowed = MadeRun("b", {"t": [np.nan, *ONES[1:]], "u": ONES})
    assert report(tmp_path, a, allowed, max_errors=1).exit_code == 0


def test_suites(tmp_path: Path) -> None:
    def suite(values: dict[str, list[float]], how: str = "macro") -> dict[str, object]:
        value = float(np.mean([np.mean(v) for v in values.values()]))
        return {"s": {"value": value, "stderr": 0.05, "n": 200, "higher_is_better": True,
                      "aggregate": how, "status": "complete", "missing": [],
                      "members": dict.fromkeys(values, 0.0)}}  # fmt: skip

    before = {"t": ONES, "u": ONES}
    now = {"t": [0.0] * 12 + ONES[12:], "u": [0.0] * 12 + ONES[12:]}
    policy = {"tasks": [], "suites": ["s"]}
    a, b = (MadeRun(n, v, suites=suite(v)) for n, v in (("a", before), ("b", now)))
    (finding,) = report(tmp_path, a, b, **policy).findings
    one = (np.array(ONES) - now["t"]).std(ddof=1) / 10
    assert finding.stderr == pytest.approx(one / 2**0.5)
    assert (finding.verdict, finding.drop) == ("regressed", pytest.approx(0.12))
    a, b = (MadeRun(n, v, suites=suite(v, "max")) for n, v in (("a", before), ("b", now)))
    (finding,) = report(tmp_path, a, b, **policy).findings
    assert finding.stderr == pytest.approx(0.05 * 2**0.5)
    (finding,) = report(tmp_path, a, MadeRun("b", now), **policy).findings
    assert finding.verdict == "unknown"


def test_bad_files_are_named(tmp_path: Path) -> None:
    a = MadeRun("a", {"t": ONES})
    with pytest.raises(UserError, match="matches nothing in the baseline; it holds t"):
        report(tmp_path, a, a, tasks=["arc*"])
    for text, message in (
        ("tolerance: {absolute: 1, relative: 1}", "exactly one of"),
        ("false_alarm: 5", "false_alarm"),
        ("tolerence: {absolute: 1}", "did you mean 'tolerance'"),
        ("tasks: []", "checks nothing"),
    ):
        (tmp_path / "p.yaml").write_text(text)
        with pytest.raises(UserError, match=message):
            load_policy(tmp_path / "p.yaml")
    (tmp_path / "no.json").write_text("{}")
    with pytest.raises(UserError, match="is no baseline of format 1"):
        load_baseline(tmp_path / "no.json")
    whole = json.loads((tmp_path / "b.json").read_text())
    whole["tasks"]["t"]["values"]["data"] = "AAAA"
    (tmp_path / "b.json").write_text(json.dumps(whole))
    with pytest.raises(CorruptFileError, match="answers are damaged"):
        check(a, load_baseline(tmp_path / "b.json"), Policy())
    del whole["tasks"]["t"]["metric"]
    (tmp_path / "b.json").write_text(json.dumps(whole))
    with pytest.raises(CorruptFileError, match="record it again"):
        load_baseline(tmp_path / "b.json")


def test_written_reports(tmp_path: Path) -> None:
    a = MadeRun("a", {"t|1": ONES, "u": ONES, "v": ONES, "w": ONES})
    b = MadeRun("b", {"t|1": [0.0] * 100, "u": ONES})
    found = report(tmp_path, a, b, tasks=[{"match": "w", "required": False}, "*"])
    root = ElementTree.fromstring(gate_write.junit(found))
    suite = root[0]
    assert [suite.get(k) for k in ("tests", "failures", "errors", "skipped")] == [
        "4",
        "1",
        "1",
        "1",
    ]
    assert [c[0].tag if len(c) else None for c in suite] == ["failure", None, "error", "skipped"]
    text = gate_write.markdown(found)
    assert "| ❌ | t\\|1 | 0.8000 | 0.0000 | 0.8000 |" in text
    assert all(line.count("|") - line.count("\\|") == 10 for line in text.splitlines()[2:8])
    plain = json.loads(json.dumps(gate_write.as_json(found), allow_nan=False))
    assert plain["exit_code"] == 1 and plain["findings"][2]["value"] is None
    error, warning = gate_write.annotations(found)
    assert error.startswith("::error title=regressed%3A t|1::t|1 (acc): 0.8000 before")
    assert warning.startswith("::warning title=unknown%3A v::")


def drifting(slope: float, nights: int, seed: int, tmp_path: Path) -> list[GateReport]:
    random = np.random.default_rng(seed)
    questions = random.random(400)
    history: list[dict[str, object]] = []
    path = tmp_path / f"h{seed}-{slope}.jsonl"
    reports = []
    lenient = Policy.model_validate({"tolerance": {"absolute": 0.1}})

    def night(k: int) -> MadeRun:
        level = 0.7 - slope * k + 0.01 * random.standard_normal()
        return MadeRun(f"n-{k}", {"t": (questions < level).astype(float)})

    record(night(0), tmp_path / "b.json", history_table("n", [0.7, 0.69, 0.71, 0.695, 0.705]))
    baseline = load_baseline(tmp_path / "b.json")
    for k in range(nights):
        run = night(k)
        found = check(run, baseline, lenient)
        history = extended(load_history(path), found, run)
        save_history(path, history)
        reports.append(with_drift(found, history, Drift()))
    return reports


def test_slow_decline_is_found_by_the_chart_and_noise_is_not(tmp_path: Path) -> None:
    calm = drifting(0.0, 40, 1, tmp_path)
    assert all(r.exit_code == 0 for r in calm)
    worse = drifting(0.003, 40, 1, tmp_path)
    verdicts = [r.findings[0].verdict for r in worse]
    first = next(k for k, v in enumerate(verdicts) if v != "ok")
    assert verdicts[first] == "drifting" and first >= 8
    assert "limit" in worse[first].findings[0].reason


def test_the_same_checkpoint_counts_once_in_a_history(tmp_path: Path) -> None:
    a = MadeRun("a", {"t": ONES})
    found = report(tmp_path, a, a)
    once = extended([], found, a)
    assert extended(once, found, a) == once
    (tmp_path / "h.jsonl").write_text('{"values": 3}\n')
    with pytest.raises(CorruptFileError, match=r"h.jsonl:1' is no entry"):
        load_history(tmp_path / "h.jsonl")


def test_false_alarms_and_power_by_simulation(tmp_path: Path) -> None:
    """Three tasks of 120 questions; questions and checkpoints both vary."""
    random = np.random.default_rng(0)
    alarms, caught, checks = 0, 0, 150
    names = ["t0", "t1", "t2"]

    def answers(drop: float = 0.0) -> MadeRun:
        levels = 0.6 - drop + 0.02 * random.standard_normal(3)
        values = {
            n: ((skill[n] + 0.3 * random.standard_normal(120)) < stats.norm.ppf(level) * 1.05)
            for n, level in zip(names, levels, strict=True)
        }
        return MadeRun("run", values)

    for _ in range(checks):
        skill = {n: random.standard_normal(120) for n in names}
        past = pd.concat(
            [history_table("run", list(0.6 + 0.02 * random.standard_normal(10)), n) for n in names]
        )
        record(answers(), tmp_path / "b.json", past, last=10)
        baseline = load_baseline(tmp_path / "b.json")
        calm = check(answers(), baseline, Policy())
        alarms += calm.exit_code == 1
        detectable = max(f.detectable for f in calm.findings)
        caught += check(answers(2 * detectable), baseline, Policy()).exit_code == 1
    assert alarms / checks <= 0.05 + 0.03
    assert caught / checks >= 0.9
