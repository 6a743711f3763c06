"""``olmeval train`` beside plain runs: estimates, stops, swarms, preflight, torchrun."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from olmeval.trainer import loop, preflight
from tests.trainer.test_cli_train import FAST, call

Capture = pytest.CaptureFixture[str]
Patch = pytest.MonkeyPatch


def test_show_estimates_time_and_memory(corpus: Path, capsys: Capture, monkeypatch: Patch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    arguments = ["ladder", "model.preset=30m", "train.tokens=0.0001xC", f"data.root={corpus}",
                 "train.seq_len=16", "train.batch_size=4", "data.max_epochs=9",
                 "--show"]  # fmt: skip
    code, out, _ = call(capsys, *arguments, "--gpu", "h200", "--gpus", "4", "--mfu", "0.1")
    assert code == 0
    assert "on 4 x h200" in out and "at 10% MFU" in out and "(assumed)" not in out
    assert "times 20 a parameter" in out
    assert "a device (estimate): weights" in out and "more than" not in out
    code, out, _ = call(capsys, *arguments, "--gpu", "h100", "--mfu", "0.1", "--json")
    about = json.loads(out)
    assert [about["estimate"][key] for key in ("gpu", "gpus", "mfu")] == ["h100", 1, 0.1]
    assert about["estimate"]["memory_bytes"]["total"] > 16 * about["params_total"]
    clip = ["data.mixture={low: 0.98, mid: 0.01, high: 0.01}", "data.max_epochs=0.3",
            "data.repeat=clip", "train.tokens=2048"]  # fmt: skip
    code, out, _ = call(capsys, *arguments, *clip)
    assert code == 0
    assert "domain 'low' is" in out and "instead of 98.00%" in out


def test_a_run_is_stopped_and_taken_up(corpus: Path, tmp_path: Path, capsys: Capture) -> None:
    arguments = ["cpu-0.7m", *FAST, f"data.root={corpus}", "--output", str(tmp_path / "run")]
    code, out, err = call(capsys, *arguments, "--max-minutes", "0", "--quiet")
    assert (code, err) == (0, "")
    assert out.startswith("stopped (the time is up) after 1 steps")
    code, out, _ = call(capsys, *arguments, "--peak-tflops", "0.05", "--json")
    assert json.loads(out)["resumed_from"] == 1
    last = (tmp_path / "run/metrics.jsonl").read_text().splitlines()[-1]
    assert 0 < json.loads(last)["mfu"] < 1


def test_ctrl_c_ends_with_a_checkpoint_and_130(
    corpus: Path, tmp_path: Path, capsys: Capture, monkeypatch: Patch
) -> None:
    """What a script has behind `&&` must not run; the same command goes on."""
    arguments = ["cpu-0.7m", *FAST, f"data.root={corpus}", "--output", str(tmp_path / "run")]
    real = loop.train

    def press(step: int) -> None:
        if step == 1:
            signal.raise_signal(signal.SIGINT)

    def pressed(*args: Any, **options: Any) -> loop.TrainResult:
        return real(*args, **options, on_line=press)

    monkeypatch.setattr(loop, "train", pressed)
    code, out, _ = call(capsys, *arguments, "log_every=1", "--quiet")
    assert code == 130 and out.startswith("stopped (SIGINT) after 1 steps")
    monkeypatch.setattr(loop, "train", real)
    code, out, _ = call(capsys, *arguments, "log_every=1", "--json")
    assert code == 0 and json.loads(out)["resumed_from"] == 1


def test_swarms(corpus: Path, tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "swarm.yaml"
    path.write_text(
        f"recipe: cpu-0.7m\noverrides: {{data.root: {corpus}, train.tokens: 64}}\n"
        "mixtures: {even: {low: 0.5, high: 0.5}, high: {high: 1}}\n"
    )
    output = ["--output", str(tmp_path / "swarm"), "--executor", "process", "--quiet"]
    arguments = [str(path), "--swarm", *FAST]
    code, out, _ = call(capsys, *arguments, "--show")
    assert code == 0
    assert "swarm of 2 runs" in out and "together 1,280 tokens" in out
    code, out, err = call(capsys, *arguments, *output)
    assert code == 0, err
    assert out.count("done") == 2
    code, out, _ = call(capsys, *arguments, *output, "--json")
    rows = {row["run"]: row["tokens"] for row in json.loads(out)["proxies"]}
    assert rows == {"even-seed0": 640, "high-seed0": 640}
    assert (tmp_path / "swarm/high-seed0/step10/model.safetensors").exists()
    for more, message in (
        (["--max-minutes", "1"], "--max-minutes is for one run"),
        (["--workers", "2"], "--executor process has one worker"),
        (["optimizer.lr=1"], "another recipe (optimizer.lr was"),
    ):
        code, _, err = call(capsys, *arguments, *output, *more)
        assert code == 2
        assert message in err


def test_a_failed_proxy_is_told_by_the_exit_code(
    corpus: Path, tmp_path: Path, capsys: Capture, monkeypatch: Patch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("the device fell off")

    monkeypatch.setattr("olmeval.trainer.swarm.train", broken)
    path = tmp_path / "swarm.yaml"
    path.write_text(
        f"recipe: cpu-0.7m\noverrides: {{data.root: {corpus}}}\nmixtures: {{low: {{low: 1}}}}\n"
    )
    code, out, _ = call(
        capsys, str(path), "--swarm", *FAST, "--executor", "process", "--retries", "0", "--quiet",
        "--output", str(tmp_path / "swarm"),
    )  # fmt: skip
    assert code == 1
    assert "failed" in out and "the device fell off" in out


def test_preflight(corpus: Path, capsys: Capture, monkeypatch: Patch) -> None:
    seen: list[str] = []
    rank = preflight.Rank(3, "node1", "cuda:3", 350.0, 2000.0, 1)

    def measured(device: str) -> preflight.Preflight:
        seen.append(device)
        sentences = tuple(preflight.suspects([rank], 0.9)) if device == "cpu" else ()
        return preflight.Preflight((rank,), None, sentences)

    monkeypatch.setattr(preflight, "preflight", measured)
    code, out, _ = call(capsys, "--preflight")
    assert code == 0 and "no rank stands out" in out
    code, out, _ = call(capsys, "cpu-0.7m", "train.device=cpu", "--preflight")
    assert code == 1 and "rank 3 (node1, cuda:3): 1 of 10 known results came out wrong" in out
    code, out, _ = call(capsys, "--preflight", "--json")
    assert json.loads(out)["ranks"][0]["host"] == "node1"
    assert seen == ["auto", "cpu", "auto"]
    code, _, err = call(capsys)
    assert code == 2 and "give a RECIPE" in err


@pytest.mark.slow
def test_torchrun(corpus: Path, tmp_path: Path) -> None:
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    arguments = ["cpu-0.7m", *FAST, f"data.root={corpus}", "train.device=cpu", "--json"]
    done = subprocess.run(
        [*launch, "-m", "olmeval.cli.main", "train", *arguments, "--output", str(tmp_path)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
        timeout=200,
    )
    assert json.loads(done.stdout)["steps"] == 10
    assert (tmp_path / "step10/model.safetensors").exists()
