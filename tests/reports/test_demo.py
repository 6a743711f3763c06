"""The demo from the command line, small, with and without the benchmark data."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from olmeval.engine.evaluate import evaluate
from olmeval.engine.settings import Settings
from olmeval.requests import Request
from olmeval.results.run import find_runs
from tests.backends.straight import StraightLine
from tests.reports.pages import CHROMIUM, browse

pytestmark = pytest.mark.slow


def demo(output: Path, tokens: int, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "olmeval.cli.main", "demo", "--quick", "-o", str(output),
         "--tokens", str(tokens)],
        capture_output=True, text=True, check=False, env={**os.environ, **environment},
    )  # fmt: skip


GENERATED = (
    "gsm8k:cot", "minerva_math_500:cot", "drop:genqa", "squad:genqa", "naturalqs:genqa",
    "coqa:genqa", "jeopardy:genqa",
)  # fmt: skip


def test_every_score_of_a_trained_checkpoint_is_right(pulled: Path, tmp_path: Path) -> None:
    done = demo(tmp_path, 150_000)
    assert done.returncode == 0, done.stderr
    assert "skills" in done.stdout
    assert "±" in done.stdout
    runs = find_runs([tmp_path / "runs"])
    assert len(runs) == 12
    for run in runs:
        assert run.info["status"] == "complete"
        assert run.metrics["errors"] == 0
    last = next(r for r in runs if r.path.name.startswith("skills") and r is not runs[0])
    logprob = {
        r["key"]: r["logprob"] for r in pq.read_table(last.path / "responses.parquet").to_pylist()
    }
    straight = StraightLine(Path(last.info["model"]["path"]))
    requests = pq.read_table(last.path / "requests.parquet").to_pylist()
    chosen = requests[:: max(len(requests) // 600, 1)]
    assert len(chosen) >= 500
    for r in chosen:
        request = Request("loglikelihood", r["context"], r["continuation"])
        assert logprob[r["key"]] == pytest.approx(straight.score(request)[0], abs=1e-4)
    print(f"{len(chosen)} requests of a trained checkpoint equal an independent scorer to 1e-4")

    answered = evaluate(
        last.info["model"]["path"], GENERATED, output=tmp_path / "generated", limit=20,
        settings=Settings(device="cpu", max_new_tokens=24),
    )  # fmt: skip
    assert len(answered.metrics["tasks"]) == len(GENERATED)
    for result in answered.metrics["tasks"].values():
        assert result["errors"] == 0
        assert result["metrics"][result["primary_metric"]]["n"] == 20

    if CHROMIUM is not None:
        drawn, console = browse(tmp_path / "report.html", tmp_path / "profile")
        assert console == []
        assert drawn.count("js-plotly-plot") >= 10

    again = demo(tmp_path, 150_000)
    assert again.returncode == 0, again.stderr
    table = again.stdout.split("page ")[0]
    assert table == done.stdout.split("page ")[0]


def test_without_data_only_the_generated_task_is_used(tmp_path: Path) -> None:
    corpus = tmp_path / "demo" / "corpus"
    done = demo(
        tmp_path / "demo", 20_000, OLMEVAL_CACHE=str(tmp_path / "cache"), PIP_NO_INDEX="1",
        PIP_FIND_LINKS=str(tmp_path / "nothing"), PIP_CONFIG_FILE=os.devnull,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "cannot be had" in done.stderr
    assert corpus.exists()
    runs = find_runs([tmp_path / "demo" / "runs"])
    assert {t for r in runs for t in r.metrics["tasks"]} == {"demo_sums:rc:0shot"}
    assert "could not be had" in (tmp_path / "demo" / "report.html").read_text()
    shutil.rmtree(tmp_path / "demo")


def test_too_few_tokens_are_one_sentence(tmp_path: Path) -> None:
    done = demo(tmp_path / "demo", 100)
    assert done.returncode == 2
    assert "too few" in done.stderr
    assert not (tmp_path / "demo").exists()
