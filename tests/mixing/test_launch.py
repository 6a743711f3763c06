"""A swarm trained and scored: tables that pair every run with its own mixture."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from olmeval.errors import UserError
from olmeval.executors.inprocess import InProcess
from olmeval.mixing.domains import DomainsFile, build_domains
from olmeval.mixing.evidence import save_evidence
from olmeval.mixing.launch import collect, launch
from olmeval.mixing.tables import read_swarm
from tests.engine.test_inloop import task_dir  # noqa: F401
from tests.trainer.conftest import corpus, make_recipe  # noqa: F401


def test_trained_scored_and_collected(
    tmp_path: Path,
    make_recipe: Any,  # noqa: F811
    task_dir: Path,  # noqa: F811
) -> None:
    block = {"members": {"low": {"share": 1}, "mid": {"share": 3}}, "prior": 1}
    spec = {"domains": {"old": block, "high": {"prior": 1}}}
    tree = build_domains(DomainsFile.model_validate(spec))
    table = pd.DataFrame({"run": ["b", "a"], "old": [0.8, 0.4], "high": [0.2, 0.6]})
    table.to_csv(tmp_path / "ratios.csv", index=False)

    def run(*specs: str) -> Any:
        return launch(
            tmp_path / "ratios.csv", make_recipe(), specs or ["words:bpb", "words:rc"],
            tmp_path / "out",
            executor=InProcess(), tree=tree, seeds=(0, 1), limit=10, task_paths=[task_dir],
            progress=False,
        )  # fmt: skip

    launched = run()
    assert launched.rows == 4 and launched.failed == {} and launched.higher == ("words:rc:0shot",)
    out = tmp_path / "out"
    swarm = read_swarm(out / "ratios.csv", out / "metrics.csv", higher=launched.higher)
    assert set(swarm.contents) == {"low", "mid", "high"} and all(swarm.contents.values())
    assert swarm.runs == ("a-seed0", "a-seed1", "b-seed0", "b-seed1")
    assert swarm.domains == ("high", "old") and len(swarm.targets) == 2
    np.testing.assert_allclose(swarm.X[:, 0], [0.6, 0.6, 0.2, 0.2])
    assert len(np.unique(swarm.Y[:, 0])) == 4
    trained = {p["run"]: p for p in _proxies(out)}
    weights = trained["b-seed0"]["weights"]
    assert weights["mid"] / weights["low"] == pytest.approx(3, rel=0.1)
    before = (out / "metrics.csv").read_bytes()
    assert run() == launched and (out / "metrics.csv").read_bytes() == before

    # One question a swarm: other tasks would leave rows of two kinds in one table.
    with pytest.raises(UserError, match="holds other tasks: words:rc:0shot; choose another"):
        run("words:bpb")
    assert (out / "metrics.csv").read_bytes() == before

    # The same from the folders alone, by the runs' names.
    elsewhere = collect(out / "ratios.csv", [out / "evals"], tmp_path / "collected")
    assert (tmp_path / "collected" / "metrics.csv").read_bytes() == before
    assert elsewhere.rows == 4
    realised = collect(out / "proxies", [out / "evals"], tmp_path / "realised")
    assert realised.rows == 4
    table = pd.DataFrame({"run": ["other"], "old": [1.0]})
    table.to_csv(tmp_path / "other.csv", index=False)
    with pytest.raises(UserError, match="no evaluation belongs to a mixture"):
        collect(tmp_path / "other.csv", [out / "evals"], tmp_path / "none")


def test_other_contents_are_refused(
    tmp_path: Path,
    make_recipe: Any,  # noqa: F811
) -> None:
    spec = {"domains": {"low": {"prior": 1, "fingerprint": "0" * 16}, "mid": {"prior": 1}}}
    tree = build_domains(DomainsFile.model_validate(spec))
    table = pd.DataFrame({"run": ["a"], "low": [0.8], "mid": [0.2]})
    table.to_csv(tmp_path / "ratios.csv", index=False)
    (tmp_path / "drawn").mkdir()
    table.to_csv(tmp_path / "drawn" / "ratios.csv", index=False)
    save_evidence(tmp_path / "drawn", {"mid": "0" * 16})
    with pytest.raises(UserError, match=r"ratios\.csv' speaks of other contents of mid"):
        launch(
            tmp_path / "drawn" / "ratios.csv", make_recipe(), ["words:bpb"], tmp_path / "out",
            executor=InProcess(),
        )  # fmt: skip
    with pytest.raises(UserError, match=r"the domains\.yaml speaks of other contents of low"):
        launch(
            tmp_path / "ratios.csv", make_recipe(), ["words:bpb"], tmp_path / "out",
            executor=InProcess(), tree=tree,
        )  # fmt: skip


def _proxies(out: Path) -> list[dict[str, Any]]:
    value = json.loads((out / "proxies" / "swarm.json").read_text())
    return value if isinstance(value, list) else value["proxies"]
