"""Tokens that scoring computes beside the limit: each distinct token of the prefix tree once.

    python benchmarks/scoring.py [--limit 300]

The ratio planned / tree is counted over the complete tasks; the time is measured on ``--limit``
documents of each, on a tiny random checkpoint, in CPU seconds of one thread.
"""

import argparse
import tempfile
import time
from pathlib import Path

from common import machine, tiny_checkpoint

from olmeval.backends.base import LoadOptions
from olmeval.backends.checkpoints import find_checkpoints
from olmeval.backends.hf import TransformersBackend
from olmeval.backends.planner import make_plan
from olmeval.engine.infer import infer
from olmeval.engine.work import load_work
from olmeval.results.store import ResponseStore

TASKS = ("arc_easy:rc:5shot", "hellaswag:rc:5shot", "mmlu:mc:5shot", "gsm8k:bpb")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=int, default=300, help="documents a task for the timing")
    limit = parser.parse_args().limit
    with tempfile.TemporaryDirectory() as tmp:
        checkpoint = find_checkpoints(tiny_checkpoint(Path(tmp) / "tiny"))[0]
        backend = TransformersBackend.load(checkpoint, LoadOptions(device="cpu"))
        print(machine())
        print(
            f"{'task':20} {'requests':>9} {'naive':>9} {'planned':>9} {'tree':>9} {'ratio':>6}"
            f" {'tokenize s':>10} {'plan s':>7} | {'requests/s':>10} {'tokens/s':>9}"
        )
        for task in TASKS:
            work = load_work([task])
            start = time.process_time()
            rows = backend.tokenizer.pairs(work.requests, backend.info.max_length)
            tokenize = time.process_time() - start
            start = time.process_time()
            full = make_plan(rows.sequences, backend.max_row_tokens)
            planning = time.process_time() - start
            sample = load_work([task], limit=limit)
            prepared = sample.prepare(backend.tokenizer, backend.info.max_length,
                                      backend.max_row_tokens, 0)  # fmt: skip
            folder = Path(tmp) / task.replace(":", "_")
            folder.mkdir()
            start = time.process_time()
            with ResponseStore(folder) as store:
                infer(backend, sample, prepared, store)
            seconds = time.process_time() - start
            print(
                f"{task:20} {len(work.requests):9,} {full.tokens_naive:9,}"
                f" {full.tokens_planned:9,} {full.tokens_tree:9,}"
                f" {full.tokens_planned / full.tokens_tree:6.3f} {tokenize:10.2f}"
                f" {planning:7.2f} | {len(sample.requests) / seconds:10.0f}"
                f" {prepared.plan.tokens_planned / seconds:9.0f}"
            )


if __name__ == "__main__":
    main()
