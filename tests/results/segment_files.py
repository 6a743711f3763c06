"""Segments of the store that tests write, with answers that tell when they are wrong."""

from pathlib import Path

import numpy as np

from olmeval.errors import UserError
from olmeval.results.answers import Answers, Sample
from olmeval.results.segments import HEADER, ModelStore, ResponseStore, read_header, segments

KEY = "0123456789abcdef" * 2
ABOUT = {"fingerprint": "f" * 64, "backend": "transformers", "dtype": "float32", "name": "tiny"}


def numbered(lo: int, hi: int) -> Answers:
    """Answers lo:hi; each is a function of its number, so that a wrong value is seen."""
    parts = []
    for k in range(lo, hi):
        key = k.to_bytes(16, "big")
        if k % 4 == 3:
            parts.append(Answers.generated([key], [[Sample(f"ünï {k}\n", k, -k / 3, "stop")]]))
        else:
            scores = np.linspace(-k - 1, 0, k % 5, dtype=np.float32)
            offsets = np.array([0, len(scores)])
            parts.append(Answers.scored([key], offsets, scores, np.full(k % 5, k % 3 == 0)))
    return Answers.concat(parts)


def numbers(answers: Answers) -> list[int]:
    """The numbers of answers, each of which must be the true answer of its number."""
    found = [int.from_bytes(key, "big") for key in answers.keys.tolist()]
    for row, k in enumerate(found):
        got, true = answers.response(row), numbered(k, k + 1).response(0)
        assert (got.logprob, got.tokens, got.greedy, got.samples) == (
            true.logprob, true.tokens, true.greedy, true.samples,
        )  # fmt: skip
        assert np.array_equal(got.token_logprobs, true.token_logprobs) or got.samples
    return found


def open_store(root: Path) -> ModelStore:
    return ResponseStore(root).model(KEY, ABOUT)


def filled(root: Path, frames: int = 4, size: int = 3) -> Path:
    """A segment of so many frames of so many answers."""
    with open_store(root) as store:
        for k in range(frames):
            store.put(numbered(k * size, k * size + size))
    (path,) = segments(root / KEY)
    return path


def ends(data: bytes) -> list[int]:
    """Where each frame of an undamaged segment ends, after a 0."""
    found = [0]
    while found[-1] < len(data):
        header = read_header(data, found[-1])
        assert header is not None
        found.append(found[-1] + HEADER.size + header.size)
    return found


def fill(store: ModelStore) -> int:
    """Puts until it fails; returns how many answers were put before."""
    for k in range(0, 10**6, 50):
        try:
            store.put(numbered(k, k + 50))
        except UserError:
            return k
    raise AssertionError("never failed")
