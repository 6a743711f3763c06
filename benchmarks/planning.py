"""CPU seconds and peak memory of planning all 700,172 pulled requests on one core.

    python benchmarks/planning.py [--row-tokens 256]

The requests are tokenized first and their ids written to disk; the plan is made from there in a
process of its own, so that the memory counted is the ids and whatever planning adds to them. The
window is unlimited: the published counts (196.09 M tokens one by one, 16.08 M in the tree) cut
nothing.
"""

import argparse
import gzip
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from common import TOKENIZER, machine

from olmeval.backends.planner import Sequences, make_plan
from olmeval.requests import Request
from olmeval.tasks.pull import require_pulled

NO_WINDOW = 1 << 20
GOAL_SECONDS, GOAL_GB = 20.0, 4.0
NAIVE, TREE = 196_090_000, 16_080_000


def requests() -> list[Request]:
    """Every rendered request of the pulled data, repeats and all."""
    contexts: dict[str, str] = {}
    found = []
    for file in sorted(require_pulled().glob("oe_eval_tasks/*/*/requests.jsonl.gz")):
        with gzip.open(file, "rt", encoding="utf-8") as lines:
            for line in lines:
                asked = json.loads(line)["request"]
                context = contexts.setdefault(asked["context"], asked["context"])
                found.append(Request("loglikelihood", context, asked["continuation"]))
    return found


def peak_gb() -> float:
    """Largest resident size of this process, in 10^9 bytes.

    Not ``getrusage``: what it gives a fresh process includes the size of its parent.
    """
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e9


def tokenize(folder: Path) -> None:
    """Writes the ids of all requests to ``folder``."""
    from transformers import PreTrainedTokenizerFast

    from olmeval.backends.tokenization import Tokenizer

    file = require_pulled() / "tokenizers" / TOKENIZER
    hf = PreTrainedTokenizerFast(tokenizer_file=str(file), eos_token="<|endoftext|>")
    asked = requests()
    loaded = peak_gb()
    start = time.process_time()
    s = Tokenizer(hf).pairs(asked, NO_WINDOW).sequences
    print(
        f"tokenizing {len(s):,} requests: {time.process_time() - start:.1f} CPU s, "
        f"peak {peak_gb():.2f} GB (texts alone {loaded:.2f} GB)"
    )
    for name in ("ids", "offsets", "context_len"):
        np.save(folder / f"{name}.npy", getattr(s, name))


def plan(folder: Path, row_tokens: int) -> bool:
    """Plans the ids in ``folder`` on one core; whether the goals are held."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    parts = [np.load(folder / f"{name}.npy") for name in ("ids", "offsets", "context_len")]
    loaded = peak_gb()
    start = time.process_time()
    made = make_plan(Sequences(*parts), row_tokens)
    seconds, peak = time.process_time() - start, peak_gb()
    print(f"planning, rows of {row_tokens} tokens: {seconds:.1f} CPU s, peak {peak:.2f} GB "
          f"(ids alone {loaded:.2f} GB)")  # fmt: skip
    print(
        f"distinct {len(made.sequences):,}; tokens naive {made.tokens_naive:,}, planned "
        f"{made.tokens_planned:,}, tree {made.tokens_tree:,}; planned / tree "
        f"{made.tokens_planned / made.tokens_tree:.4f}; {len(made.steps):,} steps"
    )
    counted = (round(made.tokens_naive, -4), round(made.tokens_tree, -4)) == (NAIVE, TREE)
    held = seconds < GOAL_SECONDS and peak < GOAL_GB and counted
    print(f"goal of {GOAL_SECONDS:g} s, {GOAL_GB:g} GB and the published counts: "
          f"{'held' if held else 'MISSED'}")  # fmt: skip
    return held


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--row-tokens", type=int, default=256)
    parser.add_argument("--ids", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.ids is not None:
        return 0 if plan(arguments.ids, arguments.row_tokens) else 1
    print(machine(), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        tokenize(Path(folder))
        sys.stdout.flush()
        rows = ["--row-tokens", str(arguments.row_tokens)]
        return subprocess.run([sys.executable, __file__, "--ids", folder, *rows]).returncode


if __name__ == "__main__":
    sys.exit(main())
