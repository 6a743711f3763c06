"""Imports run down the floors of the house, never up, and never sideways between components."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "olmeval"
FLOORS = {
    "errors": 0, "config": 0, "files": 0,
    "metrics": 1, "sandbox": 1, "stats": 1, "executors": 1, "requests": 1,
    "tasks": 2, "backends": 2, "results": 2, "trainer": 2,
    "engine": 3, "analysis": 3,
    "ladders": 4, "mixing": 4,
    "reports": 5,
    "cli": 6,
}  # fmt: skip
HEAVY = {"torch", "transformers", "vllm", "ray", "lightgbm", "cvxpy", "plotly", "datasets"}
# Components that exist to drive a heavy library may import it at the top of their inner modules.
TORCH_MODULES = {"trainer", "backends"}


def modules() -> list[Path]:
    return sorted(p for p in PACKAGE.rglob("*.py") if p.parent != PACKAGE or p.stem in FLOORS)


def component(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[0]


def violations(source: str, here: str) -> list[str]:
    """The imports in ``source`` (of component ``here``) that run up or sideways."""
    wrong = []
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                wrong.append("relative import")
                continue
            if node.module == "olmeval":
                names = [f"olmeval.{alias.name}" for alias in node.names]
            else:
                names = [node.module or ""]
        for name in names:
            parts = name.split(".")
            if parts[0] != "olmeval" or len(parts) < 2 or parts[1] not in FLOORS:
                continue
            there = parts[1]
            if there == here:
                continue
            # Floor 0 and requests.py are single files that serve their own floor, too.
            same_floor_ok = FLOORS[there] == 0 == FLOORS[here]
            if FLOORS[there] >= FLOORS[here] and not same_floor_ok:
                wrong.append(f"{here} (floor {FLOORS[here]}) -> {there} (floor {FLOORS[there]})")
    return wrong


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_run_down(path: Path) -> None:
    assert violations(path.read_text(encoding="utf-8"), component(path)) == []


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_heavy_libraries_are_not_imported_at_the_top_of_light_modules(path: Path) -> None:
    if component(path) in TORCH_MODULES:
        return
    top = [
        (node.names[0].name if isinstance(node, ast.Import) else node.module or "").split(".")[0]
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    assert HEAVY.isdisjoint(top), f"{path} imports {HEAVY.intersection(top)} at its top"


def test_every_component_has_a_floor() -> None:
    found = {component(p) for p in modules()}
    assert found <= FLOORS.keys()


def test_the_checker_sees_violations() -> None:
    assert violations("from olmeval.engine.evaluate import evaluate", "trainer")
    assert violations("import olmeval.backends.hf", "tasks")
    assert not violations("from olmeval.requests import Request", "tasks")
