"""Errors that a person reads: one sentence that names the thing at fault and the fix."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """Bad input. The command line prints the sentence and exits with code 2."""


class CorruptFileError(UserError):
    """A file is not what its name, header or checksum promises."""


def nearest(name: str, known: Iterable[str], n: int = 3) -> str:
    """A phrase with the names most like ``name``, to append to a sentence; may be empty."""
    matches = get_close_matches(name, list(known), n=n, cutoff=0.5)
    if not matches:
        return ""
    return "; did you mean " + " or ".join(f"'{match}'" for match in matches) + "?"
