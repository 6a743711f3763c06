"""The runner of a plain program: runs its source as ``__main__``, and says whether it finished."""

from __future__ import annotations

import builtins
import linecache
import os
import sys
import traceback
import types

NAME = "program.py"
FINISHED = b"finished"


def main(payload: bytes, report: int, peer: object) -> None:  # noqa: ARG001
    """Runs the source; :data:`FINISHED` is reported after its last line."""
    module = types.ModuleType("__main__")
    module.__dict__.update(__builtins__=builtins, __file__=NAME)
    sys.modules["__main__"] = module
    try:
        source = payload.decode()
        linecache.cache[NAME] = (len(source), None, source.splitlines(keepends=True), NAME)
        exec(compile(source, NAME, "exec"), module.__dict__)
    except Exception as error:
        here = error.__traceback__
        traceback.print_exception(type(error), error, here.tb_next if here else None)
        sys.exit(1)
    os.write(report, FINISHED)
