"""Configurations in the public olmix's keys are read as they are."""

from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from numpy.typing import NDArray

from olmeval.cli.olmix import cli
from olmeval.errors import UserError
from olmeval.mixing.domains import build_domains
from olmeval.mixing.public import load_fit_request, load_swarm_request

GENERATE = """
name: example
data:
  sources:
    - name: old
      topics:
        - {name: x, paths: ["s3://a/*.npy"], weight: 0.25}
        - {name: y, paths: ["s3://b/*.npy"], weight: 0.75}
    - name: code
      topics:
        - {name: c, paths: ["s3://c/*.npy"]}
        - {name: go, paths: ["s3://d/*.npy"]}
    - {name: wiki, paths: ["s3://e/*.npy"]}
priors:
  relative_sizes: {"old:x": 0.3, "old:y": 0.3, "code:c": 0.2, "code:go": 0.1, wiki: 0.1}
  token_counts: {"old:x": 300, "old:y": 300, "code:c": 200, "code:go": 100, wiki: 100}
swarm:
  seed: 7
  variants: 12
  minimum_weight: 0.0001
  min_strength: 1
  max_strength: 20
  nonzero_weight: ["code:c", "code:go"]
  manual_prior: {old: 0.5, code: 0.4}
max_tokens: 1000
"""
FIT = {
    "swarm": {"ratios": "ratios.csv", "metrics": "metrics.csv"},
    "priors": {
        "relative_sizes": dict.fromkeys("abcde", 0.2),
        "token_counts": dict.fromkeys("abcde", 2_000_000),
    },
    "eval": {"type": "offline", "tasks": {"first": ["x"], "second": ["y", "z", "gone"]}},
    "regression": {"type": "log_linear", "seed": 0, "n_test": 0, "train_split": 1.0,
                   "aggregate_task_families": True},
    "proposer": {"type": "exact", "temperature": None, "kl_reg": 0.1, "fit_only": False,
                 "make_worst_mix": False},
    "constraints": {"enabled": True, "target_tokens": 8_000_000, "repetition_factor": 2.0},
    "filtering": {"drop_metrics": ["gone"], "obj_weights": {"first": "7/52.0", "second": "45/52"}},
}  # fmt: skip


def test_generation(tmp_path: Path) -> None:
    path = tmp_path / "generate.yaml"
    path.write_text(GENERATE)
    request = load_swarm_request(path)
    assert request.settings.runs == 12 and request.settings.strength == (1, 20)
    domains = build_domains(request.domains)
    assert domains.names == ("code:c", "code:go", "old", "wiki")
    assert dict(domains.leaves[2].members) == {"old:x": 0.25, "old:y": 0.75}
    # manual_prior: old .5, code .4 in the ratio 2 to 1, wiki as it was.
    assert domains.prior() == pytest.approx([0.4 * 2 / 3, 0.4 / 3, 0.5, 0.1])
    assert domains.leaves[0].minimum == 0.0001
    result = CliRunner().invoke(
        cli, ["swarm", str(path), "--public", "--output", str(tmp_path / "out")]
    )
    assert result.exit_code == 0 and "12 mixtures" in result.output


def test_fit_and_optimize(tmp_path: Path, planted: tuple[NDArray, ...]) -> None:
    import pandas as pd

    X, Y = planted[:2]
    pd.DataFrame(X, columns=list("abcde")).to_csv(tmp_path / "ratios.csv", index_label="run")
    pd.DataFrame(Y, columns=list("xyz")).to_csv(tmp_path / "metrics.csv", index_label="run")
    (tmp_path / "fit.yaml").write_text(yaml.safe_dump(FIT))
    request = load_fit_request(tmp_path / "fit.yaml")
    assert request.groups == {"first": ("x",), "second": ("y", "z")}
    assert request.weights["first"] == pytest.approx(7 / 52) and request.max_epochs == 2

    def run(*arguments: object) -> str:
        result = CliRunner().invoke(cli, [str(a) for a in arguments])
        assert result.exit_code == 0, result.output
        return result.stdout

    out = tmp_path / "out"
    assert "second" in run("fit", "--config", tmp_path / "fit.yaml", "--output", out, "--no-curve")
    run("optimize", out, "--config", tmp_path / "fit.yaml", "--refits", 0, "--output", out)
    mix = yaml.safe_load((out / "mix.yaml").read_text())["mixture"]
    assert max(mix.values()) <= 0.5 + 1e-6 and sum(mix.values()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"proposer": {"kl_regg": 0.3}}, "unknown key 'proposer.kl_regg'; did you mean 'kl_reg'"),
        ({"regression": {"type": "loglinear"}}, "'loglinear' is none of log_linear"),
        ({"filtering": {"obj_weights": {"first": "much"}}}, "'much', not a number"),
        ({"proposer": {"make_worst_mix": True}}, "no counterpart"),
    ],
)
def test_mistakes(tmp_path: Path, change: dict, words: str) -> None:
    """Public defects 4 and 5: misspelt keys and unknown families."""
    (tmp_path / "fit.yaml").write_text(yaml.safe_dump({**FIT, **change}))
    with pytest.raises(UserError, match=words):
        load_fit_request(tmp_path / "fit.yaml")
