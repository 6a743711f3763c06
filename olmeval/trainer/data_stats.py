"""Sizes of the domains of a data folder."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from olmeval.trainer.shards import Shard, load_manifest


@dataclass(frozen=True)
class DomainStats:
    """Size of a domain: tokens (EOS included) and documents as stored; UTF-8 bytes of the text and
    bytes a token if known; files."""

    domain: str
    tokens: int
    documents: int
    bytes: int | None
    bytes_per_token: float | None
    shards: int


def data_stats(
    root: Path,
    verify: Literal["size", "hash"] = "size",
    on_shard: Callable[[Shard], None] | None = None,
) -> list[DomainStats]:
    """Sizes of every domain of a data folder, by name, after verifying it.

    See :func:`~olmeval.trainer.shards.load_manifest`.
    """
    return domain_stats(load_manifest(root, verify, on_shard).domains)


def domain_stats(domains: Mapping[str, tuple[Shard, ...]]) -> list[DomainStats]:
    """Sizes of domains, by name."""
    return [_stats(domain, domains[domain]) for domain in sorted(domains)]


def _stats(domain: str, parts: tuple[Shard, ...]) -> DomainStats:
    sizes = [shard.bytes for shard in parts if shard.bytes is not None]
    size = sum(sizes) if len(sizes) == len(parts) else None
    tokens = sum(shard.tokens for shard in parts)
    return DomainStats(
        domain=domain,
        tokens=tokens,
        documents=sum(shard.docs for shard in parts),
        bytes=size,
        bytes_per_token=None if size is None else size / tokens,
        shards=len(parts),
    )
