"""A wheel holds every file of the package that is in the repository, data and scripts included."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def tracked() -> list[str]:
    done = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip("not a git checkout: what belongs to the package is not known")
    # What is deleted and not committed yet is not there to be copied.
    return [name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel of a copy of the tracked files, so that nothing lies about that helps."""
    copy, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in tracked():
        if name.startswith("olmeval/") or name in ("pyproject.toml", "README.md", "LICENSE"):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, copy / name)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(out), "."]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)
    if "No matching distribution found for setuptools" in done.stderr:
        pytest.skip("pip cannot fetch setuptools here, which builds the wheel")
    assert done.returncode == 0, done.stderr
    (built,) = out.glob("*.whl")
    return zipfile.ZipFile(built)


@pytest.mark.slow
def test_everything_tracked_is_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    wanted = {name for name in tracked() if name.startswith("olmeval/")}
    assert {Path(n).suffix for n in wanted} >= {".py", ".yaml", ".css", ".js"}
    assert sorted(wanted - names) == []
    strangers = {n for n in names - wanted if ".dist-info/" not in n}
    assert strangers == set()


@pytest.mark.slow
def test_the_installed_package_works_from_elsewhere(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    """The catalogue, recipes and ladders are found where pip puts them."""
    wheel.extractall(tmp_path)
    code = (
        "import olmeval; from olmeval.tasks.describe import list_tasks;"
        "from olmeval.tasks.suites import load_suites; from olmeval.ladders.spec import shipped;"
        "from olmeval.trainer.recipe import RECIPES;"
        "print(olmeval.__file__, len(list_tasks()) > 200, len(load_suites()) > 20, shipped(),"
        " len(list(RECIPES.glob('*.yaml'))) > 4)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True,
        env={"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.stdout.startswith(str(tmp_path))
    assert "True True" in done.stdout and "cpu-demo" in done.stdout
    assert done.stdout.rstrip().endswith("True")
