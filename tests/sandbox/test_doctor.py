"""The doctor: what it says is there is there, and what is not has a way to get it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from olmeval.sandbox import doctor, environments, jail, languages, tiers, toolchains

BARE = tiers.Tier("T3", jail.Wall("T3", namespaces=False), False, 0, False, False, ("no bwrap",))


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine that has nothing."""
    monkeypatch.setattr(tiers, "probe", lambda: BARE)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    monkeypatch.setenv("OLMEVAL_CACHE", str(tmp_path))
    monkeypatch.setattr(
        toolchains, "find", lambda program: toolchains.Missing(f"'{program}' is not installed")
    )


def test_the_report_is_about_this_machine() -> None:
    found = doctor.report()
    assert found.tier == tiers.probe().name
    assert json.loads(json.dumps(found.to_json()))["tier"] == found.tier
    rows = {row.name: row for row in found.rows}
    bash = rows["Bash (sh)"]
    assert bash.ok and bash.found[0].isdigit() and bash.fix == ""
    for name, one in languages.LANGUAGES.items():
        assert rows[f"{one.title} ({name})"].ok is (languages.missing(name) is None)
    for name in environments.names():
        assert rows[name].ok is (environments.find(name) is not None)


@pytest.mark.usefixtures("bare")
def test_everything_that_is_missing_has_a_way_to_get_it() -> None:
    found = doctor.report()
    assert found.tier == "T3" and "--unsafe-local" in found.meaning
    assert [row.name for row in found.rows if row.ok] == ["Python"]
    assert all(row.fix for row in found.rows if not row.ok)
    rows = {row.name: row for row in found.rows}
    assert rows["PHP (php)"].fix == "`apt-get install php-cli`"
    assert rows["ds1000"].fix == "`olmeval sandbox env create ds1000`"
    assert rows["tier"].fix == "no bwrap"


def test_the_setting_that_forbids_namespaces_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def read(path: Path) -> str:
        if path.name == "apparmor_restrict_unprivileged_userns":
            return "1\n"
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", read)
    assert "apparmor_restrict_unprivileged_userns=0" in doctor._namespaces_fix()


def test_a_tool_under_usr_needs_no_mount_and_another_brings_its_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    toolchains.find.cache_clear()
    bash = toolchains.find("bash")
    assert isinstance(bash, toolchains.Tool)
    assert bash == toolchains.Tool("/usr/bin/bash")
    kit = tmp_path / "kit" / "bin" / "olmeval-tool"
    kit.parent.mkdir(parents=True)
    kit.write_text("#!/bin/sh\necho tool 7.8.9\n")
    kit.chmod(0o755)
    monkeypatch.setenv("PATH", f"{kit.parent}:/usr/bin:/bin")
    monkeypatch.setattr(toolchains, "reaches", lambda path: True)
    assert toolchains.find("olmeval-tool") == toolchains.Tool(str(kit), (str(tmp_path / "kit"),))
    assert toolchains.version(str(kit)) == "7.8.9"
    toolchains.find.cache_clear()
    monkeypatch.setattr(toolchains, "reaches", lambda path: False)
    closed = toolchains.find("olmeval-tool")
    assert isinstance(closed, toolchains.Missing) and "cannot be read" in closed.reason
    toolchains.find.cache_clear()


def test_a_rustup_proxy_is_taken_for_the_compiler_behind_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for toolchain in ("nightly-x", "stable-x"):
        compiler = tmp_path / "rustup" / "toolchains" / toolchain / "bin" / "rustc"
        compiler.parent.mkdir(parents=True)
        compiler.write_text("")
    (tmp_path / "bin").mkdir()
    proxy = tmp_path / "bin" / "rustup"
    proxy.write_text("#!/bin/sh\n")
    proxy.chmod(0o755)
    (tmp_path / "bin" / "rustc").symlink_to(proxy)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("RUSTUP_HOME", str(tmp_path / "rustup"))
    monkeypatch.setattr(toolchains, "reaches", lambda path: True)
    toolchains.find.cache_clear()
    found = toolchains.find("rustc")
    toolchains.find.cache_clear()
    assert isinstance(found, toolchains.Tool)
    assert "toolchains/stable-x/bin" in found.path and found.path.endswith("rustc")


def test_fixed_tier_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = replace(BARE, name="T2", landlock=4, seccomp=True, reasons=())
    monkeypatch.setattr(tiers, "probe", lambda: shared)
    rows = {row.name: row for row in doctor.report().rows}
    assert rows["Landlock"].found == "version 4"
    assert "every 30 ms" in rows["memory control group"].found


def test_a_language_that_is_installed_and_does_not_run_is_not_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if languages.missing("sh") or tiers.probe().name == "T3":
        pytest.skip("no shell, or nothing can contain it")
    bash = languages.LANGUAGES["sh"]
    broken = replace(bash, name="broken", title="Broken", run=("{bash}", "absent.sh"))
    monkeypatch.setattr(languages, "LANGUAGES", {"sh": bash, "broken": broken})
    rows = {row.name: row for row in doctor.report(run=True).rows}
    assert rows["Bash (sh)"].ok and rows["Bash (sh)"].found.endswith(", runs")
    assert not rows["Broken (broken)"].ok
    assert "do not run in the sandbox here" in rows["Broken (broken)"].fix
    assert doctor.report().rows[-1].group == "environments"
