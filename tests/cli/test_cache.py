"""``olmeval cache``: what it prints, and its exit codes."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from olmeval.cli.main import cli
from olmeval.errors import UserError
from olmeval.results.answers import Answers
from olmeval.results.segments import ResponseStore, segments


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of two models, one of which was last used long ago; the path of its segment."""
    monkeypatch.setenv("OLMEVAL_STORE", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "120")
    for digit, n in (("a", 1200), ("b", 3)):
        about = {"name": f"model-{digit}", "fingerprint": digit * 64, "backend": "vllm"}
        with ResponseStore().model(digit * 32, {**about, "dtype": "bfloat16"}) as model:
            keys = [k.to_bytes(16, "big") for k in range(n)]
            scores = np.zeros(n, np.float32)
            model.put(Answers.scored(keys, np.arange(n + 1), scores, scores == 0))
    for path in model.path.iterdir():
        os.utime(path, (0, 0))
    return segments(model.path)[0]


def call(*args: str) -> Result:
    return CliRunner().invoke(cli, ["cache", *args])


def test_stats(store: Path) -> None:
    result = call("stats")
    assert result.exit_code == 0
    head, first, second, last = result.output.splitlines()
    assert " ".join(head.split()) == "model backend dtype answers samples size last used"
    assert first.split()[:5] == ["model-a", "vllm", "bfloat16", "1,200", "0"]
    assert second.split()[0] == "model-b" and "1970-01-01" in second
    assert str(store.parent.parent) in last
    rows = json.loads(call("stats", "--json").output)
    assert [(r["name"], r["answers"], r["fingerprint"][0]) for r in rows] == [
        ("model-a", 1200, "a"), ("model-b", 3, "b"),
    ]  # fmt: skip


def test_another_store_is_named(store: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = str(tmp_path_factory.mktemp("other"))
    assert f"no answers are stored in '{other}'" in call("stats", "--store", other).output
    assert "0 answers of 0 models" in call("verify", "--store", other).output
    assert "models: 0" in call("prune", "--all", "--store", other).output
    assert store.exists()


def test_stats_of_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLMEVAL_STORE", str(tmp_path / "none"))
    assert f"no answers are stored in '{tmp_path / 'none'}'" in call("stats").output
    assert json.loads(call("stats", "--json").output) == []
    assert call("verify").exit_code == 0
    assert call("prune", "--all").output.startswith("freed 0 bytes (models: 0")


def test_prune_asks_what_and_says_what(store: Path) -> None:
    result = call("prune")
    assert isinstance(result.exception, UserError)
    assert "say what to remove" in str(result.exception)
    size = store.stat().st_size
    result = call("prune", "--older-than", "30d", "--dry-run")
    assert result.output == f"would free {size} bytes (models: 1, files: 1)\n"
    assert store.exists()
    assert call("prune", "--older-than", "30d").output.startswith("freed")
    assert not store.exists()
    assert call("prune", "--model", "model-a").output.endswith("(models: 1, files: 1)\n")
    assert json.loads(call("stats", "--json").output) == []


def test_prune_says_what_it_keeps(store: Path) -> None:
    with ResponseStore().model("b" * 32, {"fingerprint": "b" * 64, "backend": "vllm",
                                           "dtype": "bfloat16"}) as model:  # fmt: skip
        scores = np.zeros(1, np.float32)
        model.put(Answers.scored([b"k" * 16], np.arange(2), scores, scores == 0))
        result = call("prune", "--all")
    assert "files kept since a running process writes them: 1\n" in result.output
    assert len(segments(store.parent)) == 1


def test_verify_and_repair(store: Path) -> None:
    result = call("verify")
    assert result.exit_code == 0 and "1,203 answers of 2 models are whole" in result.output
    data = bytearray(store.read_bytes())
    data[-1] ^= 1
    store.write_bytes(bytes(data))
    result = call("verify", "--quiet")
    assert result.exit_code == 1
    assert f"damaged: '{store}': {len(data):,} bytes, at least 3 answers" in result.output
    assert "`olmeval cache verify --repair` removes what is damaged" in result.output
    result = call("verify", "--json")
    assert result.exit_code == 1
    (damage,) = json.loads(result.output)["damaged"]
    assert damage == {
        "path": str(store), "lost_bytes": len(data), "lost_answers": 3, "repaired": False,
    }  # fmt: skip
    result = call("verify", "--repair")
    assert result.exit_code == 0 and result.output.startswith("repaired: ")
    assert call("verify").exit_code == 0


def test_help_names_an_example() -> None:
    for command in ((), ("stats",), ("prune",), ("verify",)):
        assert "Example: olmeval cache" in call(*command, "--help").output
    assert "cache" in CliRunner().invoke(cli, ["--help"]).output
