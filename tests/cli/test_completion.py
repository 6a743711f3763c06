"""Completion, in the shells that are here: a real bash asks as it does when Tab is pressed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from olmeval.cli.main import cli
from olmeval.cli.olmix import cli as olmix

WINO = ["winogrande", "winogrande::olmes", "winogrande::olmes:full"]


def offered(line: str, root: click.Command = cli) -> list[str]:
    """What click offers at the end of ``line``."""
    *words, incomplete = line.split(" ")
    shell = ShellComplete(root, {}, words[0], "_X")
    return [item.value for item in shell.get_completions(words[1:], incomplete)]


def test_commands_flags_and_choices() -> None:
    assert offered("olmeval comp") == ["compare", "completion"]
    assert offered("olmeval gate ") == ["check", "record"]
    assert "--batch-size" in offered("olmeval run --b")
    assert offered("olmeval run --bos a") == ["always"]
    assert offered("olmix fit --family l", olmix) == ["log-linear", "lightgbm", "linear"]


def test_task_names(tmp_path: Path) -> None:
    assert offered("olmeval run --tasks winogr") == WINO
    # The second and later values of a flag, too.
    assert offered("olmeval run --model m --tasks arc_easy winogr") == WINO
    assert offered("olmeval run --tasks arc_easy --model winogr") == []
    assert "core_9mcqa::olmes" in offered("olmeval run --tasks core_9")
    assert {"arc_easy:bpb", "arc_easy:rc"} <= set(offered("olmeval run -t arc_easy:"))
    assert offered("olmeval tasks show winogr") == WINO
    (tmp_path / "q.yaml").write_text(
        "families: {quizzical: {summary: s, split: t, splits: {t: [{file: q.jsonl}]}, default: rc,"
        " formats: {rc: {prompt: '{q}', primary: acc_per_char, num_shots: 0}}}}"
    )
    assert offered(f"olmeval run --task-path {tmp_path} --tasks quizz") == ["quizzical"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize("root", [cli, olmix], ids=lambda root: str(root.name))
def test_scripts(shell: str, root: click.Command) -> None:
    result = CliRunner().invoke(root, ["completion", shell])
    assert result.exit_code == 0
    assert f"_{str(root.name).upper()}_COMPLETE={shell}_complete" in result.output
    if shell != "bash" and shutil.which(shell):
        subprocess.run([shell, "-n", "-c", result.output], check=True)


def pressed(line: str, tmp_path: Path) -> list[str]:
    """What a real bash would offer when Tab is pressed at the end of ``line``."""
    words = line.split(" ")
    script = f"""
        eval "$({words[0]} completion bash)"
        COMP_WORDS=({" ".join(repr(word) for word in words)}); COMP_CWORD={len(words) - 1}
        _{words[0]}_completion {words[0]}
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    tools = Path(sys.executable).parent
    for name, module in (("olmeval", "main"), ("olmix", "olmix")):
        # Console scripts as pip writes them, of the Python that runs the tests.
        file = tmp_path / name
        file.write_text(f'#!/bin/sh\nexec {tools}/python -m olmeval.cli.{module} "$@"\n')
        file.chmod(0o755)
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": os.getcwd()}
    done = subprocess.run(
        ["bash", "--norc", "-c", script], capture_output=True, text=True, check=True, env=env,
        timeout=60,
    )  # fmt: skip
    return done.stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash(tmp_path: Path) -> None:
    assert pressed("olmeval tasks pre", tmp_path) == ["preview"]
    assert pressed("olmeval run --model m --tasks arc_easy winogr", tmp_path) == WINO
    assert pressed("olmix opt", tmp_path) == ["optimize"]
