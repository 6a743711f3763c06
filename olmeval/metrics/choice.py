"""Metrics of choices scored by log-likelihood, vectorised over all instances of a task.

The choices of all instances lie in flat arrays; ``offsets`` says where each instance begins. Names
and definitions are those of OLMES (``oe_eval/metrics/metric.py``): the leading space of a
continuation counts in characters and bytes, an unscored choice never wins.

One deviation, on purpose: where k choices tie for the best score and the gold one is among them,
OLMES gives all credit to the first; here the instance scores 1/k (one half for two), so that the
order of the choices cannot matter. Ties are counted for the report.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Choices:
    """Scored choices of I instances, R choices in all.

    ``logprob`` [R] natural-log probability of the continuation; ``tokens``, ``chars``, ``bytes``
    [R] its lengths; ``greedy`` [R] whether every token was the arg max; ``unconditional`` [R] its
    log-probability after the unconditional prompt, or None; ``offsets`` [I+1] first choice of each
    instance (every instance has at least one); ``gold`` [I] index of the right choice within its
    instance.
    """

    logprob: Floats
    tokens: Ints
    chars: Ints
    bytes: Ints
    greedy: NDArray[np.bool_]
    offsets: Ints
    gold: Ints
    unconditional: Floats | None = None


def choice_metric(name: str, choices: Choices) -> tuple[Floats, int]:
    """Value per instance [I] of the metric ``name``, and the number of instances with a tie.

    Raises ValueError for an unknown name, or for ``acc_uncond`` without unconditional scores.
    """
    gold = choices.offsets[:-1] + choices.gold
    if name == "bits_per_byte":
        return bits_per_byte(choices.logprob[gold], choices.bytes[gold]), 0
    if name == "greedy_acc":
        return choices.greedy[gold].astype(np.float64), 0
    return _accuracy(_ranking_score(name, choices), choices.offsets, gold)


def bits_per_byte(logprob: Floats, n_bytes: Ints) -> Floats:
    """-log2 P(continuation) / UTF-8 bytes of the continuation (OLMES ``bits_per_byte``)."""
    bits: Floats = -logprob / np.log(2.0) / np.maximum(n_bytes, 1)
    return bits


def _ranking_score(name: str, c: Choices) -> Floats:
    if name == "acc_raw":
        return c.logprob
    if name == "acc_per_token":
        return c.logprob / np.maximum(c.tokens, 1)
    if name == "acc_per_char":
        return c.logprob / np.maximum(c.chars, 1)
    if name == "acc_per_byte":
        return c.logprob / np.maximum(c.bytes, 1)
    if name == "acc_uncond":
        if c.unconditional is None:
            raise ValueError("acc_uncond needs unconditional log-probabilities")
        return c.logprob - c.unconditional
    raise ValueError(f"unknown choice metric '{name}'")


def _accuracy(score: Floats, offsets: Ints, gold: Ints) -> tuple[Floats, int]:
    starts = offsets[:-1]
    best = np.maximum.reduceat(score, starts)
    is_best = score == np.repeat(best, np.diff(offsets))
    winners = np.add.reduceat(is_best.astype(np.int64), starts)
    return is_best[gold] / winners, int(np.count_nonzero(winners > 1))
