"""Which of the processes that ``torchrun`` started says what went wrong.

All of them read the same command, so most errors are met by all; printed by each they would bury
the sentence. The first process of a machine says it. Another one says it, with its rank, only where
the first has not said the same. Nothing of torch is imported: most errors come before that.
"""

import hashlib
import os
import time
from pathlib import Path

import click

PATIENCE = 5.0
"""Seconds that are given to the first process of the machine to meet the same error."""


def say_error(text: str) -> None:
    """Prints ``text`` to standard error, or not, where this machine's first rank prints the same.

    Ranks other than 0 are named before it. Without a launcher it is printed as it is.
    """
    rank = os.environ.get("RANK", "0")
    first = os.environ.get("LOCAL_RANK", rank) == "0"
    said = _note(text)
    end = time.monotonic() + PATIENCE
    while said and not first and time.monotonic() < end:
        if said.exists():
            return
        time.sleep(0.05)
    click.echo(text if rank == "0" else f"rank {rank}: {text}", err=True)
    if said and first:
        said.touch()


def _note(text: str) -> Path | None:
    """A file that exists once the first rank has said ``text``; None without torchrun.

    It lies in a folder of this launch on this machine, which torchrun makes for files that tell
    errors (ATTEMPT/LOCAL_RANK/error.json) and removes.
    """
    told = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if not told or not (folder := Path(told).parent.parent).is_dir():
        return None
    return folder / f".olmeval-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
