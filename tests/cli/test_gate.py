"""``olmeval gate``: exit codes and files, in real processes and in one."""

import json
import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner, Result

from olmeval.cli.main import cli
from olmeval.errors import UserError
from tests.cli.runs import write_run


def call(*args: object) -> Result:
    return CliRunner().invoke(cli, ["gate", *map(str, args)])


def test_record_then_check(tmp_path: Path) -> None:
    good = write_run(tmp_path / "good", [1.0] * 40 + [0.0] * 10)
    bad = write_run(tmp_path / "bad", [1.0] * 20 + [0.0] * 30)
    short = write_run(tmp_path / "short", [1.0] * 20)
    baseline, summary = tmp_path / "b.json", tmp_path / "summary.md"
    summary.write_text("earlier\n")
    done = call("record", good, "-o", baseline)
    assert done.exit_code == 0 and "1 tasks (0 with checkpoint noise)" in done.output
    files = ("--junit", tmp_path / "g.xml", "--markdown", summary, "--output", tmp_path / "g.json")
    for run, code, word in ((good, 0, "passed"), (bad, 1, "REGRESSED"), (short, 2, "CANNOT TELL")):
        done = call("check", run, "--baseline", baseline, "--annotations", *files)
        assert done.exit_code == code, done.output
        assert word in done.output
        assert json.loads((tmp_path / "g.json").read_text())["exit_code"] == code
    assert summary.read_text().startswith("earlier\n### good against good")
    assert "::warning title=unknown%3A t::" in done.output
    history = ("--history", tmp_path / "h.jsonl")
    for run in (good, bad, good):
        call("check", run, "--baseline", baseline, *history)
    entries = [json.loads(line) for line in (tmp_path / "h.jsonl").read_text().splitlines()]
    assert [e["run"] for e in entries] == ["bad", "good"]


def test_a_folder_of_one_run_will_do_and_of_two_not(tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / "good", [1.0] * 40 + [0.0] * 10)
    assert call("record", tmp_path / "runs", "-o", tmp_path / "b.json").exit_code == 0
    write_run(tmp_path / "runs" / "other", [1.0] * 40 + [0.0] * 10)
    error = call("check", tmp_path / "runs", "--baseline", tmp_path / "b.json").exception
    assert isinstance(error, UserError) and "holds 2 runs" in str(error)


def test_exit_codes_of_the_process(tmp_path: Path) -> None:
    good = write_run(tmp_path / "good", [1.0] * 40 + [0.0] * 10)
    bad = write_run(tmp_path / "bad", [0.0] * 50)
    assert call("record", good, "-o", tmp_path / "b.json").exit_code == 0
    base = [sys.executable, "-m", "olmeval.cli.main", "gate", "check", "--baseline"]
    for run, baseline, code in ((bad, "b.json", 1), (good, "none.json", 2)):
        done = subprocess.run(
            [*base, str(tmp_path / baseline), str(run)], capture_output=True, text=True, check=False
        )
        assert done.returncode == code, done.stderr
    assert "none.json' does not exist" in done.stderr
