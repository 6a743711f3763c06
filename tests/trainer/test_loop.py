"""Runs: learning, files, exact resumption, and what stops a run before it starts."""

import errno
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.distributed.checkpoint.api import CheckpointException
from transformers import AutoModelForCausalLM, AutoTokenizer

from olmeval.errors import UserError
from olmeval.files import sha256_json
from olmeval.trainer import checkpoint
from olmeval.trainer.log import Log
from olmeval.trainer.loop import train
from olmeval.trainer.model import build_model
from olmeval.trainer.recipe import resolve
from olmeval.trainer.runtime import Objective


def rows(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]


def lasting(output: Path) -> list[tuple[Any, ...]]:
    """The part of the metrics that does not depend on the clock."""
    return [
        (r["step"], r["tokens"], r["loss"], r["grad_norm"], r["lr"], r["skipped"])
        for r in rows(output)
    ]


def weights_file(output: Path, step: int) -> bytes:
    return (output / f"step{step}" / "model.safetensors").read_bytes()


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_a_run_learns_and_leaves_its_files(make_recipe: Any, tmp_path: Path) -> None:
    recipe = make_recipe({"train.tokens": 12_800, "checkpoint.every": 40, "seed": 4})
    plan = resolve(recipe)
    seen: list[Path] = []
    result = train(recipe, tmp_path, on_checkpoint=seen.append, progress=False)
    assert seen == list(result.checkpoints) == [tmp_path / "step40", tmp_path / "step80",
                                                tmp_path / "step100"]  # fmt: skip
    found = rows(tmp_path)
    assert [r["step"] for r in found] == sorted({*range(3, 101, 3), 40, 80, 100})
    assert found[0]["loss"] > math.log(300) - 0.3
    # Each domain is uniform over a third of the vocabulary at most: knowing that is worth a nat.
    assert found[-1]["loss"] < math.log(300) - 0.4
    assert result.loss == found[-1]["loss"]
    assert all(0 <= r["data_wait"] <= 1 and r["tokens_per_second"] > 0 for r in found)

    about = json.loads((tmp_path / "step40" / "checkpoint.json").read_text())
    assert about == {
        "run": "tiny",
        "family": "olmo2",
        "step": 40,
        "tokens": 40 * 128,
        "flops": 40 * 128 * plan.model.flops_per_token(16),
        "params": plan.model.params,
        "params_total": plan.model.params_total,
        "seed": 4,
        "mix": "natural",
        "mixture": plan.mixture.weights(),
        "lr": plan.rate(39),
        "start": None,
        "recipe_hash": sha256_json(plan.settings()),
    }


def test_the_export_loads_in_transformers_with_the_same_logits(
    make_recipe: Any, tmp_path: Path
) -> None:
    recipe = make_recipe({"model.rope_theta": 1e4, "model.num_key_value_heads": 1})
    train(recipe, tmp_path, progress=False)
    folder = tmp_path / "step24"
    ours = build_model(resolve(recipe).model, 0)
    ours.load_state_dict(load_file(folder / "model.safetensors"))
    theirs = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokens = torch.randint(0, 300, (2, 16), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = theirs(input_ids=tokens).logits
        torch.testing.assert_close(ours(tokens), expected, rtol=1e-5, atol=1e-5)
    assert theirs.config.rope_parameters["rope_theta"] == 1e4
    assert theirs.config.pad_token_id is None
    assert theirs.config.eos_token_id == 0
    assert AutoTokenizer.from_pretrained(folder)("w5 w7")["input_ids"] == [5, 7]


class Stop(Exception):
    pass


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_an_interrupted_run_ends_bit_identical(
    make_recipe: Any, tmp_path: Path, precision: str
) -> None:
    recipe = make_recipe({"train.precision": precision})
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(recipe, whole, progress=False)

    def stop(path: Path) -> None:
        raise Stop

    with pytest.raises(Stop):
        train(recipe, broken, on_checkpoint=stop, progress=False)
    # Lines of steps after the checkpoint, half a line, and half a folder, as a kill leaves them.
    with (broken / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 9, "loss": 0.0}) + '\n{"step": 1')
    (broken / ".step16.123.tmp").mkdir()
    (broken / "step16").mkdir()
    seen: list[Path] = []
    result = train(recipe, broken, on_checkpoint=seen.append, progress=False)
    assert result.resumed_from == 8
    assert [p.name for p in seen] == ["step8", "step16", "step24"]
    for step in (8, 16, 24):
        assert weights_file(broken, step) == weights_file(whole, step)
    assert lasting(broken) == lasting(whole)
    assert not list(broken.glob(".step*"))


def test_a_finished_run_is_left_alone(make_recipe: Any, tmp_path: Path) -> None:
    first = train(make_recipe(), tmp_path, progress=False)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.glob("step*/*")}
    again = train(make_recipe(), tmp_path, progress=False)
    assert again.resumed_from == 24
    assert again.loss == first.loss
    assert {p: p.stat().st_mtime_ns for p in tmp_path.glob("step*/*")} == before


@pytest.mark.slow
def test_killed_at_random_moments_ends_bit_identical(corpus: Path, tmp_path: Path) -> None:
    """Real processes; checkpoints so dense that kills hit their writing, too."""

    def command(output: Path) -> list[str]:
        arguments = ["train.tokens=100k", "train.seq_len=32", "train.batch_size=8", "log_every=3"]
        arguments += ["checkpoint.every=7", f"data.root={corpus}", "data.max_epochs=100"]
        code = "from olmeval.cli.main import main; main()"
        return [
            sys.executable,
            "-c",
            code,
            "train",
            "cpu-0.7m",
            *arguments,
            "--output",
            str(output),
        ]

    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run(command(whole), env=environment, check=True, capture_output=True)

    moments = random.Random(0)
    for _ in range(5):
        before = len(list(killed.glob("step*")))
        process = subprocess.Popen(
            command(killed), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while len(list(killed.glob("step*"))) == before and process.poll() is None:
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 0.25))
        process.kill()
        assert process.wait() == -signal.SIGKILL, "the run ended before it was killed"
    assert not (killed / "step391").exists()
    subprocess.run(command(killed), env=environment, check=True, capture_output=True)

    steps = sorted(p.name for p in whole.glob("step*"))
    assert steps == sorted(p.name for p in killed.glob("step*"))
    assert "step391" in steps
    for name in steps:
        one, two = (load_file(root / name / "model.safetensors") for root in (whole, killed))
        assert all(torch.equal(one[key], two[key]) for key in one), name
    assert lasting(killed) == lasting(whole)


def test_another_recipe_in_the_same_folder_is_refused(make_recipe: Any, tmp_path: Path) -> None:
    train(make_recipe(), tmp_path, progress=False)
    with pytest.raises(UserError, match=r"another recipe \(optimizer.lr was 0.005, now 0.1\)"):
        train(make_recipe({"optimizer.lr": 0.1}), tmp_path, progress=False)
    mixture = {"low": 0.1, "mid": 0.1, "high": 0.8}
    changed = make_recipe({"data.mixture": mixture, "data.mix_name": "natural"})
    with pytest.raises(UserError, match=r"another recipe \(data.counts.high was 68, now 154"):
        train(changed, tmp_path, progress=False)


def test_a_folder_in_use_is_refused(make_recipe: Any, tmp_path: Path) -> None:
    def inside(path: Path) -> None:
        with pytest.raises(UserError, match="another process is training in"):
            train(make_recipe(), tmp_path, progress=False)

    train(make_recipe(), tmp_path, on_checkpoint=inside, progress=False)


def test_an_unwritable_output_is_refused(make_recipe: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write '.*file/run'"):
        train(make_recipe(), tmp_path / "file" / "run", progress=False)


def test_a_full_disk_is_named_and_leaves_no_half_checkpoint(
    make_recipe: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        error = OSError(errno.ENOSPC, "No space left on device")
        raise CheckpointException("write", {0: (error, traceback.StackSummary())})

    monkeypatch.setattr(checkpoint.dcp, "save", full)
    with pytest.raises(UserError, match=r"cannot write '.*step8': .*No space left"):
        train(make_recipe(), tmp_path, progress=False)
    assert not [p.name for p in tmp_path.glob("*step*")]
    monkeypatch.undo()
    assert train(make_recipe(), tmp_path, progress=False).resumed_from == 0


def test_metrics_on_a_full_disk_are_named() -> None:
    with open("/dev/full", "wb", buffering=0) as file:
        log = Log(file, 1)
        log.add(torch.tensor(1.0), torch.tensor(1.0), torch.tensor(0.0), 0.0)
        with pytest.raises(UserError, match="cannot write '/dev/full': No space left"):
            log.write(1, 0.1, {})


def test_a_damaged_checkpoint_is_named(make_recipe: Any, tmp_path: Path) -> None:
    train(make_recipe(), tmp_path, progress=False)
    shutil.rmtree(tmp_path / "step24")
    for file in (tmp_path / "step16" / "train_state").glob("*.distcp"):
        file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"cannot resume from '.*step16/train_state'.*delete"):
        train(make_recipe(), tmp_path, progress=False)


def test_a_broken_device_is_refused(make_recipe: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"train\.device 'cpux' does not work here"):
        train(make_recipe({"train.device": "cpux"}), tmp_path, progress=False)


def test_non_finite_steps_are_skipped_counted_and_survive_resumption(
    make_recipe: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    real = Objective.forward
    calls = {"n": 0}

    def poisoned(*args: Any, **options: Any) -> Any:
        calls["n"] += 1
        loss, entropy = real(*args, **options)
        bad = calls["n"] in (4, 5, 6, 12)
        return (loss * float("nan"), entropy * float("nan")) if bad else (loss, entropy)

    monkeypatch.setattr(Objective, "forward", poisoned)
    result = train(make_recipe(), whole, progress=False)
    assert result.skipped == 4
    by_step = {r["step"]: r for r in rows(whole)}
    assert by_step[3]["skipped"] == 0
    assert by_step[6]["skipped"] == 3
    assert by_step[6]["loss"] is None
    assert by_step[12]["skipped"] == 4
    assert by_step[12]["loss"] > 0

    def stop(path: Path) -> None:
        raise Stop

    calls["n"] = 0
    with pytest.raises(Stop):
        train(make_recipe(), broken, on_checkpoint=stop, progress=False)
    train(make_recipe(), broken, progress=False)
    assert weights_file(broken, 24) == weights_file(whole, 24)
    assert lasting(broken) == lasting(whole)


def test_bfloat16_is_close_to_float32(make_recipe: Any, tmp_path: Path) -> None:
    # At the recipe's own learning rate, rounding grows with every step, to 1 % of the loss.
    slow = {"optimizer.lr": 5e-4}
    full = train(make_recipe(slow), tmp_path / "full", progress=False)
    slow_half = {**slow, "train.precision": "bfloat16"}
    half = train(make_recipe(slow_half), tmp_path / "half", progress=False)
    assert half.loss == pytest.approx(full.loss, rel=2e-4)
    assert half.loss != full.loss


def test_every_period_ends_in_a_checkpoint_that_has_decayed(
    make_recipe: Any, tmp_path: Path
) -> None:
    schedule = {"kind": "wsds", "periods": [640, 1280], "warmup": 0, "decay": 0.4}
    result = train(make_recipe({"schedule": schedule, "log_every": 1, "checkpoint.every": 100}),
                   tmp_path, progress=False)  # fmt: skip
    assert [path.name for path in result.checkpoints] == ["step5", "step10", "step24"]
    rates = [row["lr"] / 0.005 for row in rows(tmp_path)]
    # Periods of 5, 5 and 14 steps, which fall over their last 2, 2 and 5.6.
    assert rates[:10] == pytest.approx([1, 1, 1, 0.75, 0.25] * 2)
    assert rates[10:18] == [1] * 8
    assert rates[-1] == pytest.approx(0.5 / 5.6)
    about = json.loads((tmp_path / "step5/checkpoint.json").read_text())
    assert about["lr"] == pytest.approx(0.25 * 0.005)


def test_the_seed_of_the_weights_is_not_that_of_the_data(make_recipe: Any) -> None:
    one, two = resolve(make_recipe()), resolve(make_recipe({"seed": 1}))
    assert (one.mixture.batch(3) == two.mixture.batch(3)).all()
    assert (one.mixture.batch(3) != resolve(make_recipe({"data.seed": 1})).mixture.batch(3)).any()
