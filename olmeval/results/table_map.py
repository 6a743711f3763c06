"""Mapping files: how somebody's CSV or Parquet columns become the long table.

Two shapes are read. A *long* file has one row a score: ``columns`` names its task, metric and
value. A *wide* file has one row a checkpoint and one column a score: ``scores`` finds those columns
by regular expression, whose named groups ``task`` (and ``metric``) say which score each one is.
"""

import re
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from olmeval.config import Config

UNITS: dict[str, float] = {
    "fraction": 1.0,
    "percent": 0.01,
    "bits": 1.0,
    "nats": 1.4426950408889634,  # to bits
    "flops": 1.0,
    "gflops": 1e9,
    "thousand": 1e3,
    "million": 1e6,
    "billion": 1e9,
    "trillion": 1e12,
}
Unit = Literal[
    "fraction", "percent", "bits", "nats", "flops", "gflops", "thousand", "million", "billion",
    "trillion",
]  # fmt: skip
ColumnName = Literal[
    "run", "model", "family", "params", "params_total", "tokens", "flops", "step", "seed", "mix",
    "task", "metric", "value", "stderr", "n", "higher_is_better",
]  # fmt: skip


def _regex(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"'{text}' is not a regular expression: {error}") from None
    return text


Regex = Annotated[str, AfterValidator(_regex)]


class Column(Config):
    """Where one of our columns comes from: exactly one of ``column``, ``product`` or ``of``.

    ``unit`` is theirs and is converted (nats become bits, percent fractions, gflops FLOPs).
    ``product`` multiplies their columns (steps by tokens a step). ``of`` names one of our columns
    that comes from the path or is plainly copied; ``values`` translates it, and ``default`` stands
    for whatever ``values`` does not list.
    """

    column: str | None = None
    product: tuple[str, ...] = ()
    of: ColumnName | None = None
    values: dict[str, Any] = Field(default_factory=dict)
    default: Any = None
    unit: Unit = "fraction"
    optional: bool = False

    @model_validator(mode="after")
    def _one_source(self) -> "Column":
        if sum((self.column is not None, bool(self.product), self.of is not None)) != 1:
            raise ValueError("give exactly one of 'column', 'product' and 'of'")
        if (self.of is not None) != bool(self.values):
            raise ValueError("'of' and 'values' go together")
        return self


def _plain_name(value: Any) -> Any:
    return {"column": value} if isinstance(value, str) else value


Source = Annotated[Column, BeforeValidator(_plain_name)]


class Scores(Config):
    """Score columns of a wide file.

    ``columns`` must match a whole column name; its group ``task`` names the task, ``metric`` (or
    the key ``metric``) the metric.
    """

    columns: Regex
    metric: str | None = None
    higher_is_better: bool
    unit: Unit = "fraction"

    @model_validator(mode="after")
    def _named(self) -> "Scores":
        groups = re.compile(self.columns).groupindex
        if "task" not in groups:
            raise ValueError("'columns' needs a group (?P<task>…)")
        if ("metric" in groups) == (self.metric is not None):
            raise ValueError("name the metric by 'metric' or by a group (?P<metric>…), not both")
        return self


class TableMap(Config):
    """A whole mapping file.

    ``path`` is searched in the file's path with ``/`` between folders; its named groups are our
    columns. ``combine`` adds tasks that are weighted means of others (weights are divided by their
    sum), in every metric and checkpoint that has all parts.
    """

    path: Regex | None = None
    constants: dict[ColumnName, Any] = Field(default_factory=dict)
    columns: dict[ColumnName, Source] = Field(default_factory=dict)
    scores: tuple[Scores, ...] = ()
    combine: dict[str, dict[str, float]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _complete(self) -> "TableMap":
        groups = set(re.compile(self.path).groupindex) if self.path else set()
        unknown = groups - set(get_args(ColumnName))
        if unknown:
            raise ValueError(f"the group '{min(unknown)}' of 'path' is no column of the long table")
        known = groups | set(self.constants) | set(self.columns)
        needed = {"model"} if self.scores else {"model", "task", "metric", "value"}
        missing = needed - known
        if missing:
            raise ValueError(
                f"nothing gives '{min(missing)}'; name it in 'columns', 'constants' or 'path'"
            )
        if not self.scores and "higher_is_better" not in known:
            raise ValueError("say in 'constants' or 'columns' whether 'higher_is_better'")
        for name, parts in self.combine.items():
            if not parts or min(parts.values()) < 0 or sum(parts.values()) <= 0:
                raise ValueError(f"the weights of '{name}' must be >= 0 and not all 0")
        return self
