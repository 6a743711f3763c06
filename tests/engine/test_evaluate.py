"""Runs from end to end: against an independent scorer, killed, repeated, reordered, refused."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from olmeval.engine.evaluate import evaluate, evaluate_many
from olmeval.engine.settings import Settings
from olmeval.errors import UserError
from olmeval.metrics.choice import Choices, choice_metric
from olmeval.results.run import find_runs, long_table
from olmeval.results.segments import ModelStore
from olmeval.tasks.registry import load_task
from tests.backends.straight import StraightLine
from tests.conftest import make_checkpoint
from tests.engine.killing import run_killed
from tests.engine.private_tasks import write_boxes

CPU = Settings(device="cpu")
FILES = ("metrics.json", "responses.parquet", "instances.parquet", "requests.parquet")


@pytest.fixture(scope="session")
def task_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A private task with choices and clusters, made here."""
    return write_boxes(tmp_path_factory.mktemp("tasks"), 60)


SPEC = "boxes:rc"


def metrics(run) -> bytes:
    return (run.path / "metrics.json").read_bytes()


def test_scores_equal_an_independent_evaluation(checkpoint, task_dir, tmp_path) -> None:
    run = evaluate(checkpoint, [SPEC], output=tmp_path, settings=CPU, task_paths=[task_dir])
    straight = StraightLine(checkpoint)
    instances = load_task(SPEC, None, [task_dir]).instances()
    scored = [[straight.score(r) for r in i.requests] for i in instances]
    best = [max(range(len(s)), key=lambda k: s[k][0]) for s in scored]
    accuracy = np.mean([b == i.gold for b, i in zip(best, instances, strict=True)])
    result = run.metrics["tasks"]["boxes:rc:0shot"]
    assert result["metrics"]["acc_raw"]["value"] == pytest.approx(accuracy)
    bits = [
        -s[i.gold][0] / np.log(2) / len(i.requests[i.gold].continuation.encode())
        for s, i in zip(scored, instances, strict=True)
    ]
    assert result["metrics"]["bits_per_byte"]["value"] == pytest.approx(np.mean(bits), abs=1e-4)
    assert result["errors"] == 0
    assert result["metrics"]["acc_raw"]["n"] == 60


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_batch_size_and_task_order_change_nothing(pulled, checkpoint, tmp_path, batch_size) -> None:
    specs = ["arc_easy:rc:5shot", "arc_easy:bpb:5shot", "arc_challenge:mc:5shot"]
    reference = evaluate(checkpoint, specs, output=tmp_path / "a", settings=CPU, limit=20)
    settings = Settings(device="cpu", batch_size=batch_size)
    other = evaluate(checkpoint, specs[::-1], output=tmp_path / "b", settings=settings, limit=20)
    left, right = (long_table([r]).set_index(["task", "metric"]) for r in (reference, other))
    difference = (left["value"] - right["value"]).abs()
    assert len(difference) == len(left) == len(right)
    assert difference.max() < 1e-5


def test_500_real_requests_equal_the_straight_line(pulled, checkpoint, tmp_path) -> None:
    specs = ["arc_easy:rc:5shot", "arc_challenge:mc:5shot", "gsm8k:bpb", "codex_humaneval:bpb"]
    run = evaluate(checkpoint, specs, output=tmp_path, settings=CPU, limit=70)
    requests = pq.read_table(run.path / "requests.parquet").to_pylist()
    responses = pq.read_table(run.path / "responses.parquet").to_pylist()
    logprob = {r["key"]: r["logprob"] for r in responses}
    straight = StraightLine(checkpoint)
    from olmeval.requests import Request

    checked = 0
    for r in requests:
        request = Request("loglikelihood", r["context"], r["continuation"])
        assert logprob[r["key"]] == pytest.approx(straight.score(request)[0], abs=1e-4)
        checked += 1
    print(f"{checked} requests equal an independent scorer to 1e-4")
    assert checked >= 500


def test_rc_and_bpb_share_every_request(pulled, checkpoint, tmp_path) -> None:
    both = evaluate(
        checkpoint, ["arc_easy:rc:5shot", "arc_easy:bpb:5shot"], output=tmp_path / "both",
        settings=CPU, limit=10,
    )  # fmt: skip
    alone = evaluate(
        checkpoint, ["arc_easy:rc:5shot"], output=tmp_path / "rc", settings=CPU, limit=10
    )
    assert both.metrics["requests"] == alone.metrics["requests"]


def bytes_in(store: Path) -> int:
    return sum(file.stat().st_size for file in store.rglob("*.seg"))


@pytest.mark.slow
def test_a_run_killed_five_times_ends_with_the_same_files(checkpoint, tmp_path) -> None:
    task_dir = write_boxes(tmp_path, 300)
    command = [
        sys.executable, "-m", "olmeval.cli.main", "run", "--model", str(checkpoint), "--tasks",
        SPEC, "boxes:bpb", "--task-path", str(task_dir), "--device", "cpu", "--batch-size", "1",
    ]  # fmt: skip
    whole, killed = [
        [*command, "-o", str(tmp_path / name), "--store", str(tmp_path / f"{name}-store")]
        for name in ("whole", "killed")
    ]
    subprocess.run(whole, check=True, capture_output=True)
    seen = [0]

    def inferring() -> bool:
        """Answers came since the last kill."""
        size = bytes_in(tmp_path / "killed-store")
        fresh = size > seen[0]
        seen[0] = max(seen[0], size)
        return fresh

    hit = run_killed(killed, 5, inferring, 0.15, seed=1)
    print(f"{hit} of 5 kills hit the run at work")
    assert hit >= 3
    for name in FILES:
        expected = tmp_path / "whole" / checkpoint.name / name
        assert expected.read_bytes() == (tmp_path / "killed" / checkpoint.name / name).read_bytes()


def test_a_resumed_run_uses_what_is_stored(checkpoint, task_dir, tmp_path, monkeypatch) -> None:
    import olmeval.engine.infer as infer_module

    small = Settings(device="cpu", row_tokens=16)
    whole = evaluate(
        checkpoint, [SPEC], output=tmp_path / "w", settings=small, task_paths=[task_dir],
        store=tmp_path / "another",
    )  # fmt: skip
    put, stored, tries = ModelStore.put, [], []

    def stop_once(self, answers):
        tries.append(1)
        if len(tries) == 4:
            raise KeyboardInterrupt
        put(self, answers)
        stored.append(len(answers))

    monkeypatch.setattr(infer_module, "FLUSH_SECONDS", 0)
    monkeypatch.setattr(ModelStore, "put", stop_once)
    with pytest.raises(KeyboardInterrupt):
        evaluate(checkpoint, [SPEC], output=tmp_path / "k", settings=small, task_paths=[task_dir])
    # Ctrl-C keeps what was answered before it.
    assert len(stored) == 4
    again = evaluate(
        checkpoint, [SPEC], output=tmp_path / "k", settings=small, task_paths=[task_dir]
    )
    assert len(tries) > 5
    assert sum(stored) == pq.read_metadata(again.path / "responses.parquet").num_rows
    for name in FILES:
        assert (whole.path / name).read_bytes() == (again.path / name).read_bytes()


def test_many_checkpoints_and_the_long_table(checkpoint, tokenizer_dir, task_dir, tmp_path) -> None:
    run_dir = tmp_path / "myrun"
    for step in (2, 10):
        make_checkpoint(run_dir / f"step{step}", tokenizer_dir, seed=step)
        facts = {"run": "myrun", "step": step, "tokens": step * 100, "mix": "m", "seed": 1}
        (run_dir / f"step{step}" / "checkpoint.json").write_text(json.dumps(facts))
    runs = evaluate_many(
        [run_dir, checkpoint], [SPEC], output=tmp_path / "runs", settings=CPU,
        task_paths=[task_dir],
    )  # fmt: skip
    assert [r.path.name for r in runs] == ["myrun-step2", "myrun-step10", "tiny"]
    table = long_table(find_runs([tmp_path / "runs"]))
    assert sorted(table[table["run"] == "myrun"]["step"].unique()) == [2, 10]
    assert set(table[table["step"] == 10]["tokens"]) == {1000}
    assert table["params"].lt(table["params_total"]).all()


def test_clusters_widen_the_error(checkpoint, task_dir, tmp_path) -> None:
    folder = tmp_path / "tasks"
    shutil.copytree(task_dir, folder)
    text = (folder / "boxes.yaml").read_text()
    (folder / "boxes.yaml").write_text(
        text.replace("    split: test\n", "    split: test\n    cluster: '{passage}'\n")
    )  # fmt: skip
    # Three questions a passage: the passage repeats only where the coins agree, so make them agree.
    rows = [json.loads(line) for line in (folder / "boxes.jsonl").read_text().splitlines()]
    for k, row in enumerate(rows):
        row["passage"] = rows[k - k % 3]["passage"]
    (folder / "boxes.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    run = evaluate(checkpoint, [SPEC], output=tmp_path / "r", settings=CPU, task_paths=[folder])
    result = run.metrics["tasks"]["boxes:rc:0shot"]
    assert result["clusters"] == 20
    values = run.instances().query("metric == 'bits_per_byte'")["value"].to_numpy()
    residual = (values - values.mean()).reshape(20, 3).sum(1)
    by_hand = np.sqrt(20 / 19 * (residual**2).sum()) / 60
    assert result["metrics"]["bits_per_byte"]["stderr"] == pytest.approx(by_hand)


def test_what_does_not_fit_the_window_is_an_error_not_a_zero(
    checkpoint, task_dir, tmp_path
) -> None:
    folder = tmp_path / "tasks"
    shutil.copytree(task_dir, folder)
    rows = [json.loads(line) for line in (folder / "boxes.jsonl").read_text().splitlines()]
    rows[7]["choices"][2] = "far too long " * 60
    (folder / "boxes.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    settings = Settings(device="cpu", max_length=64)
    with pytest.raises(UserError, match="--allow-errors"):
        evaluate(checkpoint, [SPEC], output=tmp_path / "r", settings=settings, task_paths=[folder])
    run = evaluate(
        checkpoint, [SPEC], output=tmp_path / "r", settings=settings, task_paths=[folder],
        allow_errors=True,
    )  # fmt: skip
    result = run.metrics["tasks"]["boxes:rc:0shot"]
    assert result["errors"] == 1
    assert result["metrics"]["acc_raw"]["n"] == 59
    assert result["counters"]["truncated"] > 0
    status = run.instances().query("metric == 'acc_raw'").set_index("native_id")["status"]
    assert status["q7"] == "error"


def test_a_non_finite_score_is_an_error(tokenizer_dir, task_dir, tmp_path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    folder = make_checkpoint(tmp_path / "nan", tokenizer_dir)
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"] = torch.full_like(weights["lm_head.weight"], torch.nan)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="could not be scored"):
        evaluate(folder, [SPEC], output=tmp_path / "r", settings=CPU, task_paths=[task_dir])


def test_ties_share_credit_and_are_counted(checkpoint, task_dir, tmp_path) -> None:
    folder = tmp_path / "tasks"
    shutil.copytree(task_dir, folder)
    rows = [json.loads(line) for line in (folder / "boxes.jsonl").read_text().splitlines()]
    for row in rows:
        row["choices"] = ["same", "same"]
        row["answer"] = 1
    (folder / "boxes.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    run = evaluate(checkpoint, [SPEC], output=tmp_path / "r", settings=CPU, task_paths=[folder])
    result = run.metrics["tasks"]["boxes:rc:0shot"]
    assert result["metrics"]["acc_raw"]["value"] == 0.5
    assert result["counters"]["ties"] == 60


def test_choices_reject_what_numpy_would_hide() -> None:
    with pytest.raises(ValueError, match="unconditional"):
        choice_metric(
            "acc_uncond",
            Choices(*(np.zeros(1) for _ in range(4)), np.zeros(1, bool), np.array([0, 1]),
                    np.zeros(1, np.int64)),
        )  # fmt: skip


def olmeval(*args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "olmeval.cli.main", *args], cwd=cwd, capture_output=True, text=True,
        env={**os.environ, "COLUMNS": "200"}, check=False,
    )  # fmt: skip


def assert_one_sentence(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    for word in words:
        assert re.search(word, done.stderr), done.stderr


def test_bad_input_is_one_sentence(checkpoint, tokenizer_dir, task_dir, tmp_path) -> None:
    base = ("--tasks", SPEC, "--task-path", str(task_dir), "--device", "cpu")
    good = ("--model", str(checkpoint))
    done = olmeval("run", *good, "--tasks", "arc_esy:rc", cwd=tmp_path)
    assert_one_sentence(done, "unknown task 'arc_esy:rc'", "arc_easy")
    done = olmeval("run", "--model", "./nowhere", *base, cwd=tmp_path)
    assert_one_sentence(done, "'./nowhere' does not exist")

    bare = make_checkpoint(tmp_path / "bare", tokenizer_dir)
    for file in bare.glob("token*"):
        file.unlink()
    assert_one_sentence(olmeval("run", "--model", str(bare), *base, cwd=tmp_path), "tokenizer")

    cut = make_checkpoint(tmp_path / "cut", tokenizer_dir)
    weights = (cut / "model.safetensors").read_bytes()
    (cut / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    done = olmeval("run", "--model", str(cut), *base, cwd=tmp_path)
    assert_one_sentence(done, r"model\.safetensors' is truncated or corrupt")

    (tmp_path / "file").write_text("")
    done = olmeval("run", *good, *base, "--output", str(tmp_path / "file" / "x"), cwd=tmp_path)
    assert_one_sentence(done, "cannot write")
    done = olmeval("run", *good, *base, "--limit", "many", cwd=tmp_path)
    assert_one_sentence(done, "--limit many")
    done = olmeval("results", str(tmp_path / "bare"), cwd=tmp_path)
    assert_one_sentence(done, "holds no run")


def test_results_prints_and_exports(checkpoint, task_dir, tmp_path) -> None:
    evaluate(checkpoint, [SPEC], output=tmp_path / "runs", settings=CPU, task_paths=[task_dir])
    shown = olmeval("results", cwd=tmp_path)
    assert "boxes:rc:0shot" in shown.stdout
    assert "±" in shown.stdout
    rows = json.loads(olmeval("results", "--all-metrics", "--json", cwd=tmp_path).stdout)
    assert {r["metric"] for r in rows} >= {"acc_raw", "bits_per_byte"}
    done = olmeval("results", "--csv", "a.csv", "--parquet", "a.parquet", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(pq.read_table(tmp_path / "a.parquet")) == len(rows)
    assert len((tmp_path / "a.csv").read_text().splitlines()) == len(rows) + 1


def test_help_is_quick_and_imports_nothing_heavy(tmp_path) -> None:
    code = (
        "import sys; from olmeval.cli.main import cli;"
        "cli.main(['--help'], standalone_mode=False);"
        "heavy = {'torch', 'transformers', 'pandas', 'numpy', 'pyarrow', 'plotly', 'rich'};"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=tmp_path)
