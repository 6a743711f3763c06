"""Reads ``hostile.txt``: programs that try to break out, with the ways in which each may end."""

from pathlib import Path

ENDS = {
    "ended": {"exited", "signal"},
    "stopped": {"timeout"},
    "held": {"exited", "signal", "timeout", "memory", "blocked"},
}


def read(path: Path) -> dict[str, tuple[set[str], str]]:
    """Name -> (statuses it may have, source)."""
    _, prelude, *sections = path.read_text(encoding="utf-8").split("\n=== ")
    prelude = prelude.partition("\n")[2]
    programs = {}
    for section in sections:
        title, _, source = section.partition("\n")
        name, _, ends = title.partition(" | ")
        statuses = set().union(*(ENDS.get(end, {end}) for end in ends.split()))
        programs[name] = (statuses, prelude + source)
    return programs


PROGRAMS = read(Path(__file__).with_suffix(".txt"))
