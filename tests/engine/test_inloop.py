"""Evaluation inside training: the right numbers, no trace in the weights, whole after a kill."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from olmeval.engine.evaluate import evaluate
from olmeval.engine.inloop import InLoop, watch_with
from olmeval.engine.settings import Settings
from olmeval.errors import UserError
from olmeval.results.run import Run
from olmeval.trainer.loop import Live, train
from olmeval.trainer.recipe import EvaluationSpec, Recipe
from tests.trainer.conftest import corpus, make_recipe  # noqa: F401

TASKS = """
families:
  words:
    summary: Words that follow words.
    split: test
    splits: {test: [{file: words.jsonl}]}
    default: rc
    formats:
      rc: {prompt: "{question}", gold: "{answer}", primary: acc_raw, num_shots: 0}
      bpb: {prompt: "{question}", gold: "{answer}", primary: bits_per_byte, num_shots: 0}
      genqa: {prompt: "{question}", references: "{answers}", grader: squad, primary: f1,
              sampling: {max_tokens: 4}, num_shots: 0}
"""
SPECS = ["words:rc", "words:bpb"]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def task_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A task over the corpus' words, some questions longer than the models' window."""
    folder = tmp_path_factory.mktemp("tasks")
    rng = np.random.default_rng(0)

    def words(n: int) -> str:
        return " ".join(f"w{k}" for k in rng.integers(1, 300, n))

    rows = []
    for k in range(40):
        choices = [f"{words(int(rng.integers(1, 4)))}" for _ in range(3)]
        answer = int(rng.integers(3))
        rows.append({"id": str(k), "question": f"w1 w2 {words(4 + k % 12)}", "choices": choices,
                     "answer": answer, "answers": choices[:1]})  # fmt: skip
    (folder / "words.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    (folder / "words.yaml").write_text(TASKS)
    return folder


@pytest.fixture
def recipe(make_recipe: Any, task_dir: Path) -> Any:  # noqa: F811
    """A function from dotted overrides to a recipe whose tasks are scored every five steps."""

    def make(**overrides: Any) -> Recipe:
        spec = {"tasks": SPECS, "every": 5, "limit": 30, "task_paths": [str(task_dir)]}
        found: Recipe = make_recipe({"evaluation": spec, **overrides})
        return found

    return make


def run(recipe: Recipe, output: Path, **kw: Any) -> Path:
    watch = watch_with(recipe.evaluation) if recipe.evaluation else None
    train(recipe, output, watch=watch, progress=False, **kw)
    return output


def rows(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "eval.jsonl").read_text().splitlines()]


def weights(output: Path) -> list[bytes]:
    return [(output / f"step{k}/model.safetensors").read_bytes() for k in (8, 16, 24)]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_watched_run_has_the_weights_of_an_unwatched_one(
    recipe: Any,
    make_recipe: Any,  # noqa: F811
    tmp_path: Path,
    precision: str,
) -> None:
    watched = run(recipe(**{"train.precision": precision}), tmp_path / "watched")
    alone = run(make_recipe({"train.precision": precision}), tmp_path / "alone")
    assert weights(watched) == weights(alone)
    about = [json.loads((p / "step24/checkpoint.json").read_text()) for p in (watched, alone)]
    assert about[0] == about[1]
    assert not (alone / "eval.jsonl").exists()
    assert sorted({r["step"] for r in rows(watched)}) == [5, 10, 15, 20, 24]


def test_the_numbers_are_those_of_the_checkpoints(
    recipe: Any, task_dir: Path, tmp_path: Path
) -> None:
    run(recipe(**{"evaluation.every": 8}), tmp_path / "run")
    found = rows(tmp_path / "run")
    for step in (8, 16, 24):
        checkpoint = tmp_path / f"run/step{step}"
        want = evaluate(
            checkpoint, SPECS, output=tmp_path / "runs", limit=30, task_paths=[task_dir],
            settings=Settings(device="cpu"), store=tmp_path / "store",
        )  # fmt: skip
        table = {(r["task"], r["metric"]): r for r in Run(want.path).rows()}
        mine = {(r["task"], r["metric"]): r for r in found if r["step"] == step}
        assert mine.keys() == table.keys()
        assert len(mine) > 4
        for key, row in mine.items():
            for name in ("value", "stderr"):
                assert row[name] == pytest.approx(table[key][name], abs=1e-5)
            for name in ("n", "tokens", "primary", "higher_is_better"):
                assert row[name] == table[key][name]
            assert row["errors"] == 0
    first, last = (
        next(r["value"] for r in found if (r["step"], r["metric"]) == (step, "bits_per_byte"))
        for step in (8, 24)
    )
    assert first != last


class Stop(Exception):
    pass


def test_an_interrupted_run_ends_with_the_same_rows(recipe: Any, tmp_path: Path) -> None:
    whole = run(recipe(), tmp_path / "whole")
    broken = tmp_path / "broken"

    def stop(path: Path) -> None:
        raise Stop

    with pytest.raises(Stop):
        run(recipe(), broken, on_checkpoint=stop)
    assert {r["step"] for r in rows(broken)} == {5}
    # Rows of steps after the checkpoint and half a line, as a kill leaves them.
    with (broken / "eval.jsonl").open("a") as file:
        file.write(json.dumps({**rows(whole)[0], "step": 10}) + '\n{"step": 10, "tas')
    run(recipe(), broken)
    assert (broken / "eval.jsonl").read_bytes() == (whole / "eval.jsonl").read_bytes()
    assert weights(broken) == weights(whole)
    # Once more: nothing is left to do, and nothing is lost.
    run(recipe(), broken)
    assert (broken / "eval.jsonl").read_bytes() == (whole / "eval.jsonl").read_bytes()


KILLED = """
import sys, torch
from pathlib import Path
from olmeval.config import parse_config
from olmeval.engine.inloop import watch_with
from olmeval.trainer.loop import train
from olmeval.trainer.recipe import Recipe
torch.set_num_threads(1)
recipe = parse_config(Path(sys.argv[1]).read_text(), Recipe, "recipe")
train(recipe, Path(sys.argv[2]), watch=watch_with(recipe.evaluation), progress=False)
"""


def test_killed_at_any_instant(recipe: Any, tmp_path: Path) -> None:
    long = recipe(**{"train.tokens": 9_600, "checkpoint.every": 10, "evaluation.every": 1})
    whole = run(long, tmp_path / "whole")
    (tmp_path / "recipe.yaml").write_text(long.model_dump_json())
    broken = tmp_path / "broken"
    command = [sys.executable, "-c", KILLED, str(tmp_path / "recipe.yaml"), str(broken)]
    rng = np.random.default_rng(0)
    file, killed_at = broken / "eval.jsonl", 0
    for _ in range(2):
        # Killed when it has written so much, however slow the machine is.
        killed_at += int((whole / "eval.jsonl").stat().st_size * rng.uniform(0.2, 0.4))
        process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
        while process.poll() is None and (not file.exists() or file.stat().st_size < killed_at):
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    run(long, broken)
    assert file.read_bytes() == (whole / "eval.jsonl").read_bytes()


def test_its_time_is_no_training_time(make_recipe: Any, tmp_path: Path) -> None:  # noqa: F811
    def dawdle(_: Live) -> Any:
        return lambda _step: time.sleep(0.7)

    train(make_recipe({"train.tokens": 384}), tmp_path, watch=dawdle, progress=False)
    line = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[0])
    assert line["tokens_per_second"] > 128 / 0.7 * 1.5


def test_it_says_what_it_found_and_what_it_cost(recipe: Any, tmp_path: Path) -> None:
    said: list[str] = []
    spec = recipe().evaluation

    def watch(live: Live) -> InLoop:
        return InLoop(spec, Live(live.model, live.plan, live.output, live.step, said.append))

    train(recipe(), tmp_path, watch=watch, progress=False)
    assert said[0].startswith("every 5 steps: ")
    assert "questions of 2 tasks" in said[0]
    assert len(said) == 6
    assert said[1].startswith("step 5: words:rc:0shot 0.")
    assert "words:bpb:0shot " in said[1]
    assert said[1].endswith("% of training)")


def test_questions_that_do_not_fit_are_errors_and_said(recipe: Any, tmp_path: Path) -> None:
    narrow = recipe(**{"train.seq_len": 2, "model.max_position_embeddings": 2})
    run(narrow, tmp_path)
    found = [
        r
        for r in rows(tmp_path)
        if r["metric"] == "bits_per_byte" and r["task"] == "words:bpb:0shot"
    ]
    assert found
    assert all(r["errors"] > 0 and r["errors"] + r["n"] == 30 for r in found)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"evaluation.tasks": ["words:genqa"]}, "'words:genqa:0shot' generates"),
        ({"evaluation.tasks": ["wrds:rc"]}, "did you mean 'words'"),
    ],
)
def test_bad_tasks_are_refused_before_the_first_step(
    recipe: Any, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        run(recipe(**change), tmp_path)
    assert (tmp_path / "metrics.jsonl").read_text() == ""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"evaluation.tasks": []}, r"evaluation.tasks: .*at least 1"),
        ({"evaluation.every": 0}, r"evaluation.every: .*greater than 0"),
        ({"evaluation.evry": 3}, "unknown key 'evaluation.evry'; did you mean 'every'"),
    ],
)
def test_bad_settings_name_the_key(recipe: Any, change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        recipe(**change)


def test_other_tasks_may_be_asked_on_resumption(recipe: Any, tmp_path: Path) -> None:
    def stop(path: Path) -> None:
        raise Stop

    with pytest.raises(Stop):
        run(recipe(), tmp_path, on_checkpoint=stop)
    run(recipe(**{"evaluation.tasks": ["words:bpb"]}), tmp_path)
    tasks = {step: {r["task"] for r in rows(tmp_path) if r["step"] == step} for step in (5, 24)}
    assert tasks == {5: {"words:rc:0shot", "words:bpb:0shot"}, 24: {"words:bpb:0shot"}}


def test_spec_defaults() -> None:
    spec = EvaluationSpec(tasks=("words",))
    assert (spec.every, spec.limit) == (200, 100)
