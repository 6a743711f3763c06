"""Files of a proposal: ``mix.yaml`` for training, ``proposal.json`` for everything else."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import yaml

from olmeval.errors import UserError
from olmeval.files import read_json, write_json, write_text
from olmeval.mixing.domains import Domains
from olmeval.mixing.proposal import Proposal
from olmeval.mixing.sweeps import Cell, FrontPoint

MIX, PROPOSAL = "mix.yaml", "proposal.json"
DIGITS = 9
NOTHING = 1e-7
"""A share that no run would notice; left out of mix.yaml."""


def save_mix(weights: Mapping[str, float], path: Path, name: str) -> None:
    """Writes a mixture as ``olmeval train`` takes it: ``data.mixture=mix.yaml``."""
    kept = {d: round(w, DIGITS) for d, w in weights.items() if w > NOTHING}
    # What rounding left over goes to the largest share, so that the sum is 1.
    largest = max(kept, key=lambda d: kept[d])
    kept[largest] = round(kept[largest] + 1 - sum(kept.values()), DIGITS)
    write_text(path, yaml.safe_dump({"name": name, "mixture": kept}, sort_keys=False))


def save_proposal(
    proposal: Proposal,
    folder: Path,
    *,
    about: Mapping[str, Any],
    cells: Sequence[Cell] = (),
    front: Sequence[FrontPoint] = (),
    tree: Domains | None = None,
) -> None:
    """Writes ``mix.yaml`` and ``proposal.json``; ``about``: what was asked.

    ``tree``: frozen blocks in it are expanded to their members in ``mix.yaml``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    value = {
        "asked": dict(about),
        **_plain(asdict(proposal)),
        "sweep": [_plain(asdict(cell)) for cell in cells],
        "front": [_plain(asdict(point)) for point in front],
    }
    write_json(folder / PROPOSAL, value)
    weights = proposal.mixture.weights
    save_mix(tree.expand(weights) if tree else weights, folder / MIX, folder.name)


def load_proposal(path: Path) -> dict[str, Any]:
    """Reads ``proposal.json``: the file or its folder. Raises :class:`UserError`."""
    path = path / PROPOSAL if path.is_dir() else path
    value = read_json(path)
    lacking = [field.name for field in fields(Proposal) if field.name not in value]
    if lacking:
        raise UserError(
            f"'{path}' is not a proposal of this version: it has no '{lacking[0]}'; run "
            "'olmix optimize' again"
        )
    proposal: dict[str, Any] = value
    return proposal


def _plain(value: Any) -> Any:
    """Infinities as None, which JSON has."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float) and (value != value or abs(value) == float("inf")):
        return None
    return value
