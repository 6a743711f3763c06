"""The path of a newcomer: README and tutorials, every command as it stands, in order.

Each page runs in an empty folder of its own. Two commands that most pages begin with (a corpus, a
checkpoint) are run once; other pages find what they made, and say them again.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT, TUTORIALS, Block, blocks

PAGES = [ROOT / "README.md", ROOT / "docs/index.md", ROOT / "docs/cli.md", *TUTORIALS]
CORPUS = "olmeval data demo-corpus --size 100000 --output corpus"
CHECKPOINT = (
    "olmeval train cpu-0.7m data.root=corpus train.tokens=100k checkpoint.every=8"
    " --output checkpoints/first"
)


def shell(text: str, folder: Path, line: str) -> subprocess.CompletedProcess[str]:
    """Runs a block with bash; the test fails with what it wrote if one of its commands fails."""
    tools = Path(sys.executable).parent
    env = {k: v for k, v in os.environ.items() if not k.startswith(("OLMEVAL_RUN", "PYTEST"))}
    env |= {"PATH": f"{tools}:{os.environ['PATH']}", "COLUMNS": "120"}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text], cwd=folder, env=env, text=True, timeout=300,
        capture_output=True, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert done.returncode == 0, f"{line}: exit code {done.returncode}\n{text}\n{said[-3000:]}"
    assert "Traceback" not in said, f"{line}\n{text}\n{said[-3000:]}"
    return done


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory, pulled: Path) -> Path:
    """A folder with the corpus and the checkpoint that the pages begin with."""
    folder = tmp_path_factory.mktemp("begun")
    shell(f"{CORPUS}\n{CHECKPOINT}", folder, "begun")
    return folder


def perform(block: Block, folder: Path, page: Path) -> None:
    line = f"{page.name}:{block.line}"
    if block.skipped:
        return
    if block.file:
        path = folder / block.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text, encoding="utf-8")
    elif block.language == "bash":
        shell(block.text, folder, line)
    elif block.language == "python":
        path = folder / "block.py"
        path.write_text(block.text, encoding="utf-8")
        shell("python block.py", folder, line)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_of_a_page_runs_as_written(
    page: Path, begun: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = page.read_text(encoding="utf-8")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    folder = tmp_path / "work"
    folder.mkdir()
    if CORPUS in text:
        shutil.copytree(begun / "corpus", folder / "corpus")
    if CHECKPOINT in text:
        shutil.copytree(begun / "checkpoints", folder / "checkpoints")
    for block in blocks(page):
        perform(block, folder, page)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_blocks_say_what_they_are(page: Path) -> None:
    found = blocks(page)
    for block in found:
        # A block without a language could hold commands that nobody runs.
        assert block.language, f"{page.name}:{block.line}"
        if "olmeval " in block.text and block.language not in ("yaml", "toml", "python"):
            assert block.language == "bash", f"{page.name}:{block.line}"
    assert sum(bool(block.skipped) for block in found) <= 2
    assert page.parent.name != "tutorials" or any(b.language == "bash" for b in found)
