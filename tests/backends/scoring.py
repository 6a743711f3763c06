"""What the tests of backends share: requests of every awkward shape, and scores by request."""

import numpy as np

from olmeval.backends.base import Backend, Prompt
from olmeval.backends.planner import make_plan
from olmeval.requests import Request, Sampling


def scores(
    backend: Backend, requests: list[Request], rows: int = 256, sequences: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Log-probability and greediness of each request, through plan and cache."""
    tokenized = backend.tokenizer.pairs(requests, backend.info.max_length)
    plan = make_plan(tokenized.sequences, rows, sequences)
    logprob = np.full(len(plan.sequences), np.nan)
    greedy = np.zeros(len(plan.sequences), bool)
    for part in backend.score(plan, plan.steps):
        bounds = plan.slots[part.lo : part.hi + 1] - plan.slots[part.lo]
        logprob[part.lo : part.hi] = np.add.reduceat(part.logprobs.astype(float), bounds[:-1])
        greedy[part.lo : part.hi] = np.logical_and.reduceat(part.greedy, bounds[:-1])
    return logprob[plan.unique_of], greedy[plan.unique_of]


def ll(context: str, continuation: str) -> Request:
    return Request("loglikelihood", context, continuation)


def hard_requests() -> list[Request]:
    """Shared prefixes beside every awkward shape that real requests have."""
    shots = "Question: what is a name?\nAnswer: an identifier\n\n" * 3
    words = ["yes", "no", "maybe", "a list of words", "don't"]
    requests = [
        ll(f"{shots}Question: {q} or {w}?\nAnswer:", f" {choice}")
        for q in range(8)
        for w in words[:2]
        for choice in words
    ]
    requests += [
        ll("", " an empty context"),
        ll("ends in spaces  ", "word"),
        ll("ends in newline\n", "word"),
        ll("double", "  spaces"),
        ll("Question: a\nAnswer:", " A"),
        ll("Question: a\nAnswer:", " A"),
        ll("ünïcödé 日本語 🙂", " 🙂 ça"),
        ll("long continuation", " " + "the quick brown fox " * 80),
        ll("the whole " * 900, " end"),
    ]
    return requests


def prompts(backend: Backend, sampling: Sampling, count: int = 9) -> list[Prompt]:
    texts = [f"def name_{k}(self):\n" + "    # the value\n" * (k % 4) for k in range(count)]
    ids = backend.tokenizer.encode(texts)
    return [Prompt(tuple(i), sampling, seed=1000 + k) for k, i in enumerate(ids)]
