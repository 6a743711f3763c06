"""``olmix optimize``: what cannot be, or would change nothing, is one sentence and code 2."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from numpy.typing import NDArray

from olmeval.cli.olmix import cli
from olmeval.errors import UserError
from olmeval.mixing.asked import ask
from olmeval.mixing.fitting import fit_swarm
from olmeval.mixing.tables import SwarmTable

Array = NDArray[np.float64]


@pytest.fixture(scope="module")
def folder(planted: tuple[Array, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fit, and priors files."""
    X, Y = planted[:2]
    path: Path = tmp_path_factory.mktemp("optimize")
    runs = tuple(f"r{i:02}" for i in range(60))
    fit_swarm(SwarmTable(runs, tuple("abcde"), ("x", "y", "z"), X, Y), curve=False).save(path)
    even = dict.fromkeys("abcde", 0.2)
    for name, tokens in (("twenty", 20), ("none", 0)):
        priors = {"relative_sizes": even, "token_counts": dict.fromkeys("abcde", tokens)}
        (path / f"{name}.yaml").write_text(json.dumps(priors))
    (path / "empty.yaml").write_text(json.dumps({"token_counts": dict.fromkeys("abcde", 0)}))
    return path


def optimize(folder: Path, words: str) -> Result:
    arguments = [word.replace("@", f"{folder}/") for word in words.split()]
    where = ["optimize", str(folder), "--output", str(folder / "mix"), "--refits", "0"]
    return CliRunner().invoke(cli, [*where, *arguments])


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--min a=abc", "--min a=abc is not NAME=NUMBER"),
        ("--min a=", "is not NAME=NUMBER"),
        ("--max a=20%", "is not NAME=NUMBER"),
        ("--max a=20", "the maximum of 'a' is 20.0; shares lie between 0 and 1"),
        ("--min a=-.1", "the minimum of 'a' is -0.1"),
        ("--min a=true", "is not NAME=NUMBER"),
        ("--min a=nan", "is not NAME=NUMBER"),
        ("--min a=.1 --min a=.2", "--min a is given twice"),
        ("--fix a=.5 --max a=.2", "'a' has a fixed share, so it needs no other ends"),
        ("--weight x=inf", "--weight x=inf is not NAME=NUMBER"),
        ("--limit x=abc", "--limit x=abc is not NAME=NUMBER"),
        ("--limit x=0.01 --limit y=0.01", "no mixture keeps all limits on targets: 'x', 'y'"),
        ("--kl nan", "a KL strength of nan cannot be"),
        ("--kl inf", "a KL strength of inf cannot be"),
        ("--kl -1", "a KL strength of -1.0 cannot be"),
        ("--priors @twenty.yaml --tokens inf", "--tokens inf is not a number"),
        ("--priors @twenty.yaml --tokens 50,60", "--tokens takes one number, not 2"),
        ("--priors @none.yaml --tokens 50", "50 tokens short; no domain holds any tokens"),
        ("--priors @empty.yaml", "no domain holds any tokens, so there is no natural mixture"),
        ("--max-epochs 2", "--max-epochs bounds nothing without the length of the run"),
        ("--sweep-tokens 50,60", "the tokens of every domain must be known"),
        ("--priors @twenty.yaml --sweep-epochs 1,2", "say how long the run is"),
        ("--priors @twenty.yaml --tokens 50 --sweep-epochs 0", "a sweep over 0 tokens or passes"),
        ("--sweep-kl=-1", "a KL strength of -1.0 cannot be"),
    ],
)  # fmt: skip
def test_mistakes_are_named(folder: Path, words: str, sentence: str) -> None:
    error = optimize(folder, words).exception
    assert isinstance(error, UserError) and sentence in str(error)


@pytest.mark.parametrize("words", ["--refits -3", "--seed -1"])
def test_counts_are_not_negative(folder: Path, words: str) -> None:
    result = optimize(folder, words)
    assert result.exit_code == 2 and "is not in the range x>=0" in result.output


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--fix a=1", [1, 0, 0, 0, 0]),
        ("--min a=.5 --min b=.5", [0.5, 0.5, 0, 0, 0]),
        ("--max a=0 --max b=0 --max c=0 --max d=0", [0, 0, 0, 0, 1]),
        ("--fix a=.2 --fix b=.3 --min c=.5 --kl 0", [0.2, 0.3, 0.5, 0, 0]),
        ("--priors @twenty.yaml --tokens 400", [0.2] * 5),
    ],
)
def test_ends_that_leave_one_mixture(folder: Path, words: str, expected: list[float]) -> None:
    result = optimize(folder, words)
    assert result.exception is None, result.exception
    weights = json.loads((folder / "mix/proposal.json").read_text())["mixture"]["weights"]
    np.testing.assert_allclose(list(weights.values()), expected, atol=1e-8)


@pytest.mark.parametrize(
    ("words", "low", "high"),
    [
        ("--min a=.1", 0.1, 0.3),
        ("--max a=.4", 0.05, 0.4),
        ("--fix a=.5", 0.5, 0.5),
        ("--max b=.15", 0.0, 0.15),
    ],
)
def test_each_end_of_the_tree_is_replaced_by_itself(
    folder: Path, words: str, low: float, high: float
) -> None:
    """An end that nobody spoke of stays as the file has it."""
    (folder / "d.yaml").write_text(
        "domains: {a: {tokens: 1B, min: 0.05, max: 0.3}, b: {tokens: 1B, fix: 0.2}, "
        "c: {tokens: 1B}, d: {tokens: 1B}, e: {tokens: 1B}}"
    )
    flag, _, share = words.partition(" ")
    name, value = share.split("=")
    key = {"--min": "minimum", "--max": "maximum", "--fix": "fixed"}[flag]
    asked = ask(tuple("abcde"), tree=folder / "d.yaml", **{key: {name: float(value)}})  # type: ignore[arg-type]
    place = "abcde".index(name)
    assert asked.constraints.minimum[place] == low and asked.constraints.maximum[place] == high


def test_no_passes_are_not_the_files_passes(folder: Path) -> None:
    (folder / "d.yaml").write_text(
        "domains: {a: {tokens: 1B}, b: {tokens: 1B}, c: {tokens: 1B}, d: {tokens: 1B}, "
        "e: {tokens: 1B}}\nrun: {tokens: 1B}"
    )
    error = optimize(folder, "--domains @d.yaml --max-epochs 0").exception
    assert isinstance(error, UserError) and "0.0 passes over a domain cannot be" in str(error)
