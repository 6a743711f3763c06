"""Configurations of the public olmix, read as they are: what to fit, and the domains of a swarm.

Unknown keys are refused. What has no counterpart here is refused, too, or noted, never passed over.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from olmeval.config import Config, load_config
from olmeval.errors import UserError
from olmeval.mixing.domains import DomainsFile
from olmeval.mixing.priors import Priors
from olmeval.mixing.sampling import SwarmSettings

FAMILIES = {
    "log_linear": "log-linear", "lightgbm": "lightgbm", "gp": "gp", "search": "nearest",
    "autoscale": "autoscale", "bimix": "bimix",
}  # fmt: skip


class _Swarm(Config):
    ratios: Path
    metrics: Path


class _Eval(Config):
    type: Literal["inloop", "offline"] = "offline"
    tasks: dict[str, list[str] | dict[str, str]] = Field(default_factory=dict)


class _Regression(Config):
    type: str = "log_linear"
    seed: int = 0
    n_test: int = 0
    train_split: float | list[float] = 1.0
    aggregate_task_families: bool = False


class _Proposer(Config):
    type: Literal["exact", "simulation", "search"] = "exact"
    temperature: float | None = None
    kl_reg: float | None = None
    fit_only: bool = False
    make_worst_mix: bool = False


class _Constraints(Config):
    enabled: bool = False
    target_tokens: int | None = None
    repetition_factor: float = 4.0


class _Filtering(Config):
    drop_metrics: list[str] = Field(default_factory=list)
    obj_weights: dict[str, float] = Field(default_factory=dict)

    @field_validator("obj_weights", mode="before")
    @classmethod
    def _fractions(cls, value: Any) -> Any:
        """``"7/52.0"`` is seven fifty-seconds."""
        if not isinstance(value, dict):
            return value
        return {name: _fraction(name, weight) for name, weight in value.items()}


def _fraction(name: str, weight: Any) -> float:
    try:
        above, _, below = str(weight).partition("/")
        return float(Fraction(above.strip()) / Fraction(below.strip() or "1"))
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"the weight of '{name}' is '{weight}', not a number") from None


class _FitFile(Config):
    swarm: _Swarm
    priors: Priors = Priors()
    eval: _Eval = _Eval()
    regression: _Regression = _Regression()
    proposer: _Proposer = _Proposer()
    constraints: _Constraints = _Constraints()
    filtering: _Filtering = _Filtering()


@dataclass(frozen=True)
class FitRequest:
    """What a public fit configuration asks for, in our terms. ``groups``: targets by family where
    families are averaged. ``kl``, ``run_tokens`` and ``max_epochs``: None where it says nothing."""

    ratios: Path
    metrics: Path
    family: str
    targets: tuple[str, ...]
    groups: Mapping[str, tuple[str, ...]]
    drop: tuple[str, ...]
    priors: Priors
    weights: Mapping[str, float]
    kl: float | None
    run_tokens: float | None
    max_epochs: float | None
    notes: tuple[str, ...]


def load_fit_request(path: Path) -> FitRequest:
    """Reads a fit configuration of the public olmix. Raises :class:`UserError`.

    Paths are relative to the current folder or, where nothing is there, to the configuration's.
    """
    file = load_config(path, _FitFile)
    regression, proposer = file.regression, file.proposer
    if regression.type not in FAMILIES:
        raise UserError(
            f"{path}: regression.type '{regression.type}' is none of {', '.join(FAMILIES)}"
        )
    if proposer.make_worst_mix:
        raise UserError(f"{path}: proposer.make_worst_mix has no counterpart here; leave it out")
    notes = []
    if regression.n_test or regression.train_split not in (1.0, [1.0]):
        notes.append("n_test and train_split are not used: every score is cross-validated")
    if proposer.temperature is not None:
        notes.append("proposer.temperature is not used: give other relative_sizes")
    if proposer.type == "simulation":
        notes.append("proposals are not simulated: convex laws are solved, others searched")
    dropped = set(file.filtering.drop_metrics)
    families = {
        name: tuple(
            task for task in (tasks.values() if isinstance(tasks, dict) else tasks)
            if task not in dropped
        )
        for name, tasks in file.eval.tasks.items()
    }  # fmt: skip
    average = regression.aggregate_task_families and bool(families)
    if regression.aggregate_task_families and not families:
        notes.append("aggregate_task_families needs eval.tasks: every metric is fitted by itself")
    constraints = file.constraints
    return FitRequest(
        ratios=_near(file.swarm.ratios, path),
        metrics=_near(file.swarm.metrics, path),
        family=FAMILIES[regression.type],
        targets=tuple(task for tasks in families.values() for task in tasks),
        groups={name: tasks for name, tasks in families.items() if tasks} if average else {},
        # What eval.tasks does not list is not fitted, dropped or not.
        drop=() if families else tuple(sorted(dropped)),
        priors=file.priors,
        weights=file.filtering.obj_weights,
        kl=proposer.kl_reg,
        run_tokens=constraints.target_tokens if constraints.enabled else None,
        max_epochs=constraints.repetition_factor if constraints.enabled else None,
        notes=tuple(notes),
    )


def _near(path: Path, config: Path) -> Path:
    beside = config.parent / path
    return beside if not path.exists() and beside.exists() else path


class _Quality(Config):
    name: str
    paths: list[str] = Field(default_factory=list)
    weight: float | None = None


class _Topic(_Quality):
    quality: list[_Quality] = Field(default_factory=list)


class _Source(_Topic):
    topics: list[_Topic] = Field(default_factory=list)


class _Data(Config):
    sources: list[_Source]
    dtype: str = "uint32"


class _Sampling(Config):
    seed: int = 42
    variants: int = 1
    mix_temperature: float = 1.0
    min_strength: float = 0.1
    max_strength: float = 5.0
    minimum_weight: float = 0.002
    nonzero_weight: list[str] = Field(default_factory=list)
    manual_prior: dict[str, float] = Field(default_factory=dict)


class _GenerateFile(Config):
    name: str = "swarm"
    data: _Data
    priors: Priors
    swarm: _Sampling = _Sampling()
    max_tokens: int | None = None


@dataclass(frozen=True)
class SwarmRequest:
    """What a public generation configuration asks for. ``proxy_tokens``: of one run."""

    domains: DomainsFile
    settings: SwarmSettings
    proxy_tokens: int | None


def load_swarm_request(path: Path) -> SwarmRequest:
    """Reads a generation configuration of the public olmix. Raises :class:`UserError`.

    A source of which every topic has a weight becomes a frozen block; domains in
    ``nonzero_weight`` get the minimum weight at least; ``manual_prior`` scales sources.
    """
    file = load_config(path, _GenerateFile)
    known = set(file.priors.relative_sizes)
    nodes = {source.name: _node(source, file, path) for source in file.data.sources}
    sizes = {
        source.name: sum(
            size for name, size in file.priors.relative_sizes.items()
            if name == source.name or name.startswith(f"{source.name}:")
        )
        for source in file.data.sources
    }  # fmt: skip
    for name, share in file.swarm.manual_prior.items():
        if name not in nodes:
            raise UserError(f"{path}: swarm.manual_prior: there is no source '{name}'")
        _scale(nodes[name], share / sizes[name] if sizes[name] else 0.0)
    for name in file.swarm.nonzero_weight:
        if name not in known and name not in nodes:
            raise UserError(f"{path}: swarm.nonzero_weight: there is no domain '{name}'")
        _at_least(nodes, name, file.swarm.minimum_weight)
    settings = SwarmSettings(
        runs=file.swarm.variants,
        strength=(file.swarm.min_strength, file.swarm.max_strength),
        minimum_weight=file.swarm.minimum_weight,
        temperature=file.swarm.mix_temperature,
        seed=file.swarm.seed,
    )
    return SwarmRequest(DomainsFile.model_validate({"domains": nodes}), settings, file.max_tokens)


def _node(source: _Source, file: _GenerateFile, path: Path) -> dict[str, Any]:
    if source.weight is not None:
        raise UserError(
            f"{path}: '{source.name}' has a weight of its own; pin it with fix in a domains.yaml"
        )
    weighted = [topic for topic in source.topics if topic.weight is not None]
    if weighted and len(weighted) < len(source.topics):
        raise UserError(
            f"{path}: only some topics of '{source.name}' have a weight; give all of them one"
        )
    if weighted:
        members = {}
        for topic in weighted:
            name = f"{source.name}:{topic.name}"
            tokens = file.priors.token_counts.get(name)
            members[name] = {"share": topic.weight} | ({"tokens": int(tokens)} if tokens else {})
        prior = sum(_size(name, file, path) for name in members)
        return {"prior": prior, "members": members}
    for kind, parts in (("topics", source.topics), ("quality", source.quality)):
        if parts:
            return {
                kind: {
                    part.name: _branch(f"{source.name}:{part.name}", part, file, path)
                    for part in parts
                }
            }
    return _leaf(source.name, file, path)


def _branch(name: str, part: _Quality, file: _GenerateFile, path: Path) -> dict[str, Any]:
    buckets = part.quality if isinstance(part, _Topic) else []
    if not buckets:
        return _leaf(name, file, path)
    return {"quality": {b.name: _leaf(f"{name}:{b.name}", file, path) for b in buckets}}


def _leaf(name: str, file: _GenerateFile, path: Path) -> dict[str, Any]:
    tokens = file.priors.token_counts.get(name)
    known = {"tokens": int(tokens)} if tokens is not None else {}
    return {"prior": _size(name, file, path), **known}


def _size(name: str, file: _GenerateFile, path: Path) -> float:
    if name not in file.priors.relative_sizes:
        raise UserError(f"{path}: priors.relative_sizes lacks '{name}'")
    return file.priors.relative_sizes[name]


def _scale(node: dict[str, Any], factor: float) -> None:
    if "prior" in node:
        node["prior"] *= factor
    for child in (*node.get("topics", {}).values(), *node.get("quality", {}).values()):
        _scale(child, factor)


def _at_least(nodes: dict[str, Any], name: str, least: float) -> None:
    first, *rest = name.split(":")
    node = nodes[first]
    if "members" not in node:
        for part in rest:
            node = {**node.get("topics", {}), **node.get("quality", {})}[part]
    node["min"] = least
