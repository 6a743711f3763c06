"""The infer phase: the only one that needs a model.

Answers are stored under their request's key as they come. A run that was killed goes on with the
steps of its plan whose answers are missing; the plan is the same, so the numbers are the same.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from math import isfinite

import numpy as np
from numpy.typing import NDArray

from olmeval.backends.base import Backend, Generated, ModelInfo, Prompt, ScoredRange
from olmeval.backends.planner import Plan
from olmeval.engine.work import Prepared, Work
from olmeval.requests import Sampling
from olmeval.results.store import Response, ResponseStore, Sample


@dataclass(frozen=True)
class Scores:
    """Answers to the N distinct requests of a run.

    ``logprob`` [N] (nan where ``failed``), ``tokens`` [N] scored, ``greedy`` [N], ``failed`` [N]:
    the request could not be answered (its continuation exceeds the window, or the model gave a
    number that is not finite). ``samples`` [N] hold the texts of generations.
    """

    logprob: NDArray[np.float64]
    tokens: NDArray[np.int64]
    greedy: NDArray[np.bool_]
    failed: NDArray[np.bool_]
    samples: list[tuple[Sample, ...]]


@dataclass(frozen=True)
class Keys:
    """16-byte keys: of the plan's distinct sequences, and of the prompts."""

    sequences: list[bytes]
    prompts: list[bytes]


def make_keys(work: Work, prepared: Prepared, info: ModelInfo) -> Keys:
    """Keys of everything a run asks.

    A key hashes the model's fingerprint, the engine settings that can change a number, the exact
    token ids, and where the continuation begins or how it is sampled.
    """
    return Keys(
        _sequence_keys(prepared.plan, info),
        [
            _prompt_key(ids, work.requests[request].sampling, info)
            for ids, request in zip(
                prepared.prompts, prepared.request_of_prompt.tolist(), strict=True
            )
        ],
    )


def _head(info: ModelInfo, kind: str) -> "hashlib.blake2b":
    relevant = {k: info.settings.get(k) for k in ("backend", "dtype")}
    text = json.dumps([info.fingerprint, relevant, kind], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16)


def _sequence_keys(plan: Plan, info: ModelInfo) -> list[bytes]:
    head = _head(info, "loglikelihood")
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


def _prompt_key(ids: list[int], sampling: Sampling | None, info: ModelInfo) -> bytes:
    digest = _head(info, "generate")
    digest.update(json.dumps([ids, None if sampling is None else asdict(sampling)]).encode())
    return digest.digest()


def ignore(_: int) -> None:
    """Takes progress and does nothing with it."""


def infer(
    backend: Backend,
    work: Work,
    prepared: Prepared,
    store: ResponseStore,
    advance: Callable[[int], None] = ignore,
) -> tuple[Scores, Keys]:
    """Asks everything that the store does not hold; returns all answers, and their keys.

    ``advance(n)`` is told of every n answered requests, first of those already stored.
    """
    keys = make_keys(work, prepared, backend.info)
    found = store.load()

    def keep(fresh: list[Response]) -> None:
        # A number that is not finite is a fault, not an answer: it is not kept, so that the same
        # command tries it again.
        answers = [r for r in fresh if isfinite(r.logprob)]
        store.put(answers)
        found.update((r.key, r) for r in answers)
        advance(len(fresh))

    plan = prepared.plan
    done = np.array([key in found for key in keys.sequences], np.bool_)
    advance(int(done.sum()))
    for part in backend.score(plan, plan.pending(done)):
        keep(
            [
                _response(keys.sequences[k], part, k, plan)
                for k in range(part.lo, part.hi)
                if not done[k]
            ]
        )
    asked = {
        key: Prompt(tuple(ids), _sampling(work, request), _seed(key))
        for key, ids, request in zip(
            keys.prompts, prepared.prompts, prepared.request_of_prompt.tolist(), strict=True
        )
    }
    advance(sum(key in found for key in asked))
    for group in _groups(asked, backend.samples_at_once):
        if all(key in found for key in group):
            continue
        # The whole group again, so that a resumed run decodes in the same company.
        answers = dict(backend.generate([asked[key] for key in group]))
        keep([_generated(k, answers[i]) for i, k in enumerate(group) if k not in found])
    return _collect(work, prepared, keys, found), keys


def questions(prepared: Prepared) -> int:
    """How many questions a run asks, at most, for its progress bar."""
    return len(prepared.plan.sequences) + len(prepared.prompts)


def _sampling(work: Work, request: int) -> Sampling:
    sampling = work.requests[request].sampling
    assert sampling is not None
    return sampling


def _seed(key: bytes) -> int:
    return int.from_bytes(key[:8], "little")


def _groups(prompts: dict[bytes, Prompt], samples: int) -> Iterator[list[bytes]]:
    """Prompts of like length together, about ``samples`` samples a group; always the same ones."""
    group: list[bytes] = []
    count = 0
    for key in sorted(prompts, key=lambda k: (len(prompts[k].ids), k)):
        group.append(key)
        count += prompts[key].sampling.n
        if count >= samples:
            yield group
            group, count = [], 0
    if group:
        yield group


def _generated(key: bytes, samples: tuple[Generated, ...]) -> Response:
    return Response(
        key,
        sum(s.logprob for s in samples),
        sum(s.n_tokens for s in samples),
        samples=tuple(Sample(s.text, s.n_tokens, s.logprob, s.finish) for s in samples),
    )


def _response(key: bytes, part: ScoredRange, k: int, plan: Plan) -> Response:
    """The answer to the plan's distinct sequence ``k``, which lies in ``part``."""
    first = plan.slots[part.lo]
    span = slice(int(plan.slots[k] - first), int(plan.slots[k + 1] - first))
    scores = part.logprobs[span]
    total = float(scores.sum(dtype=np.float64))
    return Response(key, total, len(scores), bool(part.greedy[span].all()), scores.copy())


def _collect(work: Work, prepared: Prepared, keys: Keys, found: dict[bytes, Response]) -> Scores:
    """From distinct questions back to the run's requests; what has no answer has failed."""
    n, rows = len(work.requests), len(prepared.request_of_row)
    logprob = np.full(rows, np.nan)
    tokens = np.zeros(rows, np.int64)
    greedy = np.zeros(rows, np.bool_)
    of = prepared.plan.unique_of
    answers = [found.get(key) for key in keys.sequences]
    logprob[prepared.fits] = np.array([np.nan if r is None else r.logprob for r in answers])[of]
    tokens[prepared.fits] = np.array([0 if r is None else r.tokens for r in answers], np.int64)[of]
    greedy[prepared.fits] = np.array([r is not None and r.greedy for r in answers], np.bool_)[of]

    owner = prepared.request_of_row
    scores = Scores(
        # A document's windows add up; a window without an answer makes the whole nan.
        logprob=np.bincount(owner, logprob, n).astype(np.float64),
        tokens=np.bincount(owner, tokens, n).astype(np.int64),
        greedy=np.bincount(owner, ~greedy, n) == 0,
        failed=np.zeros(n, np.bool_),
        samples=[()] * n,
    )
    for key, request in zip(keys.prompts, prepared.request_of_prompt.tolist(), strict=True):
        response = found.get(key)
        scores.logprob[request] = np.nan if response is None else response.logprob
        if response is not None:
            scores.samples[request] = response.samples
            scores.tokens[request] = response.tokens
    scores.failed[:] = ~np.isfinite(scores.logprob) | (scores.tokens == 0)
    return scores
