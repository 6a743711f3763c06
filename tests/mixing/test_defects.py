"""What went wrong in the public olmix when it was run, one test each, in the order of that list."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner
from numpy.typing import NDArray

from olmeval.cli.olmix import cli
from olmeval.errors import UserError
from olmeval.mixing.domains import load_domains
from olmeval.mixing.fitting import fit_swarm
from olmeval.mixing.launch import collect, launch
from olmeval.mixing.problem import InfeasibleError, make_constraints
from olmeval.mixing.proposal import Proposal, propose
from olmeval.mixing.regressors.auto import FAMILIES, make_regressor
from olmeval.mixing.regressors.trees import Trees
from olmeval.mixing.sampling import SwarmSettings, sample_swarm
from olmeval.mixing.sweeps import sweep
from olmeval.mixing.tables import SwarmTable, read_ratios, read_swarm
from tests.engine.test_inloop import task_dir  # noqa: F401
from tests.mixing.test_public import FIT, GENERATE
from tests.mixing.test_swarm import flat, tree
from tests.trainer.conftest import corpus, make_recipe  # noqa: F401

Array = NDArray[np.float64]
NAMES, TARGETS = tuple("abcde"), ("x", "y", "z")
PRIOR = dict.fromkeys(NAMES, 0.2)
TOKENS = dict.fromkeys(NAMES, 2e9)


@pytest.fixture
def table(planted: tuple[Array, ...]) -> SwarmTable:
    X, Y = planted[:2]
    Y = Y + np.random.default_rng(5).normal(0, 0.02, Y.shape)
    return SwarmTable(tuple(f"r{i:02}" for i in range(60)), NAMES, TARGETS, X, Y)


def write(table: SwarmTable, folder: Path) -> tuple[Path, Path]:
    folder.mkdir(parents=True, exist_ok=True)
    index = pd.Index(table.runs, name="run")
    pd.DataFrame(table.X, index, table.domains).to_csv(folder / "ratios.csv")
    pd.DataFrame(table.Y, index, table.targets).to_csv(folder / "metrics.csv")
    return folder / "ratios.csv", folder / "metrics.csv"


def run(*arguments: object) -> str:
    result = CliRunner().invoke(cli, [str(a) for a in arguments])
    if result.exception:
        raise result.exception
    return result.stdout


def mix(table: SwarmTable, **settings: Any) -> Proposal:
    fit = fit_swarm(table, curve=False)
    return propose(fit, make_constraints(NAMES), prior=PRIOR, refits=0, **settings)


def test_01_rows_are_joined_by_run(table: SwarmTable, tmp_path: Path) -> None:
    """The two tables were paired by position: another order of rows gave another mixture."""
    files = write(table, tmp_path)
    first = read_swarm(*files)
    pd.read_csv(files[1]).sample(frac=1, random_state=1).to_csv(files[1], index=False)
    second = read_swarm(*files)
    assert mix(first).mixture.weights == mix(second).mixture.weights
    np.testing.assert_array_equal(first.Y, second.Y)


def test_02_shares_belong_to_their_names(tmp_path: Path) -> None:
    """Weights came out in one order and were labelled in another: z .9, a .1 gave z .1, a .9."""
    text = "domains: {dclm-edu: {prior: 0.1}, dclm: {topics: {y: {prior: 0.3}, x: {prior: 0.6}}}}"
    (tmp_path / "domains.yaml").write_text(text)
    run("swarm", tmp_path / "domains.yaml", "--runs", 300, "--strength", 5, 5,
        "--output", tmp_path)  # fmt: skip
    means = pd.read_csv(tmp_path / "ratios.csv").drop(columns="run").mean()
    expected = {"dclm-edu": 0.1, "dclm:x": 0.6, "dclm:y": 0.3}
    # Rejecting near duplicates thins out the middle a little; exchanged labels are off by .3 to .8.
    assert means.to_dict() == pytest.approx(expected, abs=0.1)


@pytest.mark.parametrize("family", ["log-linear", "gp", "nearest"])
def test_03_impossible_caps_are_named(table: SwarmTable, family: str) -> None:
    """Caps that nothing obeys gave a TypeError, or a mixture of zeros with exit code 0."""
    fit = fit_swarm(table, family, curve=False)
    caps = make_constraints(NAMES, tokens=TOKENS, run_tokens=5e10, max_epochs=4)
    with pytest.raises(InfeasibleError, match="10,000,000,000 tokens short"):
        propose(fit, caps, refits=0)
    if fit.model.convex:
        (cell,) = sweep(fit, caps)
        assert cell.weights is None and "short" in str(cell.reason)


def test_04_what_cannot_work_is_refused_before_the_fit(table: SwarmTable, tmp_path: Path) -> None:
    """No KL strength, a law that is not convex and an unknown law failed after the whole fit."""
    files = write(table, tmp_path)
    request = {
        **FIT,
        "proposer": {"type": "exact"},
        "regression": {**FIT["regression"], "type": "lightgbm"},
    }
    request |= {"swarm": dict(zip(("ratios", "metrics"), map(str, files), strict=True))}
    (tmp_path / "fit.yaml").write_text(yaml.safe_dump(request))
    run("fit", "--config", tmp_path / "fit.yaml", "--output", tmp_path, "--family", "nearest",
        "--no-curve")  # fmt: skip
    run("optimize", tmp_path, "--config", tmp_path / "fit.yaml", "--refits", 0,
        "--output", tmp_path)  # fmt: skip
    value = json.loads((tmp_path / "proposal.json").read_text())
    assert value["kl_strength"] == 0.05
    assert sum(value["mixture"]["weights"].values()) == pytest.approx(1)
    with pytest.raises(UserError, match="no family 'loglinear'; did you mean 'log-linear'"):
        make_regressor("loglinear")


@pytest.mark.parametrize(
    ("name", "text", "command", "words"),
    [
        ("fit.yaml", yaml.safe_dump({**FIT, "proposer": {"kl_regg": 0.3}}),
         "fit --config {} --output o", "'proposer.kl_regg'; did you mean 'kl_reg'"),
        ("d.yaml", "domains: {a: {tokens: 1, minn: 0.1}}", "swarm {} --output o", "minn"),
        ("g.yaml", GENERATE.replace("seed: 7", "sead: 7"), "swarm {} --public --output o",
         "'swarm.sead'"),
    ],
)  # fmt: skip
def test_05_misspelt_keys(tmp_path: Path, name: str, text: str, command: str, words: str) -> None:
    """Unknown keys were ignored: kl_regg: 0.3 had no effect."""
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=words):
        run(*command.format(tmp_path / name).split())


def test_06_fewer_runs_than_domains_are_said(table: SwarmTable) -> None:
    """Three runs of four domains gave a correlation of 1.000 and no warning."""
    fit = fit_swarm(table.take(range(4)), curve=False)
    assert any("4 different mixtures cannot determine 6 parameters" in w for w in fit.warnings)
    assert max(s.rank_correlation for s in fit.scores) < 1
    assert fit.scores[0].halfwidth is None
    proposal = propose(fit, make_constraints(NAMES), prior=PRIOR, refits=0)
    assert proposal.design.distinct < proposal.design.domains
    # Four errors bound nothing at 95 %.
    assert np.isinf(proposal.mixture.interval).all()


def test_07_weights_of_one_are_no_weights(table: SwarmTable) -> None:
    """Weights were used raw: all 1 divided the strength of the KL term by the number of targets."""
    plain = mix(table).mixture.weights
    assert mix(table, weights=dict.fromkeys(TARGETS, 1)).mixture.weights == plain
    assert mix(table, weights=dict.fromkeys(TARGETS, 7)).mixture.weights == plain


def test_08_the_walkthrough_of_reuse_runs(table: SwarmTable, tmp_path: Path) -> None:
    """The official examples of mixture reuse ended in a KeyError and in a validation error."""
    old = {n: {"tokens": 10**9, "fingerprint": n} for n in "abcd"}
    for name, spec in (("old", old), ("new", {**old, "e": {"tokens": 10**9, "fingerprint": "e"}})):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump({"domains": spec}))
    (tmp_path / "mix.yaml").write_text("mixture: {a: 0.1, b: 0.2, c: 0.3, d: 0.4}\n")
    step = tmp_path / "step"
    run("reuse", tmp_path / "old.yaml", tmp_path / "new.yaml", "--mix", tmp_path / "mix.yaml",
        "--output", step)  # fmt: skip
    run("swarm", step / "domains.yaml", "--output", step)
    runs, domains, X = read_ratios(step / "ratios.csv")
    assert domains == ("e", "existing") and len(runs) == 9
    Y = 1 + np.exp(-2 * X[:, :1]) + np.random.default_rng(0).normal(0, 0.01, (9, 1))
    files = write(SwarmTable(runs, domains, ("x",), X, Y), tmp_path / "tables")
    run("fit", *files, "--domains", step / "domains.yaml", "--output", step / "fit", "--no-curve")
    run("optimize", step / "fit", "--domains", step / "domains.yaml", "--refits", 0,
        "--output", step / "mix")  # fmt: skip
    final = yaml.safe_load((step / "mix" / "mix.yaml").read_text())["mixture"]
    assert set(final) == set(NAMES) and sum(final.values()) == pytest.approx(1)
    assert final["d"] / final["a"] == pytest.approx(4, rel=1e-6)
    # A topic without a size, which was the KeyError, is named.
    (tmp_path / "g.yaml").write_text(GENERATE.replace("{name: wiki,", "{name: adult_content,"))
    with pytest.raises(UserError, match="relative_sizes lacks 'adult_content'"):
        run("swarm", tmp_path / "g.yaml", "--public", "--output", tmp_path)


def test_09_pinned_shares_do_not_drift() -> None:
    """Rounding moved the members of a frozen block by up to 17 % from variant to variant."""
    domains = tree()
    X = sample_swarm(domains, SwarmSettings(200, minimum_weight=1e-4, strength=(0.1, 20))).X
    spread = [domains.expand(dict(zip(domains.names, row, strict=True))) for row in X]
    np.testing.assert_allclose([s["old:news"] if "old:news" in s else s["news"] for s in spread],
                               0.075, rtol=1e-9)  # fmt: skip
    np.testing.assert_allclose([s["books"] for s in spread], 0.025, rtol=1e-9)


def test_10_the_cap_of_a_block_is_its_first_member_s(tmp_path: Path) -> None:
    """A virtual domain was given the sum of its tokens, and its prior was typed by hand."""
    old = {"a": {"tokens": 1000}, "b": {"tokens": 9000}}
    (tmp_path / "old.yaml").write_text(yaml.safe_dump({"domains": old}))
    new = {"domains": {**old, "c": {"tokens": 5000}}, "run": {"tokens": 20000, "max_epochs": 4}}
    (tmp_path / "new.yaml").write_text(yaml.safe_dump(new))
    (tmp_path / "mix.yaml").write_text("mixture: {a: 0.5, b: 0.5}\n")
    run("reuse", tmp_path / "old.yaml", tmp_path / "new.yaml", "--mix", tmp_path / "mix.yaml",
        "--output", tmp_path)  # fmt: skip
    domains = load_domains(tmp_path / "domains.yaml")
    assert domains.names == ("c", "existing")
    # min(4 x 1000, 4 x 9000) / (20000 x .5), where the sum would have allowed 1.
    assert domains.constraints().upper[1] == pytest.approx(0.4)
    # Q exp(-KL) of Q = 10 / 15, p = (.5, .5), q = (.1, .9).
    kl = 0.5 * np.log(0.5 / 0.1) + 0.5 * np.log(0.5 / 0.9)
    block = 10 / 15 * np.exp(-kl)
    assert domains.prior()[1] == pytest.approx(block / (block + 5 / 15))


def test_11_few_domains_many_variants_and_domains_never_drawn() -> None:
    """Few domains crashed with "Sample larger than population", and domains that no variant
    had were not reported."""
    assert sample_swarm(flat({"a": 0.5, "b": 0.5}), SwarmSettings(40)).X.shape == (40, 2)
    narrow = tree("domains: {a: {tokens: 1}, b: {tokens: 1, max: 0.05}}")
    with pytest.raises(UserError, match=r"only \d+ different mixtures"):
        sample_swarm(narrow, SwarmSettings(64))
    shares = {f"d{i:02}": float(s) for i, s in enumerate(np.geomspace(0.3, 0.001, 17))}
    X = sample_swarm(flat(shares), SwarmSettings(512)).X
    assert ((X > 0).sum(axis=0) >= 3).all()


def test_12_a_proposal_comes_with_what_it_rests_on(table: SwarmTable) -> None:
    """Holding rows out dropped the proposal; accuracy was a correlation on training rows."""
    noise = np.random.default_rng(0).normal(2, 0.1, table.Y.shape)
    assert max(s.r2 or 0 for s in fit_swarm(replace(table, Y=noise), curve=False).scores) < 0.2
    fit = fit_swarm(table, curve=False)
    assert all(s.rank_correlation > 0.9 and s.mae > 0 and s.halfwidth for s in fit.scores)
    proposal = propose(fit, make_constraints(NAMES), prior=PRIOR, refits=20)
    sure = proposal.uncertainty
    assert sure is not None and sure.gain[0] < proposal.gain < sure.gain[1]
    assert all(low <= high for low, high in sure.shares.values()) and sure.optimism is not None
    assert proposal.mixture.distance > 0 and np.isfinite(proposal.local_error)


@pytest.mark.parametrize("family", ["lightgbm", "nearest", "gp"])
def test_13_every_family_ends_and_repeats(table: SwarmTable, family: str, tmp_path: Path) -> None:
    """Trees stopped by their training rows, search printed nan, the process had no seed."""
    a, b = (fit_swarm(table, family, curve=False) for _ in range(2))
    np.testing.assert_array_equal(a.predict(table.X), b.predict(table.X))
    assert a.scores == b.scores
    values = [v for s in a.scores for v in (s.rank_correlation, s.r2, s.mae, s.rmse)]
    assert np.isfinite(values).all()
    assert "NaN" not in a.save(tmp_path).read_text()
    if family == "lightgbm":
        trees = a.model
        assert isinstance(trees, Trees)
        # No early stop, on whatever rows.
        assert {booster.num_trees() for booster in trees.boosters_} == {trees.rounds}


def test_14_nothing_is_cached_beside_the_result(
    table: SwarmTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fits were pickled into ./cache of the working directory and found again by name."""
    files = write(table, tmp_path / "tables")
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    for targets in (["--target", "x"], ["--target", "y"]):
        run("fit", *files, "--output", tmp_path / "fit", "--no-curve", *targets)
    assert list((tmp_path / "cwd").iterdir()) == []
    assert [p.name for p in (tmp_path / "fit").iterdir()] == ["fit.json"]
    assert json.loads((tmp_path / "fit" / "fit.json").read_text())["targets"] == ["y"]


def test_15_a_swarm_runs_here_and_what_failed_has_no_row(
    tmp_path: Path,
    make_recipe: Callable[..., Any],  # noqa: F811
    task_dir: Path,  # noqa: F811
) -> None:
    """Launching needed one company's scheduler, nothing collected results, and a run that had
    crashed gave a row."""
    from olmeval.executors.inprocess import InProcess

    rows = pd.DataFrame({"run": ["a-seed0", "b-seed0"], "low": [0.8, 0.3], "high": [0.2, 0.7]})
    out = tmp_path / "out"
    named = rows.assign(run=["a", "b"])
    named.to_csv(tmp_path / "named.csv", index=False)
    launched = launch(tmp_path / "named.csv", make_recipe(), ["words:bpb"], out, limit=5,
                      executor=InProcess(), task_paths=[task_dir], progress=False)  # fmt: skip
    assert launched.rows == 2
    again = pd.concat([rows, pd.DataFrame({"run": ["crashed"], "low": [0.5], "high": [0.5]})])
    again.to_csv(tmp_path / "ratios.csv", index=False)
    collected = collect(tmp_path / "ratios.csv", [out / "evals"], tmp_path / "c")
    assert collected.rows == 2 and collected.failed == {"crashed": "not evaluated"}
    assert read_ratios(tmp_path / "c" / "ratios.csv")[0] == ("a-seed0", "b-seed0")


def test_16_output_is_for_machines_and_start_is_light(table: SwarmTable, tmp_path: Path) -> None:
    """Solver logs of 11 KB came on stdout, there was no summary to read, and --help took 6 s."""
    files = write(table, tmp_path)
    json.loads(run("fit", *files, "--output", tmp_path, "--no-curve", "--json"))
    value = json.loads(run("optimize", tmp_path, "--refits", 0, "--worst", "--output", tmp_path,
                           "--json"))  # fmt: skip
    assert value["mixture"]["weights"]
    code = (
        "import sys; from olmeval.cli.olmix import cli; cli(['--help'], standalone_mode=False); "
        "heavy = {'numpy', 'pandas', 'torch', 'cvxpy', 'sklearn', 'scipy'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)


def test_17_no_name_of_a_task_is_special(table: SwarmTable, tmp_path: Path) -> None:
    """A column with "mmlu" in its name was taken for one of 57 and aggregated by fixed weights."""
    named = replace(table, targets=("mmlu_stem:mc", "other", "xmmlu"))
    loaded = read_swarm(*write(named, tmp_path))
    assert loaded.targets == named.targets
    plain, odd = fit_swarm(table, curve=False), fit_swarm(loaded, curve=False)
    np.testing.assert_allclose(odd.predict(table.X), plain.predict(table.X), rtol=1e-9)


def test_18_directions_limits_and_provenance(table: SwarmTable, tmp_path: Path) -> None:
    """Less was always better; no target could be kept in check; nothing said what data it was."""
    upwards = replace(table, Y=100 - table.Y, higher=frozenset(TARGETS))
    down, up = mix(table, kl=0.0).mixture, mix(upwards, kl=0.0).mixture
    assert up.weights == pytest.approx(down.weights, abs=1e-3)
    assert all(up.scores[t] == pytest.approx(100 - down.scores[t], abs=1e-3) for t in TARGETS)
    limit = down.scores["x"] - 0.03
    assert mix(table, kl=0.0, limits={"x": limit}).mixture.scores["x"] <= limit + 1e-6
    files = write(table, tmp_path)
    run("fit", *files, "--output", tmp_path / "fit", "--no-curve")
    sources = json.loads((tmp_path / "fit" / "fit.json").read_text())["sources"]
    assert set(sources) == {str(f) for f in files}
    assert all(len(digest) == 64 for digest in sources.values())


def test_every_family_has_a_name_that_the_command_takes() -> None:
    from olmeval.cli.olmix_fit import FAMILIES as OFFERED

    assert set(OFFERED) == {*FAMILIES, "blend", "auto"}
