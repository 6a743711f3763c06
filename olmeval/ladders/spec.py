"""The ladder file: which runs are the rungs, which the targets, which tasks and losses are fitted.

Conventions are said, never guessed: N comes from ``sizes`` (or the table's column ``params``), C is
``exact`` (tokens times the FLOPs of one token) or ``6nd``.
"""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from olmeval.config import Config, load_config
from olmeval.errors import UserError, nearest

HERE = Path(__file__).parent


class Source(Config):
    """Files of scores: patterns below the data folder, and the mapping file beside this one."""

    files: tuple[str, ...] = Field(min_length=1)
    map: str | None = None


class Size(Config):
    """One size of model. ``ladder run`` trains ``preset``, or a ``model`` of a recipe's keys."""

    params: int | None = Field(None, gt=0)
    flops_per_token: int | None = Field(None, gt=0)
    preset: str | None = None
    model: dict[str, int] = Field(default_factory=dict)


class Feature(Config):
    """A loss that accuracy is predicted from, and what the published procedure does with it.

    ``task``: a score of its own, the same for every task (a corpus loss); None: the task's own.
    ``window``: trailing checkpoints that are averaged; ``skip``: share of a run's first checkpoints
    that the accuracy law does not see.
    """

    metric: str
    task: str | None = None
    negate: bool = False
    accuracy_law: Literal["sigmoid", "log-sigmoid"] = "sigmoid"
    window: int = Field(5, ge=1)
    skip: float = Field(0.1, ge=0, lt=1)


class Task(Config):
    """One task: its name in the table, its accuracy metric and the accuracy of guessing.

    ``accuracy: null``: only the loss is fitted and predicted.
    """

    task: str | None = None
    accuracy: str | None = "accuracy"
    chance: float = Field(0.0, ge=0, lt=1)


class Target(Config):
    """A run to predict. ``run`` is its name in the table, where it has been trained."""

    params: int = Field(gt=0)
    tokens: int = Field(gt=0)
    flops_per_token: int | None = Field(None, gt=0)
    run: str | None = None


class Training(Config):
    """How rungs are trained: a recipe, overrides of its dotted keys, sizes times lengths.

    ``multiples`` are in units of 20 tokens a parameter; ``target`` is the (size, multiple) that is
    held out and trained on request, to be compared with its prediction.
    """

    recipe: str
    overrides: dict[str, Any] = Field(default_factory=dict)
    sizes: tuple[str, ...] = Field(min_length=1)
    multiples: tuple[float, ...] = Field(min_length=1)
    target: tuple[str, float] | None = None


class LadderFile(Config):
    """A whole ladder file."""

    name: str
    sizes: dict[str, Size] = Field(default_factory=dict)
    flops: Literal["exact", "6nd"] = "exact"
    data: tuple[Source, ...] = ()
    fit: tuple[str, ...] = ()
    """Names (with ``*``) of the runs that are fitted; empty: all that are no target."""
    features: dict[str, Feature] = Field(default_factory=dict)
    tasks: dict[str, Task] = Field(default_factory=dict)
    targets: dict[str, Target] = Field(default_factory=dict)
    training: Training | None = None

    @model_validator(mode="after")
    def _sizes_known(self) -> "LadderFile":
        if self.training:
            target = self.training.target
            for size in (*self.training.sizes, *((target[0],) if target else ())):
                if size not in self.sizes:
                    raise ValueError(f"training names the size '{size}', which 'sizes' lacks")
        return self


def shipped() -> list[str]:
    """Names of the ladder files that come with the package."""
    return sorted(path.stem for path in HERE.glob("*.yaml"))


def load_ladder(name: str | Path) -> tuple[LadderFile, Path]:
    """The ladder file at a path, or the shipped one of that name, and the folder it lies in."""
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        known = shipped()
        if str(name) not in known:
            hint = nearest(str(name), known) or f"; shipped are {', '.join(known)}"
            raise UserError(f"there is no ladder '{name}'{hint}; or give the path of a .yaml file")
        path = HERE / f"{name}.yaml"
    return load_config(path, LadderFile), path.parent
