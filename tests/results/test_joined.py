"""Numbered folders of one checkpoint: read as one run wherever runs are compared."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from olmeval.analysis.compare import compare_runs
from olmeval.cli.main import cli
from olmeval.errors import UserError
from olmeval.mixing.launch import collect
from olmeval.results.run import JoinedRun, Run, find_runs, joined, long_table
from olmeval.results.table import load_table
from tests.reports.pages import make_run

RNG = np.random.default_rng(3)
N = 60


def answers(rate: float, n: int = N) -> list[float]:
    return (RNG.random(n) < rate).astype(float).tolist()


def beside(
    folder: Path, of: str, tasks: dict[str, list[float]], called: str | None = None, **trained: Any
) -> Path:
    """A numbered folder of the model ``of``, as `olmeval run` leaves it."""
    make_run(folder, tasks, **trained)
    info = json.loads((folder / "run.json").read_text())
    info["beside"] = {"folder": folder.name, "run": called or of}
    info["model"] |= {"name": of, "fingerprint": of}
    (folder / "run.json").write_text(json.dumps(info))
    return folder


def first(folder: Path, tasks: dict[str, list[float]], **trained: Any) -> Path:
    make_run(folder, tasks, **trained)
    info = json.loads((folder / "run.json").read_text())
    info["model"] |= {"name": folder.name, "fingerprint": folder.name}
    (folder / "run.json").write_text(json.dumps(info))
    return folder


def call(*words: object) -> str:
    result = CliRunner().invoke(cli, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    """Models a and b with the tasks x, y and z: in one folder each, and spread over two."""
    whole, split = tmp_path / "whole", tmp_path / "split"
    for name, rate in (("a", 0.7), ("b", 0.4)):
        tasks = {task: answers(rate) for task in "xyz"}
        first(whole / name, tasks)
        first(split / name, {task: tasks[task] for task in "xy"})
        # One task is in both folders.
        beside(split / f"{name}-2", name, {task: tasks[task] for task in "yz"})
    return whole, split


def test_they_are_one_run_of_the_table(two: tuple[Path, Path]) -> None:
    whole, split = (load_table([folder]) for folder in two)
    key = ["run", "task"]
    left, right = (table.sort_values(key).reset_index(drop=True) for table in (whole, split))
    pd.testing.assert_frame_equal(left, right)


def test_they_are_compared_as_one_run(two: tuple[Path, Path]) -> None:
    """Holm's correction, too, is over the tasks of all folders."""
    whole, split = (compare_runs(joined(find_runs([folder]))) for folder in two)
    pd.testing.assert_frame_equal(whole, split)
    assert len(whole) == 3
    assert call("compare", two[0], "--json") == call("compare", two[1], "--json")
    flips = [folder.parent / f"{folder.name}.csv" for folder in two]
    for folder, file in zip(two, flips, strict=True):
        call("compare", folder, "--flips", file)
    assert flips[0].read_bytes() == flips[1].read_bytes()


def test_they_are_one_baseline_and_one_run_to_check(two: tuple[Path, Path], tmp_path: Path) -> None:
    said = []
    for folder in two:
        file = tmp_path / f"{folder.name}.json"
        call("gate", "record", folder / "a", *folder.glob("a-2"), "-o", file)
        shown = CliRunner().invoke(cli, ["gate", "check", str(folder), "--baseline", str(file)])
        assert "holds 2 runs" in str(shown.exception)
        for other in folder.glob("b*"):
            other.rename(tmp_path / f"{folder.name}-{other.name}")
        shown = CliRunner().invoke(cli, ["gate", "check", str(folder), "--baseline", str(file)])
        said.append((shown.exit_code, shown.output))
    assert said[0] == said[1] and said[0][0] == 0
    assert (tmp_path / "whole.json").read_text() == (tmp_path / "split.json").read_text()


def test_another_limit_stays_apart(tmp_path: Path) -> None:
    first(tmp_path / "runs" / "a", {"x": answers(0.5)})
    folder = beside(tmp_path / "runs" / "a-2", "a", {"x": answers(0.5, 9)}, "a-limit9")
    assert [run.name for run in joined(find_runs([tmp_path / "runs"]))] == ["a", "a-limit9"]
    assert len(load_table([tmp_path / "runs"])) == 2
    shown = call("results", tmp_path / "runs")
    assert "a-limit9" in shown and shown.split()[0] == "run"
    assert call("results", folder).split()[0] == "model"
    # A name that a person gives beats ours.
    folder.rename(tmp_path / "runs" / "quick")
    assert Run(tmp_path / "runs" / "quick").name == "quick"


def test_what_cannot_be_joined_stays_apart(tmp_path: Path) -> None:
    first(tmp_path / "runs" / "a", {"x": answers(0.5)})
    beside(tmp_path / "runs" / "a-2", "a", {"y": answers(0.5)})
    other = beside(tmp_path / "runs" / "a-3", "a", {"x": answers(0.5), "z": answers(0.5)})
    metrics = json.loads((other / "metrics.json").read_text())
    metrics["tasks"]["x"]["hash"] = "another"
    (other / "metrics.json").write_text(json.dumps(metrics))
    unfinished = beside(tmp_path / "runs" / "a-4", "a", {"v": answers(0.5)})
    (unfinished / "metrics.json").unlink()
    shown = joined(find_runs([tmp_path / "runs"]))
    assert [type(run) for run in shown] == [JoinedRun, Run, Run]
    assert [run.path.name for run in shown] == ["a", "a-3", "a-4"]
    expected = pytest.raises(UserError, match="there twice, first task 'x'")
    with pytest.warns(match="1 unfinished runs are left out"), expected:
        load_table([tmp_path / "runs"])


def test_copies_without_a_number_are_runs_of_their_own(tmp_path: Path) -> None:
    for name in ("a", "a-2"):
        first(tmp_path / name, {"x": answers(0.5)}, run="same", step=1)
    assert len(joined(find_runs([tmp_path]))) == 2


def test_counts_are_added_and_errors_seen(tmp_path: Path) -> None:
    first(tmp_path / "a", {"x": answers(0.5)})
    folder = beside(tmp_path / "a-2", "a", {"y": [*answers(0.5), float("nan")]})
    for path, requests in ((tmp_path / "a", 5), (folder, 7)):
        metrics = json.loads((path / "metrics.json").read_text())
        tokens = {"naive": 10 * requests, "planned": requests}
        (path / "metrics.json").write_text(
            json.dumps({**metrics, "requests": requests, "tokens": tokens})
        )
    info = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**info, "status": "errors"}))
    (run,) = joined(find_runs([tmp_path]))
    assert run.metrics["requests"] == 12 and run.metrics["errors"] == 1
    assert run.metrics["tokens"] == {"naive": 120, "planned": 12}
    assert run.info["status"] == "errors" and set(run.info["tasks"]) == {"x", "y"}
    assert len(run.instances()) == 2 * N + 1


def test_a_swarm_is_collected_from_numbered_folders(tmp_path: Path) -> None:
    pd.DataFrame({"run": ["a", "b"], "d": [0.2, 0.7], "e": [0.8, 0.3]}).to_csv(
        tmp_path / "ratios.csv", index=False
    )
    for name in ("a", "b"):
        first(tmp_path / "evals" / name, {"x": answers(0.5)})
        beside(tmp_path / "evals" / f"{name}-2", name, {"y": answers(0.5)})
        beside(tmp_path / "evals" / f"{name}-3", name, {"x": answers(0.5, 9)}, f"{name}-limit9")
    done = collect(tmp_path / "ratios.csv", [tmp_path / "evals"], tmp_path / "out")
    assert (done.rows, done.targets) == (2, ("x", "y"))
    table = long_table(find_runs([tmp_path / "evals"])).set_index(["run", "task"])["value"]
    made = pd.read_csv(tmp_path / "out" / "metrics.csv", index_col="run")
    assert made.stack().to_dict() == pytest.approx(table.loc[["a", "b"]].to_dict())
