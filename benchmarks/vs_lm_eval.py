"""The OLMES core nine through lm-evaluation-harness (``hf`` backend) and through olmeval.

    pip install lm-eval==0.4.13 && python benchmarks/vs_lm_eval.py [--limit 100] [--device cpu]

One run, one tiny random checkpoint, one thread; rank choice (RC) and multiple choice (MC) apart.
lm-evaluation-harness gets the rendered prompts ready-made in a custom task file; olmeval renders,
plans, stores and scores. Each time is the whole call, model loading included, in CPU seconds.
Differences are over every request: log-probabilities and whether the continuation is greedy.
"""

import argparse
import json
import logging
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from common import machine, tiny_checkpoint

from olmeval.engine.evaluate import evaluate
from olmeval.engine.settings import Settings
from olmeval.requests import Instance
from olmeval.results.answers import read_answers
from olmeval.tasks.registry import load_task
from olmeval.tasks.suites import suite_tasks

CORE_9 = "core_9mcqa::olmes"
TASK_FILE = """
task: rendered
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: loglikelihood
doc_to_text: "{{{{context}}}}"
doc_to_target: "{{{{continuation}}}}"
target_delimiter: ""
metric_list: [{{metric: acc}}]
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=int, default=100, help="documents a task")
    parser.add_argument("--batch-size", type=int, default=32, help="of lm-evaluation-harness")
    args = parser.parse_args()
    print(machine())
    compare(args.limit, args.batch_size)


def compare(limit: int, batch_size: int = 32) -> None:
    """Prints both forms' lines."""
    logging.disable(logging.WARNING)
    print(
        f"{'core nine':9} {'documents':>9} {'requests':>8} {'lm-eval s':>10} {'olmeval s':>10} "
        f"{'ratio':>6} {'max |d|':>8} {'greedy differs':>14} {'best differs':>12}"
    )
    with tempfile.TemporaryDirectory() as tmp:
        checkpoint = tiny_checkpoint(Path(tmp) / "tiny")
        for form in ("rc", "mc"):
            specs = [s for s in suite_tasks(CORE_9) if f":{form}:" in s]
            compare_form(form.upper(), specs, checkpoint, Path(tmp) / form, limit, batch_size)


def compare_form(
    name: str, specs: list[str], checkpoint: Path, folder: Path, limit: int, batch_size: int
) -> None:
    """Prints one line for ``specs``."""
    folder.mkdir()
    instances = [i for spec in specs for i in load_task(spec, limit).instances()]
    start = time.process_time()
    theirs = peer(instances, checkpoint, folder, batch_size)
    theirs_s = time.process_time() - start
    start = time.process_time()
    run = evaluate(
        checkpoint, specs, output=folder / "runs", limit=limit, store=folder / "store",
        settings=Settings(device="cpu"),
    )  # fmt: skip
    ours_s = time.process_time() - start

    answers = read_answers(run.path / "responses.parquet")
    requests = pq.read_table(run.path / "requests.parquet").to_pylist()
    row_of = {(r["context"], r["continuation"]): int(answers.find([r["key"]])[0]) for r in requests}
    rows = [row_of[r.context, r.continuation] for i in instances for r in i.requests]
    ours = [(answers.logprob[k], bool(answers.greedy[k])) for k in rows]
    difference = max(abs(a[0] - b[0]) for a, b in zip(ours, theirs, strict=True))
    flips = sum(a[1] != b[1] for a, b in zip(ours, theirs, strict=True))
    bounds = pairwise(np.cumsum([0] + [len(i.requests) for i in instances]).tolist())
    other = sum(
        np.argmax([p[0] for p in ours[lo:hi]]) != np.argmax([p[0] for p in theirs[lo:hi]])
        for lo, hi in bounds
    )
    print(
        f"{name:9} {len(instances):9,} {len(ours):8,} {theirs_s:10.1f} {ours_s:10.1f} "
        f"{theirs_s / ours_s:6.1f} {difference:8.1e} {flips:14} {other:12}"
    )


def peer(
    instances: list[Instance], checkpoint: Path, folder: Path, batch_size: int
) -> list[tuple[float, bool]]:
    """(log-probability, greedy) of every request, from lm-evaluation-harness."""
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    # One document a request: WinoGrande's choices differ in their contexts. Its one-token grouping
    # looks at contexts, so it works all the same.
    rows = [
        {"context": r.context, "continuation": r.continuation}
        for i in instances
        for r in i.requests
    ]
    (folder / "docs.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    (folder / "rendered.yaml").write_text(TASK_FILE.format(data=folder / "docs.jsonl"))
    results = simple_evaluate(
        model="hf", model_args=f"pretrained={checkpoint},dtype=float32", tasks=["rendered"],
        task_manager=TaskManager(include_path=str(folder), include_defaults=False), device="cpu",
        batch_size=batch_size, log_samples=True, bootstrap_iters=0, verbosity="ERROR",
    )  # fmt: skip
    samples = sorted(results["samples"]["rendered"], key=lambda s: s["doc_id"])
    return [(pair[0], bool(pair[1])) for pair in (s["filtered_resps"][0] for s in samples)]


if __name__ == "__main__":
    main()
