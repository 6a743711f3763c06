"""A swarm's files: ``ratios.csv`` with the mixtures and ``swarm.json`` with what they can tell."""

import csv
import io
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from olmeval.errors import UserError
from olmeval.files import write_json, write_text
from olmeval.mixing.design import Design, assess
from olmeval.mixing.domains import Domains
from olmeval.mixing.problem import Constraints
from olmeval.mixing.sampling import (
    Sampled,
    SwarmSettings,
    advised_runs,
    fill_distance,
    names_of,
    sample_swarm,
)

Array = NDArray[np.float64]
RATIOS, REPORT = "ratios.csv", "swarm.json"


@dataclass(frozen=True)
class SwarmDesign:
    """Mixtures to train, and what is known before any is.

    ``fill``: median and 95 % quantile of the Hellinger distance from a fresh mixture to the nearest
    of the swarm. ``advised``: runs that the log-linear law asks for. ``epochs``: most passes that
    any proxy takes over each domain (None where tokens or the proxies' length are not known).
    """

    domains: Domains
    names: tuple[str, ...]
    sampled: Sampled
    design: Design
    fill: tuple[float, float]
    advised: int
    epochs: dict[str, float] | None
    warnings: tuple[str, ...]


def design_swarm(
    domains: Domains,
    settings: SwarmSettings,
    *,
    proxy_tokens: float | None = None,
    proxy_epochs: float | None = None,
    existing: Array | None = None,
    prefix: str = "mix",
    taken: Collection[str] = (),
) -> SwarmDesign:
    """Draws a swarm and judges it, the rows of ``existing`` (k, m) counted in.

    Mixtures are called ``prefix``-000 and so on, after the names that are ``taken`` already.

    ``proxy_epochs``: most passes of a proxy of ``proxy_tokens`` over a domain; None: not limited,
    as caps belong in the optimisation. Raises :class:`UserError` as :func:`sample_swarm` does.
    """
    if proxy_tokens is not None and not proxy_tokens > 0:
        raise UserError(f"a proxy of {proxy_tokens:g} tokens cannot be; give more than 0")
    rules: Constraints | None = None
    if proxy_epochs is not None:
        if proxy_tokens is None:
            raise UserError("to limit the passes of proxies, give the tokens of a proxy")
        rules = domains.constraints(run_tokens=proxy_tokens, max_epochs=proxy_epochs)
    sampled = sample_swarm(domains, settings, rules, existing)
    every = sampled.X if existing is None else np.concatenate([existing, sampled.X])
    # A pinned share is no choice: nothing is asked about its effect.
    free = [i for i, leaf in enumerate(domains.leaves) if leaf.maximum > leaf.minimum]
    design = assess(every[:, free], tuple(domains.names[i] for i in free))
    epochs = None
    if proxy_tokens and all(leaf.tokens for leaf in domains.leaves):
        epochs = {
            leaf.name: float(top) * proxy_tokens / (leaf.tokens or 1.0)
            for leaf, top in zip(domains.leaves, sampled.X.max(axis=0), strict=True)
        }
    warnings = design.warnings()
    if sampled.moved:
        warnings.append(
            f"{sampled.moved} mixtures were moved to the nearest that obeys, as only "
            f"{sampled.obeying} of {sampled.candidates} draws did"
        )
    return SwarmDesign(
        domains=domains,
        names=tuple(names_of(settings.runs, prefix, taken)),
        sampled=sampled,
        design=design,
        fill=fill_distance(every, domains, settings),
        advised=advised_runs(domains),
        epochs=epochs,
        warnings=tuple(warnings),
    )


def save_swarm(swarm: SwarmDesign, settings: SwarmSettings, folder: Path) -> None:
    """Writes ``ratios.csv``, one row a mixture, and ``swarm.json``."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["run", *swarm.domains.names])
    for name, row in zip(swarm.names, swarm.sampled.X.tolist(), strict=True):
        writer.writerow([name, *row])
    write_text(folder / RATIOS, text.getvalue())
    write_json(folder / REPORT, describe(swarm, settings))


def describe(swarm: SwarmDesign, settings: SwarmSettings) -> dict[str, Any]:
    """All of a swarm but its mixtures, as JSON."""
    X = swarm.sampled.X
    rows = []
    free = [leaf.name for leaf in swarm.domains.leaves if leaf.maximum > leaf.minimum]
    errors = dict(zip(free, swarm.design.effect, strict=True))
    for place, leaf in enumerate(swarm.domains.leaves):
        effect = errors.get(leaf.name, np.inf)
        rows.append(
            {
                "domain": leaf.name,
                "natural": float(swarm.domains.prior()[place]),
                "least": float(X[:, place].min()),
                "mean": float(X[:, place].mean()),
                "most": float(X[:, place].max()),
                "runs": int((X[:, place] > 0).sum()),
                "effect_error": float(effect) if np.isfinite(effect) else None,
                "epochs": swarm.epochs and swarm.epochs[leaf.name],
            }
        )
    design = swarm.design
    return {
        "settings": asdict(settings),
        "runs": len(X),
        "advised": swarm.advised,
        "candidates": swarm.sampled.candidates,
        "obeying": swarm.sampled.obeying,
        "moved": swarm.sampled.moved,
        "near_duplicates": swarm.sampled.near_duplicates,
        "rank": design.rank,
        "condition": design.condition if np.isfinite(design.condition) else None,
        "fill_distance": {"median": swarm.fill[0], "p95": swarm.fill[1]},
        "domains": rows,
        "fingerprints": swarm.domains.fingerprints(),
        "warnings": list(swarm.warnings),
    }


def read_mixtures(path: Path, domains: tuple[str, ...]) -> tuple[tuple[str, ...], Array]:
    """Runs and mixtures (k, m) of a ``ratios.csv``; domains it lacks have no share.

    Raises :class:`UserError` when it has a domain that is not one of ``domains``.
    """
    from olmeval.mixing.tables import read_ratios

    runs, names, X = read_ratios(path)
    unknown = sorted(set(names) - set(domains))
    if unknown:
        raise UserError(
            f"'{path}' has mixtures of '{unknown[0]}', which is not among the domains; "
            "'olmix reuse' takes mixtures over to other domains"
        )
    whole = np.zeros((len(runs), len(domains)))
    whole[:, [domains.index(name) for name in names]] = X
    return runs, whole
