"""The script that checks a GPU: here it checks itself, on a processor with tiny sizes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import gpu_check

    return gpu_check


@pytest.fixture
def setting(script: Any, tmp_path: Path) -> Any:
    return script.Setting("cpu", True, tmp_path)


@pytest.mark.slow
def test_every_step_runs_and_is_reported(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "scripts/gpu_check.py", "--device", "cpu", "--tiny"],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": ".", "OUT": str(tmp_path)},
        capture_output=True, text=True, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "gpu_check.json").read_text())
    figures = report["figures"]
    assert {f["step"] for f in figures} == {
        "card", "parity", "attention", "resume", "train-30m", "train-190m", "train-1b",
        "swarm-1-worker", "swarm-2-workers", "scoring",
    }  # fmt: skip
    for figure in figures:
        assert figure["verdict"] in ("", "held"), figure
        assert figure["value"] is not None and figure["value"] >= 0
    by_name = {f["name"]: f["value"] for f in figures}
    assert 0 < by_name["OLMo-3, logits beside transformers"] < 1e-4
    assert by_name["resumed run, eager: weights bit-identical"] == 1
    assert by_name["swarm of 1m proxies, 2 warm"] > 0
    table = (tmp_path / "gpu_check.md").read_text().splitlines()
    assert len([row for row in table if row.startswith("| ")]) == len(figures) + 1
    assert "Self CPU" in (tmp_path / "profile-train-30m.txt").read_text()


def test_a_step_that_fails_is_reported_with_what_it_had_found(script: Any, setting: Any) -> None:
    def fails(_: Any) -> Iterator[Any]:
        yield script.Figure("odd", "before", 2.0, "GB/s")
        raise ValueError("out of luck\nand more")

    def dies(_: Any) -> Iterator[Any]:
        yield script.Figure("odd", "before", 2.0, "GB/s")
        os.kill(os.getpid(), signal.SIGKILL)

    def hangs(_: Any) -> Iterator[Any]:
        child = subprocess.Popen(["sleep", "100"])
        yield script.Figure("odd", "child", child.pid, "")
        time.sleep(100)

    steps = script.gpu_steps.STEPS
    steps |= {"fails": fails, "dies": dies, "hangs": hangs}
    try:
        before, failure = script.run_step("fails", setting, 60)
        assert (before.value, failure.verdict) == (2.0, "failed")
        assert failure.note == "ValueError: out of luck"
        assert script.line(failure) == "| fails |  |  | failed | ValueError: out of luck |"
        before, failure = script.run_step("dies", setting, 60)
        assert (before.value, failure.note) == (2.0, "its process ended with code -9")
        started = time.monotonic()
        child, failure = script.run_step("hangs", setting, 1.5)
        assert (failure.verdict, failure.note) == ("failed", "not done in 2 s")
        assert time.monotonic() - started < 20
        stat = Path(f"/proc/{child.value}/stat")
        assert not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"
    finally:
        for name in ("fails", "dies", "hangs"):
            del steps[name]


def test_without_time_a_step_is_not_begun(script: Any, setting: Any) -> None:
    [figure] = script.run_step("card", setting, 0.5)
    assert (figure.verdict, figure.note) == ("failed", "no time was left")


def test_goals_are_held_or_missed(script: Any) -> None:
    steps = script.gpu_steps
    assert steps.at_least("s", "n", 2.0, "x/s", 1.5, "").verdict == "held"
    assert steps.at_least("s", "n", 1.0, "x/s", 1.5, "").verdict == "MISSED"
    assert steps.at_least("s", "n", 1.0, "x/s", None, "").verdict == ""
    assert steps.at_most("s", "n", 1.0, 0.5).verdict == "MISSED"
    # nan is no result.
    assert steps.at_most("s", "n", float("nan"), 0.5).verdict == "MISSED"


def test_the_table_is_appended_to_the_benchmarks(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/benchmarks.md").write_text("# Benchmarks\n")
    monkeypatch.setattr(script, "ROOT", tmp_path)
    monkeypatch.delenv("OUT", raising=False)
    figures = [
        script.Figure("card", script.gpu_steps.PRODUCT, 700.5, "TFLOP/s", note="A Card, 80 GiB"),
        script.Figure("train-1b", "train-1b", 54321.0, "tokens/s", 54000, "held"),
    ]
    script.report(figures, script.card(figures), write=True)
    text = (tmp_path / "docs/benchmarks.md").read_text()
    assert text.startswith("# Benchmarks\n\n## GPU: A Card, 2")
    assert "| matrix products | 700.5 TFLOP/s |  |  | A Card, 80 GiB |\n" in text
    assert "| train-1b | 54,321 tokens/s | 54,000 | held |  |\n" in text
