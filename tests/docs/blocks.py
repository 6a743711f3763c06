"""Reads what a page tells its reader to do: commands to run, files to write, in order."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
TUTORIALS = sorted((ROOT / "docs/tutorials").glob("*.md"))
# The paragraph above a block that is not run says why, to every reader.
MARKER = re.compile(r"^\*Not run in CI: (.+)\*$")
FILE = re.compile(r"`([\w./-]+\.(?:yaml|toml|jsonl?))`[^`]*:$")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """One fenced block: its language, its text, the file it is, or why it is not run."""

    language: str
    text: str
    line: int
    file: str | None
    skipped: str | None


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in FENCE.finditer(text):
        above = text[: match.start()].rstrip().rpartition("\n")[2]
        file = FILE.search(above) if match[1] in ("yaml", "toml", "json") else None
        marker = MARKER.match(above)
        found.append(
            Block(
                match[1],
                match[2],
                text.count("\n", 0, match.start()) + 1,
                file[1] if file else None,
                marker[1] if marker else None,
            )
        )
    return found
