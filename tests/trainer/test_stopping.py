"""A run that is told to stop leaves a checkpoint, and goes on as if nothing had been."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from olmeval.trainer.loop import train
from olmeval.trainer.parallel import World
from olmeval.trainer.stopping import Stopping

WORLD = World(torch.device("cpu"))


def test_sigterm_in_the_middle_and_the_same_command_again(corpus: Path, tmp_path: Path) -> None:
    """Real processes, as a scheduler that takes the machine away sees them."""

    def command(output: str) -> list[str]:
        code = "from olmeval.cli.main import main; main()"
        return [sys.executable, "-c", code, "train", "cpu-0.7m", f"data.root={corpus}",
                "train.tokens=60k", "train.seq_len=32", "train.batch_size=8", "log_every=3",
                "checkpoint.every=1000", "data.max_epochs=100", "--json", "--quiet",
                "--output", str(tmp_path / output)]  # fmt: skip

    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    whole = subprocess.run(command("whole"), env=environment, check=True, capture_output=True)
    process = subprocess.Popen(
        command("cut"), env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    lines = tmp_path / "cut/metrics.jsonl"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (lines.exists() and lines.stat().st_size > 500):
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    stopped = json.loads(out)
    assert stopped["stopped"] == "SIGTERM"
    assert 0 < stopped["steps"] < 235
    assert [p.name for p in (tmp_path / "cut").glob("step*")] == [f"step{stopped['steps']}"]

    again = subprocess.run(command("cut"), env=environment, check=True, capture_output=True)
    result, expected = json.loads(again.stdout), json.loads(whole.stdout)
    assert result["resumed_from"] == stopped["steps"]
    assert result["stopped"] is None
    assert (result["loss"], result["steps"]) == (expected["loss"], 235)
    # The checkpoint in between was for the resumption alone.
    assert [p.name for p in (tmp_path / "cut").glob("step*")] == ["step235"]
    one, two = (
        load_file(tmp_path / name / "step235/model.safetensors") for name in ("whole", "cut")
    )
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_the_time_is_up(make_recipe: Any, tmp_path: Path) -> None:
    first = train(make_recipe(), tmp_path, progress=False, max_minutes=0)
    assert (first.stopped, first.steps) == ("the time is up", 1)
    assert train(make_recipe(), tmp_path, progress=False, max_minutes=10).stopped is None


def test_a_second_signal_acts_as_it_always_does() -> None:
    stopping = Stopping()
    with stopping.listening():
        assert not stopping.agreed(WORLD, line=True)
        signal.raise_signal(signal.SIGINT)
        assert stopping.agreed(WORLD, line=False)
        assert stopping.reason == "SIGINT"
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_another_thread_leaves_signals_alone() -> None:
    before = signal.getsignal(signal.SIGTERM)
    found = []

    def listen() -> None:
        with Stopping().listening():
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert found == [before]
