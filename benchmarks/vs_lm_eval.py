"""The same requests through lm-evaluation-harness (``hf`` backend) and through olmeval.

    pip install lm-eval==0.4.13 && python benchmarks/vs_lm_eval.py [--limit 500]

One run, one tiny random checkpoint, CPU, one thread. lm-evaluation-harness gets the rendered
prompts ready-made in a custom task file; olmeval renders, plans, stores and scores. Each time is
the whole call, model loading included, in CPU seconds.
"""

import argparse
import json
import logging
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from common import machine, tiny_checkpoint

from olmeval import evaluate
from olmeval.engine.settings import Settings
from olmeval.tasks.registry import load_task

TASK = "arc_easy:rc:5shot"
TASK_FILE = """
task: rendered
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{context}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{gold}}}}"
target_delimiter: ""
metric_list: [{{metric: acc}}]
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=int, default=500, help="documents")
    parser.add_argument("--batch-size", type=int, default=32, help="of lm-evaluation-harness")
    args = parser.parse_args()
    logging.disable(logging.WARNING)

    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    with tempfile.TemporaryDirectory() as tmp_name:
        tmp = Path(tmp_name)
        checkpoint = tiny_checkpoint(tmp / "tiny")
        instances = load_task(TASK, args.limit).instances()
        rows = [
            {
                "context": i.requests[0].context,
                "choices": [r.continuation for r in i.requests],
                "gold": i.gold,
            }
            for i in instances
        ]
        (tmp / "docs.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
        (tmp / "rendered.yaml").write_text(TASK_FILE.format(data=tmp / "docs.jsonl"))

        start = time.process_time()
        peer = simple_evaluate(
            model="hf", model_args=f"pretrained={checkpoint},dtype=float32", tasks=["rendered"],
            task_manager=TaskManager(include_path=str(tmp), include_defaults=False), device="cpu",
            batch_size=args.batch_size, log_samples=True, bootstrap_iters=0, verbosity="ERROR",
        )  # fmt: skip
        theirs_s = time.process_time() - start

        start = time.process_time()
        run = evaluate(
            checkpoint, [TASK], output=tmp / "runs", limit=args.limit,
            settings=Settings(device="cpu"),
        )  # fmt: skip
        ours_s = time.process_time() - start

        requests = pq.read_table(run.path / "requests.parquet").to_pylist()
        logprob = dict(zip(*_columns(run.path / "responses.parquet"), strict=True))
        of_text = {(r["context"], r["continuation"]): logprob[r["key"]] for r in requests}
        samples = sorted(peer["samples"]["rendered"], key=lambda s: s["doc_id"])
        theirs = [pair[0] for s in samples for pair in s["filtered_resps"]]
        ours = [of_text[r.context, r.continuation] for i in instances for r in i.requests]
        difference = np.abs(np.array(theirs) - np.array(ours)).max()
        agree = peer["results"]["rendered"]["acc,none"]
        mine = run.metrics["tasks"][TASK]["metrics"]["acc_raw"]["value"]

        print(machine())
        print(f"{TASK}, {len(instances)} documents, {len(ours)} requests")
        print(f"largest |difference| of log-probability: {difference:.2e}")
        print(f"accuracy: lm-eval {agree:.4f}, olmeval {mine:.4f}")
        print(f"lm-eval: {theirs_s:7.2f} CPU s, {len(ours) / theirs_s:7.0f} requests/s")
        print(f"olmeval: {ours_s:7.2f} CPU s, {len(ours) / ours_s:7.0f} requests/s")
        print(f"ratio:   {theirs_s / ours_s:7.1f}")


def _columns(path: Path) -> tuple[list[bytes], list[float]]:
    table = pq.read_table(path, columns=["key", "logprob"])
    return table["key"].to_pylist(), table["logprob"].to_pylist()


if __name__ == "__main__":
    main()
