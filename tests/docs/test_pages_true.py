"""Pages speak of commands, flags and keys that exist."""

import re
import shlex
from pathlib import Path

import click
import pytest

from olmeval.cli.main import cli
from olmeval.cli.olmix import cli as olmix
from olmeval.cli.options import GreedyCommand
from olmeval.cli.run import KNOWN_AS, run
from olmeval.metrics import HIGHER_IS_BETTER
from olmeval.tasks.schema import Form
from tests.docs.blocks import ROOT, blocks

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMING = ROOT / "docs/coming-from.md"
ROOTS: dict[str, click.Command] = {"olmeval": cli, "olmix": olmix}


def flags(command: click.Command) -> set[str]:
    found = {
        name
        for param in command.params
        if isinstance(param, click.Option)
        for name in (*param.opts, *param.secondary_opts)
    }
    theirs = command.known_as if isinstance(command, GreedyCommand) else {}
    return found | set(theirs) | {"-h", "--help", "--debug", "--version"}


def mistakes(words: list[str]) -> list[str]:
    """What a command line ``olmeval …`` or ``olmix …`` says that does not exist."""
    command, rest = ROOTS[words[0]], words[1:]
    path = words[0]
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        child = command.get_command(click.Context(command), rest[0])
        if child is None:
            return [f"{path} has no command '{rest[0]}'"]
        command, path, rest = child, f"{path} {rest[0]}", rest[1:]
    known = flags(command)
    used = [
        word.partition("=")[0].replace("_", "-") for word in rest if re.match(r"--?[a-z]", word)
    ]
    return [f"{path} has no {flag}" for flag in used if flag not in known]


def command_lines(text: str) -> list[list[str]]:
    """The calls of our commands in a shell block, split into words."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="();<>|&")
        lexer.whitespace_split = True
        try:
            words = list(lexer)
        except ValueError:
            continue  # a quote that goes on in the next line, of another language
        call: list[str] | None = None
        for word in words:
            if call is None and word in ROOTS:
                call = [word]
                found.append(call)
            elif call is not None and set(word) <= set("();<>|&"):
                call = None
            elif call is not None:
                call.append(word)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_commands_of_a_page_exist(page: Path) -> None:
    wrong = []
    for block in blocks(page):
        if block.language in ("", "bash", "text"):
            for words in command_lines(block.text):
                wrong += [f"{page.name}:{block.line}: {m}" for m in mistakes(words)]
    text = "" if page == COMING else page.read_text(encoding="utf-8")  # speaks of other tools
    for code in re.findall(r"`(olm(?:eval|ix) [^`\n]+)`", text):
        for words in command_lines(code.replace("\\|", "|").replace("…", "")):
            wrong += [f"{page.name}: {m}" for m in mistakes(words)]
    assert wrong == []


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "CHANGELOG.md"], ids=lambda p: p.stem)
def test_links_of_pages_outside_the_site_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8"))
    local = [target for target in targets if "://" not in target]
    assert [target for target in local if not (page.parent / target).exists()] == []


def rows(heading: str) -> list[list[str]]:
    """The cells of the tables below a heading of the page for users of other tools."""
    text = COMING.read_text(encoding="utf-8")
    section = text.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if row[0] not in ("there", "-")]


@pytest.mark.parametrize("tool", ["lm-evaluation-harness", "OLMES", "olmix"])
def test_what_other_tools_call_it_is_here(tool: str) -> None:
    found = rows(tool)
    assert len(found) > 5
    for theirs, ours, *_ in found:
        if ours == "same":
            for flag in re.findall(r"`(--?[a-z_-]+)", theirs):
                assert flag.replace("_", "-") in flags(run), theirs
        for code in re.findall(r"`([^`]+)`", ours):
            words = shlex.split(code)
            if words[0] in ROOTS:
                assert mistakes(words) == [], ours
            elif words[0].startswith("-"):
                assert mistakes(["olmeval", "run", *words]) == [], ours


def test_keys_of_task_files() -> None:
    text = COMING.read_text(encoding="utf-8")
    table = text.split("here (a key of a format)", 1)[1].split("\n\n", 1)[0]
    keys = [
        key for line in table.splitlines()[2:] for key in re.findall(r"`(\w+)`", line.split("|")[2])
    ]
    assert len(keys) > 8 and set(keys) <= set(Form.model_fields)
    metrics = re.findall(r"is `(acc_\w+)`", text)
    assert len(metrics) == 4 and set(metrics) <= set(HIGHER_IS_BETTER)


def test_every_flag_we_translate_is_in_the_tables() -> None:
    text = COMING.read_text(encoding="utf-8").replace("_", "-")
    assert all(f"`{flag}" in text or f" {flag} " in text for flag in KNOWN_AS)


def test_the_checks_can_fail() -> None:
    assert mistakes(["olmeval", "rum"]) and mistakes(["olmix", "fit", "--famly"])
    assert mistakes(["olmeval", "run", "--model", "m", "--nothing"])
    assert not mistakes(["olmeval", "run", "--output_path", "o", "-f", "3"])
    assert command_lines("a=1 && olmeval run --x # olmeval y\n(olmix fit | tee z)") == [
        ["olmeval", "run", "--x"], ["olmix", "fit"]
    ]  # fmt: skip
