"""The problem that a person states: from a domains.yaml, a priors file, and further ends."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from olmeval.errors import UserError
from olmeval.mixing.domains import Domains, load_domains
from olmeval.mixing.evidence import Contents, check_contents
from olmeval.mixing.priors import Priors, load_priors
from olmeval.mixing.problem import MAX_EPOCHS, Constraints, Group, make_constraints


@dataclass(frozen=True)
class Asked:
    """Constraints, the natural mixture (None: not given) and the tree it came from, if any."""

    constraints: Constraints
    prior: Mapping[str, float] | None
    tree: Domains | None


def ask(
    domains: Sequence[str],
    *,
    priors: Path | Priors | None = None,
    tree: Path | None = None,
    minimum: Mapping[str, float] | None = None,
    maximum: Mapping[str, float] | None = None,
    fixed: Mapping[str, float] | None = None,
    run_tokens: float | None = None,
    max_epochs: float | None = None,
    groups: Sequence[Group] = (),
    contents: Contents | None = None,
) -> Asked:
    """Joins what the files say with further ends, which come first where both speak.

    ``contents``: fingerprints that the fit speaks of. Raises :class:`UserError` when these are not
    the tree's, both files are given, or the tree has other domains than the fit.
    """
    if priors and tree:
        raise UserError("give a priors file or a domains.yaml, not both: the latter has all")
    given = load_priors(priors) if isinstance(priors, Path) else priors or Priors()
    extra = make_constraints(
        domains,
        minimum=minimum,
        maximum=maximum,
        fixed=fixed,
        tokens=given.token_counts or None,
        run_tokens=None if tree else run_tokens,
        max_epochs=MAX_EPOCHS if max_epochs is None else max_epochs,
        groups=groups,
    )
    if tree is None:
        return Asked(extra, given.relative_sizes or None, None)
    loaded = load_domains(tree)
    if loaded.names != tuple(domains):
        odd = sorted(set(loaded.names) ^ set(domains))
        raise UserError(
            f"'{tree}' and the fit have different domains: '{odd[0]}' is in one alone; "
            "'olmix reuse' takes a fit over to other domains"
        )
    check_contents(contents or {}, loaded.fingerprints(), "the fit", f"'{tree}'")
    base = loaded.constraints(run_tokens, max_epochs)
    # Either end of a pinned share unpins it; of another share each end is a matter of its own.
    pinned = base.minimum == base.maximum
    lower, upper = (
        np.array([name in {**(end or {}), **(fixed or {})} for name in domains])
        for end in (minimum, maximum)
    )
    own = pinned & (lower | upper)
    joined = replace(
        base,
        minimum=np.where(lower | own, extra.minimum, base.minimum),
        maximum=np.where(upper | own, extra.maximum, base.maximum),
        groups=base.groups + extra.groups,
    )
    prior = dict(zip(loaded.names, loaded.prior().tolist(), strict=True))
    return Asked(joined, prior, loaded)
