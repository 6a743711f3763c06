"""The task names of OLMES users, as they stand in their scripts.

``family[:format][:variant]::regime[:subset]`` becomes our spec plus the regime, which the registry
turns into what it means for the family. Some OLMES names of a family hold a colon
(``mt_mbpp_v2fix:cpp``), so an alias may stand for one part of a name or for two.
"""

from collections.abc import Mapping


def from_olmes(text: str, aliases: Mapping[str, str]) -> tuple[str, str | None]:
    """The spec of a name, aliases replaced, and its regime (None without ``::``)."""
    name, found, regime = text.strip().partition("::")
    parts = name.split(":")
    for length in (2, 1):
        alias = ":".join(parts[:length])
        if alias in aliases:
            parts = [aliases[alias], *parts[length:]]
            break
    return ":".join(parts), regime if found else None
