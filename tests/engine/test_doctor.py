"""``olmeval doctor``: it says what is here, what is not, and how to get it."""

import json
import shutil
import sys
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from olmeval.cli.doctor import doctor
from olmeval.engine import doctor as module
from olmeval.engine.doctor import Check, examine


@pytest.fixture
def checks() -> dict[tuple[str, str], Check]:
    return {(c.section, c.name): c for c in examine()}


def test_everything_is_looked_at(checks: dict[tuple[str, str], Check], empty_store: Path) -> None:
    import torch
    import transformers

    sections = [section for section, _ in checks]
    assert set(sections) == {
        "python", "devices", "backends", "sandbox", "extras", "data", "disk"
    }  # fmt: skip
    assert checks["devices", "torch"].detail == torch.__version__
    assert checks["backends", "transformers"].detail == transformers.__version__
    assert str(empty_store) in checks["data", "answers"].detail
    tiers = {name for section, name in checks if section == "sandbox"} - {"languages"}
    assert len(tiers) == 1 and tiers <= {"T1", "T2", "T3"}
    assert not any(check.status == "broken" for check in checks.values())


def test_what_is_missing_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OLMEVAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(
        metadata, "version", lambda name: (_ for _ in ()).throw(metadata.PackageNotFoundError(name))
    )
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=4e9))
    found = {(c.section, c.name): c for c in examine()}
    for key, fix in {
        ("backends", "vllm"): "pip install 'olmeval[vllm]'",
        ("extras", "ray"): "pip install 'olmeval[ray]'",
        ("extras", "wandb"): "pip install 'olmeval[wandb]'",
        ("data", "olmes"): "olmeval data pull olmes",
        ("disk", "cache"): "olmeval cache prune --older-than 30d",
    }.items():
        assert (found[key].status, found[key].fix) == ("missing", fix)
    assert found["backends", "transformers"].status == "broken"


def test_commands_that_fix_exist() -> None:
    import tomllib

    from olmeval.cli.main import COMMANDS

    project = tomllib.loads((Path(module.__file__).parents[2] / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    for check in examine():
        words = check.fix.split()
        if words[:1] == ["olmeval"]:
            assert words[1] in COMMANDS
        if "olmeval[" in check.fix:
            assert check.fix.split("[")[1].rstrip("]'") in extras


def test_without_torch_the_exit_code_is_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    result = CliRunner().invoke(doctor, ["--json"])
    assert result.exit_code == 1
    told = json.loads(result.output)
    assert told["ok"] is False
    assert [c["name"] for c in told["checks"] if c["status"] == "broken"] == ["torch"]
    assert "pip install torch" in CliRunner().invoke(doctor).output


def test_a_card_that_torch_cannot_use(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(Path, "exists", lambda _: True)
    (cuda,) = (c for c in module._devices() if c.name == "cuda")
    assert cuda.status == "missing" and "for CPUs" in cuda.detail and "pip" in cuda.fix


def test_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b/c"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"x" * 1500)
    assert module._size(tmp_path) == "3.0 kB"
    monkeypatch.setattr(module, "PATIENCE", -1.0)
    assert module._size(tmp_path) == "more than 1.5 kB"
