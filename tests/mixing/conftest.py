"""The RegMix swarm, where it is laid out; a small swarm of a known law."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

Array = NDArray[np.float64]
REGMIX = Path(__file__).parents[3] / "shared" / "data" / "regmix"


@dataclass(frozen=True)
class Swarm:
    """Training and test rows; targets as columns."""

    X: Array
    Y: Array
    X_test: Array
    Y_test: Array
    Y_60m: Array
    pile_cc: int
    """Column of the target that the RegMix paper reports."""


@pytest.fixture(scope="session")
def regmix_dir() -> Path:
    """Folder of the RegMix tables."""
    if not (REGMIX / "train_mixture_1m.csv").is_file():
        pytest.skip("the RegMix swarm is not in ../shared/data/regmix")
    return REGMIX


@pytest.fixture(scope="session")
def regmix(regmix_dir: Path) -> Swarm:
    """512 rows to learn from, 256 others at two sizes to be judged by."""
    from olmeval.mixing.tables import read_swarm

    def read(mixtures: str, losses: str) -> object:
        return read_swarm(regmix_dir / mixtures, regmix_dir / losses)

    train = read("train_mixture_1m.csv", "train_pile_loss_1m.csv")
    test = read("test_mixture_1m.csv", "test_pile_loss_1m.csv")
    large = read("test_mixture_60m.csv", "test_pile_loss_60m.csv")
    assert test.runs == large.runs and (test.X == large.X).all()
    pile_cc = train.targets.index("metric/the_pile_pile_cc_val_loss")
    return Swarm(train.X, train.Y, test.X, test.Y, large.Y, pile_cc)


@pytest.fixture(scope="session")
def planted() -> tuple[Array, Array, Array, Array]:
    """60 mixtures of 5 domains, 3 exact log-linear losses, their c (3,) and t (3, 5)."""
    rng = np.random.default_rng(0)
    X = rng.dirichlet(np.full(5, 0.7), 60)
    c, t = np.array([0.5, 1.5, 2.0]), rng.normal(0, 1.5, (3, 5))
    return X, c + np.exp(X @ t.T), c, t
