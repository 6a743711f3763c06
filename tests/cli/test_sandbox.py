"""``olmeval sandbox``: what a person types and sees."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from olmeval.cli.main import cli
from olmeval.errors import UserError
from olmeval.sandbox.tiers import probe

pytestmark = pytest.mark.skipif(probe().name == "T3", reason="nothing here contains programs")


def olmeval(*words: str) -> Result:
    return CliRunner().invoke(cli, ["sandbox", *words])


@pytest.mark.parametrize(
    ("source", "code", "said"),
    [
        ("print('out')", 0, "exit code 0"),
        ("import sys; sys.exit(7)", 7, "exit code 7"),
        ("import os; os.abort()", 134, "ended by signal 6"),
        ("while True: pass", 124, "time limit"),
        ("raise ValueError('mine')", 1, "ValueError: mine"),
    ],
)
def test_the_exit_code_is_the_programs(tmp_path: Path, source: str, code: int, said: str) -> None:
    (tmp_path / "program.py").write_text(source)
    result = olmeval("run", str(tmp_path / "program.py"), "--seconds", "0.5")
    assert result.exit_code == code
    assert said in result.output
    assert "zygote" not in result.output


def test_json_has_every_step(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text("print('out')")
    record = json.loads(olmeval("run", str(tmp_path / "program.py"), "--json").output)
    assert record["status"] == "exited" and record["tier"] == probe().name
    assert record["steps"][0]["stdout"] == "out\n"


def test_shell_is_another_language(tmp_path: Path) -> None:
    (tmp_path / "program.sh").write_text("echo from bash; exit 4")
    result = olmeval("run", str(tmp_path / "program.sh"))
    assert result.exit_code == 4 and "from bash" in result.output


def test_bad_input_is_one_sentence(tmp_path: Path) -> None:
    missing = olmeval("run", str(tmp_path / "none.py"))
    assert isinstance(missing.exception, UserError) and "none.py" in str(missing.exception)
    (tmp_path / "program.xyz").write_text("")
    unknown = olmeval("run", str(tmp_path / "program.xyz"))
    assert isinstance(unknown.exception, UserError) and "--language" in str(unknown.exception)


def test_doctor_names_the_tier_and_the_languages() -> None:
    found = json.loads(olmeval("doctor", "--json").output)
    assert found["tier"] == probe().name
    assert {"isolation", "languages", "environments"} == {row["group"] for row in found["rows"]}
    printed = olmeval("doctor").output
    assert found["tier"] in printed and "bubblewrap" in printed


def test_environments_are_listed() -> None:
    rows = json.loads(olmeval("env", "list", "--json").output)
    assert {row["name"] for row in rows} >= {"bigcodebench", "ds1000"}
