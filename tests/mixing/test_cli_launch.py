"""``olmix launch`` and ``olmix collect`` from the command line."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from click.testing import CliRunner

from olmeval.cli.olmix import cli
from tests.engine.test_inloop import task_dir  # noqa: F401
from tests.trainer.conftest import RECIPE, corpus  # noqa: F401


@pytest.mark.parametrize("executor", ["process", pytest.param("ray", marks=pytest.mark.slow)])
def test_launch_and_collect(
    tmp_path: Path,
    corpus: Path,  # noqa: F811
    task_dir: Path,  # noqa: F811
    executor: str,
) -> None:
    if executor == "ray":
        pytest.importorskip("ray")
    recipe: dict[str, Any] = yaml.safe_load(RECIPE)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    table = pd.DataFrame({"run": ["a", "b"], "low": [0.8, 0.3], "high": [0.2, 0.7]})
    table.to_csv(tmp_path / "ratios.csv", index=False)

    def run(*arguments: object) -> str:
        result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
        assert result.exit_code == 0, result.output + repr(result.exception)
        return result.stdout

    out = tmp_path / "out"
    text = run(
        "launch", tmp_path / "ratios.csv", tmp_path / "recipe.yaml", f"data.root={corpus}",
        "train.tokens=1024", "--tasks", "words:bpb", "--task-path", task_dir, "--limit", 5,
        "--executor", executor, "--workers", 1, "--quiet", "--output", out,
    )  # fmt: skip
    assert "2 runs, 1 targets" in text and f"olmix fit {out}/ratios.csv" in text
    run("collect", out / "ratios.csv", out / "evals", "--output", tmp_path / "again")
    assert (tmp_path / "again/metrics.csv").read_text() == (out / "metrics.csv").read_text()
