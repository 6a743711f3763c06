"""The reference of the site is made from the code, and is whole."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType, SimpleNamespace

import click
import pytest
import yaml

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    pytest.importorskip("mkdocs", reason="the site needs the extra 'docs'")
    spec = importlib.util.spec_from_file_location("docs_hooks", ROOT / "scripts/docs_hooks.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_command_and_option_is_listed(hooks: ModuleType) -> None:
    from olmeval.cli.main import cli
    from olmeval.cli.olmix import cli as olmix

    page = hooks.commands_page()
    sections = {
        part.split("\n", 1)[0].strip(): part
        for part in re.split(r"^### ", page, flags=re.MULTILINE)
    }
    found = [node for root, name in ((cli, "olmeval"), (olmix, "olmix"))
             for node in hooks.leaves(root, name)]  # fmt: skip
    assert len(found) > 50
    for command, ctx in found:
        section = sections[ctx.command_path]
        assert f"```text\n{ctx.command_path}" in section
        assert re.search(r"```bash\n.*olm(eval|ix) ", section)
        for param in command.params:
            if isinstance(param, click.Option) and not param.hidden:
                assert param.opts[0] in section
        # A cell with a bar in it would end the row.
        rows = [line for line in section.splitlines() if line.startswith("| `")]
        assert all(len(re.findall(r"(?<!\\)\|", row)) == 3 for row in rows)


def test_every_task_and_suite_is_listed(hooks: ModuleType) -> None:
    from olmeval.tasks.describe import list_tasks
    from olmeval.tasks.suites import load_suites

    page = hooks.tasks_page()
    for name in [row["task"] for row in list_tasks()] + list(load_suites()):
        assert f"| `{name}` |" in page


def test_links_out_of_the_documents_lead_to_copies(hooks: ModuleType) -> None:
    page = SimpleNamespace(file=SimpleNamespace(src_uri="deep/page.md"))
    text = "[a](../../pyproject.toml) [b](../other.md) [c](../../absent.yaml)"
    assert hooks.on_page_markdown(text, page) == (
        "[a](../source/pyproject.toml.txt) [b](../other.md) [c](../../absent.yaml)"
    )


def test_nothing_is_loaded_from_elsewhere(hooks: ModuleType) -> None:
    from mkdocs.exceptions import PluginError

    page = SimpleNamespace(file=SimpleNamespace(src_uri="page.md"))
    fine = '<script src="assets/a.js"></script><a href="https://example.org">there</a>'
    assert hooks.on_post_page(fine, page) == fine
    for bad in ('<script src="https://x/y.js">', '<link rel="stylesheet" href="//x/y.css">'):
        with pytest.raises(PluginError, match=r"page\.md loads from elsewhere"):
            hooks.on_post_page(bad, page)


def test_docstrings_lose_their_roles(hooks: ModuleType) -> None:
    assert hooks.on_page_content("a :class:<code>Run</code> b") == "a <code>Run</code> b"


def test_the_navigation_names_pages_that_are_there() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    made = {"reference/commands.md", "reference/tasks.md", "reference/python.md", "changelog.md"}
    named = set(re.findall(r"\S+\.md", str(yaml.safe_load(text)["nav"]).replace("'", " ")))
    assert all((ROOT / "docs" / name).exists() for name in named - made)
    tutorials = {f"tutorials/{p.name}" for p in (ROOT / "docs/tutorials").glob("*.md")}
    assert tutorials <= named
