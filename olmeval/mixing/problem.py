"""What a mixture must obey: shares, tokens and repetition, groups; and whether anything can.

A domain of N tokens in a run of R tokens that repeats nothing more than k times has a share of at
most k N / R. Beyond about four passes repeats are worth little (Muennighoff et al. 2023,
arXiv:2305.16264).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from olmeval.errors import UserError, nearest

Array = NDArray[np.float64]
SLACK = 1e-9
MAX_EPOCHS = 4.0


class InfeasibleError(UserError):
    """No mixture obeys the constraints; the sentence names those at fault and what is missing."""


@dataclass(frozen=True)
class Group:
    """Domains whose shares add up to ``lower`` to ``upper``."""

    name: str
    members: tuple[str, ...]
    lower: float = 0.0
    upper: float = 1.0


@dataclass(frozen=True)
class Constraints:
    """Ends of shares over ``domains``; everything as arrays in their order.

    ``minimum``, ``maximum`` (m,): of shares. ``tokens`` (m,): held by each domain; None: not
    limited. ``run_tokens``: of the run that the mixture is for.
    """

    domains: tuple[str, ...]
    minimum: Array
    maximum: Array
    tokens: Array | None = None
    run_tokens: float | None = None
    max_epochs: float = MAX_EPOCHS
    groups: tuple[Group, ...] = ()

    @property
    def upper(self) -> Array:
        """The lower of a domain's maximum and what its tokens allow, (m,)."""
        if self.tokens is None or self.run_tokens is None:
            return self.maximum
        return np.minimum(self.maximum, self.max_epochs * self.tokens / self.run_tokens)

    def epochs(self, x: Array) -> Array | None:
        """Passes (m,) over each domain that a mixture takes; None when tokens are not known."""
        if self.tokens is None or self.run_tokens is None:
            return None
        drawn = x * self.run_tokens
        return np.divide(
            drawn, self.tokens, out=np.where(drawn > 0, np.inf, 0.0), where=self.tokens > 0
        )

    def membership(self) -> tuple[Array, Array, Array]:
        """Groups as rows of zeros and ones (g, m), and their lower and upper ends (g,)."""
        rows = np.array(
            [[float(d in group.members) for d in self.domains] for group in self.groups]
        ).reshape(len(self.groups), len(self.domains))
        low = np.array([group.lower for group in self.groups])
        return rows, low, np.array([group.upper for group in self.groups])

    def violated(self, x: Array, slack: float = 1e-6) -> bool:
        """Whether a mixture (m,) breaks a constraint by more than ``slack``."""
        rows, low, high = self.membership()
        sums = rows @ x
        return bool(
            abs(x.sum() - 1) > slack
            or (x < self.minimum - slack).any()
            or (x > self.upper + slack).any()
            or (sums < low - slack).any()
            or (sums > high + slack).any()
        )

    def check(self) -> None:
        """Raises :class:`InfeasibleError` when no mixture obeys."""
        upper = self.upper
        for i, domain in enumerate(self.domains):
            if self.minimum[i] > upper[i] + SLACK:
                raise InfeasibleError(
                    f"'{domain}' is to have at least {self.minimum[i]:.4g} of the mixture, but "
                    f"{self._why(i)}{self._short(self.minimum[i] - upper[i])}"
                )
        if self.minimum.sum() > 1 + SLACK:
            raise InfeasibleError(
                f"the smallest shares add up to {self.minimum.sum():.4g}, more than 1; lower some"
            )
        if upper.sum() < 1 - SLACK:
            raise InfeasibleError(self._too_tight(upper))
        self._check_groups(upper)

    def _why(self, i: int) -> str:
        if self.maximum[i] <= self.upper[i] or self.tokens is None:
            return f"its maximum is {self.maximum[i]:.4g}"
        return (
            f"{self.max_epochs:g} passes over its {self.tokens[i]:,.0f} tokens are "
            f"{self.upper[i]:.4g} of the run's {self.run_tokens:,.0f}"
        )

    def _short(self, share: float) -> str:
        if self.run_tokens is None:
            return ""
        return f": {share * self.run_tokens:,.0f} tokens short"

    def _too_tight(self, upper: Array) -> str:
        total = float(upper.sum())
        if self.tokens is None or self.run_tokens is None:
            return f"the largest shares add up to {total:.4g}, less than 1; raise some"
        names = [
            d for d, cap, top in zip(self.domains, upper, self.maximum, strict=True) if cap < top
        ]
        passes = self._passes_needed()
        fix = "raise the maximum shares" if self.tokens.any() else "no domain holds any tokens"
        if passes is not None:
            run = self.max_epochs / passes * self.run_tokens
            fix = f"allow {passes:.3g} passes, or plan a run of at most {run:,.0f} tokens"
        return (
            f"{self.max_epochs:g} passes over {_list(names)} and the maximum shares allow "
            f"{total:.4g} of the run{self._short(1 - total)}; {fix}"
        )

    def _passes_needed(self) -> float | None:
        """Fewest passes that fill the run; None when the maximum shares do not allow it at all."""
        assert self.tokens is not None
        assert self.run_tokens is not None
        share = self.tokens / self.run_tokens
        if self.maximum[share > 0].sum() < 1:
            return None
        # The sum of ends rises with the passes in straight pieces, which turn where an end does.
        turns = np.sort(self.maximum[share > 0] / share[share > 0])
        sums = np.minimum(self.maximum, turns[:, None] * share).sum(axis=1)
        return float(np.interp(1.0, np.concatenate([[0.0], sums]), np.concatenate([[0.0], turns])))

    def _check_groups(self, upper: Array) -> None:
        rows, low, high = self.membership()
        for group, row in zip(self.groups, rows, strict=True):
            most, least = float(row @ upper), float(row @ self.minimum)
            if group.lower > most + SLACK:
                raise InfeasibleError(
                    f"the group '{group.name}' is to have at least {group.lower:.4g}, but its "
                    f"domains allow {most:.4g}{self._short(group.lower - most)}"
                )
            if group.upper < least - SLACK:
                raise InfeasibleError(
                    f"the group '{group.name}' may have at most {group.upper:.4g}, but the minima "
                    f"of its domains add up to {least:.4g}"
                )
        if not self.groups:
            return
        missing = _least_violation(rows, low, high, self.minimum, upper)
        if missing.sum() > 1e-7:
            at_fault = [
                f"'{group.name}' by {share:.4g}{self._short(share)}"
                for group, share in zip(self.groups, missing, strict=True)
                if share > 1e-7
            ]
            raise InfeasibleError(
                f"the groups cannot all be kept beside the ends of shares; at the least off are "
                f"{', '.join(at_fault)}"
            )


def _least_violation(rows: Array, low: Array, high: Array, lower: Array, upper: Array) -> Array:
    """By how much (g,) each group's ends are broken when the sum of that is the least."""
    from scipy.optimize import linprog

    g, m = rows.shape
    # Unknowns: shares, then how far each group is off.
    off = -np.eye(g)
    found = linprog(
        np.concatenate([np.zeros(m), np.ones(g)]),
        A_ub=np.block([[-rows, off], [rows, off]]),
        b_ub=np.concatenate([-low, high]),
        A_eq=np.concatenate([np.ones(m), np.zeros(g)])[None],
        b_eq=[1.0],
        bounds=[*zip(lower, np.maximum(upper, lower), strict=True), *[(0, None)] * g],
    )
    missing: Array = found.x[m:]
    return missing


def make_constraints(
    domains: Sequence[str],
    *,
    minimum: Mapping[str, float] | None = None,
    maximum: Mapping[str, float] | None = None,
    tokens: Mapping[str, float] | None = None,
    run_tokens: float | None = None,
    max_epochs: float = MAX_EPOCHS,
    groups: Sequence[Group] = (),
    fixed: Mapping[str, float] | None = None,
) -> Constraints:
    """Constraints by name; ``fixed`` shares are minimum and maximum in one.

    Raises :class:`UserError` on names that are not domains, shares beyond 0 and 1, tokens that are
    missing for a domain, or counts that are not positive.
    """
    for label, given in (("minimum", minimum), ("maximum", maximum), ("fixed share", fixed)):
        for name, share in (given or {}).items():
            known(name, domains, f"{label} share" if label != "fixed share" else label)
            if not 0 <= share <= 1:
                raise UserError(f"the {label} of '{name}' is {share}; shares lie between 0 and 1")
    for name in fixed or {}:
        if name in (minimum or {}) or name in (maximum or {}):
            raise UserError(
                f"'{name}' has a fixed share, so it needs no other ends; leave these out"
            )
    for group in groups:
        for name in group.members:
            known(name, domains, f"group '{group.name}'")
        if not 0 <= group.lower <= group.upper <= 1:
            raise UserError(
                f"the group '{group.name}' has the ends {group.lower} and {group.upper}; they must "
                "rise and lie between 0 and 1"
            )
    if not 0 < max_epochs < np.inf:
        raise UserError(f"{max_epochs} passes over a domain cannot be; allow more than 0")
    held = None
    if run_tokens is not None:
        if not 0 < run_tokens < np.inf:
            raise UserError(f"a run of {run_tokens} tokens cannot be planned")
        lacking = [name for name in domains if name not in (tokens or {})]
        if lacking:
            raise UserError(
                f"to bound repetition in a run of {run_tokens:,.0f} tokens, the tokens of every "
                f"domain must be known; missing: {', '.join(lacking)}"
            )
    if tokens is not None:
        for name, count in tokens.items():
            known(name, domains, "token counts")
            if not count >= 0:
                raise UserError(f"'{name}' cannot hold {count} tokens")
        if all(name in tokens for name in domains):
            held = np.array([float(tokens[name]) for name in domains])
    low = {**(minimum or {}), **(fixed or {})}
    top = {**(maximum or {}), **(fixed or {})}
    return Constraints(
        domains=tuple(domains),
        minimum=np.array([float(low.get(name, 0.0)) for name in domains]),
        maximum=np.array([float(top.get(name, 1.0)) for name in domains]),
        tokens=held,
        run_tokens=run_tokens,
        max_epochs=max_epochs,
        groups=tuple(groups),
    )


def without(constraints: Constraints, i: int) -> Constraints:
    """The same without the upper end of domain ``i``."""
    maximum = constraints.maximum.copy()
    maximum[i] = 1.0
    tokens = constraints.tokens
    if tokens is not None:
        tokens = tokens.copy()
        tokens[i] = np.inf
    return replace(constraints, maximum=maximum, tokens=tokens)


def known(name: str, domains: Sequence[str], where: str) -> None:
    """Raises :class:`UserError` when ``name`` is not one of ``domains``."""
    if name not in domains:
        raise UserError(f"{where}: there is no domain '{name}'{nearest(name, domains)}")


def _list(names: Sequence[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:4])
    return shown + (f" and {len(names) - 4} more" if len(names) > 4 else "")
