"""Metrics over several samples of one question: pass@k and majority@k."""

from collections import Counter
from collections.abc import Hashable, Sequence
from math import comb


def pass_at_k(n: int, c: int, k: int) -> float:
    """Unbiased estimate of P(at least one of k samples is right) from c right ones of n.

    1 - C(n-c, k) / C(n, k) (Chen et al. 2021, arXiv:2107.03374, equation 1), in exact integers
    until the division. Raises ValueError unless 0 <= c <= n and 1 <= k <= n: with fewer samples
    than k there is no estimate (OLMES reports 0.0 there).
    """
    if not 0 <= c <= n:
        raise ValueError(f"pass@{k}: {c} right samples of {n}")
    _check_k("pass", n, k)
    return 1.0 - comb(n - c, k) / comb(n, k)


def maj_at_k(answers: Sequence[Hashable], scores: Sequence[float], k: int) -> float:
    """Score of the most frequent of the first ``k`` answers; a tie goes to the one seen first.

    ``answers`` are extracted, normalised answers and ``scores`` their values, both [n]. OLMES takes
    the first k of n in order, not an average over subsets. Raises ValueError for k outside 1..n.
    """
    if len(answers) != len(scores):
        raise ValueError(f"maj@{k}: {len(answers)} answers but {len(scores)} scores")
    _check_k("maj", len(answers), k)
    first = list(answers[:k])
    # Counter keeps the order of first appearance, and max() the first of equals.
    counts = Counter(first)
    winner = max(counts, key=lambda answer: counts[answer])
    return scores[first.index(winner)]


def _check_k(name: str, n: int, k: int) -> None:
    if not 1 <= k <= n:
        raise ValueError(f"{name}@{k} needs at least {max(k, 1)} samples and k >= 1, got {n}")
