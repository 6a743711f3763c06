"""``olmeval data build`` and ``stats`` from the command line."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from olmeval.cli.data import data
from olmeval.errors import UserError
from tests.trainer.data_builds import EOS, contents, expected, save_tokenizer, write_jsonl


def invoke(*arguments: str) -> Result:
    result = CliRunner().invoke(data, [*arguments])
    if isinstance(result.exception, UserError):
        raise result.exception
    return result


@pytest.fixture
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    save_tokenizer(Path("t.json"))
    write_jsonl(Path("a=b.jsonl"), [{"text": "one", "body": "two", "topic": "x"}] * 3)
    write_jsonl(Path("c.jsonl"), [{"text": "three", "body": "four", "topic": "y"}])
    return tmp_path


OPTIONS = ("--tokenizer", "t.json", "--eos", EOS, "--output", "out", "--workers", "1", "--quiet")


def test_build_from_flags(inputs: Path) -> None:
    result = invoke("build", "a=b.jsonl", "see=c.jsonl", *OPTIONS)
    assert result.exit_code == 0
    assert contents(inputs / "out") == {"a=b": expected(["one"] * 3), "see": expected(["three"])}
    rows = [line.split() for line in result.output.splitlines()]
    assert rows[0] == ["domain", "tokens", "documents", "bytes", "bytes/token", "shards"]
    assert rows[1:4] == [
        ["a=b", "12", "3", "9", "0.75", "1"],
        ["see", "6", "1", "5", "0.83", "1"],
        ["all", "18", "4", "14", "0.78", "2"],
    ]
    again = invoke("build", "a=b.jsonl", "see=c.jsonl", *OPTIONS)
    assert "; 2 of 2 pieces kept" in again.output.replace("\n", " ")


def test_build_with_fields(inputs: Path) -> None:
    fields = ("--domain", "{topic}", "--text", "body")
    result = invoke("build", "*.jsonl", *fields, *OPTIONS, "--json")
    assert contents(inputs / "out") == {"x": expected(["two"] * 3), "y": expected(["four"])}
    value = json.loads(result.output)
    assert value["root"] == "out" and value["domains"][0]["documents"] == 3


def test_build_from_a_file_of_settings(inputs: Path) -> None:
    Path("build.yaml").write_text(
        "tokenizer: elsewhere\nsources:\n  - {path: c.jsonl, domain: sea}\n"
    )
    invoke("build", "--config", "build.yaml", *OPTIONS)
    assert contents(inputs / "out") == {"sea": expected(["three"])}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output", "o"], "give inputs and --tokenizer, or --config"),
        (["c.jsonl", "--output", "o"], "give inputs and --tokenizer, or --config"),
        (["c.jsonl", "--config", "b.yaml", "--output", "o"], "are for builds without --config"),
        (["c.jsonl", "--tokenizer", "t.json"], "Missing option '--output'"),
    ],
)
def test_wrong_usage(inputs: Path, arguments: list[str], message: str) -> None:
    result = invoke("build", *arguments)
    assert result.exit_code == 2 and message in result.output


def test_stats(inputs: Path) -> None:
    invoke("build", "see=c.jsonl", *OPTIONS)
    expected_row = {
        "domain": "see", "tokens": 6, "documents": 1, "bytes": 5, "bytes_per_token": 5 / 6,
        "shards": 1,
    }  # fmt: skip
    assert json.loads(invoke("stats", "out", "--json", "--verify").output) == [expected_row]
    shard = inputs / "out/see/00000-00000.bin"
    tokens = np.fromfile(shard, "<u2")
    tokens[0] += 1
    tokens.tofile(shard)
    assert invoke("stats", "out").exit_code == 0
    with pytest.raises(UserError, match=r"00000-00000\.bin' is corrupt: its SHA-256"):
        invoke("stats", "out", "--verify")


def test_unknown_bytes_are_left_blank(inputs: Path) -> None:
    Path("n.npy").write_bytes(np.array(expected(["abc"]), "<u2").tobytes())
    output = invoke("build", "n.npy", *OPTIONS).output
    assert [line.split() for line in output.splitlines()][1] == ["n", "4", "1", "1"]
