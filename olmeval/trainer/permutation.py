"""Keyed permutations of ``range(n)``: a shuffle that needs no list.

``p(i)`` is computed alone, so the order of billions of training windows takes no memory, no set-up
and no state to resume. The construction is the generalised Feistel network of Black & Rogaway
("Ciphers with Arbitrary Finite Domains", CT-RSA 2002, section 5) with cycle walking.
"""

import hashlib
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]
ROUNDS = 8


def keys(*parts: object) -> tuple[int, ...]:
    """Round keys, one of 64 bits a round, from anything whose ``repr`` names it."""
    digest = hashlib.sha512(repr(parts).encode()).digest()
    return tuple(int.from_bytes(digest[8 * i : 8 * i + 8], "little") for i in range(ROUNDS))


def uniform(index: Ints, key: Words) -> npt.NDArray[np.float64]:
    """A pseudo-random number in [0, 1) for each ``index``, by the 64-bit ``key`` beside it."""
    top = _mix(index.astype(np.uint64), key) >> np.uint64(10)
    return top.astype(np.float64) * 2.0**-53


@dataclass(frozen=True)
class Permutation:
    """A bijection of ``range(n)`` chosen by ``round_keys``; call it with indices in the range."""

    n: int
    round_keys: tuple[int, ...]

    def __call__(self, index: npt.ArrayLike) -> Ints:
        """The images of ``index``, any shape, vectorised."""
        out: Words = np.array(index, dtype=np.uint64)
        if self.n <= 1:
            return out.astype(np.int64)
        # The network permutes range(a * b), slightly more than n; walk on until back inside.
        a = math.isqrt(self.n - 1) + 1
        b = -(-self.n // a)
        pending = np.ones(out.shape, dtype=bool)
        while pending.any():
            out[pending] = self._network(out[pending], a, b)
            pending &= out >= self.n
        return out.astype(np.int64)

    def _network(self, x: Words, a: int, b: int) -> Words:
        left, right = x % np.uint64(a), x // np.uint64(a)
        for i, key in enumerate(self.round_keys):
            modulus = np.uint64(b if i % 2 else a)
            left, right = right, (left + _mix(right, np.uint64(key)) % modulus) % modulus
        # After an even number of rounds, left is again the digit below a.
        return np.uint64(a) * right + left


def _mix(x: Words, key: Words | np.uint64) -> Words:
    """The finaliser of SplitMix64 (Steele, Lea & Flood 2014) on ``x + key``, modulo 2^63."""
    with np.errstate(over="ignore"):
        z = x + key
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        # One bit short, so that adding a digit to it cannot wrap.
        return (z ^ (z >> np.uint64(31))) >> np.uint64(1)
