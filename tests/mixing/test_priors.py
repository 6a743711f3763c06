"""Tokens and fingerprints of domains, measured from shards."""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from olmeval.cli.olmix import cli
from olmeval.errors import UserError
from olmeval.mixing.domains import load_domains
from olmeval.mixing.priors import measure_domains, measure_priors
from tests.trainer.conftest import corpus  # noqa: F401


def test_counts_are_the_manifest_s(corpus: Path, tmp_path: Path) -> None:  # noqa: F811
    manifest = json.loads((corpus / "manifest.json").read_text())
    expected = {d: sum(s["tokens"] for s in shards) for d, shards in manifest["domains"].items()}
    priors = measure_priors(corpus)
    assert priors.token_counts == expected
    assert sum(priors.relative_sizes.values()) == pytest.approx(1)
    with pytest.raises(UserError, match="has no domain 'hihg'"):
        measure_priors(corpus, ["hihg"])
    with pytest.raises(UserError, match=r"no manifest\.json"):
        measure_priors(tmp_path)


def test_command_writes_domains_that_load(corpus: Path, tmp_path: Path) -> None:  # noqa: F811
    output = tmp_path / "domains.yaml"
    result = CliRunner().invoke(cli, ["priors", str(corpus), "--output", str(output), "--json"])
    assert result.exit_code == 0, result.output
    domains = load_domains(output)
    counts = json.loads(result.stdout)
    assert {leaf.name: leaf.tokens for leaf in domains.leaves} == counts
    assert all(domains.fingerprints().values())


def test_fingerprints_follow_contents(corpus: Path, tmp_path: Path) -> None:  # noqa: F811
    moved = tmp_path / "moved"
    shutil.copytree(corpus, moved)
    before = {name: node.fingerprint for name, node in measure_domains(corpus).items()}
    assert {name: node.fingerprint for name, node in measure_domains(moved).items()} == before
    manifest = json.loads((moved / "manifest.json").read_text())
    manifest["domains"]["low"][0]["sha256"] = "0" * 64
    (moved / "manifest.json").write_text(json.dumps(manifest))
    after = {name: node.fingerprint for name, node in measure_domains(moved).items()}
    assert after["low"] != before["low"] and after["high"] == before["high"]
