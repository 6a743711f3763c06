"""Reading what a completions server answers.

A number is taken only from an answer that shows whose it is: as many tokens as were sent, the
token that was asked about, a finite log-probability. Anything else is a
:class:`~olmeval.backends.server_http.RequestFailed`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from olmeval.backends.base import Generated
from olmeval.backends.server_http import RequestFailed

# vLLM writes this for minus infinity, which JSON lacks.
NO_PROBABILITY = -9999.0


@dataclass(frozen=True)
class Scored:
    """S scored tokens: log-probability, whether it was the best token, and the best one's own."""

    logprobs: NDArray[np.float32]
    greedy: NDArray[np.bool_]
    best: NDArray[np.float32]


def prompt_tokens(answer: dict[str, Any]) -> int:
    """How many tokens the server counted in the prompt (``usage.prompt_tokens``)."""
    count = _at(answer, "usage", "prompt_tokens")
    if not isinstance(count, int):
        raise RequestFailed("an answer without usage.prompt_tokens")
    return count


def check_count(answer: dict[str, Any], ids: Sequence[int]) -> None:
    """Raises :class:`RequestFailed` unless the server saw as many tokens as ``ids`` holds."""
    counted = prompt_tokens(answer)
    if counted != len(ids):
        raise RequestFailed(f"the server counted {counted} prompt tokens where {len(ids)} are")


def from_prompt_logprobs(answer: dict[str, Any], ids: Sequence[int], context: int) -> Scored:
    """Scores of ``ids[context:]`` from vLLM's ``prompt_logprobs`` extension.

    It holds, for every prompt token, the log-probabilities of that token and of the best ones,
    keyed by token id, with ranks. Of tied best tokens none has rank 1.
    """
    check_count(answer, ids)
    rows = _at(answer, "choices", 0, "prompt_logprobs")
    if not isinstance(rows, list) or len(rows) != len(ids):
        raise RequestFailed("an answer without one prompt_logprobs entry a token")
    values, greedy, best = [], [], []
    for token, row in zip(ids[context:], rows[context:], strict=True):
        entry = _at(row, str(token))
        rank = _at(entry, "rank")
        if not isinstance(rank, int):
            raise RequestFailed(f"prompt_logprobs without logprob and rank of token {token}")
        values.append(_finite(_at(entry, "logprob")))
        greedy.append(rank == 1)
        best.append(max(_finite(_at(other, "logprob")) for other in row.values()))
    return Scored(np.array(values, np.float32), np.array(greedy), np.array(best, np.float32))


def from_echo(answer: dict[str, Any], ids: Sequence[int], context: int) -> Scored:
    """Scores of ``ids[context:]`` from a prompt that the server repeats with its log-probabilities.

    The first token has none; tokens that the server generated after the prompt are left out.
    """
    check_count(answer, ids)
    listed = _at(answer, "choices", 0, "logprobs", "token_logprobs")
    top = _at(answer, "choices", 0, "logprobs", "top_logprobs")
    fresh = _at(answer, "usage", "completion_tokens") or 0
    lengths = (len(ids), len(ids) + fresh)
    if not isinstance(listed, list) or len(listed) not in lengths or listed[0] is not None:
        raise RequestFailed("an answer without one echoed log-probability a token")
    if not isinstance(top, list) or len(top) != len(listed):
        raise RequestFailed("an echo without top_logprobs")
    span = slice(context, len(ids))
    values = [_finite(value) for value in listed[span]]
    # Names of tokens are not unique (halves of a character), so the values are compared.
    best = [_best(others) for others in top[span]]
    return Scored(
        np.array(values, np.float32),
        np.array([v >= b for v, b in zip(values, best, strict=True)]),
        np.array(best, np.float32),
    )


def next_token(answer: dict[str, Any], ids: Sequence[int], tokens: Sequence[int]) -> Scored:
    """Scores of each of ``tokens`` as the one that follows ``ids``, from ``logprob_token_ids``.

    The token that the server chose greedily is the best one; tokens are named ``token_id:N``.
    """
    check_count(answer, ids)
    chosen = _at(answer, "choices", 0, "logprobs", "tokens", 0)
    listed = _at(answer, "choices", 0, "logprobs", "top_logprobs", 0)
    names = [f"token_id:{token}" for token in tokens]
    values = [_finite(_at(listed, name)) for name in names]
    return Scored(
        np.array(values, np.float32),
        np.array([name == chosen for name in names]),
        np.full(len(names), _finite(_at(listed, chosen)), np.float32),
    )


def next_best(answer: dict[str, Any]) -> float:
    """Log-probability of the best first token of a completion asked with ``logprobs``."""
    return _best(_at(answer, "choices", 0, "logprobs", "top_logprobs", 0))


def samples(
    answer: dict[str, Any], prompt: Sequence[int], n: int, stops: Sequence[str]
) -> list[Generated]:
    """The ``n`` samples of an answer, cut before their earliest stop.

    ``n_tokens`` and ``logprob`` are of all tokens that the server generated, those of the stop
    included; ``logprob`` is nan where it offers none.
    """
    check_count(answer, prompt)
    choices = _at(answer, "choices")
    if not isinstance(choices, list) or len(choices) != n:
        raise RequestFailed(f"an answer that holds other than {n} samples")
    return [_sample(answer, choice, n, stops) for choice in choices]


def _sample(
    answer: dict[str, Any], choice: dict[str, Any], n: int, stops: Sequence[str]
) -> Generated:
    text, finish = _at(choice, "text"), _at(choice, "finish_reason")
    if not isinstance(text, str) or finish not in ("stop", "length"):
        raise RequestFailed(f"a sample that ended with finish_reason {finish!r}")
    listed = _token_logprobs(choice)
    if listed is not None:
        count, total = len(listed), sum(_finite(value) for value in listed)
    elif n == 1:
        count, total = _at(answer, "usage", "completion_tokens") or 0, math.nan
    else:
        raise RequestFailed("several samples without token counts of their own")
    cuts = [at for stop in stops if (at := text.find(stop)) >= 0]
    if cuts:
        text, finish = text[: min(cuts)], "stop"
    # Some servers leave the end-of-text token out; a sample that ended has one all the same.
    return Generated(text, max(count, 1), total, finish)


def _token_logprobs(choice: dict[str, Any]) -> list[Any] | None:
    """Of every generated token; None when the server offers none."""
    listed = _at(choice, "logprobs", "token_logprobs")
    content = _at(choice, "logprobs", "content")  # llama.cpp's form
    if isinstance(content, list):
        listed = [_at(token, "logprob") for token in content]
    return listed if isinstance(listed, list) else None


def _at(value: Any, *path: str | int) -> Any:
    """What lies at ``path`` in ``value``, or None."""
    for key in path:
        if isinstance(key, int):
            value = value[key] if isinstance(value, list) and len(value) > key else None
        else:
            value = value.get(key) if isinstance(value, dict) else None
    return value


def _best(named: Any) -> float:
    if not isinstance(named, dict) or not named:
        raise RequestFailed("an answer without top_logprobs")
    return max(_finite(value) for value in named.values())


def _finite(value: Any) -> float:
    """A log-probability; one that is not finite is a fault of the model, not an answer."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RequestFailed("an answer that lacks a log-probability")
    if not math.isfinite(value) or value <= NO_PROBABILITY:
        raise RequestFailed("a log-probability that is not finite")
    return float(value)
