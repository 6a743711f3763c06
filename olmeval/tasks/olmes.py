"""The task names of OLMES users, as they stand in their scripts.

``family[:format][:variant]::regime[:subset]`` becomes our spec plus the regime, which the registry
turns into what it means for the family. A few OLMES families carry a part of ours after a colon
(``mt_mbpp_v2fix:cpp``).
"""

from collections.abc import Mapping


def from_olmes(text: str, aliases: Mapping[str, str]) -> tuple[str, str | None]:
    """Our spec text and the regime of an OLMES name, or ``text`` itself and None."""
    name, found, regime = text.strip().partition("::")
    family, _, rest = name.partition(":")
    second, _, tail = rest.partition(":")
    # An alias may hold a colon: "mt_mbpp:bash" is our family "mt_mbpp_bash".
    if second and f"{family}:{second}" in aliases:
        name = ":".join(part for part in (aliases[f"{family}:{second}"], tail) if part)
    return name, regime if found else None
