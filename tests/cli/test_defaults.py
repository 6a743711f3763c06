"""``olmeval.toml``: which file, whose value, and what a mistake in it says."""

import os
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from olmeval.cli.defaults import find_files, load_defaults
from olmeval.cli.main import cli
from olmeval.cli.olmix import cli as olmix
from olmeval.errors import UserError


@pytest.fixture(autouse=True)
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user without files, in an empty project."""
    monkeypatch.delenv("OLMEVAL_CONFIG", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    project = tmp_path / "project"
    (project / "deep/er").mkdir(parents=True)
    monkeypatch.chdir(project)
    return project


def params(text: str, command: str, *words: str, root: Any = cli) -> dict[str, Any]:
    """The parameters of a command with ``olmeval.toml`` holding ``text``."""
    Path("olmeval.toml").write_text(text)
    with root.make_context(root.name, [command, *words]) as ctx:
        child = root.get_command(ctx, command)
        return dict(child.make_context(command, list(words), parent=ctx).params)


def test_command_line_beats_environment_beats_project_beats_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = tmp_path / "config/olmeval/olmeval.toml"
    user.parent.mkdir(parents=True)
    user.write_text("[run]\nbatch-size = 1\ndtype = 'float16'\nmodel = ['u']\ntasks = ['t']\n")
    project = "[run]\nbatch_size = 2\ndevice = 'cpu'\n"
    found = params(project, "run")
    assert (found["sequences"], found["dtype"], found["device"]) == (2, "float16", "cpu")
    assert found["models"] == ("u",)
    monkeypatch.setenv("OLMEVAL_RUN_BATCH_SIZE", "3")
    assert params(project, "run")["sequences"] == 3
    assert params(project, "run", "--batch_size", "4")["sequences"] == 4
    assert find_files() == [user, Path.cwd() / "olmeval.toml"]


def test_the_environment_fills_flags_and_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLMEVAL_RUN_TASKS", "a b")
    monkeypatch.setenv("OLMEVAL_RUN_DRY_RUN", "1")
    monkeypatch.setenv("OLMEVAL_VERSION", "7")  # sets nothing
    monkeypatch.setenv("OLMEVAL_GATE_CHECK_POLICY", "g.yaml")
    monkeypatch.setenv("OLMEVAL_DATA_DEMO_CORPUS_SIZE", "9")
    found = params("", "run", "--model", "m")
    assert found["tasks"] == ("a", "b") and found["dry_run"] is True
    assert load_defaults(cli, "olmeval") == {
        "run": {"tasks": ["a", "b"], "dry_run": "1"},
        "gate": {"check": {"policy": "g.yaml"}},
        "data": {"demo-corpus": {"size": "9"}},
    }
    monkeypatch.setenv("OLMEVAL_RUN_UNSAFE_LOCAL", "1")
    with pytest.warns(UserWarning, match="OLMEVAL_RUN_UNSAFE_LOCAL sets no option"):
        assert "unsafe_local" not in load_defaults(cli, "olmeval")["run"]
    monkeypatch.delenv("OLMEVAL_RUN_UNSAFE_LOCAL")
    monkeypatch.setenv("OLMEVAL_RUN_BATCHSIZE", "3")
    with pytest.warns(UserWarning, match="OLMEVAL_RUN_BATCHSIZE sets no option of 'run'"):
        load_defaults(cli, "olmeval")


def test_a_file_above_counts_up_to_the_repository(
    nobody: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = nobody / "olmeval.toml"
    file.write_text("[run]\noutput = 'out'\ntask-path = ['own', '/else']\nmodel = './m'\n")
    monkeypatch.chdir(nobody / "deep/er")
    assert find_files() == [file]
    run = load_defaults(cli, "olmeval")["run"]
    # Paths are those of the file, seen from here; './' marks one where a hub id may stand, too.
    assert run["output"] == "../../out" and run["task_path"] == ["../../own", "/else"]
    assert run["models"] == ["../../m"]
    (nobody / "deep/.git").mkdir()
    assert find_files() == []


def test_nobody_at_home_and_no_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert find_files() == []
    assert CliRunner().invoke(cli, ["--help"]).exit_code == 0


def test_the_environment_names_another_file_or_none(
    nobody: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (nobody / "olmeval.toml").write_text("[run]\ndtype = 'float16'\n")
    other = nobody / "other.toml"
    other.write_text("[run]\ndtype = 'bfloat16'\n")
    monkeypatch.setenv("OLMEVAL_CONFIG", str(other))
    assert load_defaults(cli, "olmeval") == {"run": {"dtype": "bfloat16"}}
    monkeypatch.setenv("OLMEVAL_CONFIG", "")
    assert load_defaults(cli, "olmeval") == {}
    monkeypatch.setenv("OLMEVAL_CONFIG", str(nobody / "absent.toml"))
    with pytest.raises(UserError, match=r"absent\.toml', which \$OLMEVAL_CONFIG names"):
        load_defaults(cli, "olmeval")


def test_tables_of_olmix_and_of_subcommands() -> None:
    text = "[olmix.fit]\nfamily = 'gp'\ncurve = false\n[gate.check]\npolicy = 'g.yaml'\n"
    found = params(text, "fit", "--output", "o", root=olmix)
    assert found["family"] == "gp" and found["curve"] is False
    assert load_defaults(cli, "olmeval") == {"gate": {"check": {"policy": "g.yaml"}}}
    pairs = params(
        "[run]\nbackend-args = {tensor_parallel_size = 4}\n", "run", "-m", "a", "-t", "b"
    )
    assert pairs["backend_args"] == ("tensor_parallel_size=4",)
    pair = params("[olmix.swarm]\nstrength = [0.2, 3]\n", "swarm", "d", "-o", "o", root=olmix)
    assert pair["strength"] == (0.2, 3.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[run]\nbatchsize = 3", r"\[run\]: unknown key 'batchsize'; did you mean 'batch-size'"),
        ("[rum]\nlimit = 3", r"\[rum\] is no command; did you mean 'run'"),
        ("[gate.chek]\n", r"\[gate.chek\] is no command; did you mean 'check'"),
        ("[run]\nunsafe-local = true", r"unsafe-local must stand on the command line"),
        ("[sandbox.run]\nunsafe_local = true", r"unsafe_local must stand on the command line"),
        ("run = 3", r"\[run\] must be a table of options"),
        ("[run]\nmax-length = 'long'", r"\[run\]: max-length = 'long': 'long' is not a valid int"),
        ("[run]\nmax-length = 2", r"\[run\]: max-length = 2: 2 is not in the range x>=8"),
        ("[run]\nbos = 'maybe'", r"\[run\]: bos = 'maybe': 'maybe' is not one of"),
        ("[run]\ndry-run = 'yes'", r"dry-run = 'yes': write true or false"),
        ("[run]\nlimit = [1, 2]", r"limit = \[1, 2\]: that is not a value"),
        ("[run]\nlimit = true", r"limit = True: that is not a value"),
        ("[run]\nlimit = {a = 1}", r"limit = {'a': 1}: that is not a value"),
        ("[run]\nlimit = ", r"is not valid TOML: "),
    ],
)
def test_a_mistake_is_one_sentence_with_file_and_key(text: str, message: str) -> None:
    Path("olmeval.toml").write_text(text)
    with pytest.raises(UserError, match=message) as error:
        load_defaults(cli, "olmeval")
    assert "olmeval.toml" in str(error.value) and "\n" not in str(error.value)


def test_mistakes_for_olmix() -> None:
    Path("olmeval.toml").write_text("[olmix.fit]\nfamly = 'gp'")
    with pytest.raises(UserError, match=r"\[olmix\.fit\]: unknown key 'famly'.*'family'"):
        load_defaults(olmix, "olmix")
    Path("olmeval.toml").write_text("olmix = 3")
    with pytest.raises(UserError, match="olmix is not a table"):
        load_defaults(olmix, "olmix")


def test_help_names_the_file_and_shows_its_values() -> None:
    Path("olmeval.toml").write_text("[run]\noutput = 'elsewhere'\n")
    text = CliRunner().invoke(cli, ["--help"]).output
    assert "".join(text.split()).endswith(f"Defaults:{Path.cwd() / 'olmeval.toml'}")
    assert "[default: elsewhere]" in CliRunner().invoke(cli, ["run", "--help"]).output


def every_option() -> list[tuple[tuple[str, ...], click.Option]]:
    found = []

    def visit(group: click.Group, path: tuple[str, ...]) -> None:
        ctx = click.Context(group)
        for name in group.list_commands(ctx):
            command = group.get_command(ctx, name)
            if isinstance(command, click.Group):
                visit(command, (*path, name))
            elif command is not None:
                found.extend(
                    ((*path, name), option)
                    for option in command.params
                    if isinstance(option, click.Option)
                )

    visit(cli, ())
    return found


def a_value(param: click.Option) -> str:
    """Something that the option takes, in TOML."""
    if param.is_flag:
        return "true"
    kind = param.type
    numbers = {"integer": "9", "float": "0.9", "integer range": "9", "float range": "0.9"}
    if isinstance(kind, click.Choice):
        item = f"'{kind.choices[0]}'"
    elif isinstance(kind, click.Path):
        item = "'absent'"
    elif isinstance(kind, click.IntRange) and kind.min is not None:
        item = str(kind.min + 9)
    else:
        item = numbers.get(kind.name, "'9'")
    return f"[{', '.join([item] * param.nargs)}]" if param.nargs != 1 else item


@pytest.mark.parametrize("sep", ["-", "_"])
def test_every_option_of_every_command_can_be_set(sep: str) -> None:
    for path, param in every_option():
        for flag in (name for name in param.opts if name.startswith("--")):
            if flag == "--unsafe-local":
                continue
            key = flag.removeprefix("--").replace("-", sep)
            Path("olmeval.toml").write_text(f"[{'.'.join(path)}]\n{key} = {a_value(param)}\n")
            found = load_defaults(cli, "olmeval")
            for name in path:
                found = found[name]
            assert list(found) == [param.name]
