"""Building and sampling of training data beside what they cannot be faster than.

Build: JSON Lines of real text (Python's standard library) become token shards. The limit is the
``tokenizers`` library itself: its ``encode_batch`` alone on the same texts, already in memory. A
piece of a build also reads, parses, checks, hashes and writes; both take turns on one thread, and
the best of each counts, in CPU time. The whole build, on every core, is wall-clock time.

Sampler: batches of 24 domains of 20 shards each, in memory, on one thread, in CPU time.

    python benchmarks/data.py
"""

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from common import TOKENIZER, machine
from tokenizers import Tokenizer

from olmeval.executors.resources import cores
from olmeval.tasks.pull import require_pulled
from olmeval.trainer import build_inputs
from olmeval.trainer.build import build_data
from olmeval.trainer.build_inputs import find_inputs
from olmeval.trainer.build_spec import BuildSpec, SourceSpec
from olmeval.trainer.build_tokenizer import find_tokenizer
from olmeval.trainer.build_work import BATCH_BYTES, Job, do_piece
from olmeval.trainer.corpus_found import code
from olmeval.trainer.instances import cu_seqlens, repetitive
from olmeval.trainer.mixture import Mixture, Windows, plan_shares

ROUNDS = 3
EOS = "<|endoftext|>"
GOAL_RATIO = 0.9
SEQ_LEN, BATCH, DOMAINS, SHARDS, SHARD_TOKENS = 2048, 64, 24, 20, 500_000
GOAL_SAMPLER = 20e6


def cpu(action: Callable[[], object]) -> float:
    """CPU seconds of this process."""
    start = time.process_time()
    action()
    return time.process_time() - start


def batches(texts: Iterable[str]) -> list[list[str]]:
    """As a build groups them."""
    groups: list[list[str]] = [[]]
    size = 0
    for text in texts:
        groups[-1].append(text)
        size += len(text.encode())
        if size >= BATCH_BYTES:
            groups.append([])
            size = 0
    return groups


def build(folder: Path) -> None:
    file = require_pulled() / "tokenizers" / TOKENIZER
    tokenizer = find_tokenizer(str(file), EOS)
    texts = code()
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    path = folder / "code.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))

    library = Tokenizer.from_file(str(file))
    groups = batches(texts)
    spec = BuildSpec(tokenizer=str(file), eos=EOS, sources=(SourceSpec(path=str(path)),))
    build_inputs.PIECE_BYTES = 1 << 30
    (piece,) = find_inputs(spec).pieces

    def do(root: Path) -> int:
        tokenizer.copy_to(root)
        job = Job(
            root, 0, piece.parts, "text", EOS, tokenizer.eos_id, tokenizer.vocab_size, "uint16"
        )
        (shard,) = do_piece(job, lambda _: None).record.shards["code"]
        return shard.tokens

    alone, ours = [], []
    for i in range(ROUNDS):
        alone.append(
            cpu(lambda: [library.encode_batch(g, add_special_tokens=False) for g in groups])
        )
        ours.append(cpu(lambda i=i: do(folder / str(i))))
    tokens = do(folder / "0")
    ratio = min(alone) / min(ours)
    print(f"{len(texts):,} documents, {megabytes:.1f} MB, {tokens:,} tokens, one thread:\n")
    print("| | MB/s | tokens per CPU-second |\n|-|-:|-:|")
    for name, seconds in (("`encode_batch` alone", min(alone)), ("a piece of a build", min(ours))):
        print(f"| {name} | {megabytes / seconds:.2f} | {tokens / seconds:,.0f} |")
    print(f"| ratio | {ratio:.2f} | |\n")
    print(f"goal: at least {GOAL_RATIO}: {'met' if ratio >= GOAL_RATIO else 'MISSED'}\n")

    build_inputs.PIECE_BYTES = 1 << 20
    result = build_data(spec, folder / "whole", progress=False)
    print(
        f"The whole build on {cores()} workers, with their start: {result.seconds:.1f} s, "
        f"{megabytes / result.seconds:.2f} MB/s\n"
    )


def sample() -> None:
    rng = np.random.default_rng(0)
    windows = {
        f"d{i}": Windows(
            [rng.integers(1, 50_000, SHARD_TOKENS).astype(np.uint16) for _ in range(SHARDS)],
            SEQ_LEN,
        )
        for i in range(DOMAINS)
    }
    available = {name: len(w) for name, w in windows.items()}
    weights = dict(zip(windows, rng.dirichlet(np.ones(DOMAINS)), strict=True))
    steps = sum(available.values()) // BATCH
    shares = plan_shares(weights, available, steps * BATCH, max_epochs=100, repeat="error")
    mixture = Mixture(windows, shares, SEQ_LEN, BATCH, seed=0)
    some = range(0, steps, max(1, steps // 50))
    per_batch = min(cpu(lambda: [mixture.batch(s) for s in some]) for _ in range(ROUNDS)) / len(
        some
    )
    batch = mixture.batch(0)
    masks = min(cpu(lambda: cu_seqlens(batch, 0)) for _ in range(ROUNDS))
    filtered = min(cpu(lambda: repetitive(batch)) for _ in range(ROUNDS))
    rate = BATCH * SEQ_LEN / per_batch
    print(f"Sampler, {DOMAINS} domains, {BATCH} x {SEQ_LEN} tokens a batch:\n")
    print("| | ms a batch | tokens per CPU-second |\n|-|-:|-:|")
    for name, seconds in (
        ("`batch(step)`", per_batch),
        ("document boundaries", masks),
        ("repetition filter", filtered),
    ):
        print(f"| {name} | {1e3 * seconds:.2f} | {BATCH * SEQ_LEN / seconds:,.0f} |")
    print(f"\n{1 / per_batch:,.0f} batches a CPU-second")
    print(
        f"goal: at least {GOAL_SAMPLER:,.0f} tokens: {'met' if rate >= GOAL_SAMPLER else 'MISSED'}"
    )


def main() -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    print(machine() + "\n")
    with tempfile.TemporaryDirectory() as folder:
        build(Path(folder))
    sample()


if __name__ == "__main__":
    main()
