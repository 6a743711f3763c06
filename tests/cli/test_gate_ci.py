"""The shipped CI files: they are valid, and their script gates a tiny checkpoint."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml

from olmeval.analysis.gate_baseline import pack
from olmeval.analysis.gate_policy import load_policy
from tests.engine.private_tasks import write_boxes

EXAMPLES = Path(__file__).parents[2] / "examples" / "ci"


def steps(value: Any) -> list[str]:
    """Every shell line of a workflow."""
    if isinstance(value, dict):
        own = [v for k, v in value.items() if k == "run" and isinstance(v, str)]
        own += [line for line in value.get("script", []) if isinstance(line, str)]
        return own + [s for v in value.values() for s in steps(v)]
    if isinstance(value, list):
        return [s for v in value for s in steps(v)]
    return []


@pytest.mark.parametrize("name", ["github.yml", "gitlab.yml"])
def test_workflows_call_the_script(name: str) -> None:
    workflow = yaml.safe_load((EXAMPLES / name).read_text())
    lines = steps(workflow)
    assert 'ci/gate.sh "$CHECKPOINT"' in lines and "pip install olmeval" in lines


def test_the_policy_is_valid() -> None:
    assert load_policy(EXAMPLES / "gate.yaml").tolerance.absolute == 0.005


@pytest.mark.slow
def test_the_script_gates_a_tiny_checkpoint(checkpoint: Path, tmp_path: Path) -> None:
    tasks = write_boxes(tmp_path, 120)
    environment = {
        **os.environ, "GATE_TASKS": "boxes:rc", "GATE_POLICY": str(EXAMPLES / "gate.yaml"),
        "GATE_BASELINE": str(tmp_path / "baseline.json"), "GATE_OUTPUT": str(tmp_path / "gate"),
        "GATE_HISTORY": str(tmp_path / "history.jsonl"), "GITHUB_ACTIONS": "true",
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }  # fmt: skip
    command = [str(EXAMPLES / "gate.sh"), str(checkpoint), "--task-path", str(tasks)]

    def gate() -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    first = gate()
    assert first.returncode == 2, first.stderr
    assert "baseline.json' does not exist" in first.stderr
    record = ["olmeval", "gate", "record", "gate/runs", "-o", "baseline.json"]
    subprocess.run(record, cwd=tmp_path, env=environment, check=True, capture_output=True)
    assert gate().returncode == 0
    # A baseline that was right on every question: the same checkpoint is now worse.
    baseline = json.loads((tmp_path / "baseline.json").read_text())
    (score,) = baseline["tasks"].values()
    score.update(value=1.0, values=pack(np.ones(120)))
    (tmp_path / "baseline.json").write_text(json.dumps(baseline))
    worse = gate()
    assert worse.returncode == 1, worse.stderr
    assert "::error title=regressed%3A boxes%3Arc%3A0shot::" in worse.stdout
    assert "REGRESSED" in (tmp_path / "summary.md").read_text()
    assert ElementTree.parse(tmp_path / "gate" / "gate.xml").find(".//failure") is not None
    assert json.loads((tmp_path / "gate" / "gate.json").read_text())["exit_code"] == 1
    assert len((tmp_path / "history.jsonl").read_text().splitlines()) == 1
