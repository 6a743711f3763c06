"""Ladders, mixtures and gates in a report: what their own commands write, told by content."""

import json
from dataclasses import fields
from math import nan
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from olmeval.analysis.gate import Finding, GateReport
from olmeval.analysis.gate_write import as_json
from olmeval.cli.main import cli
from olmeval.errors import UserError
from olmeval.ladders.curves import Ladder
from olmeval.ladders.forecast import LadderForecast
from olmeval.ladders.predict import Scale, predict
from olmeval.ladders.spec import LadderFile
from olmeval.mixing.fitting import fit_swarm
from olmeval.mixing.output import save_proposal
from olmeval.mixing.problem import make_constraints
from olmeval.mixing.proposal import Proposal, propose
from olmeval.mixing.tables import SwarmTable
from olmeval.reports.ladder import summary
from olmeval.reports.mixing import write_mixing_report
from olmeval.reports.report import write_report
from olmeval.reports.report_inputs import PROPOSED, gather
from tests.ladders.conftest import made_ladder
from tests.ladders.test_forecast import TRUTH
from tests.reports.pages import HOSTILE, Page, long_table


@pytest.fixture(scope="module")
def ladder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The numbers of a ladder whose target is trained; its task has a hostile name."""
    file = LadderFile.model_validate({
        "name": "small", "flops": "6nd", "features": {"bpb": {"metric": "bits_per_byte"}},
        "tasks": {HOSTILE: {"chance": 0.25}},
        "targets": {"big": {"params": 3_200_000_000, "tokens": 640_000_000_000,
                            "run": "3.2e+09-10x"}},
    })  # fmt: skip
    curves = {(HOSTILE, "bpb"): made_ladder(*TRUTH, 0.005, 0, HOSTILE)}
    sizes = (1.9e8, 3.7e8, 7.6e8, 1.28e9)
    rungs = tuple(r.run for r in curves[HOSTILE, "bpb"].runs if r.params in sizes)
    found = Ladder(file, curves, rungs)
    made = LadderForecast(samples=20).fit({"bpb": [found.fitted(HOSTILE, "bpb")]})
    scale = Scale(3.2e9, 6.4e11, 6 * 3.2e9 * 6.4e11, "big")
    path = tmp_path_factory.mktemp("ladder") / "any-name.json"
    path.write_text(json.dumps(summary(found, made, [(scale, predict(found, made, scale))])))
    return path


@pytest.fixture(scope="module")
def mixtures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a mixing report, and the folder of its proposal."""
    names, rng = ("web", "code", "math"), np.random.default_rng(1)
    X = rng.dirichlet(np.full(3, 0.7), 40)
    Y = 1 + np.exp(X @ rng.normal(0, 1, (3, 2))) + rng.normal(0, 0.01, (40, 2))
    table = SwarmTable(tuple(f"r{i}" for i in range(40)), names, ("x", "y"), X, Y, frozenset())
    fit, folder = fit_swarm(table), tmp_path_factory.mktemp("mix")
    one = make_constraints(names, maximum=dict.fromkeys(names, 0.6))
    prior = dict(zip(names, (0.6, 0.3, 0.1), strict=True))
    proposal = propose(fit, one, prior=prior, kl=0.05, refits=10)
    save_proposal(proposal, folder / "near", about={})
    given = {"near": json.loads((folder / "near" / "proposal.json").read_text())}
    write_mixing_report(fit, folder / "swarm.html", proposals=given, refits=5)
    return folder


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    findings = (
        Finding("arc:rc", "acc_raw", "ok", "", 0.5, 0.51, -0.01, 0.0, 0.02, 0.6, 0.05, 400),
        Finding("gsm8k", "exact_match", "regressed", "worse", 0.4, 0.3, 0.1, 0.0, 0.02, 1e-6, 0.05),
        Finding("mmlu", "acc_raw", "unknown", "no answers", nan, nan),
    )
    path = tmp_path_factory.mktemp("gate") / "nightly.json"
    path.write_text(json.dumps(as_json(GateReport("nightly", "release", 0.05, findings))))
    return path


def page_of(paths: list[Path], folder: Path) -> str:
    return Page(write_report(paths, folder / "page.html").page.read_text(encoding="utf-8")).visible


def test_a_ladder_is_told_by_its_content(ladder: Path, tmp_path: Path) -> None:
    numbers = json.loads(ladder.read_text())
    text = page_of([ladder], tmp_path)
    (first, *_) = [p for p in numbers["targets"][0]["predictions"] if p["quantity"] == "accuracy"]
    for value in (first["value"], first["actual"]):
        assert f"{value:.4f}" in text
    assert f"mean error of the prediction {100 * abs(first['error']):.1f} %" in text
    inside = first["low"] <= first["actual"] <= first["high"]
    assert f"{int(inside)} of 1 inside the 95 % intervals" in text
    assert "alert('x')" in text  # the name of the task, as text
    # What `ladder predict --json` prints has no format key, and no target measured.
    for p in numbers["targets"][0]["predictions"]:
        p.update(actual=None, error=None)
    bare = {k: numbers[k] for k in ("level", "targets", "warnings")}
    (tmp_path / "predicted.json").write_text(json.dumps({**bare, "back_test": {"accuracy": 0.9}}))
    assert "none measured yet" in page_of([tmp_path / "predicted.json"], tmp_path)


def test_mixtures_from_a_report_and_from_a_folder(mixtures: Path, tmp_path: Path) -> None:
    proposal = json.loads((mixtures / "near" / "proposal.json").read_text())
    for path in (mixtures / "swarm.json", mixtures / "near"):
        text = page_of([path], tmp_path)
        for domain, share in proposal["mixture"]["weights"].items():
            assert domain in text and f"{share:.4f}" in text
        assert f"{proposal['gain']:.4f} below natural" in text.replace("−", "-")
    both = page_of([mixtures / "swarm.json", mixtures / "near"], tmp_path)
    assert both.count("below natural") == 1
    assert {field.name for field in fields(Proposal)} >= PROPOSED


def test_a_gate_shows_the_bad_ones_first(gate: Path, tmp_path: Path) -> None:
    text = page_of([gate], tmp_path)
    assert text.index("gsm8k") < text.index("mmlu") < text.index("arc:")
    assert "REGRESSED: 1 worse, 1 cannot be told, 1 ok" in text
    assert "+0.1000" in text


def test_files_of_one_name_are_both_kept(gate: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = tmp_path / "other" / gate.name
    other.write_text(gate.read_text())
    assert list(gather([gate, other]).gates) == ["nightly", "nightly (2)"]


def test_damaged_files_are_refused_in_a_sentence(ladder: Path, tmp_path: Path) -> None:
    numbers = json.loads(ladder.read_text())
    del numbers["targets"][0]["predictions"][0]["low"]
    (tmp_path / "old.json").write_text(json.dumps(numbers))
    with pytest.raises(UserError, match="not as this version writes it"):
        write_report([tmp_path / "old.json"], tmp_path / "page.html")


def test_everything_on_one_page_from_the_command_line(
    ladder: Path, mixtures: Path, gate: Path, tmp_path: Path
) -> None:
    table = tmp_path / "table.csv"
    long_table(runs=2, steps=3).to_csv(table, index=False)
    arguments = [*map(str, (table, ladder, mixtures / "near", gate))]
    page = tmp_path / "page.html"
    result = CliRunner().invoke(
        cli, ["report", *arguments, "-o", str(page), "--baseline", "run0", "--json"]
    )
    assert result.exit_code == 0, result.output
    value = json.loads(result.stdout)
    assert value["page"] == str(page) and value["contests"][0]["reference"] == "run0 (mix0)"
    assert value["contests"][0]["standings"][0]["verdict"] == "worse"
    sections = Page(page.read_text(encoding="utf-8")).ids
    wanted = ["scores", "curves", "differences", "noise", "ladder", "mixing", "gate"]
    assert [s for s in sections if s in wanted] == wanted
    told = CliRunner().invoke(cli, ["report", str(table), "-o", str(page)])
    assert told.stdout.splitlines()[0].startswith("mean score of 2 tasks: run1 (mix1) is better")
    wrong = CliRunner().invoke(cli, ["report", str(tmp_path / "no"), "-o", str(page)])
    assert isinstance(wrong.exception, UserError)
