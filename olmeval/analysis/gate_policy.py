"""What a regression gate checks and what it tolerates, as a YAML file says it."""

from fnmatch import fnmatch
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from olmeval.config import Config, load_config


class Tolerance(Config):
    """The drop that does not count: exactly one of three units.

    ``absolute`` in the metric's unit, ``relative`` as a fraction of the baseline, ``noise_units``
    in standard deviations of the baseline run's last checkpoints.
    """

    absolute: float | None = Field(None, ge=0)
    relative: float | None = Field(None, ge=0)
    noise_units: float | None = Field(None, ge=0)

    @model_validator(mode="after")
    def _one_unit(self) -> "Tolerance":
        if sum(v is not None for v in (self.absolute, self.relative, self.noise_units)) != 1:
            raise ValueError("give exactly one of 'absolute', 'relative' and 'noise_units'")
        return self

    def amount(self, value: float, noise: float | None) -> float | None:
        """The tolerated drop from ``value``; None where it needs a noise that is not known."""
        if self.absolute is not None:
            return self.absolute
        if self.relative is not None:
            return self.relative * abs(value)
        assert self.noise_units is not None
        if self.noise_units == 0:
            return 0.0
        return None if noise is None else self.noise_units * noise


class Rule(Config):
    """Tasks or suites whose name matches the glob ``match``; empty values are the policy's."""

    match: str
    tolerance: Tolerance | None = None
    required: bool = True
    max_errors: int | None = Field(None, ge=0)
    min_instances: int | None = Field(None, ge=1)


def _plain_name(value: Any) -> Any:
    return {"match": value} if isinstance(value, str) else value


AnyRule = Annotated[Rule, BeforeValidator(_plain_name)]


class Drift(Config):
    """The drift chart over past checks (``--history``).

    ``shift``: the change, in standard deviations between checks, to find soonest; ``false_alarm``:
    probability that any chart of the policy raises an alarm within ``checks`` checks without
    change; ``warmup``: checks before charts may raise one.
    """

    shift: float = Field(1.0, gt=0)
    false_alarm: float = Field(0.05, gt=0, lt=1)
    checks: int = Field(365, ge=1)
    warmup: int = Field(8, ge=3)


class Policy(Config):
    """A whole policy. The first rule that matches a name applies.

    ``false_alarm``: probability that a check of an unchanged model fails, over all rules together.
    """

    false_alarm: float = Field(0.05, gt=0, lt=1)
    tolerance: Tolerance = Tolerance(absolute=0.0, relative=None, noise_units=None)
    max_errors: int = Field(0, ge=0)
    min_instances: int = Field(30, ge=2)
    tasks: tuple[AnyRule, ...] = (Rule(match="*"),)
    suites: tuple[AnyRule, ...] = ()
    drift: Drift = Drift()

    @model_validator(mode="after")
    def _something(self) -> "Policy":
        if not self.tasks and not self.suites:
            raise ValueError("the policy checks nothing: name 'tasks' or 'suites'")
        return self


def load_policy(path: Path | None) -> Policy:
    """The policy of a file, or the default: every task, no tolerance, 5 % false alarms."""
    return Policy() if path is None else load_config(path, Policy)


def rule_for(rules: tuple[Rule, ...], name: str) -> Rule | None:
    """The first rule whose glob matches."""
    return next((rule for rule in rules if fnmatch(name, rule.match)), None)
