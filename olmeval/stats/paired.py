"""Tests and intervals for paired differences, and their correction for being many."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
# Entries of one block of random signs or indices: 32 MB of numbers at a time.
BLOCK = 4_000_000
# Signs that are drawn and added up at a time, so that they stay in the processor's cache.
CACHED = 500_000


def mcnemar(wins: int, losses: int) -> float:
    """Two-sided exact p that wins and losses are equally likely; ties do not enter.

    McNemar 1947 in its exact (binomial) form; 1 where nothing differs.
    """
    from scipy.stats import binomtest

    return float(binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0


def sign_flip(sums: ArrayLike, random: np.random.Generator, samples: int = 10_000) -> float:
    """Two-sided Monte Carlo p that paired differences are symmetric about 0.

    ``sums`` [clusters] are the differences, added up within clusters, whose signs are flipped
    together. p = (1 + samples at least as far from 0) / (1 + samples) (Phipson and Smyth 2010),
    so it is never 0.
    """
    x = np.asarray(sums, np.float64)
    x = x[x != 0]
    if not len(x):
        return 1.0
    total, extreme = x.sum(), 0
    # Sums of the same numbers in another order differ in the last digits; such are equal.
    slack = 1e-9 * np.abs(x).sum()
    block = max(1, BLOCK // len(x))
    step = max(4, CACHED // len(x) // 4 * 4)  # four coins are drawn at once; none is lost so
    for start in range(0, samples, block):
        count = min(block, samples - start)
        for row in range(0, count, step):
            rows = min(step, count - row)
            flipped = _coins(random, rows * len(x)).reshape(rows, len(x))
            totals = 2 * (flipped @ x) - total
            extreme += int((np.abs(totals) >= abs(total) - slack).sum())
    return (1 + extreme) / (1 + samples)


def _coins(random: np.random.Generator, count: int) -> NDArray[np.bool_]:
    """Fair coins [count]: those of ``random.integers(0, 2, count, np.int8)``, three times as fast.

    Both take the highest bit of every random byte.
    """
    words = random.integers(0, 2**32, size=-(-count // 4), dtype=np.uint32)
    return words.view(np.int8)[:count] < 0


def cluster_sums(
    differences: ArrayLike, clusters: Sequence[object] | None = None
) -> tuple[Array, Array]:
    """Sums of ``differences`` [n] by cluster, and the clusters' sizes; each one alone without."""
    x = np.asarray(differences, np.float64)
    if clusters is None:
        return x, np.ones(len(x))
    codes: dict[object, int] = {}
    index = np.fromiter((codes.setdefault(c, len(codes)) for c in clusters), np.int64, len(x))
    return np.bincount(index, x).astype(np.float64), np.bincount(index).astype(np.float64)


def bootstrap_means(
    sums: Array, sizes: Array, random: np.random.Generator, samples: int = 2000
) -> Array:
    """Means [samples] over questions when whole clusters are drawn with replacement.

    Clusters that are alike (same sum and size) are counted together, so that right-or-wrong scores
    need one multinomial draw a sample, however many questions there are.
    """
    clusters = len(sums)
    kinds, counts = np.unique(np.stack([sums, sizes]), axis=1, return_counts=True)
    result = np.empty(samples)
    if len(counts) <= 1000:
        drawn = random.multinomial(clusters, counts / clusters, size=samples)
        return np.asarray((drawn @ kinds[0]) / (drawn @ kinds[1]))
    block = max(1, BLOCK // clusters)
    for start in range(0, samples, block):
        index = random.integers(clusters, size=(min(block, samples - start), clusters))
        result[start : start + len(index)] = sums[index].sum(axis=1) / sizes[index].sum(axis=1)
    return result


def holm(p: ArrayLike) -> Array:
    """Holm's adjusted p values (Holm 1979): those <= alpha keep the family's error rate alpha.

    nan stays nan and is not counted.
    """
    values = np.asarray(p, np.float64)
    known = np.flatnonzero(np.isfinite(values))
    order = known[np.argsort(values[known], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    adjusted = np.full(len(values), np.nan)
    adjusted[order] = np.minimum(np.maximum.accumulate(factors * values[order]), 1.0)
    return adjusted


def groups_alike(count: int, different: Sequence[tuple[int, int]]) -> list[frozenset[int]]:
    """Maximal groups of ``count`` items in which no pair is ``different``, by first members.

    Piepho 2004, "An Algorithm for a Letter-Based Representation of All-Pairwise Comparisons":
    every pair that is different splits the groups that hold both; groups within others go.
    """
    groups = {frozenset(range(count))} if count else set()
    for i, j in different:
        split = {g - {k} for g in groups if i in g and j in g for k in (i, j)}
        groups = {g for g in groups if not (i in g and j in g)} | split
        groups = {g for g in groups if not any(g < other for other in groups)}
    return sorted((g for g in groups if g), key=sorted)
