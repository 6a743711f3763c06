"""What the tests of the server backend share: a backend of a server, and what it is asked."""

from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from olmeval.backends.base import LoadOptions, Prompt
from olmeval.backends.checkpoints import find_checkpoints
from olmeval.backends.planner import Plan, make_plan
from olmeval.backends.server import ServerBackend
from olmeval.requests import Request, Sampling
from tests.backends.completions_server import Serving, serve

WINDOW = 2046  # of 2048, less the last target and the token that a server generates


@contextmanager
def backend_of(serving: Serving, options: LoadOptions | None = None, **extra: object):
    """The backend of a server that runs while the block does."""
    with serve(serving) as (url, server):
        options = replace(options or LoadOptions(), extra=extra)
        backend = ServerBackend.load(find_checkpoints(url)[0], options)
        backend.httpd = server
        try:
            yield backend
        finally:
            backend.close()


def ll(context: str, continuation: str) -> Request:
    return Request("loglikelihood", context, continuation)


def requests() -> list[Request]:
    """Shared prefixes, letters, and every awkward shape that real requests have."""
    shots = "Question: what is a name?\nAnswer: an identifier\n\n" * 3
    words = ["yes", "no", "a list of words", "don't"]
    found = [ll(f"{shots}Question: {q}?\nAnswer:", f" {w}") for q in range(5) for w in words]
    found += [ll(f"{shots}Question: {q}?\nAnswer:", f"{x}") for q in range(5) for x in "ABCD"]
    return [
        *found,
        ll("", " an empty context"),
        ll("ends in spaces  ", "word"),
        ll("double", "  spaces"),
        ll("ünïcödé 日本語 🙂", " 🙂 ça"),
        ll("long continuation", " " + "the quick brown fox " * 20),
        ll("the whole " * 900, " end"),
    ]


def plan_of(backend: ServerBackend, items: list[Request], rows: int = 256) -> Plan:
    return make_plan(backend.tokenizer.pairs(items, backend.info.max_length).sequences, rows)


def scores(backend: ServerBackend, plan: Plan, steps=None) -> tuple[np.ndarray, np.ndarray]:
    """Log-probability and greediness of each distinct sequence; nan where nothing was yielded."""
    logprob = np.full(len(plan.sequences), np.nan)
    greedy = np.zeros(len(plan.sequences), bool)
    for part in backend.score(plan, plan.steps if steps is None else steps):
        bounds = plan.slots[part.lo : part.hi + 1] - plan.slots[part.lo]
        logprob[part.lo : part.hi] = np.add.reduceat(part.logprobs.astype(float), bounds[:-1])
        greedy[part.lo : part.hi] = np.logical_and.reduceat(part.greedy, bounds[:-1])
    return logprob, greedy


def prompts(backend: ServerBackend, sampling: Sampling, count: int = 6) -> list[Prompt]:
    texts = [f"def name_{k}(self):\n" + "    # the value\n" * (k % 4) for k in range(count)]
    ids = backend.tokenizer.encode(texts)
    return [Prompt(tuple(i), sampling, seed=2**63 + k) for k, i in enumerate(ids)]
