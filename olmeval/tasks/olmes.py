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
    if regime.partition(":")[0] == "gen2mc":
        # A data set of its own, which OLMES names as a regime of the generative task.
        parts[0] += "_gen2mc"
        regime = regime.partition(":")[2] or "none"
    for length in (2, 1):
        alias = ":".join(parts[:length])
        if alias in aliases:
            parts = [aliases[alias], *parts[length:]]
            break
    if found and parts[-2:] == ["rc", "bpb"]:
        # OLMES scores its rank-choice tasks by bits per byte, too; here that is one format.
        del parts[-2]
    return ":".join(parts), regime if found else None
