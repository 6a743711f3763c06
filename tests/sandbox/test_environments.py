"""Environments: made whole or not at all, found by their pins, and seen by programs in the jail."""

import json
import platform
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from olmeval.errors import UserError
from olmeval.sandbox import environments, tiers
from olmeval.sandbox.verdict import Program, judge

HERE = platform.python_version()
SHORT = ".".join(HERE.split(".")[:2])


def write_wheel(folder: Path, version: str) -> None:
    info = f"olmeval_tiny-{version}.dist-info"
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / f"olmeval_tiny-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr("olmeval_tiny.py", f"VALUE = '{version}'\n")
        wheel.writestr(
            f"{info}/METADATA",
            f"Metadata-Version: 2.1\nName: olmeval-tiny\nVersion: {version}\n",
        )
        wheel.writestr(
            f"{info}/WHEEL",
            "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        wheel.writestr(f"{info}/RECORD", "")


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An environment 'tiny' that can be made without a network; the folder of its wheels."""
    pins, wheels = tmp_path / "pins", tmp_path / "wheels"
    pins.mkdir()
    (pins / "tiny.yaml").write_text(
        f'summary: one module\npython: "{SHORT}"\npackages: [olmeval-tiny==1.0]\n'
        "preload: [olmeval_tiny]\n"
    )
    write_wheel(wheels, "1.0")
    monkeypatch.setenv("OLMEVAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(environments, "PINS", pins)
    environments.pins.cache_clear()
    yield wheels
    environments.pins.cache_clear()


def make(wheels: Path) -> environments.Environment:
    arguments = ("--no-index", "--find-links", str(wheels))
    return environments.create("tiny", python=Path(sys.executable), pip_arguments=arguments)


def test_an_environment_is_made_found_used_and_removed(tiny: Path) -> None:
    with pytest.raises(
        UserError, match=r"'tiny' \(one module\).*`olmeval sandbox env create tiny`"
    ):
        environments.require("tiny")
    # What a killed run has left is no environment, and is made anew.
    python = environments.folder("tiny") / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("")
    assert environments.find("tiny") is None
    made = make(tiny)
    assert made == environments.require("tiny") == make(tiny)
    assert made.python == HERE
    assert made.fingerprint["packages"]["olmeval-tiny"] == "1.0"
    assert environments.preload_of(str(made.path)) == ["olmeval_tiny"]
    if tiers.probe().name == "T1":
        program = Program(
            "import sys\nwarm = 'olmeval_tiny' in sys.modules\nimport olmeval_tiny\n"
            "def value():\n    return olmeval_tiny.VALUE, warm\n",
            "\nassert value() == ('1.0', True)\n",
            environment=str(made.path),
        )
        [there] = judge([program])
        assert there.status == "passed", there
        changing = "import olmeval_tiny\nopen(olmeval_tiny.__file__, 'w').write('')\n"
        [write] = judge([Program(changing, "\nassert True\n", environment=str(made.path))])
        assert write.status == "failed" and "Read-only" in write.detail
    assert environments.remove("tiny") and not environments.remove("tiny")
    assert environments.find("tiny") is None


def test_other_pins_are_another_environment(tiny: Path) -> None:
    before = environments.folder("tiny")
    text = (environments.PINS / "tiny.yaml").read_text()
    (environments.PINS / "tiny.yaml").write_text(text.replace("==1.0", "==2.0"))
    environments.pins.cache_clear()
    assert environments.folder("tiny") != before


@pytest.mark.slow
def test_pip_errors_are_one_sentence(tiny: Path) -> None:
    (tiny / "olmeval_tiny-1.0-py3-none-any.whl").unlink()
    with pytest.raises(UserError, match=r"cannot make the environment 'tiny'.*olmeval-tiny==1\.0"):
        make(tiny)
    assert environments.find("tiny") is None


def test_the_interpreter_must_have_the_pinned_version(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"is Python {HERE}; the environment needs Python 2\.7"):
        environments.interpreter_of("2.7", Path(sys.executable))
    with pytest.raises(UserError, match="is not a Python that runs"):
        environments.interpreter_of(SHORT, tmp_path / "no-python")
    with pytest.raises(UserError, match=r"Python 3\.99 is not installed: get it"):
        environments.interpreter_of("3.99")
    assert environments.interpreter_of(SHORT, Path(sys.executable)) == Path(sys.executable)


def test_an_unknown_environment_is_refused(tiny: Path) -> None:
    with pytest.raises(UserError, match="there is no environment 'tinny'; known: tiny; did you"):
        environments.find("tinny")


@pytest.mark.parametrize("name", ["bigcodebench", "ds1000"])
def test_published_pins_are_exact(name: str) -> None:
    pins = environments.pins(name)
    assert pins.python == "3.10"
    loose = [p for p in pins.packages if "==" not in p and not p.startswith("setuptools")]
    assert loose == []
    assert len({p.split("==")[0].lower() for p in pins.packages}) == len(pins.packages)


def test_a_folder_without_a_record_preloads_nothing(tmp_path: Path) -> None:
    assert environments.preload_of(None) == environments.preload_of(str(tmp_path)) == []
    (tmp_path / environments.RECORD).write_text(json.dumps({"preload": ["json"]}))
    assert environments.preload_of(str(tmp_path)) == ["json"]


def test_version_of_a_shim_that_refuses_is_none(tmp_path: Path) -> None:
    shim = tmp_path / "python3.10"
    shim.write_text("#!/bin/sh\nexit 127\n")
    shim.chmod(0o755)
    assert environments.version_of(shim) is None
    assert subprocess.run([shim], check=False).returncode == 127
