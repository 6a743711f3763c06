"""Shares of a plan, scored each by itself, give the very numbers of the whole."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from olmeval.backends.base import LoadOptions
from olmeval.backends.checkpoints import find_checkpoints
from olmeval.backends.hf import TransformersBackend
from olmeval.backends.planner import Plan, make_plan
from olmeval.backends.tokenization import joined
from olmeval.requests import Request


def scores(backend: TransformersBackend, plan: Plan) -> tuple[np.ndarray, np.ndarray]:
    logprobs = np.full(int(plan.slots[-1]), np.nan, np.float32)
    greedy = np.zeros(len(logprobs), bool)
    for part in backend.score(plan, plan.steps):
        span = slice(int(plan.slots[part.lo]), int(plan.slots[part.hi]))
        logprobs[span], greedy[span] = part.logprobs, part.greedy
    return logprobs, greedy


@pytest.mark.parametrize("rows", [24, 128])
def test_parts_are_bitwise_the_whole(checkpoint: Path, rows: int) -> None:
    backend = TransformersBackend.load(find_checkpoints(checkpoint)[0], LoadOptions(device="cpu"))
    shots = "Question: what is a name?\nAnswer: an identifier\n\n" * 4
    requests = [
        Request("loglikelihood", f"{shots}Question: {q} or {w}?\nAnswer:", f" {choice}")
        for q in range(12)
        for w in ("yes", "no")
        for choice in ("a", "maybe", "a list of words", "b")
    ]
    # Documents that begin alike are scored from their first token on: in the segment itself.
    text = "Names refer to objects. Names are introduced by name binding operations. " * 3
    windows, _ = backend.tokenizer.windows([f"{text}{k} is a number" for k in range(40)], 512)
    # These ask for less of that segment; one part alone has none but them.
    text = f"<|endoftext|>{text}"
    requests += [Request("loglikelihood", text[:-2], f"{text[-2:]}z{k}, say") for k in range(200)]
    tokenized = joined(backend.tokenizer.pairs(requests, 512), windows)
    plan = make_plan(tokenized.sequences, rows)
    scoring = [s for s in plan.steps if s.extend_to is not None and s.score_from < s.extend_to]
    assert any(step.hi - step.lo > 20 for step in scoring)
    cut = {n: [plan.part(lo, hi) for lo, hi in pairwise(plan.bounds(n))] for n in (2, 3, 7)}
    assert any(len(np.unique(b.row)) < len(b.nodes) for p in cut[7] for b in map(p.batch, p.steps))
    whole, greedy = scores(backend, plan)
    assert np.isfinite(whole).all()
    for parts in cut.values():
        got = [scores(backend, part) for part in parts]
        assert np.concatenate([g[0] for g in got]).tobytes() == whole.tobytes()
        assert np.array_equal(np.concatenate([g[1] for g in got]), greedy)
