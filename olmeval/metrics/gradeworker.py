"""The process that runs sympy and math-verify on a model's text; started by ``grading``.

Reads one JSON request a line, ``{"grader", "gold", "answer", "limit"}``, and answers
``{"status"}``. An alarm ends what takes longer than ``limit`` seconds; what ignores the alarm
(big integers in C) is killed from outside. Memory is limited, so that a power tower is an
exception here and not the death of a neighbour. The libraries' chatter on standard output goes to
nowhere: only this protocol uses the pipe.
"""

import json
import os
import resource
import signal
import sys
from collections.abc import Callable
from typing import TextIO

MEMORY_LIMIT = 4 << 30  # bytes of address space
Grade = Callable[[str, str], str]
READY = {"status": "ready"}


class _TimeUp(BaseException):
    """The alarm rang; no Exception, which libraries would catch."""


def main() -> None:
    """Serves requests until standard input closes."""
    pipe = os.fdopen(os.dup(1), "w", encoding="utf-8")
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    graders = _load()
    _limit(resource.RLIMIT_AS, MEMORY_LIMIT)
    _limit(resource.RLIMIT_CORE, 0)
    signal.signal(signal.SIGALRM, _ring)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers itself
    _send(pipe, READY)
    for line in sys.stdin:
        request = json.loads(line)
        function = graders[request["grader"]]
        _send(
            pipe, {"status": _run(function, request["gold"], request["answer"], request["limit"])}
        )


def _load() -> dict[str, Grade]:
    from olmeval.metrics.expression import expression_equal
    from olmeval.metrics.latex_equal import sympy_equal
    from olmeval.metrics.mathverify import verified_equal

    graders: dict[str, Grade] = {
        "sympy": sympy_equal,
        "verified": verified_equal,
        "expression": expression_equal,
    }
    for grade in graders.values():
        # Proof that the libraries work, and their lazy imports, before the first request.
        if grade("x+1", "1+x") != "equal":
            raise RuntimeError("a grader does not work on this machine")
    return graders


def _run(grade: Grade, gold: str, answer: str, limit: float) -> str:
    try:
        try:
            # Rings again: a bare `except:` in a library may swallow the first.
            signal.setitimer(signal.ITIMER_REAL, limit, 0.1)
            return grade(gold, answer)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except _TimeUp:
        return "timeout"
    except MemoryError:
        return "memory"
    except Exception:
        # Graders handle what they expect; the rest is a library's failure on this text.
        return "unparsable"


def _ring(*_: object) -> None:
    raise _TimeUp


def _limit(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (value if hard < 0 else min(value, hard), hard))


def _send(pipe: TextIO, message: dict[str, str]) -> None:
    print(json.dumps(message), file=pipe, flush=True)


if __name__ == "__main__":
    main()
