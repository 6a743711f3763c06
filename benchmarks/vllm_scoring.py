"""Scoring with vLLM: tokens forwarded beside the limits, CPU seconds beside lm-evaluation-harness.

    bash scripts/test-vllm.sh --install-only; .venv-vllm/bin/pip install lm-eval==0.4.13
    .venv-vllm/bin/python benchmarks/vllm_scoring.py [--limit 100] [--no-peer]

OLMES' core-9 tasks, rank choice and multiple choice, ``--limit`` documents of each, on a tiny
random checkpoint. Both sides run the same vLLM with the same settings on one thread; the time is
what the whole tree of processes used between the call and its answers, tokenization included and
engine start excluded; the proof of our ways of scoring counts, in tokens and time. ``block trie``
is the limit for a cache of whole blocks: every distinct full block of the prefix tree once, and
the rest of each request.
"""

import argparse
import contextlib
import importlib.metadata
import logging
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from common import machine, tiny_checkpoint

from olmeval.backends.base import LoadOptions
from olmeval.backends.checkpoints import find_checkpoints
from olmeval.backends.planner import Plan, make_plan
from olmeval.backends.vllm import VllmBackend
from olmeval.engine.work import load_work
from olmeval.requests import Request

CORE_9 = (
    "arc_challenge", "arc_easy", "boolq", "csqa", "hellaswag", "openbookqa", "piqa", "socialiqa",
    "winogrande",
)  # fmt: skip
# Both sides: no compilation, whose time would drown a short benchmark.
ENGINE = {"enforce_eager": True, "max_num_seqs": 256}
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")


def cpu_seconds() -> float:
    """User and system time of this process and everything it started."""
    import psutil

    me = psutil.Process()
    total = 0.0
    for process in [me, *me.children(recursive=True)]:
        t = process.cpu_times()
        total += t.user + t.system + t.children_user + t.children_system
    return total


def measured(call: Callable[[], Any]) -> tuple[Any, float]:
    before = cpu_seconds()
    result = call()
    return result, cpu_seconds() - before


def block_trie(plan: Plan, block: int) -> int:
    """Tokens that a cache of whole blocks must compute; the last fed token is always computed."""
    fed = plan.sequences.lengths - 1
    new = fed - np.minimum(plan.shared, fed - 1) // block * block
    same = np.zeros(len(fed), np.bool_)
    same[1:] = (plan.shared[1:] == fed[1:]) & (fed[1:] == fed[:-1])
    return int(new[~same].sum())


def ours(backend: VllmBackend, requests: list[Request]) -> tuple[np.ndarray, np.ndarray, Plan]:
    """Log-probability and greediness of each request, and the plan."""
    rows = backend.tokenizer.pairs(requests, backend.info.max_length)
    plan = make_plan(rows.sequences, backend.max_row_tokens)
    logprob = np.full(len(plan.sequences), np.nan)
    greedy = np.zeros(len(plan.sequences), np.bool_)
    for part in backend.score(plan, plan.steps):
        bounds = plan.slots[part.lo : part.hi] - plan.slots[part.lo]
        logprob[part.lo : part.hi] = np.add.reduceat(part.logprobs.astype(np.float64), bounds)
        greedy[part.lo : part.hi] = np.logical_and.reduceat(part.greedy, bounds)
    return logprob[plan.unique_of], greedy[plan.unique_of], plan


def theirs(model: Any, requests: list[Request]) -> tuple[np.ndarray, np.ndarray]:
    """Log-probability and greediness of each request."""
    from lm_eval.api.instance import Instance

    asked = [
        Instance("loglikelihood", {}, (r.context, r.continuation), k)
        for k, r in enumerate(requests)
    ]
    logprob, greedy = zip(*model.loglikelihood(asked, disable_tqdm=True), strict=True)
    return np.array(logprob), np.array(greedy, np.bool_)


def peer_class() -> Any:
    """lm-evaluation-harness' vLLM backend; it asks for the version of a package called vllm."""
    real = importlib.metadata.version
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        found = real("vllm-cpu")
        importlib.metadata.version = lambda name: found if name == "vllm" else real(name)
    from lm_eval.models.vllm_causallms import VLLM

    return VLLM


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=int, default=100, help="documents a task")
    parser.add_argument("--scoring", default="auto", help="the way to score")
    parser.add_argument("--no-peer", action="store_true", help="leave lm-evaluation-harness out")
    args = parser.parse_args()
    logging.disable(logging.WARNING)

    formats = {
        name: load_work([f"{t}:{name}:5shot" for t in CORE_9], args.limit).requests
        for name in ("rc", "mc")
    }
    mine = {}
    with tempfile.TemporaryDirectory() as tmp:
        folder = tiny_checkpoint(Path(tmp) / "tiny")
        print(machine(), flush=True)
        backend = VllmBackend.load(
            find_checkpoints(folder)[0], LoadOptions(extra={**ENGINE, "scoring": args.scoring})
        )
        ours(backend, formats["rc"][:20])
        # What is measured proves all ways of scoring again: that is part of a run.
        backend.scorer.ways.clear()
        for name, requests in formats.items():
            backend.engine.llm.reset_prefix_cache()
            backend.engine.counts.clear()
            (scores, greedy, plan), seconds = measured(lambda r=requests: ours(backend, r))
            mine[name] = scores, greedy, seconds
            forwarded = backend.engine.counts["forwarded"]
            limit = block_trie(plan, backend.engine.block_size)
            print(
                f"{name}: {len(requests):,} requests, {len(plan.sequences):,} distinct; tokens "
                f"naive {plan.tokens_naive:,}, forwarded {forwarded:,}, block trie "
                f"({backend.engine.block_size}) {limit:,}, trie {plan.tokens_tree:,}; "
                f"forwarded / block trie {forwarded / limit:.3f}, "
                f"/ trie {forwarded / plan.tokens_tree:.3f}; "
                f"{backend.scorer.resent} asked again; {backend.info.settings['scoring']}"
            )
            print(
                f"{name}: olmeval {seconds:.1f} CPU s, {len(requests) / seconds:,.0f} requests/s",
                flush=True,
            )
        backend.close()
        if args.no_peer:
            return
        model = peer_class()(str(folder), dtype="float32", max_model_len=2048, **ENGINE)
        theirs(model, formats["rc"][:20])
        for name, requests in formats.items():
            (scores, greedy), seconds = measured(lambda r=requests: theirs(model, r))
            away = np.abs(scores - mine[name][0]).max()
            changed = int((greedy != mine[name][1]).sum())
            print(
                f"{name}: lm-eval {seconds:.1f} CPU s, {len(requests) / seconds:,.0f} requests/s; "
                f"ratio {seconds / mine[name][2]:.1f}; largest |difference| {away:.1e}, "
                f"greedy differs on {changed}",
                flush=True,
            )
        # Left alone, it waits for its engine forever.
        model.model.llm_engine.engine_core.shutdown()


if __name__ == "__main__":
    main()
