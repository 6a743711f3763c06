"""Sharded runs, as torchrun starts them, on gloo: the numbers of a run alone, on any world."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from olmeval.errors import UserError
from olmeval.trainer.batches import Part
from olmeval.trainer.loop import train
from olmeval.trainer.model import init_weights
from olmeval.trainer.parallel import World, join, open_device
from olmeval.trainer.recipe import Recipe, resolve
from olmeval.trainer.runtime import build_runtime
from tests.trainer.conftest import RECIPE

SCRIPT = Path(__file__).parent / "train_rank.py"
WORLD = World(torch.device("cpu"))
Job = tuple[dict[str, Any], Path, bool]


def torchrun(ranks: int, jobs: list[Job], folder: Path) -> None:
    """Trains the jobs, (overrides, output, whether to stop at once), with ``ranks`` processes."""
    (folder / "tiny.yaml").write_text(RECIPE)
    (folder / "jobs.json").write_text(json.dumps(jobs, default=str))
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    script = [f"--nproc-per-node={ranks}", SCRIPT, folder / "tiny.yaml", folder / "jobs.json"]
    done = subprocess.run(
        [*launch, *script],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def lines(output: Path, key: str = "loss") -> list[float]:
    return [json.loads(r)[key] for r in (output / "metrics.jsonl").read_text().splitlines()]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    tensors: dict[str, torch.Tensor] = load_file(folder / "model.safetensors")
    return tensors


def same(one: Path, two: Path) -> bool:
    a, b = weights(one), weights(two)
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def steps(output: Path) -> list[str]:
    return sorted(path.name for path in output.glob("step*"))


def test_two_ranks_give_the_numbers_of_one(make_recipe: Any, corpus: Path, tmp_path: Path) -> None:
    """Two ranks against one process: whole, stopped, resumed on another world, in other ways."""
    data = {"data.root": str(corpus), "checkpoint.ema": 0.9}
    half = {**data, "train.precision": "bfloat16"}
    parts = {**data, "train.micro_batch_size": 3, "data.document_masking": True,
             "train.activation_checkpointing": "full", "checkpoint.asynchronous": True}  # fmt: skip
    copies = {**data, "train.replicate": 2, "train.micro_batch_size": 2}

    alone = train(make_recipe({"checkpoint.ema": 0.9}), tmp_path / "alone", progress=False)
    recipe = make_recipe(parts)
    train(recipe, tmp_path / "alone-parts", progress=False)
    stopped = train(
        make_recipe({"checkpoint.ema": 0.9}), tmp_path / "grown", progress=False, max_minutes=0
    )
    assert stopped.stopped == "the time is up"
    assert steps(tmp_path / "grown") == ["step1"]

    muon = {**data, "optimizer.kind": "muon", "train.tokens": 1024}
    start = {"checkpoint": str(alone.output / "step16"), "optimizer": True}
    later = {**data, "start": start, "model": {}, "train.tokens": 1024, "data.seed": 1}
    for name, overrides in (("alone-muon", muon), ("alone-later", later)):
        train(make_recipe(overrides), tmp_path / name, progress=False)

    names = ["whole", "stopped", "half", "half-stopped", "parts", "copies", "shrunk", "grown",
             "muon", "muon-stopped", "later"]  # fmt: skip
    (whole, cut, half_whole, half_cut, split, replicated, shrunk, grown, muon_whole, muon_cut,
     begun) = (tmp_path / name for name in names)  # fmt: skip
    torchrun(
        2,
        [
            (data, whole, False),
            (data, cut, True),
            (data, cut, False),
            (half, half_whole, False),
            (half, half_cut, True),
            (half, half_cut, False),
            (parts, split, False),
            (copies, replicated, False),
            (data, shrunk, True),
            (data, grown, False),
            (muon, muon_whole, False),
            (muon, muon_cut, True),
            (muon, muon_cut, False),
            (later, begun, False),
        ],
        tmp_path,
    )
    assert lines(whole) == pytest.approx(lines(alone.output), abs=1e-6)
    assert lines(whole, "grad_norm") == pytest.approx(lines(alone.output, "grad_norm"), rel=1e-4)
    assert lines(split) == pytest.approx(lines(tmp_path / "alone-parts"), abs=2e-5)
    assert lines(split) != pytest.approx(lines(whole), abs=1e-3)
    assert lines(replicated) == pytest.approx(lines(whole), abs=2e-5)
    assert lines(half_whole) == pytest.approx(lines(whole), rel=1e-2)
    assert lines(half_whole) != lines(whole)

    assert lines(begun) == pytest.approx(lines(tmp_path / "alone-later"), abs=2e-5)
    # Muon orthogonalises in bfloat16, whatever the precision of the rest.
    assert lines(muon_whole) == pytest.approx(lines(tmp_path / "alone-muon"), abs=1e-3)
    assert same(muon_whole / "step8", muon_cut / "step8")

    # Stopped at a step between checkpoints and resumed: bit for bit, and no trace left.
    for one, two in ((whole, cut), (half_whole, half_cut)):
        assert steps(one) == steps(two) == ["step16", "step24", "step8"]
        for step in steps(one):
            assert same(one / step, two / step)
            assert same(one / step / "ema", two / step / "ema")
        assert lines(one) == lines(two)

    # Two ranks to one, and one to two.
    assert steps(shrunk) == ["step3"]
    result = train(make_recipe({"checkpoint.ema": 0.9}), shrunk, progress=False)
    assert result.resumed_from == 3
    for other in (shrunk, grown):
        assert lines(other) == pytest.approx(lines(whole), abs=2e-5)
        for key, value in weights(other / "step24").items():
            torch.testing.assert_close(value, weights(whole / "step24")[key], rtol=0, atol=1e-3)


def test_worlds_that_do_not_add_up_are_refused() -> None:
    assert join("cpu").size == 1
    with pytest.raises(UserError, match=r"train.shard 2 .* number of processes, 1"):
        join("cpu", shard=2)
    with pytest.raises(UserError, match=r"train.replicate 3 is not the number of processes, 1"):
        join("cpu", replicate=3)
    with pytest.raises(UserError, match="'cuda:99' does not work here"):
        open_device("cuda:99")


LEAVES = """
import atexit, glob
def late():
    names = [open(f).read() for f in glob.glob("/proc/self/task/*/comm")]
    print(before, sum("gloo" in name for name in names))
atexit.register(late)  # runs after what join registers
from olmeval.trainer.parallel import join
import torch.distributed as dist
def work():
    world = join("cpu")
    dist.all_gather_object([None], "x", group=world.files)
    names = [open(f).read() for f in glob.glob("/proc/self/task/*/comm")]
    return sum("gloo" in name for name in names)
before = work()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="threads are listed in /proc")
def test_no_thread_of_a_group_outlives_the_interpreter() -> None:
    alone = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    done = subprocess.run(
        [sys.executable, "-c", LEAVES],
        env={**os.environ, **alone},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    before, after = map(int, done.stdout.split())
    assert before > 0
    assert after == 0


def test_a_fraction_of_activations_needs_the_compiler(make_recipe: Any) -> None:
    with pytest.raises(UserError, match=r"a fraction is up to the compiler; set train.compile"):
        build_runtime(resolve(make_recipe({"train.activation_checkpointing": 0.3})), WORLD)


@pytest.mark.parametrize(
    ("recompute", "compiled"),
    [
        ("full", None),
        pytest.param("full", "block", marks=pytest.mark.slow),
        pytest.param(0.3, "whole", marks=pytest.mark.slow),
    ],
)
def test_recomputation_and_compilation_change_no_number(
    make_recipe: Any, recompute: str | float, compiled: str | None
) -> None:
    plain = gradients(make_recipe())
    wrapped = gradients(
        make_recipe({"train.activation_checkpointing": recompute, "train.compile": compiled})
    )
    assert plain.keys() == wrapped.keys()
    for name, value in plain.items():
        torch.testing.assert_close(wrapped[name], value, rtol=1e-4, atol=1e-6)


def test_full_recomputation_keeps_less(make_recipe: Any) -> None:
    kept = {}
    for mode in (None, "full"):
        runtime = build_runtime(
            resolve(make_recipe({"train.activation_checkpointing": mode})), WORLD
        )
        init_weights(runtime.model, 0)
        total = 0

        def count(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal total
            total += tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            runtime.model.model(torch.zeros(4, 16, dtype=torch.int64))
        kept[mode] = total
    assert kept["full"] < kept[None] / 4


def test_float8_without_torchao_is_named(make_recipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchao.float8", None)
    with pytest.raises(UserError, match=r"train.float8 needs torchao; install it"):
        build_runtime(resolve(make_recipe({"train.float8": True})), WORLD)


def gradients(recipe: Recipe) -> dict[str, torch.Tensor]:
    """Of the first batch of a recipe, in a fresh runtime."""
    plan = resolve(recipe)
    runtime = build_runtime(plan, WORLD)
    init_weights(runtime.model, 0)
    part = Part(torch.from_numpy(plan.mixture.batch(0)), None, None)
    runtime.backward(part, plan.batch_tokens, last=True)
    return {name: p.grad for name, p in runtime.model.named_parameters()}


@pytest.mark.slow
def test_a_batch_that_ranks_cannot_share_is_named(corpus: Path, tmp_path: Path) -> None:
    job = ({"data.root": str(corpus), "train.batch_size": 7}, tmp_path / "run", False)
    with pytest.raises(AssertionError, match="batch_size 7 cannot be split over 2 ranks"):
        torchrun(2, [job], tmp_path)
