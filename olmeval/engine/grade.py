"""Grades the samples of generation tasks: grader names of the catalogue to functions.

A grader gives every sample the values of its metrics, whether it counts as right for pass@k, and
the answer that a majority vote counts.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from olmeval.engine.grade_code import Judged, Running, check_code, judge_answers, right
from olmeval.errors import UserError
from olmeval.metrics import bbh, drop, extraction, minerva, squad
from olmeval.metrics.grading import Grade, grade_many, grade_solutions
from olmeval.metrics.sampling import maj_at_k, pass_at_k
from olmeval.requests import Reference

Texts = Sequence[str]
References = Sequence[tuple[Reference, ...]]
AT_K = re.compile(r"^(pass|maj)_at_(\d+)$")


@dataclass(frozen=True)
class Graded:
    """S samples, graded.

    ``values`` maps a metric to a value per sample [S]; ``right`` [S] is what pass@k counts;
    ``answers`` [S] what a majority vote counts; ``no_verdict`` [S]: the grader itself failed;
    ``counters``: what happened on the way (unparsed answers, grader limits); ``judged``: what was
    run and what became of it, where answers are programs.
    """

    values: dict[str, NDArray[np.float64]]
    right: NDArray[np.float64]
    answers: list[str]
    no_verdict: NDArray[np.bool_]
    counters: dict[str, int]
    judged: Judged | None = field(default=None, repr=False)


def check_grader(name: str, running: Running | None = None) -> None:
    """Raises :class:`UserError` when there is no such grader, or none that can run here.

    ``running`` is how answers that are programs would be run; None where nothing will be graded.
    """
    family, _, detail = name.partition(":")
    if family == "code":
        if running is not None:
            check_code(detail, running)
    elif family not in GRADERS:
        raise UserError(f"unknown grader '{name}'; known: {', '.join(sorted([*GRADERS, 'code']))}")


def grade(
    name: str, texts: Texts, references: References, running: Running | None = None
) -> Graded:
    """Grades one text per entry against its references. Raises :class:`UserError`."""
    running = running or Running()
    check_grader(name, running)
    family, _, detail = name.partition(":")
    if family == "code":
        return _code(texts, references, detail, running)
    return GRADERS[family](texts, references, detail)


def _code(texts: Texts, references: References, detail: str, running: Running) -> Graded:
    judged = judge_answers(detail, texts, references, running)
    passed = right(judged.verdicts)
    # A jail that failed says nothing about the program: no verdict, never a zero.
    unknown = np.isnan(passed)
    return Graded({}, np.nan_to_num(passed), list(texts), unknown, judged.counters, judged)


def instance_values(
    metrics: Sequence[str], graded: Graded, counts: NDArray[np.int64]
) -> dict[str, NDArray[np.float64]]:
    """From samples to instances: ``counts`` [I] samples each; values per metric [I].

    pass@k and maj@k over an instance's samples, every other metric the mean over them.
    """
    bounds = np.concatenate([[0], np.cumsum(counts)])
    spans = [slice(a, b) for a, b in pairwise(bounds.tolist())]
    values: dict[str, NDArray[np.float64]] = {}
    for metric in metrics:
        at_k = AT_K.match(metric)
        if at_k is None:
            sums = np.add.reduceat(graded.values[metric], bounds[:-1])
            values[metric] = sums / counts
        elif at_k[1] == "pass":
            right = [int(graded.right[s].sum()) for s in spans]
            values[metric] = np.array(
                [pass_at_k(int(n), c, int(at_k[2])) for n, c in zip(counts, right, strict=True)]
            )
        else:
            values[metric] = np.array(
                [maj_at_k(graded.answers[s], graded.right[s].tolist(), int(at_k[2])) for s in spans]
            )
    return values


def _plain(
    texts: Texts,
    values: dict[str, list[float]],
    answers: list[str] | None = None,
    right: str = "exact_match",
) -> Graded:
    arrays = {name: np.array(v, np.float64) for name, v in values.items()}
    unparsed = {} if answers is None else {"unparsed": sum(a == "" for a in answers)}
    return Graded(
        arrays, arrays[right], list(texts) if answers is None else answers,
        np.zeros(len(texts), np.bool_), unparsed,
    )  # fmt: skip


def _strings(references: tuple[Reference, ...]) -> list[str]:
    return [r if isinstance(r, str) else ", ".join(r) for r in references]


def _squad(texts: Texts, references: References, _: str) -> Graded:
    golds = [_strings(r) for r in references]
    pairs = list(zip(texts, golds, strict=True))
    return _plain(
        texts,
        {
            "exact_match": [squad.exact_match(t, g) for t, g in pairs],
            "f1": [squad.f1(t, g) for t, g in pairs],
            "recall": [squad.recall(t, g) for t, g in pairs],
        },
    )


def _drop(texts: Texts, references: References, _: str) -> Graded:
    both = [drop.score(t, list(r)) for t, r in zip(texts, references, strict=True)]
    return _plain(texts, {"exact_match": [em for em, _ in both], "f1": [f1 for _, f1 in both]})


def _extracted(extract: Callable[[str], str]) -> Callable[[Texts, References, str], Graded]:
    """Exact match, ignoring case, of what ``extract`` finds in the text and in the gold."""

    def run(texts: Texts, references: References, _: str) -> Graded:
        answers = [extract(t) for t in texts]
        golds = [{extract(r).lower() for r in _strings(rs)} for rs in references]
        right = [float(a.lower() in g) for a, g in zip(answers, golds, strict=True)]
        return _plain(texts, {"exact_match": right}, answers)

    return run


def _bbh(fixed: bool) -> Callable[[Texts, References, str], Graded]:
    extract = bbh.extract_fixed if fixed else bbh.extract
    match = bbh.exact_match_fixed if fixed else bbh.exact_match

    def run(texts: Texts, references: References, subtask: str) -> Graded:
        answers = [extract(t, subtask) for t in texts]
        golds = [_strings(r)[0] for r in references]
        right = [match(a, g, subtask) for a, g in zip(answers, golds, strict=True)]
        return _plain(texts, {"exact_match": right}, answers)

    return run


def _mmlu_pro(texts: Texts, references: References, _: str) -> Graded:
    found = [extraction.mmlu_pro_letter(t) for t in texts]
    golds = [_strings(r)[0].strip().upper() for r in references]
    right = [float(f.answer.upper() == g) for f, g in zip(found, golds, strict=True)]
    return _plain(texts, {"exact_match": right}, [f.answer for f in found])


def _minerva(texts: Texts, references: References, _: str) -> Graded:
    """References hold the gold solution; pass@k counts max(exact match, flex), as in OLMES."""
    solutions = [_strings(r)[0] for r in references]
    names = ("exact_match", "exact_match_flex", "exact_match_verified")
    grades = {name: grade_solutions(solutions, texts, name) for name in names}
    values, no_verdict, counters = _verdicts(grades)
    answers = [(minerva.candidates(t) or ("",))[0] for t in texts]
    right = np.maximum(values["exact_match"], values["exact_match_flex"])
    counters["unparsed"] = sum(minerva.phrase_answer(t) is None for t in texts)
    return Graded(values, right, answers, no_verdict, counters)


def _deepmind(texts: Texts, references: References, _: str) -> Graded:
    answers = [extraction.deepmind_answer(t) for t in texts]
    golds = [_strings(r)[0] for r in references]
    grades = {"exact_match": grade_many(list(zip(golds, answers, strict=True)), "deepmind")}
    values, no_verdict, counters = _verdicts(grades)
    counters["unparsed"] = sum(a == "" for a in answers)
    return Graded(values, values["exact_match"], answers, no_verdict, counters)


def _verdicts(
    grades: dict[str, list[Grade]],
) -> tuple[dict[str, NDArray[np.float64]], NDArray[np.bool_], dict[str, int]]:
    limits = ("timeout", "memory", "crashed", "too_long")
    every = [g.status for of_one in grades.values() for g in of_one]
    failed = np.logical_or.reduce(
        [[g.status == "error" for g in of_one] for of_one in grades.values()]
    )
    values = {
        name: np.array([np.nan if g.status == "error" else float(g.equal) for g in of_one])
        for name, of_one in grades.items()
    }
    return values, failed, {f"grader_{s}": every.count(s) for s in limits if s in every}


GRADERS: dict[str, Callable[[Texts, References, str], Graded]] = {
    "squad": _squad,
    "drop": _drop,
    "gsm8k": _extracted(extraction.gsm8k_answer),
    "gsm8k_fixed": _extracted(extraction.gsm8k_answer_fixed),
    "minerva": _minerva,
    "bbh": _bbh(fixed=False),
    "bbh_fixed": _bbh(fixed=True),
    "mmlu_pro_cot": _mmlu_pro,
    "deepmind_math": _deepmind,
}


def direction(metric: str, known: dict[str, bool]) -> bool:
    """Whether higher is better; pass@k and maj@k for any k."""
    at_k: Any = AT_K.match(metric)
    return True if at_k else known[metric]
