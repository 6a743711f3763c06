"""Swarms: each proxy is the run that it would be alone, whatever happens to the others."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from olmeval.errors import UserError
from olmeval.executors.local import LocalPool
from olmeval.executors.registry import make_executor
from olmeval.files import sha256_file
from olmeval.trainer import swarm
from olmeval.trainer.loop import Live, train
from olmeval.trainer.recipe import EvaluationSpec, Recipe, resolve
from olmeval.trainer.swarm import SwarmResult, load_swarm, make_job, proxies, run_swarm, train_proxy

# Trains each recipe in a process of its own, forked before anything but the imports has happened.
ALONE = """
import os, sys
from pathlib import Path
from olmeval.trainer.loop import train
from olmeval.trainer.recipe import load_recipe
for file in sorted(Path(sys.argv[1]).glob("*.yaml")):
    child = os.fork()
    if child == 0:
        recipe = load_recipe(str(file))
        train(recipe, Path(sys.argv[1]) / recipe.name, progress=False)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
"""


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def mixtures(count: int) -> dict[str, dict[str, float]]:
    """Random mixtures of the corpus' three domains."""
    drawn = np.random.default_rng(count).dirichlet(np.ones(3), count)
    return {
        f"mix{k}": dict(zip(("low", "mid", "high"), row.tolist(), strict=True))
        for k, row in enumerate(drawn)
    }


def in_process(recipes: list[Recipe], output: Path, **settings: Any) -> SwarmResult:
    with make_executor("process") as executor:
        return run_swarm(recipes, output, executor=executor, progress=False, **settings)


def weights(output: Path, recipe: Recipe) -> str:
    return sha256_file(output / recipe.name / f"step{resolve(recipe).steps}/model.safetensors")


def table(output: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((output / "swarm.json").read_text())["proxies"]
    return rows


def test_the_table_says_what_was_trained_and_how_it_went(make_recipe: Any, tmp_path: Path) -> None:
    recipes = proxies(make_recipe(), mixtures(2), seeds=(0, 7))
    result = in_process(recipes, tmp_path)
    names = ["mix0-seed0", "mix1-seed0", "mix0-seed7", "mix1-seed7"]
    assert [p.run for p in result.proxies] == [p.folder for p in result.proxies] == names
    assert result.failed == ()
    for recipe, proxy, row in zip(recipes, result.proxies, table(tmp_path), strict=True):
        assert row == {**vars(proxy)}
        about = json.loads((tmp_path / proxy.folder / "step24/checkpoint.json").read_text())
        lines = [
            json.loads(line)
            for line in (tmp_path / proxy.folder / "metrics.jsonl").read_text().splitlines()
        ]
        for key in ("run", "mix", "seed", "params", "flops", "tokens"):
            assert row[key] == about[key]
        assert row["weights"] == about["mixture"]
        assert row["data_seed"] == recipe.data.seed == recipe.seed
        assert (row["status"], row["attempts"], row["error"]) == ("done", 1, None)
        assert row["loss"] == lines[-1]["loss"]
        # Three steps a line, but where a checkpoint ends one; 128 tokens a step.
        steps = np.diff([0, *(line["step"] for line in lines)])
        rates = np.array([line["tokens_per_second"] for line in lines])
        np.testing.assert_allclose(row["seconds"], (steps * 128 / rates).sum())


def test_neither_order_nor_company_changes_a_proxy(make_recipe: Any, tmp_path: Path) -> None:
    recipes = proxies(make_recipe(), mixtures(3))
    wider = make_recipe({"name": "wider", "model.hidden_size": 48, "seed": 3})
    recipes.append(wider)
    in_process(recipes, tmp_path / "one")
    in_process(recipes[::-1], tmp_path / "two")
    for recipe in recipes:
        train(recipe, tmp_path / "alone" / recipe.name, progress=False)
        alone = weights(tmp_path / "alone", recipe)
        assert weights(tmp_path / "one", recipe) == weights(tmp_path / "two", recipe) == alone
    assert len({weights(tmp_path / "one", recipe) for recipe in recipes}) == 4


def drawn(recipe: Recipe, domain: str) -> list[tuple[int, ...]]:
    """The instances of one domain, in the order in which the run sees them."""
    low, high = {"low": (1, 50), "high": (150, 300)}[domain]
    plan = resolve(recipe)
    rows = np.concatenate([plan.mixture.batch(step) for step in range(plan.steps)])
    of_domain = ((rows == 0) | ((rows >= low) & (rows < high))).all(axis=1)
    return [tuple(row) for row in rows[of_domain].tolist()]


def test_mixtures_share_their_random_numbers_and_seeds_do_not(make_recipe: Any) -> None:
    shares = {"a": {"low": 0.25, "high": 0.75}, "b": {"low": 0.75, "high": 0.25}}
    a, b, other, _ = proxies(make_recipe(), shares, seeds=(0, 1))
    assert (a.seed, b.seed, other.seed) == (0, 0, 1)
    for domain in ("low", "high"):
        few, many = sorted((drawn(a, domain), drawn(b, domain)), key=len)
        assert len(few) == 48 and len(many) == 144
        assert set(few) < set(many)
        assert len(drawn(other, domain)) == len(drawn(a, domain))
        assert drawn(other, domain) != drawn(a, domain)


def test_finished_proxies_are_left_alone_and_others_continue(
    make_recipe: Any, tmp_path: Path
) -> None:
    recipes = proxies(make_recipe(), mixtures(3))
    in_process(recipes, tmp_path)
    before = {recipe.name: weights(tmp_path, recipe) for recipe in recipes}
    shutil.rmtree(tmp_path / recipes[1].name / "step24")
    shutil.rmtree(tmp_path / recipes[2].name)
    (tmp_path / "swarm.json").unlink()
    kept = (tmp_path / recipes[0].name / "step24/model.safetensors").stat().st_mtime_ns
    half = (tmp_path / recipes[1].name / "step16/model.safetensors").stat().st_mtime_ns

    result = in_process(recipes, tmp_path)
    assert [p.attempts for p in result.proxies] == [0, 1, 1]
    assert {p.status for p in result.proxies} == {"done"}
    assert all(p.loss and p.seconds for p in result.proxies)
    assert {recipe.name: weights(tmp_path, recipe) for recipe in recipes} == before
    model = "step24/model.safetensors"
    assert (tmp_path / recipes[0].name / model).stat().st_mtime_ns == kept
    half_now = (tmp_path / recipes[1].name / "step16/model.safetensors").stat().st_mtime_ns
    assert half_now == half


def test_a_proxy_that_fails_does_not_stop_the_others(make_recipe: Any, tmp_path: Path) -> None:
    recipes = proxies(make_recipe(), mixtures(3))
    in_process(recipes[1:2], tmp_path)
    broken = tmp_path / recipes[1].name
    shutil.rmtree(broken / "step24")
    for file in (broken / "step16/train_state").glob("*.distcp"):
        file.write_bytes(b"nothing")
    result = in_process(recipes, tmp_path)
    assert [p.status for p in result.proxies] == ["done", "failed", "done"]
    [failed] = result.failed
    assert failed.error is not None and "cannot resume from" in failed.error
    assert table(tmp_path)[1]["error"] == failed.error
    assert (failed.loss, failed.seconds) == (None, None)
    shutil.rmtree(broken / "step16")
    again = in_process(recipes, tmp_path)
    assert [p.attempts for p in again.proxies] == [0, 1, 0] and not again.failed


def test_a_signal_ends_a_swarm_that_then_continues(make_recipe: Any, tmp_path: Path) -> None:
    def evaluate(spec: EvaluationSpec) -> Callable[[Live], Callable[[int], None]]:
        return lambda live: (
            lambda step: os.kill(os.getpid(), signal.SIGTERM) if step == 11 else None
        )

    recipes = proxies(make_recipe({"evaluation": {"tasks": ["arc_easy:bpb"]}}), mixtures(2))
    with pytest.raises(KeyboardInterrupt):
        in_process(recipes, tmp_path / "swarm", evaluate=evaluate)
    assert (tmp_path / "swarm" / recipes[0].name / "step11").exists()
    assert not (tmp_path / "swarm" / recipes[1].name).exists()
    result = in_process(recipes, tmp_path / "swarm", evaluate=lambda spec: lambda live: id)
    assert [p.status for p in result.proxies] == ["done", "done"]
    for recipe in recipes:
        train(recipe, tmp_path / "alone" / recipe.name, progress=False)
        assert weights(tmp_path / "swarm", recipe) == weights(tmp_path / "alone", recipe)


@pytest.mark.slow
def test_a_compiled_model_serves_one_proxy_after_another(make_recipe: Any, tmp_path: Path) -> None:
    recipes = proxies(make_recipe({"train.compile": "whole"}), mixtures(3))
    torch._dynamo.reset()  # other tests have compiled the same model
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    in_process(recipes[:1], tmp_path / "swarm")
    first = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    in_process(recipes, tmp_path / "swarm")
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == first > before
    for recipe in recipes[1:]:
        torch._dynamo.reset()
        train(recipe, tmp_path / "alone" / recipe.name, progress=False)
        assert weights(tmp_path / "swarm", recipe) == weights(tmp_path / "alone", recipe)


def test_a_proxy_whose_average_is_missing_is_not_finished(make_recipe: Any, tmp_path: Path) -> None:
    recipe = make_recipe({"checkpoint.average": 2})
    in_process([recipe], tmp_path)
    expected = sha256_file(tmp_path / "tiny/average/model.safetensors")
    shutil.rmtree(tmp_path / "tiny/average")
    [proxy] = in_process([recipe], tmp_path).proxies
    assert (proxy.status, proxy.attempts) == ("done", 1)
    assert sha256_file(tmp_path / "tiny/average/model.safetensors") == expected
    [proxy] = in_process([recipe], tmp_path).proxies
    assert (proxy.status, proxy.attempts) == ("done", 0)


def test_what_is_wrong_is_named_before_anything_is_trained(
    make_recipe: Any, tmp_path: Path
) -> None:
    good, bad = proxies(make_recipe(), mixtures(2))
    thirsty = bad.model_copy(update={"data": bad.data.model_copy(update={"max_epochs": 0.01})})
    with pytest.raises(UserError, match=f"^proxy '{bad.name}': .*max_epochs"):
        in_process([good, thirsty], tmp_path)
    with pytest.raises(UserError, match=f"two proxies are called '{good.name}'"):
        in_process([good, good], tmp_path)
    asks = make_recipe({"evaluation": {"tasks": ["arc_easy:bpb"]}})
    with pytest.raises(UserError, match="'tiny' asks for evaluation"):
        in_process([good, asks], tmp_path)
    assert not (tmp_path / good.name).exists()
    in_process([good], tmp_path)
    slower = good.model_copy(update={"optimizer": good.optimizer.model_copy(update={"lr": 1e-3})})
    with pytest.raises(UserError, match=f"^proxy '{good.name}': .*optimizer.lr was 0.005"):
        in_process([slower], tmp_path)


def test_one_swarm_at_a_time(make_recipe: Any, tmp_path: Path) -> None:
    held = []

    def evaluate(spec: EvaluationSpec) -> Callable[[Live], Callable[[int], None]]:
        def begin(live: Live) -> Callable[[int], None]:
            with pytest.raises(UserError, match="another process runs the swarm"):
                in_process([recipe], tmp_path)
            held.append(live.output)
            return lambda step: None

        return begin

    recipe = make_recipe({"evaluation": {"tasks": ["arc_easy:bpb"]}})
    in_process([recipe], tmp_path, evaluate=evaluate)
    assert held == [tmp_path / "tiny"]


def test_data_are_hashed_once(
    make_recipe: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def watching(recipe: Recipe) -> Any:
        seen.append(recipe.data.verify)
        return resolve(recipe)

    monkeypatch.setattr(swarm, "resolve", watching)
    monkeypatch.setattr("olmeval.trainer.loop.resolve", watching)
    monkeypatch.setattr("olmeval.trainer.runtime.resolve", watching)
    in_process(proxies(make_recipe({"data.verify": "hash"}), mixtures(3)), tmp_path)
    assert seen[0] == "hash" and len(seen) >= 6
    assert set(seen[1:]) == {"size"}


def test_progress_counts_tokens_even_of_what_was_there(make_recipe: Any, tmp_path: Path) -> None:
    recipe = make_recipe()
    job = make_job(recipe, resolve(recipe), tmp_path / "run", None)
    told: list[int] = []
    train_proxy(job, told.append)
    # Lines of three steps, but where a checkpoint ends one.
    steps = [0, 3, 6, 8, 9, 12, 15, 16, 18, 21, 24]
    assert told == [0, *(np.diff(steps) * 128).tolist()]
    shutil.rmtree(tmp_path / "run/step24")
    told.clear()
    train_proxy(job, told.append)
    assert told == [16 * 128, 2 * 128, 3 * 128, 3 * 128]


def test_a_swarm_in_a_file(make_recipe: Any, tmp_path: Path) -> None:
    path = tmp_path / "swarm.yaml"
    path.write_text(
        "recipe: cpu-0.7m\n"
        "overrides: {data.root: corpus, train.tokens: 2M}\n"
        "mixtures: {even: {low: 1, high: 1}, high: {high: 1}}\n"
        "seeds: [0, 1, 2]\n"
    )
    recipes = load_swarm(path)
    assert [r.name for r in recipes[:3]] == ["even-seed0", "high-seed0", "even-seed1"]
    assert len(recipes) == 6
    assert {(r.train.tokens, r.data.root, r.model.preset) for r in recipes} == {
        (2_000_000, Path("corpus"), "cpu-0.7m")
    }
    assert recipes[1].data.mixture == {"high": 1.0}
    assert recipes[1].data.mix_name == "high"
    path.write_text("recipe: cpu-0.7m\nmixtures: {'a b': {low: 1}}\n")
    with pytest.raises(UserError, match="mixture 'a b', seed 0: name"):
        load_swarm(path)
    path.write_text("recipe: cpu-0.7m\nmixture: {a: {low: 1}}\n")
    with pytest.raises(UserError, match=r"swarm.yaml:2: unknown key 'mixture'; did you mean"):
        load_swarm(path)


def kill_at(
    checkpoints: list[int], pool: LocalPool, recipes: list[Recipe], output: Path
) -> list[str]:
    """Kills a worker in the middle of a proxy whenever so many checkpoints are there.

    Returns the proxies that it hit.
    """
    rng, hit = random.Random(0), []
    deadline = time.monotonic() + 300
    while checkpoints and time.monotonic() < deadline:
        time.sleep(0.002)
        if len(list(output.glob("*/step*/checkpoint.json"))) < checkpoints[0]:
            continue
        busy = [slot for slot in list(pool._slots.values()) if slot.index is not None]
        if not busy:
            continue
        slot = rng.choice(busy)
        index, pid = slot.index, slot.worker._process.pid
        os.kill(pid, signal.SIGSTOP)
        recipe = recipes[index or 0]
        begun = (output / recipe.name / "run.json").exists()
        if index == slot.index and begun and not (output / recipe.name / "step40").exists():
            os.kill(pid, signal.SIGKILL)
            hit.append(recipe.name)
            checkpoints.pop(0)
        else:
            os.kill(pid, signal.SIGCONT)
    return hit


@pytest.mark.slow
def test_a_swarm_whose_workers_are_killed_ends_with_every_proxy_as_if_alone(
    make_recipe: Any, tmp_path: Path
) -> None:
    base = make_recipe({"train.tokens": 40 * 128})
    recipes = proxies(base, mixtures(8), seeds=(0, 1))
    output, hit = tmp_path / "swarm", []
    moments = sorted(random.Random(1).sample(range(2, 70), 3))
    with LocalPool(2, gpus_per_worker=0, threads=1) as pool:
        killer = threading.Thread(
            target=lambda: hit.extend(kill_at(moments, pool, recipes, output)), daemon=True
        )
        killer.start()
        # All three may hit the same proxy.
        result = run_swarm(recipes, output, executor=pool, retries=3, progress=False)
        killer.join(10)
    assert len(hit) == 3
    assert [p.status for p in result.proxies] == ["done"] * 16
    assert sum(p.attempts for p in result.proxies) == 16 + 3
    assert {p.run for p in result.proxies if p.attempts > 1} == set(hit)

    alone = tmp_path / "alone"
    alone.mkdir()
    for recipe in recipes:
        (alone / f"{recipe.name}.yaml").write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    subprocess.run(
        [sys.executable, "-c", ALONE, str(alone)],
        check=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    hashes = set()
    for recipe in recipes:
        expected = weights(alone, recipe)
        assert weights(output, recipe) == expected
        hashes.add(expected)
    assert len(hashes) == 16


@pytest.mark.slow
def test_proxies_share_a_gpu_on_ray(make_recipe: Any, tmp_path: Path) -> None:
    ray = pytest.importorskip("ray")
    ray.init("local", num_cpus=2, num_gpus=1, include_dashboard=False, log_to_driver=False)
    try:
        recipes = proxies(make_recipe(), mixtures(3))
        with make_executor("ray", gpus_per_worker=0.5) as executor:
            assert executor.workers == 2
            result = run_swarm(recipes, tmp_path / "ray", executor=executor, progress=False)
    finally:
        ray.shutdown()
    assert [p.status for p in result.proxies] == ["done"] * 3
    for recipe in recipes:
        train(recipe, tmp_path / "alone" / recipe.name, progress=False)
        assert weights(tmp_path / "ray", recipe) == weights(tmp_path / "alone", recipe)
