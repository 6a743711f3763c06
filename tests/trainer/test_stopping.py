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
from olmeval.trainer.recipe import load_recipe
from olmeval.trainer.stopping import Stopping

WORLD = World(torch.device("cpu"))


def test_sigterm_in_the_middle_and_the_same_again(corpus: Path, tmp_path: Path) -> None:
    """A real process, as a scheduler that takes the machine away sees it."""
    keys = {"data.root": str(corpus), "train.tokens": "60k", "train.seq_len": 32,
            "train.batch_size": 8, "log_every": 3, "checkpoint.every": 1000,
            "data.max_epochs": 100}  # fmt: skip
    overrides = [f"{key}={value}" for key, value in keys.items()]
    code = "from olmeval.cli.main import main; main()"
    cut = tmp_path / "cut"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "train", "cpu-0.7m", *overrides, "--json", "--quiet",
         "--output", str(cut)],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    lines = cut / "metrics.jsonl"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (lines.exists() and lines.stat().st_size > 500):
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    stopped = json.loads(out)
    assert stopped["stopped"] == "SIGTERM"
    assert 0 < stopped["steps"] < 235
    assert [p.name for p in cut.glob("step*")] == [f"step{stopped['steps']}"]

    recipe, before = load_recipe("cpu-0.7m", keys), torch.get_num_threads()
    torch.set_num_threads(1)
    whole = train(recipe, tmp_path / "whole", progress=False)
    again = train(recipe, cut, progress=False)
    torch.set_num_threads(before)
    assert (again.resumed_from, again.stopped) == (stopped["steps"], None)
    assert (again.loss, again.steps) == (whole.loss, 235)
    # The checkpoint in between was for the resumption alone.
    assert [p.name for p in cut.glob("step*")] == ["step235"]
    one, two = (load_file(run.checkpoints[-1] / "model.safetensors") for run in (whole, again))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_the_time_is_up(make_recipe: Any, tmp_path: Path) -> None:
    first = train(make_recipe(), tmp_path, progress=False, max_minutes=0)
    assert (first.stopped, first.steps) == ("the time is up", 1)
    assert train(make_recipe(), tmp_path, progress=False, max_minutes=10).stopped is None


def test_a_second_signal_acts_as_it_always_does() -> None:
    before = signal.getsignal(signal.SIGTERM)
    stopping = Stopping()
    with stopping.listening():
        assert not stopping.agreed(WORLD, line=True)
        signal.raise_signal(signal.SIGINT)
        assert stopping.agreed(WORLD, line=False)
        assert stopping.reason == "SIGINT"
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) is before


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
