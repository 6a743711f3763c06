"""From stored answers back to the requests of a run."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from olmeval.engine.prepare import Prepared
from olmeval.results.answers import Answers, Sample


@dataclass(frozen=True)
class Scores:
    """Answers to the N distinct requests of a run.

    ``logprob`` [N] (nan where unknown), ``tokens`` [N] scored, ``greedy`` [N], ``failed`` [N]:
    the request could not be answered (its continuation exceeds the window, the model gave a
    number that is not finite, or its server gave none). ``samples`` [N]: texts of generations.
    """

    logprob: NDArray[np.float64]
    tokens: NDArray[np.int64]
    greedy: NDArray[np.bool_]
    failed: NDArray[np.bool_]
    samples: list[tuple[Sample, ...]]


def collect(n: int, prepared: Prepared, answers: Answers) -> Scores:
    """The answers to a run's ``n`` requests; what has none has failed."""
    # Row -1 of what is absent is the value put at the end.
    at = answers.find(prepared.keys)
    of = prepared.plan.unique_of
    rows = len(prepared.request_of_row)
    logprob = np.full(rows, np.nan)
    tokens = np.zeros(rows, np.int64)
    greedy = np.zeros(rows, np.bool_)
    logprob[prepared.fits] = np.append(answers.logprob, np.nan)[at][of]
    tokens[prepared.fits] = np.append(answers.tokens, 0)[at][of]
    greedy[prepared.fits] = np.append(answers.greedy, False)[at][of]

    owner = prepared.request_of_row
    scores = Scores(
        # A document's windows add up; a window without an answer makes the whole nan.
        logprob=np.bincount(owner, logprob, n).astype(np.float64),
        tokens=np.bincount(owner, tokens, n).astype(np.int64),
        greedy=np.bincount(owner, ~greedy, n) == 0,
        failed=np.zeros(n, np.bool_),
        samples=[()] * n,
    )
    found = answers.find(prepared.prompt_keys).tolist()
    for request, row in zip(prepared.request_of_prompt.tolist(), found, strict=True):
        if row < 0:
            scores.logprob[request] = np.nan
            continue
        scores.logprob[request] = answers.logprob[row]
        scores.tokens[request] = answers.tokens[row]
        scores.samples[request] = answers.response(row).samples
    scores.failed[:] = ~np.isfinite(scores.logprob) | (scores.tokens == 0)
    # A text is an answer even where its server tells no log-probability.
    generated = prepared.request_of_prompt
    scores.failed[generated] = scores.tokens[generated] == 0
    return scores
