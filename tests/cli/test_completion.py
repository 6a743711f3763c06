"""Completion: what is offered, and what real shells make of it when Tab is pressed."""

import fcntl
import os
import pty
import select
import shutil
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from olmeval.cli.main import COMMANDS, cli
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


def test_commands_are_offered_with_the_words_of_help() -> None:
    items = ShellComplete(cli, {}, "olmeval", "_X").get_completions([], "comp")
    assert [item.help for item in items] == [
        COMMANDS[name][1] for name in ("compare", "completion")
    ]


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
    if shell == "zsh":  # what is changed of click's script
        assert "compset -P '--*='" in result.output and "compadd -U" not in result.output
    if shell != "bash" and shutil.which(shell):
        subprocess.run([shell, "-n", "-c", result.output], check=True)


# What a person types before Tab, and what the command then gets.
TYPED = {
    "olmeval tasks pre": ["tasks", "preview"],
    "olmeval run --model m --batc": ["run", "--model", "m", "--batch-size"],
    "olmeval run --tasks hellaswag arc_easy:b": ["run", "--tasks", "hellaswag", "arc_easy:bpb"],
    "olmeval run --tasks=arc_easy::olmes:f": ["run", "--tasks=arc_easy::olmes:full"],
    "olmeval run --output=fol": ["run", "--output=folder"],
    "olmix opt": ["optimize"],
}
BOTH = """eval "$(olmeval completion {0})"; eval "$(olmix completion {0})"\n"""
FUNCTIONS = """
olmeval() { printf '%s\\n' "$@" done >>"$TOLD"; }
olmix() { olmeval "$@"; }
"""
# How a shell is started, the file that it reads, and what stands there.
SHELLS = {
    "bash": (
        ["bash", "--noprofile", "--rcfile", "rc", "-i"],
        "rc",
        BOTH.format("bash") + FUNCTIONS + "PS1='READY> '\n",
    ),
    "zsh": (
        ["zsh", "-d", "-i"],
        ".zshrc",
        "autoload -Uz compinit; compinit -u -D\n"
        + BOTH.format("zsh") + FUNCTIONS + "PS1='READY> '\n",
    ),
    "fish": (
        ["fish", "-i"],
        ".config/fish/config.fish",
        "olmeval completion fish | source; olmix completion fish | source\n"
        "function olmeval; printf '%s\\n' $argv done >>$TOLD; end\n"
        "function olmix; olmeval $argv; end\n"
        "function fish_prompt; echo -n 'READY> '; end\n",
    ),
}  # fmt: skip


def console_scripts(folder: Path) -> None:
    """The commands as pip writes them, of the Python that runs the tests."""
    folder.mkdir()
    for name, module in (("olmeval", "main"), ("olmix", "olmix")):
        file = folder / name
        file.write_text(f'#!/bin/sh\nexec {sys.executable} -m olmeval.cli.{module} "$@"\n')
        file.chmod(0o755)


@contextmanager
def terminal(shell: str, home: Path) -> Iterator[int]:
    """A shell that believes that a person sits before it, and where that person types."""
    command, name, text = SHELLS[shell]
    file = home / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    console_scripts(home / "bin")
    env = {
        "HOME": str(home), "ZDOTDIR": str(home), "TOLD": str(home / "told"), "TERM": "dumb",
        "PATH": f"{home}/bin:{os.environ['PATH']}", "PYTHONPATH": os.getcwd(),
    }  # fmt: skip
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        command, cwd=home, env=env, stdin=theirs, stdout=theirs, stderr=theirs,
        start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    ) as process:  # fmt: skip
        os.close(theirs)
        try:
            yield ours
        finally:
            process.kill()
            os.close(ours)


def await_that(ready: Callable[[str], bool], screen: int, seconds: float = 60) -> None:
    """Reads what the shell shows, so that it is never held up, until it is ``ready``."""
    shown, end = "", time.monotonic() + seconds
    while not ready(shown):
        assert time.monotonic() < end, shown
        if select.select([screen], [], [], 0.05)[0]:
            shown += os.read(screen, 65536).decode(errors="replace")


@pytest.mark.parametrize("shell", SHELLS)
def test_tab_in_a_real_shell(shell: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    (tmp_path / "folder").mkdir()
    told = tmp_path / "told"
    told.touch()
    with terminal(shell, tmp_path) as screen:
        await_that(lambda shown: "READY> " in shown, screen)
        for line in TYPED:
            before = told.read_text().count("done\n")
            os.write(screen, f"{line}\t\r".encode())
            await_that(lambda _, n=before: told.read_text().count("done\n") > n, screen)
    calls = [call.split("\n")[:-1] for call in told.read_text().split("done\n")[:-1]]
    got = [[word.rstrip("/") for word in call] for call in calls]
    assert got == list(TYPED.values())
