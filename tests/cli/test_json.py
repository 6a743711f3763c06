"""What ``--json`` prints on standard output is JSON and nothing else, for both tools."""

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from olmeval.cli.main import cli
from olmeval.cli.olmix import cli as olmix
from tests.cli.runs import write_run

RUNS = ("good", "bad")
COMMANDS = [
    "results runs --json",
    "snr runs --json",
    "compare runs/good runs/bad --json",
    "compare runs/good runs/bad --groups --json",
    "gate record runs/good --json",
    "gate check runs/good --json --annotations",
    "table import runs -o t.parquet --json",
    "table query 'SELECT count(*) AS n FROM t' runs --json",
    "tasks list arc --json",
    "tasks new quiz --from quiz.jsonl --task-path own --json",
    "tasks show quiz --task-path own --json",
    "tasks validate --task-path own --json",
    "tasks preview quiz --task-path own --tokenizer {tokenizer} --json",
    "cache stats --json",
    "cache verify --json",
    "cache prune --all --dry-run --json",
    "doctor --json",
    "ladder plan --ladder olmo3 --json",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs and a question, in a folder that the commands share, in order."""
    root = tmp_path_factory.mktemp("json")
    for name in RUNS:
        run = write_run(root / "runs" / name, [1.0] * 40 + [float(name == "good")] * 10)
        info = json.loads((run / "run.json").read_text())
        info["model"] |= {"params": 7, "params_total": 9}
        (run / "run.json").write_text(json.dumps(info))
    (root / "quiz.jsonl").write_text('{"question": "1 + 1", "choices": ["2", "3"], "gold": 0}\n')
    (root / "own").mkdir()
    (root / "own/quiz.jsonl").write_text((root / "quiz.jsonl").read_text())
    return root


@pytest.mark.parametrize("line", COMMANDS)
def test_standard_output_is_json(
    line: str, folder: Path, tokenizer_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    if "gate check" in line and not Path("baseline.json").exists():
        CliRunner().invoke(cli, ["gate", "record", "runs/good"], catch_exceptions=False)
    words = shlex.split(line.replace("{tokenizer}", str(tokenizer_dir)))
    result = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) is not None


def test_olmix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    shares = rng.dirichlet([1, 1, 1], 16)
    rows = [",".join([f"r{k}", *map(str, row)]) for k, row in enumerate(shares)]
    Path("ratios.csv").write_text("run,a,b,c\n" + "\n".join(rows))
    scores = [f"r{k},{3 + np.exp(-2 * row[0])}" for k, row in enumerate(shares)]
    Path("metrics.csv").write_text("run,loss\n" + "\n".join(scores))
    Path("d.yaml").write_text(
        "domains: {a: {tokens: 100000}, b: {tokens: 100000}, c: {tokens: 100000}}\n"
    )

    def told(*words: str) -> Any:
        result = CliRunner().invoke(olmix, [*words, "--json"], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    assert told("swarm", "d.yaml", "-o", "swarm", "--runs", "8")["runs"] == 8
    assert told("fit", "ratios.csv", "metrics.csv", "-o", "fit", "--no-curve")["runs"] == 16
    assert told("predict", "fit", "ratios.csv", "metrics.csv")["scores"]
    assert told("optimize", "fit", "-o", "mix", "--refits", "0")["mixture"]
    assert told("report", "fit", "mix", "-o", "mix.html", "--refits", "5")
    assert told("upsample", "d.yaml", "a", "b", "--tokens", "50k")
