"""The shared ladder, read once for all tests that need it, and ladders with a known truth."""

from pathlib import Path

import numpy as np
import pytest

from olmeval.ladders.curves import Ladder, RunCurve, TaskCurves, make_ladder, read_scores
from olmeval.ladders.laws import law
from olmeval.ladders.spec import load_ladder

SHARED = Path(__file__).parents[3] / "shared/data/ladder"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of the real ladder's runs and the paper's results."""
    if not SHARED.is_dir():
        pytest.skip("the ladder's runs are not beside the repository")
    return SHARED


@pytest.fixture(scope="session")
def ladder(shared: Path) -> Ladder:
    """The real ladder, every task and feature."""
    file, folder = load_ladder("olmo2-2024")
    return make_ladder(file, read_scores(file, folder, shared / "ladder-runs"))


def made_ladder(
    loss: np.ndarray, accuracy: np.ndarray, noise: float, seed: int, task: str = "made",
    sizes: tuple[float, ...] = (1.9e8, 3.7e8, 7.6e8, 1.28e9, 3.2e9),
    multiples: tuple[float, ...] = (1, 2, 5, 10),
) -> TaskCurves:  # fmt: skip
    """Runs that follow ``loss-nd`` and the sigmoid with relative noise along the way."""
    random = np.random.default_rng(seed)
    runs = []
    for n in sizes:
        for multiple in multiples:
            tokens = 20 * n * multiple
            seen = tokens * np.linspace(1 / 60, 1, 60)
            x = law("loss-nd")(loss, np.full(60, n), seen)
            y = law("sigmoid")(accuracy, x) + noise * random.standard_normal(60)
            x = x * (1 + noise * random.standard_normal(60))
            # A run's own luck, which its checkpoints share.
            x *= 1 + noise * random.standard_normal()
            runs.append(RunCurve(f"{n:g}-{multiple:g}x", f"{n:g}", n, tokens, 6 * n * tokens,
                                 x, np.clip(y, 0, 1)))  # fmt: skip
    return TaskCurves(task, "bpb", 0.25, tuple(runs))
