"""Small vLLM engines for tests: what a checkpoint must have, and settings that start quickly."""

import os
from pathlib import Path

import numpy as np

from olmeval.backends.base import LoadOptions
from olmeval.backends.checkpoints import find_checkpoints
from olmeval.backends.planner import make_plan
from olmeval.backends.vllm import VllmBackend
from olmeval.requests import Request
from tests.conftest import make_checkpoint

SMALL = {"enforce_eager": True, "max_num_seqs": 64}


def vllm_checkpoint(folder: Path, tokenizer_dir: Path, **config: object) -> Path:
    """A tiny checkpoint with heads of 32, the smallest that vLLM's CPU attention takes."""
    return make_checkpoint(folder, tokenizer_dir, **{"hidden_size": 64, **config})


def load_vllm(folder: Path, extra: dict[str, object] | None = None, **options) -> VllmBackend:
    """Loads ``folder`` into a small engine; the caller closes it."""
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    return VllmBackend.load(
        find_checkpoints(folder)[0], LoadOptions(extra={**SMALL, **(extra or {})}, **options)
    )


def scores(backend: VllmBackend, requests: list[Request]) -> tuple[np.ndarray, np.ndarray]:
    """Log-probability and greediness of each request, through the plan."""
    rows = backend.tokenizer.pairs(requests, backend.info.max_length)
    plan = make_plan(rows.sequences, 256)
    logprob = np.full(len(plan.sequences), np.nan)
    greedy = np.zeros(len(plan.sequences), bool)
    for part in backend.score(plan, plan.steps):
        bounds = plan.slots[part.lo : part.hi] - plan.slots[part.lo]
        logprob[part.lo : part.hi] = np.add.reduceat(part.logprobs.astype(float), bounds)
        greedy[part.lo : part.hi] = np.logical_and.reduceat(part.greedy, bounds)
    return logprob[plan.unique_of], greedy[plan.unique_of]
