"""What every command of both tools has in common: examples, flags, JSON, exit codes, no colours."""

import contextlib
import os
import pty
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from olmeval.cli.main import cli
from olmeval.cli.olmix import cli as olmix
from olmeval.tasks.describe import list_tasks

ROOTS = {"olmeval": cli, "olmix": olmix}
# Commands that a script reads nothing from, and why.
NO_JSON = {
    "olmeval completion": "prints a script for the shell",
    "olmix completion": "prints a script for the shell",
    "olmeval view": "serves pages until it is stopped",
    "olmeval sandbox env create": "makes an environment; `env list` tells of it",
    "olmeval sandbox env remove": "removes one",
    "olmeval demo": "writes runs and tables that other commands read",
    "olmeval export": "writes files",
    "olmeval tasks export": "writes files",
}
# One flag means one thing everywhere: how many values it takes, and of what sort.
EXCEPTIONS = {
    "--baseline": "the file of a gate, or the run that a report compares with",
    "--domain": "one of an input, or several to measure",
    "--drop": "columns to leave out, or a share of the worst data",
    "--fit": "runs of a ladder, or the file of a fit",
    "--limit": "documents; of olmix optimize worst scores of targets",
    "--model": "several to evaluate, one whose answers to remove",
    "--seed": "of one draw, or of every training run",
    "--target": "several columns or targets, or the one that decides",
    "--task-path": "several to read, one to write to",
    "--tokenizer": "a hub id where the hub may be asked",
}


def walk(
    command: click.Command, path: tuple[str, ...], parent: click.Context | None = None
) -> Iterator[tuple[str, click.Command, click.Context]]:
    ctx = click.Context(command, info_name=path[-1], parent=parent)
    yield " ".join(path), command, ctx
    if isinstance(command, click.Group):
        for name in command.list_commands(ctx):
            child = command.get_command(ctx, name)
            assert child is not None, name
            yield from walk(child, (*path, name), ctx)


COMMANDS = [node for name, root in ROOTS.items() for node in walk(root, (name,))]
LEAVES = [node for node in COMMANDS if not isinstance(node[1], click.Group)]
of_every_command = pytest.mark.parametrize(
    ("name", "command", "ctx"), COMMANDS, ids=[name for name, *_ in COMMANDS]
)
of_every_leaf = pytest.mark.parametrize(
    ("name", "command", "ctx"), LEAVES, ids=[name for name, *_ in LEAVES]
)


def options(command: click.Command) -> dict[str, click.Option]:
    return {
        name: param
        for param in command.params
        if isinstance(param, click.Option)
        for name in param.opts
    }


@of_every_command
def test_help_says_what_it_does_and_shows_an_example(
    name: str, command: click.Command, ctx: click.Context
) -> None:
    text = command.get_help(ctx)
    assert command.help
    epilog = text[text.rindex("Example") :]
    words = " ".join(epilog.split())
    # `olmeval tasks export` is `olmeval export`, where design and habit look for it.
    assert name.replace("tasks export", "export") in words
    assert "\x1b" not in text
    assert all(option.help or option.show_default for option in options(command).values())


def example_lines(name: str, command: click.Command) -> list[str]:
    """The commands of an epilog that call ``name``, each as one line."""
    text = (command.epilog or "").replace("\b", "")
    if "\n" not in text.strip():
        text = re.sub(r"^Examples?:", "", text)
        return [part.strip() for part in text.split(";") if part.strip().startswith(name)]
    joined = re.sub(r"\\\n\s*", " ", text)
    return [line.strip() for line in joined.splitlines() if line.strip().startswith(name)]


@of_every_leaf
def test_examples_use_flags_that_exist(
    name: str, command: click.Command, ctx: click.Context
) -> None:
    known = options(command) | dict.fromkeys(("-h", "--help"))
    for line in example_lines(name, command):
        for flag in re.findall(r"(?<=\s)--?[a-z][a-z-]*", line):
            assert flag in known, line


@of_every_leaf
def test_json_for_scripts(name: str, command: click.Command, ctx: click.Context) -> None:
    json_option = options(command).get("--json")
    if name not in NO_JSON:
        assert json_option is not None and json_option.is_flag


def test_one_flag_one_meaning() -> None:
    shapes: dict[str, dict[tuple[bool, bool, bool, int], str]] = {}
    for name, command, _ in LEAVES:
        for flag, option in options(command).items():
            is_path = isinstance(option.type, click.Path)
            shape = (option.is_flag, option.multiple, is_path, option.nargs)
            shapes.setdefault(flag, {})[shape] = name
    clashes = {flag: s for flag, s in shapes.items() if len(s) > 1 and flag not in EXCEPTIONS}
    assert not clashes


def test_where_jobs_run_is_asked_alike_everywhere() -> None:
    seen = {}
    for name, command, _ in LEAVES:
        known = options(command)
        if "--executor" in known:
            flags = ("--executor", "--workers", "--gpus-per-worker", "--ray-address")
            seen[name] = [known[flag].to_info_dict()["type"] for flag in flags]
    assert {"olmeval run", "olmeval train", "olmeval ladder run", "olmix launch"} <= set(seen)
    assert all(shape == seen["olmeval run"] for shape in seen.values())


def test_short_flags_mean_the_same_everywhere() -> None:
    meanings: dict[str, set[str]] = {}
    for _, command, _ in LEAVES:
        for option in {id(o): o for o in options(command).values()}.values():
            longs = [name for name in option.opts if name.startswith("--")]
            for short in set(option.opts) - set(longs):
                meanings.setdefault(short, set()).add(longs[-1] if longs else short)
    assert {short: names for short, names in meanings.items() if len(names) > 1} == {}
    for name, command, _ in LEAVES:
        if "--output" in options(command):
            assert "-o" in options(command), name
        for option in options(command).values():
            if option.name == "tasks":
                assert {"--tasks", "-t"} <= set(option.opts), name


def test_flags_are_written_with_dashes() -> None:
    for name, command, _ in COMMANDS:
        for flag in options(command):
            assert re.fullmatch(r"--[a-z][a-z0-9]*(-[a-z0-9]+)*|-[a-zA-Z]", flag), (name, flag)


def test_flags_of_lm_evaluation_harness_and_olmes_are_known() -> None:
    run = cli.get_command(click.Context(cli), "run")
    assert run is not None
    both = {
        "model": "m", "tasks": "arc_easy:rc", "limit": "3", "batch_size": "auto:4",
        "output_path": "o", "num_fewshot": "5", "include_path": "t", "device": "cpu",
    }  # fmt: skip
    for sep in "-_":
        args = [x for k, v in both.items() for x in (f"--{k.replace('_', sep)}", v)]
        values = run.make_context("run", args).params
        assert values["models"] == ("m",) and values["tasks"] == ("arc_easy:rc",)
        assert values["sequences"] == 0 and values["num_fewshot"] == 5
        assert str(values["output"]) == "o" and str(values["task_path"][0]) == "t"
    short = run.make_context("run", shlex.split("-m a -t x,y -b 3 -L 0.5 -f 2 -o p")).params
    assert short["tasks"] == ("x", "y") and short["sequences"] == 3 and short["limit"] == "0.5"
    olmes = run.make_context(
        "run", shlex.split("--model a --task x y --output-dir p --num-shots 2")
    )
    assert olmes.params["tasks"] == ("x", "y") and olmes.params["num_fewshot"] == 2


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("rum", "no command 'rum'; did you mean 'run'"),
        ("tasks lst", "lst"),
        ("run --model x --tasks y --batchsize 3", "--batchsize"),
        ("run --model x --tasks y -b three", "neither a number of one or more nor auto"),
        ("run --model x --tasks y -b 0", "neither a number of one or more nor auto"),
        ("compare", "PATHS"),
    ],
)
def test_misuse_is_one_sentence_and_code_2(words: str, sentence: str) -> None:
    result = CliRunner().invoke(cli, words.split())
    assert result.exit_code == 2 and sentence in result.output


def process(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """A real process; ``env`` on top of an environment without colour variables."""
    clean = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR")}
    return subprocess.run(
        [sys.executable, "-m", "olmeval.cli.main", *words],
        capture_output=True, text=True, timeout=120, check=False, env={**clean, **env},
    )  # fmt: skip


def test_bad_input_is_code_2_and_debug_shows_the_traceback(tmp_path: Path) -> None:
    words = ("table", "query", "SELECT 1", str(tmp_path / "absent"))
    plain = process(*words)
    assert plain.returncode == 2 and "Traceback" not in plain.stderr
    assert plain.stderr.startswith("olmeval: ") and plain.stderr.count("\n") == 1
    shown = process(*words, "--debug")
    assert shown.returncode == 2 and "Traceback" in shown.stderr
    assert shown.stderr.rstrip().endswith(plain.stderr.rstrip())


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        ("KeyError('x')", 3, "mistake in broken itself"),
        ("OSError(5, 'Input/output error')", 3, "mistake in broken itself"),
        ("OSError(28, 'No space left', 'a.csv')", 2, "cannot write 'a.csv': No space left; free"),
        ("KeyboardInterrupt()", 130, "interrupted"),
        ("UserError('no')", 2, "broken: no"),
        ("SystemExit(1)", 1, ""),
        ("click.exceptions.Exit(1)", 1, ""),
    ],
)
def test_exit_codes(
    raised: str, code: int, said: str, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    from olmeval.cli.groups import run_cli
    from olmeval.errors import UserError

    error = eval(raised, {"click": click, "UserError": UserError})

    @click.group()
    def broken() -> None:
        """A group."""

    @broken.command()
    def fall() -> None:
        raise error

    monkeypatch.setattr(sys, "argv", ["broken", "fall"])
    with pytest.raises(SystemExit) as exit_:
        run_cli(broken, "broken")
    assert exit_.value.code == code
    shown = capsys.readouterr().err
    assert said in shown and ("Traceback" in shown) == (code == 3)


def test_no_colour_and_no_bars_in_a_pipe() -> None:
    result = process("cache", "verify")
    assert result.returncode == 0
    assert "\x1b" not in result.stdout + result.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_one_sentence() -> None:
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            [sys.executable, "-m", "olmeval.cli.main", "--help"],
            stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert result.returncode == 2
    assert result.stderr.startswith("olmeval: cannot write the output: ")
    assert result.stderr.count("\n") == 1


def in_terminal(*words: str, **env: str) -> str:
    """What a command writes when both its streams are a terminal."""
    clean = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR")}
    ours, theirs = pty.openpty()
    command = subprocess.Popen(
        [sys.executable, "-m", "olmeval.cli.main", *words],
        stdout=theirs, stderr=theirs, env={**clean, "TERM": "xterm-256color", **env},
    )  # fmt: skip
    os.close(theirs)
    seen = b""
    # Linux ends a terminal that nobody writes to with an error.
    with contextlib.suppress(OSError):
        while chunk := os.read(ours, 65536):
            seen += chunk
    os.close(ours)
    assert command.wait(60) == 0
    return seen.decode()


def test_colours_in_a_terminal_unless_no_color(tmp_path: Path, tokenizer_dir: Path) -> None:
    (tmp_path / "quiz.jsonl").write_text('{"question": "1 + 1", "choices": ["2", "3"], "gold": 0}')
    assert process("tasks", "new", "quiz", "--from", str(tmp_path / "quiz.jsonl"),
                   "--task-path", str(tmp_path)).returncode == 0  # fmt: skip
    words = ("tasks", "preview", "quiz", "--task-path", str(tmp_path))
    words = (*words, "--tokenizer", str(tokenizer_dir))
    colours = re.compile(r"\x1b\[[0-9;]*3[0-7]m")
    assert colours.search(in_terminal(*words))
    assert not colours.search(in_terminal(*words, NO_COLOR="1"))
    assert "\x1b" not in process(*words).stdout


def test_a_list_is_whole_in_a_pipe_and_on_a_narrow_terminal() -> None:
    name = max((row["task"] for row in list_tasks()), key=len)
    assert name in process("tasks", "list").stdout
    narrow = in_terminal("tasks", "list", COLUMNS="80", NO_COLOR="1")
    assert "winogrande" in narrow and "ARC (easy)" in narrow
    assert name[:30] in narrow


def test_a_swarm_with_a_failed_run_ends_with_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from olmeval.mixing import launch

    for failed, code in (({}, 0), ({"mix-1": "out of memory"}, 1)):
        done = launch.Launched(tmp_path, 3, ("t",), (), failed)
        monkeypatch.setattr(launch, "launch", lambda *_, done=done, **__: done)
        words = ["launch", "r.csv", "cpu-0.7m", "-t", "arc_easy:bpb", "-o", str(tmp_path)]
        result = CliRunner().invoke(olmix, words)
        assert result.exit_code == code, result.output
        assert ("out of memory" in result.output) == bool(failed)
