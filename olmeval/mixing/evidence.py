"""Which contents of domains a swarm's scores speak of, carried from the data to the mixture.

A fingerprint of every domain's contents goes from the shards to ``swarm.json`` and
``evidence.json`` beside the tables, from there into ``fit.json``, and is compared wherever two of
them meet: a score of other contents says nothing of a domain as it is now.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from olmeval.errors import UserError
from olmeval.files import read_json, write_json

EVIDENCE, SWARM = "evidence.json", "swarm.json"
Contents = Mapping[str, str | None]
"""Fingerprints by domain, members of frozen blocks by their own names; None: not known."""


def save_evidence(folder: Path, contents: Contents) -> None:
    """Writes ``evidence.json`` beside tables, which says what data their scores come from."""
    write_json(folder / EVIDENCE, {"fingerprints": dict(contents)})


def evidence_beside(table: Path) -> dict[str, str | None]:
    """Fingerprints that ``evidence.json``, or else ``swarm.json``, beside a table records."""
    for name in (EVIDENCE, SWARM):
        path = table.parent / name
        if path.is_file():
            value: Any = read_json(path)
            found = value.get("fingerprints", {}) if isinstance(value, dict) else {}
            return dict(found)
    return {}


def evidence_of(tables: Sequence[Path]) -> dict[str, str | None]:
    """Fingerprints of tables together. Raises :class:`UserError` where two of them disagree."""
    joined: dict[str, str | None] = {}
    first = tables[0]
    for table in tables:
        found = evidence_beside(table)
        check_contents(found, joined, f"'{table}'", f"'{first}'")
        joined |= {name: mark for name, mark in found.items() if mark}
    return joined


def check_contents(recorded: Contents, present: Contents, what: str, where: str) -> None:
    """Raises :class:`UserError` when a domain's fingerprint in ``what`` is not that in ``where``.

    Domains that only one of them knows, or knows without a fingerprint, prove nothing.
    """
    changed = sorted(
        name for name, mark in recorded.items()
        if mark and present.get(name) and present[name] != mark
    )  # fmt: skip
    if changed:
        raise UserError(
            f"{what} speaks of other contents of {', '.join(changed)} than {where}: it says "
            "nothing of these domains now; run the swarm again or plan with 'olmix reuse'"
        )
