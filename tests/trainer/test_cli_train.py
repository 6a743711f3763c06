"""``olmeval train`` as a person types it: output, and one sentence with exit code 2."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from olmeval.cli.main import cli, run_cli

FAST = ["train.seq_len=16", "train.batch_size=4", "train.tokens=640", "checkpoint.every=5"]


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of ``olmeval train ARGUMENTS``."""
    before, sys.argv = sys.argv, ["olmeval", "train", *arguments]
    try:
        with pytest.raises(SystemExit) as caught:
            run_cli(cli, "olmeval")
    finally:
        sys.argv = before
    out, err = capsys.readouterr()
    return int(caught.value.code or 0), out, err


def test_train_then_json(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["cpu-0.7m", *FAST, f"data.root={corpus}", "--output", str(tmp_path / "run")]
    code, out, _ = call(capsys, *arguments)
    assert code == 0
    assert "10 steps, 640 tokens" in out
    assert f"checkpoints in {tmp_path / 'run'}: 2" in out
    code, out, _ = call(capsys, *arguments, "--json")
    assert code == 0
    assert json.loads(out)["resumed_from"] == 10


def test_tasks_are_scored_on_the_way(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {"id": "1", "question": "w1 w2", "choices": ["w3", "w4"], "answer": 0}
    (tmp_path / "two.jsonl").write_text(json.dumps(row) + "\n")
    (tmp_path / "two.yaml").write_text(
        "families: {two: {summary: Two words., split: test, splits: {test: [{file: two.jsonl}]}, "
        'default: rc, formats: {rc: {prompt: "{question}", gold: "{answer}", primary: acc_raw, '
        "num_shots: 0}}}}\n"
    )
    arguments = ["cpu-0.7m", *FAST, f"data.root={corpus}", "--output", str(tmp_path / "run"),
                 "evaluation.tasks=[two:rc]", "evaluation.every=4",
                 f"evaluation.task_paths=[{tmp_path}]"]  # fmt: skip
    code, out, _ = call(capsys, *arguments, "--show")
    assert code == 0
    assert "two:rc every 4 steps, 100 documents each" in out
    code, _, err = call(capsys, *arguments)
    assert code == 0
    assert "step 8: two:rc:0shot " in err
    found = [json.loads(r) for r in (tmp_path / "run/eval.jsonl").read_text().splitlines()]
    assert [(r["step"], r["tokens"]) for r in found if r["primary"]] == [
        (4, 256), (8, 512), (10, 640)
    ]  # fmt: skip


def test_show_writes_nothing(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["cpu-0.7m", *FAST, f"data.root={corpus}", "--output", str(tmp_path / "run")]
    code, out, _ = call(capsys, *arguments, "--show")
    assert code == 0
    assert "learning rate" in out
    assert "mid" in out
    code, out, _ = call(capsys, *arguments, "--show", "--json")
    assert json.loads(out)["steps"] == 10
    assert not (tmp_path / "run").exists()


def test_bad_input_is_one_sentence_and_exit_code_2(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("name: x\noptimiser: {lr: 1}\n")
    broken = tmp_path / "broken"
    shutil.copytree(corpus, broken)
    (broken / "low/00000.bin").write_bytes(b"ab")
    data, output = f"data.root={corpus}", ["--output", str(tmp_path / "run")]
    cases = [
        (["cpu-0.7", data, *output], "did you mean 'cpu-0.7m'"),
        ([str(recipe), *output], "mine.yaml:2: unknown key 'optimiser'; did you mean 'optimizer'"),
        (["cpu-0.7m", data, "optimizer.LR=1", *output], "unknown key 'optimizer.LR'"),
        (["cpu-0.7m", data, "seed", *output], "'seed' is not KEY=VALUE"),
        (["cpu-0.7m", data, "seed=[", *output], "not valid YAML"),
        (["cpu-0.7m", "data.root=nowhere", *output], "'nowhere' has no manifest.json"),
        (["cpu-0.7m", data, "data.mixture={low: 0.5}", *output], "sums to 0.5, not 1"),
        (["cpu-0.7m", data, "data.mixture={lo: 1}", *output], "'lo'"),
        (["cpu-0.7m", f"data.root={broken}", *output], "low/00000.bin' is truncated"),
        (["cpu-0.7m", data, *FAST, "--output", str(tmp_path / "file/x")], "cannot write"),
    ]
    for arguments, message in cases:
        code, _, err = call(capsys, *arguments)
        assert code == 2, arguments
        assert message in err, err
        assert err.startswith("olmeval: ")
        assert err.count("\n") == 1, err
    code, _, err = call(capsys, "cpu-0.7m", data)
    assert code == 2
    assert "--output" in err
