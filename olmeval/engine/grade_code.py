"""Grades answers that are programs: runs each against its tests in the sandbox.

A reference of a ``code`` grader is the text around the answer: what stands before it, what stands
behind it (FIM alone), and the tests. The grader's detail says what is done with them:

========================  ==================================================================
``code``                  Python: text, tests (HumanEval, MBPP, LBPP, HumanEval infilling)
``code:leetcode``         the same; of a fenced answer the fence's content alone
``code:bigcodebench``     ``TestCases`` of unittest in BigCodeBench's environment
``code:ds1000``           the tests run the answer inside a program of their own
``code:LANGUAGE``         C++, Java and others: compiled and run by themselves (MultiPL-E)
========================  ==================================================================

What counts is the strict verdict where there is one (:mod:`olmeval.sandbox.verdict`).
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from olmeval.errors import UserError
from olmeval.requests import Reference
from olmeval.sandbox.run import Progress
from olmeval.sandbox.types import MIB, Limits
from olmeval.sandbox.verdict import Program, Verdict

# Where an answer of DeepSeek-LeetCode ends that has no fence (OLMES).
LEETCODE_END = re.compile(r"\n(?:def|class|if|#|print)")
# Native libraries reserve far more addresses than they use.
LIBRARY_LIMITS = Limits(memory=4096 * MIB, processes=64, address_space=False)
LEETCODE_FENCE = re.compile(r"```python\n?(.*?)\n?```", re.DOTALL)


@dataclass(frozen=True)
class Running:
    """How programs are run.

    ``environment`` is the folder of a virtual environment whose packages Python programs may
    import; by default the standard library is all there is.
    """

    unsafe_local: bool = False
    environment: str | None = None
    workers: int | None = None
    progress: Progress | None = None


@dataclass(frozen=True)
class Judged:
    """S programs with their verdicts, in the answers' order."""

    sources: list[str]
    verdicts: list[Verdict]

    @property
    def counters(self) -> dict[str, int]:
        """What happened on the way, for ``metrics.json``; what did not happen is left out."""
        found = Counter(v.status for v in self.verdicts)
        counts = {
            "suspected_cheats": sum(v.suspected_cheat for v in self.verdicts),
            "not_strict": sum(v.strict is None for v in self.verdicts),
            "missing_modules": sum("ModuleNotFoundError" in v.detail for v in self.verdicts),
            **{s: found[s] for s in ("timeout", "memory", "crash", "blocked", "infrastructure")},
        }
        return {f"code_{name}": count for name, count in counts.items() if count}


def check_code(detail: str, running: Running) -> None:
    """Raises :class:`UserError` where programs of this grader cannot be run on this machine."""
    from olmeval.sandbox import jail
    from olmeval.sandbox.tiers import probe

    tier = probe()
    if tier.name == "T3" and not running.unsafe_local:
        raise UserError(
            "its answers are programs, and nothing on this machine can contain one ("
            + "; ".join(tier.reasons)
            + "); set this up (`olmeval sandbox doctor`), or pass --unsafe-local to run them with "
            "limits alone"
        )
    if detail in PYTHON:
        if running.environment is not None:
            jail.runtime(running.environment)
        return
    from olmeval.sandbox import environments, forms, languages

    if detail in forms.FORMS:
        environments.require(detail)
        return
    lacking = languages.missing(detail)
    if lacking:
        raise UserError(lacking)


def judge_answers(
    detail: str,
    texts: Sequence[str],
    references: Sequence[tuple[Reference, ...]],
    running: Running,
) -> Judged:
    """The verdict of every answer under its tests."""
    parts = [_parts(r) for r in references]
    from olmeval.sandbox.cache import judge_cached
    from olmeval.sandbox.forms import FORMS

    form = PYTHON.get(detail) or FORMS.get(detail)
    if form is None:
        return _other_language(detail, texts, parts, running)
    programs = [form(text, part) for text, part in zip(texts, parts, strict=True)]
    if detail in PYTHON and running.environment is not None:
        programs = [
            replace(program, environment=running.environment, limits=LIBRARY_LIMITS)
            for program in programs
        ]
    verdicts = judge_cached(
        programs,
        workers=running.workers,
        unsafe_local=running.unsafe_local,
        progress=running.progress,
    )
    return Judged([p.program + p.tests for p in programs], verdicts)


def right(verdicts: Sequence[Verdict]) -> NDArray[np.float64]:
    """1.0 for a pass, nan where the jail failed [S]."""
    return np.array(
        [np.nan if v.status == "infrastructure" else float(v.status == "passed") for v in verdicts]
    )


def check_reference(references: tuple[Reference, ...]) -> None:
    """Raises :class:`UserError` where this is no reference of a ``code`` grader."""
    _parts(references)


def _parts(references: tuple[Reference, ...]) -> tuple[str, ...]:
    if len(references) != 1 or isinstance(references[0], str) or len(references[0]) < 2:
        raise UserError(
            "the grader 'code' takes one reference, a list of the text before the answer and the "
            'tests, as in `references: [["{prompt}", "{test}"]]`'
        )
    return references[0]


def environment_of(grader: str, running: Running) -> dict[str, Any] | None:
    """What ``run.json`` says of the environment that a grader's programs run in, if any."""
    from olmeval.sandbox import environments, forms

    family, _, detail = grader.partition(":")
    if family == "code" and detail in PYTHON and running.environment is not None:
        return _installed(running.environment)
    found = environments.find(detail) if family == "code" and detail in forms.FORMS else None
    return None if found is None else found.fingerprint


def _installed(environment: str) -> dict[str, Any]:
    places = [str(p) for p in Path(environment).glob("lib/python3*/site-packages")]
    packages = {d.metadata["Name"]: d.version for d in distributions(path=places)}
    return {"name": environment, "packages": dict(sorted(packages.items()))}


def _plain(text: str, parts: Sequence[str]) -> Program:
    before, *behind, tests = parts
    return Program(before + text + "".join(behind), tests, before)


def _leetcode(text: str, parts: Sequence[str]) -> Program:
    fenced = LEETCODE_FENCE.search(text)
    answer = fenced[1] if fenced else LEETCODE_END.split(text, maxsplit=1)[0]
    return _plain(answer, parts)


PYTHON: dict[str, Callable[[str, Sequence[str]], Program]] = {
    "": _plain,
    "leetcode": _leetcode,
}


def _other_language(
    name: str, texts: Sequence[str], parts: Sequence[tuple[str, ...]], running: Running
) -> Judged:
    from olmeval.sandbox.cache import judge_language_cached

    programs = [(before + text, tests) for text, (before, tests) in zip(texts, parts, strict=True)]
    verdicts = judge_language_cached(
        name,
        programs,
        workers=running.workers,
        unsafe_local=running.unsafe_local,
        progress=running.progress,
    )
    return Judged(["".join(pair) for pair in programs], verdicts)
