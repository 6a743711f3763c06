"""The short form of ``benchmarks/coverage.py``: intervals hold the truth about as often as said."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

FILE = Path(__file__).parents[2] / "benchmarks" / "coverage.py"
RUNS = 120
SLACK = 0.05  # two and a half standard errors of a share of 120 about 0.95


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("coverage_benchmark", FILE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "case",
    [
        "SNR, sd, 25 models x 5 checkpoints",
        "decision accuracy 0.75, 25 models",
        "paired difference, 200 questions, bootstrap",
        "suite mean, 8 tasks x 100 questions",
    ],
)
def test_intervals_cover(benchmark: ModuleType, case: str) -> None:
    share = benchmark.coverage(benchmark.CASES[case], RUNS, seed=11)
    assert 0.95 - SLACK <= share <= 0.95 + SLACK


def test_an_interval_that_is_too_short_is_seen(benchmark: ModuleType) -> None:
    draw = benchmark.CASES["suite mean, 8 tasks x 100 questions"]

    def half(random: object, seed: int) -> tuple[tuple[float, float], float]:
        (low, high), truth = draw(random, seed)
        middle, width = (low + high) / 2, (high - low) / 4
        return (middle - width, middle + width), truth

    assert benchmark.coverage(half, RUNS) < 0.85


def test_the_gate_keeps_its_promises(benchmark: ModuleType) -> None:
    alarms, caught = benchmark.gate_rates(1000)
    assert alarms <= 0.05
    assert caught >= 0.9
