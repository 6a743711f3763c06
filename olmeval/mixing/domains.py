"""Domains as a tree of sources, topics and quality buckets, and what a mixture of them must obey.

``domains.yaml``::

    domains:
      web:
        topics:
          health: {tokens: 20B}
          sports: {tokens: 30B, max: 0.2}
      code: {tokens: 10B, min: 0.05}
      papers: {quality: {high: {tokens: 1B}, low: {tokens: 4B}}}
      existing: {members: {books: {share: 0.25, tokens: 1B}, news: {share: 0.75, tokens: 9B}}}
    run: {tokens: 100B, max_epochs: 4}

A leaf is called source, source:topic, source:quality or source:topic:quality, and is one domain of
the mixture. ``min`` and ``max`` of a node that has children bound their sum. ``members`` make a
leaf of several domains whose shares within it are frozen: it is mixed as one and expanded
afterwards, so that frozen shares are exact; its cap is that of the member which runs out first.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from olmeval.config import Config, load_config
from olmeval.errors import UserError, nearest
from olmeval.mixing.problem import MAX_EPOCHS, Constraints, Group, make_constraints
from olmeval.trainer.recipe_spec import Count

Array = NDArray[np.float64]
Share = Field(None, ge=0, le=1)


class Member(Config):
    """A domain inside a frozen block. ``share`` is relative to the other members."""

    share: float = Field(gt=0)
    tokens: Count | None = Field(None, ge=0)
    fingerprint: str | None = None


class Node(Config):
    """A source, a topic or a bucket; a leaf unless it has ``topics`` or ``quality``."""

    tokens: Count | None = Field(None, ge=0)
    min: float | None = Share
    max: float | None = Share
    fix: float | None = Share
    """A share pinned in every mixture; of the whole, not of the parent."""
    prior: float | None = Field(None, ge=0)
    """Weight in the natural distribution; default: the tokens."""
    fingerprint: str | None = None
    """Of the contents, as 'olmix priors' writes it; evidence of other contents is refused."""
    topics: dict[str, "Node"] | None = Field(None, min_length=1)
    quality: dict[str, "Node"] | None = Field(None, min_length=1)
    members: dict[str, Member] | None = Field(None, min_length=1)

    @model_validator(mode="after")
    def _one_kind(self) -> "Node":
        kinds = [k for k in ("topics", "quality", "members") if getattr(self, k) is not None]
        if len(kinds) > 1:
            raise ValueError(f"has both {kinds[0]} and {kinds[1]}; nest one in the other")
        if kinds and self.tokens is not None:
            raise ValueError(f"tokens are those of its {kinds[0]}; give them there")
        if self.fix is not None and (self.min is not None or self.max is not None):
            raise ValueError("fix is minimum and maximum in one; leave these out")
        if self.fix is not None and kinds in (["topics"], ["quality"]):
            raise ValueError("only a leaf has a fixed share; use min and max")
        return self

    @property
    def children(self) -> dict[str, "Node"]:
        """Topics or buckets."""
        return self.topics or self.quality or {}


class GroupSpec(Config):
    """Domains whose shares add up to ``min`` to ``max``."""

    domains: tuple[str, ...] = Field(min_length=1)
    min: float = Field(0.0, ge=0, le=1)
    max: float = Field(1.0, ge=0, le=1)


class RunSpec(Config):
    """The run that a mixture is for."""

    tokens: Count = Field(gt=0)
    max_epochs: float = Field(MAX_EPOCHS, gt=0)


class DomainsFile(Config):
    """``domains.yaml``."""

    domains: dict[str, Node] = Field(min_length=1)
    groups: dict[str, GroupSpec] = Field(default_factory=dict)
    run: RunSpec | None = None


@dataclass(frozen=True)
class Leaf:
    """One domain of the mixture. ``tokens``: what it holds; of a frozen block, what it can give
    before the first member runs out. ``path``: source, topic, bucket."""

    name: str
    path: tuple[str, ...]
    tokens: float | None
    weight: float
    minimum: float
    maximum: float
    members: Mapping[str, float]
    fingerprints: Mapping[str, str | None]


@dataclass(frozen=True)
class Domains:
    """The leaves in the order of their names, groups of them, and the run."""

    leaves: tuple[Leaf, ...]
    groups: tuple[Group, ...]
    run: RunSpec | None

    @property
    def names(self) -> tuple[str, ...]:
        """Of the leaves, sorted."""
        return tuple(leaf.name for leaf in self.leaves)

    def prior(self) -> Array:
        """The natural distribution (m,)."""
        weights = np.array([leaf.weight for leaf in self.leaves])
        natural: Array = weights / weights.sum()
        return natural

    def constraints(
        self, run_tokens: float | None = None, max_epochs: float | None = None
    ) -> Constraints:
        """What a mixture must obey in the file's run, or in another."""
        run: float | None = self.run.tokens if self.run else None
        epochs = self.run.max_epochs if self.run else MAX_EPOCHS
        run = run if run_tokens is None else run_tokens
        epochs = epochs if max_epochs is None else max_epochs
        tokens = {leaf.name: leaf.tokens for leaf in self.leaves if leaf.tokens is not None}
        return make_constraints(
            self.names,
            minimum={leaf.name: leaf.minimum for leaf in self.leaves},
            maximum={leaf.name: leaf.maximum for leaf in self.leaves},
            tokens=tokens or None,
            run_tokens=run,
            max_epochs=epochs,
            groups=self.groups,
        )

    def expand(self, weights: Mapping[str, float]) -> dict[str, float]:
        """Shares with frozen blocks spread over their members; a member may be in several."""
        spread: dict[str, float] = {}
        for leaf in self.leaves:
            share = weights.get(leaf.name, 0.0)
            for member, part in (leaf.members or {leaf.name: 1.0}).items():
                spread[member] = spread.get(member, 0.0) + share * part
        return spread

    def fingerprints(self) -> dict[str, str | None]:
        """Of every domain's contents, members by their own names; None where not known."""
        return {name: print_ for leaf in self.leaves for name, print_ in leaf.fingerprints.items()}


def load_domains(path: Path) -> Domains:
    """Reads ``domains.yaml``. Raises :class:`UserError`."""
    return build_domains(load_config(path, DomainsFile), str(path))


def build_domains(file: DomainsFile, source: str = "domains") -> Domains:
    """Leaves and groups of a tree; ``source`` names it in messages."""
    leaves: list[Leaf] = []
    groups: list[Group] = []
    for name, node in file.domains.items():
        below = list(_leaves(name, (name,), node))
        leaves += below
        groups += _sums(name, (name,), node, below)
    leaves.sort(key=lambda leaf: leaf.name)
    names = [leaf.name for leaf in leaves]
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise UserError(f"{source}: two domains are called '{doubled[0]}'; rename one")
    lacking = [leaf.name for leaf in leaves if np.isnan(leaf.weight)]
    if lacking:
        raise UserError(
            f"{source}: '{lacking[0]}' has neither tokens nor a prior; measure them with "
            "'olmix priors' or give one"
        )
    endless = [leaf.name for leaf in leaves if np.isinf(leaf.weight)]
    if endless:
        raise UserError(f"{source}: the prior of '{endless[0]}' is infinite; give a number")
    if not sum(leaf.weight for leaf in leaves) > 0:
        raise UserError(f"{source}: no domain has any tokens or prior")
    for label, spec in file.groups.items():
        members = tuple(
            name for wanted in spec.domains for name in _below(wanted, names, label, source)
        )
        groups.append(Group(label, members, spec.min, spec.max))
    return Domains(tuple(leaves), tuple(groups), file.run)


def _leaves(name: str, path: tuple[str, ...], node: Node) -> Iterator[Leaf]:
    for child, below in node.children.items():
        yield from _leaves(f"{name}:{child}", (*path, child), below)
    if node.children:
        return
    tokens, members = _tokens(node)
    weight = node.prior if node.prior is not None else (np.nan if tokens is None else tokens)
    fixed = node.fix
    yield Leaf(
        name=name,
        path=path,
        tokens=tokens,
        weight=float(weight),
        minimum=fixed if fixed is not None else node.min or 0.0,
        maximum=fixed if fixed is not None else (1.0 if node.max is None else node.max),
        members=members,
        fingerprints={m: spec.fingerprint for m, spec in node.members.items()}
        if node.members
        else {name: node.fingerprint},
    )


def _tokens(node: Node) -> tuple[float | None, dict[str, float]]:
    """What a leaf can give, and its members' shares.

    A block runs out with its first member: at min_j N_j / p_j tokens (Olmix, arXiv:2602.12237,
    lemma 1), not at their sum.
    """
    if node.members is None:
        return (None if node.tokens is None else float(node.tokens)), {}
    total = sum(member.share for member in node.members.values())
    shares = {name: member.share / total for name, member in node.members.items()}
    counts = [
        member.tokens / shares[name]
        for name, member in node.members.items()
        if member.tokens is not None
    ]
    return (min(counts) if len(counts) == len(shares) else None), shares


def _sums(name: str, path: tuple[str, ...], node: Node, below: list[Leaf]) -> Iterator[Group]:
    if not node.children:
        return
    if node.min is not None or node.max is not None:
        members = tuple(leaf.name for leaf in below if leaf.path[: len(path)] == path)
        top = 1.0 if node.max is None else node.max
        yield Group(name, members, node.min or 0.0, top)
    for child, inner in node.children.items():
        yield from _sums(f"{name}:{child}", (*path, child), inner, below)


def _below(wanted: str, names: list[str], label: str, source: str) -> list[str]:
    """The leaf of a name, or all leaves below it."""
    found = [name for name in names if name == wanted or name.startswith(f"{wanted}:")]
    if not found:
        raise UserError(
            f"{source}: group '{label}': there is no domain '{wanted}'{nearest(wanted, names)}"
        )
    return found
