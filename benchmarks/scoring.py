"""Tokens that scoring computes beside the limit: each distinct token of the prefix tree once.

    python benchmarks/scoring.py [--limit 200] [--backend transformers|native]

Where lm-evaluation-harness is installed, CPU seconds beside it follow (``vs_lm_eval.py``). vLLM has
its own environment and so its own script, ``vllm_scoring.py``.

Every line is one plan over all its tasks. On the left the complete splits, planned; on the right
``--limit`` documents of each task, scored on a tiny random checkpoint: the tokens that the model
was really fed over the distinct tokens of the tree, and CPU seconds of one thread.
"""

import argparse
import importlib.util
import tempfile
import time
from pathlib import Path

import vs_lm_eval
from common import machine, tiny_checkpoint

from olmeval.backends.base import LoadOptions
from olmeval.backends.checkpoints import find_checkpoints
from olmeval.backends.planner import make_plan
from olmeval.engine.infer import about, answer, model_key
from olmeval.engine.load import load_backend
from olmeval.engine.work import load_work
from olmeval.results.segments import ResponseStore
from olmeval.tasks.suites import suite_tasks

CORE_9 = suite_tasks("core_9mcqa::olmes:full")
PLANS = {
    "core nine RC": [task for task in CORE_9 if ":rc:" in task],
    "core nine MC": [task for task in CORE_9 if ":mc:" in task],
    "core nine, both": CORE_9,
    "gsm8k:bpb": ["gsm8k:bpb"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=int, default=200, help="documents a task that are scored")
    parser.add_argument("--backend", default="transformers", choices=["transformers", "native"])
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as tmp:
        checkpoint = find_checkpoints(tiny_checkpoint(Path(tmp) / "tiny"))[0]
        backend = load_backend(args.backend, checkpoint, LoadOptions(device="cpu"))
        fed = count_tokens(backend)
        print(machine())
        print(f"{args.backend}; complete splits | {args.limit} documents a task")
        print(
            f"{'plan':16} {'requests':>9} {'naive':>11} {'tree':>10} {'planned/tree':>12} "
            f"{'tokenize s':>10} {'plan s':>7} | {'fed/tree':>8} {'requests/s':>10} {'tokens/s':>9}"
        )
        for name, tasks in PLANS.items():
            work = load_work(tasks)
            start = time.process_time()
            rows = backend.tokenizer.pairs(work.requests, backend.info.max_length)
            tokenize = time.process_time() - start
            start = time.process_time()
            plan = make_plan(rows.sequences, backend.max_row_tokens)
            planning = time.process_time() - start
            sample = load_work(tasks, limit=args.limit)
            prepared = sample.prepare(
                backend.tokenizer, backend.info.max_length, backend.max_row_tokens
            )
            (part,) = prepared.parts(1, backend.samples_at_once)
            fed[0] = 0
            start = time.process_time()
            store = ResponseStore(Path(tmp) / name)
            with store.model(model_key(backend.info), about(backend.info)) as answers:
                answer(backend, part, answers)
            seconds = time.process_time() - start
            print(
                f"{name:16} {len(work.requests):9,} {plan.tokens_naive:11,} {plan.tokens_tree:10,}"
                f" {plan.tokens_planned / plan.tokens_tree:12.3f} {tokenize:10.1f} {planning:7.1f}"
                f" | {fed[0] / prepared.plan.tokens_tree:8.3f}"
                f" {len(sample.requests) / seconds:10.0f} {fed[0] / seconds:9.0f}"
            )
    if importlib.util.find_spec("lm_eval"):
        vs_lm_eval.compare(args.limit)
    else:
        print("beside lm-evaluation-harness: not installed, see vs_lm_eval.py")


def count_tokens(backend) -> list[int]:
    """Counts the tokens that go into ``backend``'s model, in the list's one element."""
    fed, extend = [0], backend.model.extend

    def counted(path, tokens, depth, seen, keep):
        fed[0] += len(tokens)
        return extend(path, tokens, depth, seen, keep)

    backend.model.extend = counted
    return fed


if __name__ == "__main__":
    main()
