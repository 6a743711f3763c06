"""The infer phase: the only one that needs a model.

Answers are stored under their request's key as they come. A run that was killed goes on with the
steps of its plan whose answers are missing; the plan is the same, so the numbers are the same.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite

import numpy as np
from numpy.typing import NDArray

from olmeval.backends.base import Backend, ModelInfo, ScoredRange
from olmeval.backends.planner import Plan
from olmeval.engine.work import Prepared
from olmeval.results.store import Response, ResponseStore


@dataclass(frozen=True)
class Scores:
    """Answers to the N distinct requests of a run.

    ``logprob`` [N] (nan where ``failed``), ``tokens`` [N] scored, ``greedy`` [N], ``failed`` [N]:
    the request could not be scored (its continuation exceeds the window, or the model gave a
    number that is not finite).
    """

    logprob: NDArray[np.float64]
    tokens: NDArray[np.int64]
    greedy: NDArray[np.bool_]
    failed: NDArray[np.bool_]


NO_RESPONSE = Response(b"", float("nan"), 0)


def request_keys(plan: Plan, info: ModelInfo) -> list[bytes]:
    """16-byte keys of a plan's distinct sequences.

    A key hashes the model's fingerprint, the engine settings that can change a number, the exact
    token ids and where the continuation begins.
    """
    relevant = {k: info.settings.get(k) for k in ("backend", "dtype")}
    head = hashlib.blake2b(
        json.dumps([info.fingerprint, relevant, "loglikelihood"], sort_keys=True).encode(),
        digest_size=16,
    )
    s = plan.sequences
    data = s.ids.astype("<u4").tobytes()
    bounds, context = (s.offsets * 4).tolist(), s.context_len.tolist()
    keys = []
    for k, length in enumerate(context):
        digest = head.copy()
        digest.update(length.to_bytes(4, "little"))
        digest.update(data[bounds[k] : bounds[k + 1]])
        keys.append(digest.digest())
    return keys


def ignore(_: int) -> None:
    """Takes progress and does nothing with it."""


def infer(
    backend: Backend,
    prepared: Prepared,
    store: ResponseStore,
    advance: Callable[[int], None] = ignore,
) -> Scores:
    """Scores every request that the store does not hold, and returns all answers.

    ``advance(n)`` is told of every n answered requests, first of those already stored.
    """
    plan = prepared.plan
    keys = request_keys(plan, backend.info)
    found = store.load()
    done = np.array([key in found for key in keys], np.bool_)
    advance(int(done.sum()))
    for part in backend.score(plan, plan.pending(done)):
        fresh = [_response(keys[k], part, k, plan) for k in range(part.lo, part.hi) if not done[k]]
        # A number that is not finite is a fault, not an answer: it is not kept, so that the same
        # command tries it again.
        answers = [r for r in fresh if isfinite(r.logprob)]
        store.put(answers)
        found.update((r.key, r) for r in answers)
        advance(len(fresh))
    return _collect(prepared, [found.get(key) for key in keys])


def _response(key: bytes, part: ScoredRange, k: int, plan: Plan) -> Response:
    """The answer to the plan's distinct sequence ``k``, which lies in ``part``."""
    first = plan.slots[part.lo]
    span = slice(int(plan.slots[k] - first), int(plan.slots[k + 1] - first))
    scores = part.logprobs[span]
    total = float(scores.sum(dtype=np.float64))
    return Response(key, total, len(scores), bool(part.greedy[span].all()), scores.copy())


def _collect(prepared: Prepared, responses: list[Response | None]) -> Scores:
    """From distinct sequences back to the run's requests; what has no answer has failed."""
    n = len(prepared.tokenized.too_long)
    scores = Scores(
        logprob=np.full(n, np.nan),
        tokens=np.zeros(n, np.int64),
        greedy=np.zeros(n, np.bool_),
        failed=np.ones(n, np.bool_),
    )
    of = prepared.plan.unique_of
    answered = np.array([r is not None for r in responses], np.bool_)
    kept = [r or NO_RESPONSE for r in responses]
    scores.logprob[prepared.scored] = np.array([r.logprob for r in kept])[of]
    scores.tokens[prepared.scored] = np.array([r.tokens for r in kept], np.int64)[of]
    scores.greedy[prepared.scored] = np.array([r.greedy for r in kept], np.bool_)[of]
    scores.failed[prepared.scored] = ~answered[of]
    return scores
