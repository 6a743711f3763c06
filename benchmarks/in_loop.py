"""What evaluation inside training costs: its share of the time of a training step.

Basic Skills in bits per byte, at the size of the demo (0.74M parameters, 8 x 512 tokens a step),
with the recipe's defaults for how often and how many documents. CPU seconds of one thread, medians,
so the figure does not depend on how busy the machine is.

    OMP_NUM_THREADS=1 python benchmarks/in_loop.py [--corpus FOLDER]
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from common import machine

from olmeval.engine.inloop import InLoop
from olmeval.reports.demo import RECIPE
from olmeval.trainer.corpus import build_demo_corpus
from olmeval.trainer.loop import Live, train
from olmeval.trainer.recipe import EvaluationSpec, load_recipe

TASKS = ("basic_skills:bpb",)
STEPS, EVALUATIONS = 40, 4
GOAL = 0.05


def measure(corpus: Path, output: Path) -> tuple[float, float]:
    """CPU seconds of a step, and of an evaluation."""
    spec = EvaluationSpec(tasks=TASKS, every=STEPS // EVALUATIONS)
    steps: list[float] = []
    evaluations: list[float] = []

    def watch(live: Live) -> Callable[[int], None]:
        evaluate = InLoop(spec, Live(live.model, live.plan, live.output, live.step, print))
        last = time.process_time()

        def look(step: int) -> None:
            nonlocal last
            began = time.process_time()
            steps.append(began - last)
            evaluate(step)
            last = time.process_time()
            if step % spec.every == 0:
                evaluations.append(last - began)

        return look

    recipe = load_recipe(
        "cpu-0.7m",
        {**RECIPE, "data.root": str(corpus), "train.tokens": STEPS * 512 * 8,
         "checkpoint.every": STEPS, "train.device": "cpu"},
    )  # fmt: skip
    train(recipe, output, watch=watch, progress=False)
    return statistics.median(steps[1:]), statistics.median(evaluations)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, help="the demo corpus; default: made here")
    corpus = parser.parse_args().corpus
    print(machine())
    with tempfile.TemporaryDirectory() as tmp:
        corpus = corpus or build_demo_corpus(Path(tmp) / "corpus", progress=False)
        step, evaluation = measure(corpus, Path(tmp) / "run")
    every = EvaluationSpec(tasks=TASKS).every
    share = evaluation / (every * step)
    print(f"a step {step:.3f} s, an evaluation {evaluation:.3f} s ({evaluation / step:.1f} steps)")
    print(f"every {every} steps: {share:.2%} of training")
    print(f"5 % are reached at every {evaluation / step / GOAL:.0f} steps")
    print(json.dumps({"step": step, "evaluation": evaluation, "every": every, "share": share}))
    print(f"goal of {GOAL:.0%}: {'held' if share < GOAL else 'MISSED'}")
    return 0 if share < GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
