"""Graders of mathematics for many answers: worker processes, hard time limits, memory of verdicts.

sympy and math-verify may take for ever, or all memory, on a model's text, so they run in separate
processes that are killed and started anew. An answer that cannot be graded in its time, or that
kills its worker, counts as not equal and is reported; a pool that does not work is an error and
never a wrong answer.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from olmeval.metrics import hendrycks, minerva
from olmeval.metrics.expression import same_text
from olmeval.metrics.gradepool import Job, run_jobs
from olmeval.metrics.mathtext import too_large
from olmeval.metrics.mathverify import final_answer, gold_boxed, quick_verdict

TIMEOUT = 5.0  # seconds an answer, as Minerva's graders have it
# The longest MATH answer has 72 characters. The parsers need milliseconds a character.
MAX_CHARS = 200


@dataclass(frozen=True)
class Grade:
    """Verdict on one answer.

    ``status``: "equal"; "different"; "unparsable" (a parser cannot read one side); "too_long" and
    "too_large" (beyond what the grader takes on); "timeout", "memory" and "crashed" (limits met,
    reported); "error" (the pool failed: no verdict).
    """

    status: str

    @property
    def equal(self) -> bool:
        """Whether the answer counts as right; RuntimeError without a verdict."""
        if self.status == "error":
            raise RuntimeError("the grader's worker processes failed; there is no verdict")
        return self.status == "equal"


@dataclass(frozen=True)
class Grader:
    """``quick`` decides from strings alone, or returns None to ask ``worker``'s function."""

    worker: str
    quick: Callable[[str, str], str | None]


def _flex_quick(gold: str, answer: str) -> str | None:
    return "equal" if hendrycks.string_equal(gold, answer) else None


def _deepmind_quick(gold: str, answer: str) -> str | None:
    return "equal" if same_text(gold, answer) else None


GRADERS = {
    # Minerva: sympy equality of normalised answers; parse failure is wrong.
    "exact_match": Grader("sympy", lambda _gold, _answer: None),
    # OLMES: Hendrycks' string equality or sympy's.
    "exact_match_flex": Grader("sympy", _flex_quick),
    # Ours.
    "exact_match_verified": Grader("verified", quick_verdict),
    "deepmind": Grader("expression", _deepmind_quick),
}

_memory: dict[tuple[str, str, str], str] = {}
_MEMORY_SIZE = 1_000_000


def grade_many(
    pairs: Sequence[tuple[str, str]],
    grader: str,
    workers: int | None = None,
    timeout: float = TIMEOUT,
) -> list[Grade]:
    """Verdicts on (gold, answer) pairs, in order.

    ``grader`` is a name of ``GRADERS``; the Minerva graders expect answers normalised by
    :func:`olmeval.metrics.minerva.normalize_final_answer`. ``workers`` processes (default: the
    processors this process may use), ``timeout`` seconds a pair. Equal pairs are graded once, also
    across calls, except those that a limit or a fault cut short. An answer over ``MAX_CHARS``
    characters that is not equal as a string is "too_long", one with a power tower or factorial that
    cannot be written out "too_large": bounds that the published graders do not have, where they
    need seconds, mostly all of them, to find it wrong. Raises ValueError for an unknown grader.
    """
    if grader not in GRADERS:
        raise ValueError(f"unknown grader '{grader}'; known: {', '.join(GRADERS)}")
    rule = GRADERS[grader]
    verdicts: dict[tuple[str, str], str] = {}
    jobs: list[Job] = []
    for gold, answer in dict.fromkeys(pairs):
        known = rule.quick(gold, answer) or _memory.get((rule.worker, gold, answer))
        if known is None:
            known = _beyond_limits(gold, answer)
        if known is None:
            jobs.append(Job(rule.worker, gold, answer))
        else:
            verdicts[gold, answer] = known
    count = workers if workers is not None else available_processors()
    for job, status in run_jobs(jobs, count, timeout):
        verdicts[job.gold, job.answer] = status
        _remember(job, status)
    return [Grade(verdicts[pair]) for pair in pairs]


def grade_solutions(
    solutions: Sequence[str],
    continuations: Sequence[str],
    grader: str,
    workers: int | None = None,
    timeout: float = TIMEOUT,
) -> list[Grade]:
    """Verdicts on MATH continuations against reference solutions, in order.

    "exact_match": the Minerva phrase against the last box, both normalised (no phrase: different).
    "exact_match_flex": any of OLMES's candidates. "exact_match_verified": our one final answer
    against the box as written. Raises ValueError when a solution has no box.
    """
    pairs: list[tuple[str, str]] = []
    owners: list[int] = []
    for index, (solution, text) in enumerate(zip(solutions, continuations, strict=True)):
        gold = gold_boxed(solution) if grader == "exact_match_verified" else None
        gold = minerva.gold_answer(solution) if gold is None else gold
        for answer in _answers(text, grader):
            pairs.append((gold, answer))
            owners.append(index)
    grades: list[list[Grade]] = [[] for _ in solutions]
    for owner, grade in zip(owners, grade_many(pairs, grader, workers, timeout), strict=True):
        grades[owner].append(grade)
    return [_best(of_one) for of_one in grades]


def _answers(text: str, grader: str) -> tuple[str, ...]:
    if grader == "exact_match_flex":
        return minerva.candidates(text)
    if grader == "exact_match_verified":
        answer = final_answer(text)
        return () if answer is None else (answer,)
    phrase = minerva.phrase_answer(text)
    return () if phrase is None else (minerva.normalize_final_answer(phrase),)


def _best(grades: list[Grade]) -> Grade:
    """Equal if any is; else no verdict if any lacks one; else the first that was cut short."""
    order = (
        "equal",
        "error",
        "timeout",
        "memory",
        "crashed",
        "too_large",
        "too_long",
        "unparsable",
    )
    found = {grade.status for grade in grades}
    return Grade(next((status for status in order if status in found), "different"))


def _beyond_limits(gold: str, answer: str) -> str | None:
    """What would only run into the time limit, known beforehand."""
    if max(len(gold), len(answer)) > MAX_CHARS:
        return "too_long"
    if gold != answer and (too_large(gold) or too_large(answer)):
        return "too_large"
    return None


def _remember(job: Job, status: str) -> None:
    """Keeps a worker's verdict, for every grader that asks that worker."""
    if len(_memory) > _MEMORY_SIZE:
        _memory.clear()
    if status in ("equal", "different", "unparsable"):
        _memory[job.grader, job.gold, job.answer] = status


def available_processors() -> int:
    """Processors this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
