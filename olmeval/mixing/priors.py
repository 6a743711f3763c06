"""The natural distribution and the tokens that domains hold, from a file or from shards."""

from collections.abc import Sequence
from pathlib import Path

import yaml
from pydantic import Field

from olmeval.config import Config, load_config
from olmeval.errors import UserError
from olmeval.files import sha256_json, write_text
from olmeval.mixing.domains import Node


class Priors(Config):
    """What is known of domains before anything is trained; the public olmix's keys."""

    relative_sizes: dict[str, float] = Field(default_factory=dict)
    """Shares of the natural distribution; scaled to add up to 1."""
    token_counts: dict[str, float] = Field(default_factory=dict)
    """Tokens that each domain holds."""


class _PriorsFile(Config):
    priors: Priors


def load_priors(path: Path) -> Priors:
    """Reads ``relative_sizes`` and ``token_counts``, at the top or under ``priors``."""
    try:
        nested = "priors" in (yaml.safe_load(path.read_text(encoding="utf-8")) or {})
    except (OSError, UnicodeDecodeError, yaml.YAMLError, TypeError):
        nested = False  # load_config says what is wrong
    priors = load_config(path, _PriorsFile).priors if nested else load_config(path, Priors)
    if not priors.relative_sizes and not priors.token_counts:
        raise UserError(f"'{path}' gives neither relative_sizes nor token_counts")
    return priors


def measure_priors(root: Path, domains: Sequence[str] = ()) -> Priors:
    """Tokens of the domains of a folder of token shards, or of some of them, and their shares."""
    from olmeval.trainer.shards import load_manifest

    if not (root / "manifest.json").is_file():
        raise UserError(
            f"'{root}' has no manifest.json; give a folder of token shards, such as "
            "'olmeval data build' makes"
        )
    manifest = load_manifest(root)
    unknown = [name for name in domains if name not in manifest.domains]
    if unknown:
        raise UserError(f"'{root}' has no domain '{unknown[0]}'; it has {list(manifest.domains)}")
    counts = {name: manifest.tokens(name) for name in domains or manifest.domains}
    total = sum(counts.values())
    return Priors(
        relative_sizes={name: count / total for name, count in counts.items()},
        token_counts={name: float(count) for name, count in counts.items()},
    )


def save_priors(priors: Priors, path: Path) -> None:
    """Writes what :func:`load_priors` reads."""
    value = {"priors": priors.model_dump()}
    write_text(path, yaml.safe_dump(value, sort_keys=False))


def measure_domains(root: Path, domains: Sequence[str] = ()) -> dict[str, Node]:
    """Tokens and a fingerprint of the contents of each domain in a folder of token shards.

    The fingerprint is a hash of the shards' own, in the order of the manifest, so it changes with
    any document and not with the folder.
    """
    from olmeval.trainer.shards import load_manifest

    counts = measure_priors(root, domains).token_counts
    manifest = load_manifest(root)
    return {
        name: Node(
            tokens=int(count),
            fingerprint=sha256_json([s.sha256 for s in manifest.shards(name)])[:16],
        )
        for name, count in counts.items()
    }


def save_domains(domains: dict[str, Node], path: Path) -> None:
    """Writes a flat ``domains.yaml``."""
    value = {
        "domains": {name: node.model_dump(exclude_none=True) for name, node in domains.items()}
    }
    write_text(path, yaml.safe_dump(value, sort_keys=False))
