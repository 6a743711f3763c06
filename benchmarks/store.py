"""The store of answers at the size of a large run: seconds and memory to write and to load.

python benchmarks/store.py [--answers 700000] [--tokens 15] [--batch 64]
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from olmeval.results.answers import Answers, read_answers, write_answers
from olmeval.results.segments import ResponseStore


def batch(n: int, tokens: int, random: np.random.Generator) -> Answers:
    """``n`` answers of about ``tokens`` tokens."""
    offsets = np.concatenate([[0], np.cumsum(random.integers(1, 2 * tokens, n))])
    logprobs = -random.exponential(2.0, offsets[-1]).astype(np.float32)
    keys = np.frombuffer(random.bytes(16 * n), "V16")
    return Answers.scored(keys, offsets, logprobs, logprobs > -1)


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--answers", type=int, default=700_000)
    parser.add_argument("--tokens", type=int, default=15, help="mean tokens of an answer")
    parser.add_argument("--batch", type=int, default=64, help="answers of one put")
    options = parser.parse_args()
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as tmp:
        store = ResponseStore(Path(tmp)).model("0" * 32, {})
        spent = 0.0
        for _ in range(options.answers // options.batch):
            answers = batch(options.batch, options.tokens, random)
            start = time.process_time()
            store.put(answers)
            spent += time.process_time() - start
        store.close()
        size = sum(p.stat().st_size for p in store.path.iterdir())
        print(f"put         {spent:6.2f} CPU s, {size / 1e6:.0f} MB, peak {peak_mb():.0f} MB")
        start = time.process_time()
        loaded = store.load()
        spent = time.process_time() - start
        print(
            f"load        {spent:6.2f} CPU s, {len(loaded):,} answers, "
            f"{len(loaded.token_logprobs):,} tokens, peak {peak_mb():.0f} MB"
        )
        start = time.process_time()
        assert (loaded.find(loaded.keys[::-1]) == np.arange(len(loaded))[::-1]).all()
        print(f"find all    {time.process_time() - start:6.2f} CPU s")
        path = Path(tmp) / "responses.parquet"
        start = time.process_time()
        write_answers(path, loaded)
        print(
            f"to Parquet  {time.process_time() - start:6.2f} CPU s, "
            f"{path.stat().st_size / 1e6:.0f} MB, peak {peak_mb():.0f} MB"
        )
        start = time.process_time()
        read_answers(path)
        print(f"and back    {time.process_time() - start:6.2f} CPU s")


if __name__ == "__main__":
    main()
