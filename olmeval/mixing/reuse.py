"""Domains changed: what of an old mixture stays, and the smaller problem that is left.

Domains that did not change keep their shares relative to each other and become one frozen block;
the block's share and those of the changed domains are searched anew, with a swarm over the few
dimensions that are left (Olmix, arXiv:2602.12237, section 4, mixture reuse). What makes the small
problem exact is in two numbers of the block:

- its cap, min_j k N_j / (R p_j): it runs out with its first member (lemma 1 there);
- its prior. KL(expanded mixture || q) is KL(collapsed mixture || q') up to a constant when
  q'_block = Q exp(-KL(p || q_fix / Q)), Q the prior of its members together: the expanded term
  rho sum_j p_j log(rho p_j / q_j) is rho log(rho / Q) + rho KL(p || q_fix / Q).
"""

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from olmeval.errors import UserError, nearest
from olmeval.files import read_json, sha256_json, write_json, write_text
from olmeval.mixing.design import ROWS_PER_PARAMETER
from olmeval.mixing.domains import Domains
from olmeval.mixing.fitting import MixtureFit
from olmeval.mixing.regressors.loglinear import LogLinear

BLOCK, HISTORY = "existing", "history.json"


@dataclass(frozen=True)
class Change:
    """How domains differ. ``revised``: of the same name with other contents or tokens.
    ``unproved``: of the same name and tokens, but without fingerprints to prove it."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    revised: tuple[str, ...]
    unchanged: tuple[str, ...]
    unproved: tuple[str, ...]


@dataclass(frozen=True)
class Reuse:
    """The smaller problem. ``frozen``: shares within the block, adding up to 1; ``free``: domains
    beside it; ``mixture``: the answer at once where nothing but removals happened. ``proxies``,
    ``full_proxies``: runs that the small and the whole problem ask for. ``coupling``: of each
    frozen domain with the changed ones, None where no law says."""

    change: Change
    released: tuple[str, ...]
    frozen: dict[str, float]
    free: tuple[str, ...]
    prior: dict[str, float]
    proxies: int
    full_proxies: int
    mixture: dict[str, float] | None
    kappa: float | None
    coupling: dict[str, float] | None

    @property
    def saved(self) -> float:
        """Fraction of proxies that need not be trained."""
        return 1 - self.proxies / self.full_proxies


def compare(old: Mapping[str, str | None], new: Mapping[str, str | None]) -> Change:
    """Differences between fingerprints {domain: hash or None}."""
    both = sorted(set(old) & set(new))
    revised = [d for d in both if old[d] and new[d] and old[d] != new[d]]
    return Change(
        added=tuple(sorted(set(new) - set(old))),
        removed=tuple(sorted(set(old) - set(new))),
        revised=tuple(revised),
        unchanged=tuple(d for d in both if d not in revised),
        unproved=tuple(d for d in both if not (old[d] and new[d])),
    )


def plan_reuse(
    old: Domains,
    mixture: Mapping[str, float],
    new: Domains,
    *,
    release: Collection[str] = (),
    fit: MixtureFit | None = None,
) -> Reuse:
    """The problem that is left when ``old`` domains with an old ``mixture`` become ``new`` ones.

    ``release``: unchanged domains to search anew all the same (partial reuse). ``fit``: of the old
    swarm, for couplings. Raises :class:`UserError` when the mixture is not of the old domains,
    nothing changed, or nothing stays.
    """
    before, after = _expanded(old), _expanded(new)
    odd = sorted(set(mixture) - set(before))
    if odd:
        raise UserError(
            f"the mixture has '{odd[0]}', which the old domains have not{nearest(odd[0], before)}"
        )
    wrong = [d for d, share in mixture.items() if not 0 <= share < np.inf]
    if wrong:
        raise UserError(f"the mixture gives '{wrong[0]}' {mixture[wrong[0]]}; shares are 0 or more")
    change = compare(old.fingerprints(), new.fingerprints())
    resized = tuple(d for d in change.unchanged if before[d] and after[d] and before[d] != after[d])
    change = Change(
        change.added,
        change.removed,
        tuple(sorted((*change.revised, *resized))),
        tuple(d for d in change.unchanged if d not in resized),
        tuple(d for d in change.unproved if d not in resized),
    )
    for name in release:
        if name not in change.unchanged:
            raise UserError(
                f"'{name}' cannot be released: it is not an unchanged domain"
                f"{nearest(name, change.unchanged)}"
            )
    if not (change.added or change.removed or change.revised or release):
        raise UserError("nothing changed between the old and the new domains")
    kept = [d for d in change.unchanged if d not in release and mixture.get(d, 0.0) > 0]
    if not kept:
        raise UserError("no domain of the old mixture stays as it was; there is nothing to reuse")
    total = sum(mixture[d] for d in kept)
    frozen = {d: mixture[d] / total for d in kept}
    natural = _natural(new)
    free = tuple(sorted({*change.added, *change.revised, *release}))
    # Unchanged domains that the old mixture gave nothing keep nothing.
    coupling, kappa = _coupling(fit, frozen, free) if fit else (None, None)
    return Reuse(
        change=change,
        released=tuple(sorted(release)),
        frozen=frozen,
        free=free,
        prior={**{d: natural[d] for d in free}, BLOCK: block_prior(frozen, natural)},
        proxies=ROWS_PER_PARAMETER * (len(free) + 2) if free else 0,
        full_proxies=ROWS_PER_PARAMETER * (len(after) + 1),
        mixture=None if free else frozen,
        kappa=kappa,
        coupling=coupling,
    )


def block_prior(frozen: Mapping[str, float], natural: Mapping[str, float]) -> float:
    """q' of a block: Q exp(-KL(p || q / Q)), Q the natural share of its members together.

    Raises :class:`UserError` for a member without a natural share, from which KL is infinite.
    """
    none = [d for d in frozen if not natural[d] > 0]
    if none:
        raise UserError(f"the frozen domain '{none[0]}' has no natural share; release it")
    p = np.array(list(frozen.values()))
    q = np.array([natural[d] for d in frozen])
    total = float(q.sum())
    return total * float(np.exp(-(p * np.log(p / (q / total))).sum()))


def _expanded(domains: Domains) -> dict[str, float | None]:
    """Tokens of all domains, those of frozen blocks by name (and without tokens of their own)."""
    found: dict[str, float | None] = {}
    for leaf in domains.leaves:
        for member in leaf.fingerprints:
            found[member] = None if leaf.members else leaf.tokens
    return found


def _natural(domains: Domains) -> dict[str, float]:
    return domains.expand(dict(zip(domains.names, domains.prior().tolist(), strict=True)))


def _coupling(
    fit: MixtureFit, frozen: Mapping[str, float], free: Collection[str]
) -> tuple[dict[str, float] | None, float | None]:
    """How much frozen domains share tasks with changed ones, by a log-linear law of the old swarm.

    kappa = || (1 + a_fix + a_comp) a_fix || over tasks, a the norm of a task's coefficients on each
    block, and the bound on what reuse costs grows with it (Olmix, theorem 1). Coefficients count
    from their mean, as a common shift of all only scales the law. None where the law has none of
    the changed domains.
    """
    if not isinstance(fit.model, LogLinear):
        return None, None
    names = fit.table.domains
    t = fit.model.t_ - fit.model.t_.mean(axis=1, keepdims=True)
    fixed = [names.index(d) for d in frozen if d in names]
    moved = [names.index(d) for d in free if d in names]
    if not fixed or not moved:
        return None, None
    a_fix, a_comp = (np.linalg.norm(t[:, places], axis=1) for places in (fixed, moved))
    kappa = float(np.linalg.norm((1 + a_fix + a_comp) * a_fix))
    shared = {d: float(np.abs(t[:, names.index(d)]) @ a_comp) for d in frozen if d in names}
    return shared, kappa


def save_reuse(reuse: Reuse, new: Domains, folder: Path, *, history: Path | None = None) -> None:
    """Writes ``domains.yaml`` of the small problem and ``history.json``, the old one continued.

    Constraints of the new domains' shares stay with the free ones; a ``mix.yaml`` is written at
    once where only domains were removed. Raises :class:`UserError` for ends or groups that bind a
    frozen domain, which the small problem cannot express: release it.
    """
    if reuse.free:
        value = _collapsed(reuse, new)
        write_text(folder / "domains.yaml", yaml.safe_dump(value, sort_keys=False))
    else:
        from olmeval.mixing.output import save_mix

        _check_scaled(reuse.frozen, new)
        save_mix(reuse.frozen, folder / "mix.yaml", folder.name)
    steps = _steps(history) if history else []
    entry = {
        **asdict(reuse.change),
        "released": reuse.released,
        "frozen": reuse.frozen,
        "free": reuse.free,
        "proxies": reuse.proxies,
        "kappa": reuse.kappa,
        "fingerprints": new.fingerprints(),
    }
    entry["id"] = sha256_json({"before": steps, "step": entry})[:16]
    write_json(folder / HISTORY, {"steps": [*steps, entry]})


def _steps(history: Path) -> list[Any]:
    value = read_json(history)
    steps = value.get("steps") if isinstance(value, dict) else None
    if not isinstance(steps, list):
        raise UserError(f"'{history}' is no history of 'olmix reuse': it has no list of steps")
    return steps


def _check_scaled(frozen: Mapping[str, float], new: Domains) -> None:
    """Raises :class:`UserError` where the shares that are left break the new domains' ends."""
    rules = new.constraints()
    rules.check()
    x = np.array([sum(frozen.get(d, 0.0) for d in leaf.members or [leaf.name])
                  for leaf in new.leaves])  # fmt: skip
    for name, share, low, high in zip(new.names, x, rules.minimum, rules.upper, strict=True):
        if not low - 1e-6 <= share <= high + 1e-6:
            raise UserError(
                f"scaled to fill the mixture '{name}' has {share:.4g}, outside of its ends "
                f"{low:.4g} and {high:.4g}; release it"
            )
    for group, row in zip(rules.groups, rules.membership()[0], strict=True):
        if not group.lower - 1e-6 <= row @ x <= group.upper + 1e-6:
            raise UserError(
                f"scaled to fill the mixture the group '{group.name}' has {row @ x:.4g}, outside "
                f"of its ends {group.lower:.4g} and {group.upper:.4g}; release one of its domains"
            )


def _collapsed(reuse: Reuse, new: Domains) -> dict[str, Any]:
    leaves = {leaf.name: leaf for leaf in new.leaves}
    prints, tokens = new.fingerprints(), _expanded(new)
    for group in new.groups:
        bound = sorted(set(group.members) & set(reuse.frozen))
        if bound:
            raise UserError(
                f"the group '{group.name}' bounds the frozen domain '{bound[0]}'; release it"
            )
    members: dict[str, Any] = {}
    for name, share in reuse.frozen.items():
        leaf = leaves.get(name)
        if leaf is not None and (leaf.minimum > 0 or leaf.maximum < 1):
            raise UserError(f"the frozen domain '{name}' has ends of its own; release it")
        held = tokens[name]
        known = {"tokens": int(held)} if held is not None else {}
        mark = {"fingerprint": prints[name]} if prints[name] else {}
        members[name] = {"share": share, **known, **mark}
    domains: dict[str, Any] = {BLOCK: {"prior": reuse.prior[BLOCK], "members": members}}
    for name in reuse.free:
        free = leaves[name]
        node: dict[str, Any] = {"prior": reuse.prior[name]}
        if free.tokens is not None:
            node["tokens"] = int(free.tokens)
        if free.minimum == free.maximum:
            node["fix"] = free.minimum
        elif free.minimum > 0 or free.maximum < 1:
            node |= {"min": free.minimum, "max": free.maximum}
        if prints[name]:
            node["fingerprint"] = prints[name]
        domains[name] = node
    value: dict[str, Any] = {"domains": domains}
    if new.groups:
        value["groups"] = {
            g.name: {"domains": list(g.members), "min": g.lower, "max": g.upper} for g in new.groups
        }
    if new.run:
        value["run"] = new.run.model_dump()
    return value
