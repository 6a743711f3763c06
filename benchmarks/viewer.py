"""The viewer over two runs of a million instances each: seconds and memory of what a person does.

python benchmarks/viewer.py [--instances 1000000] [--tasks ten|one|both] [--keep DIR]

The runs are synthetic and have the layout that `olmeval run` writes: rank choice of four with five
shots (eight tasks of ten), bits per byte that shares its requests with the first, and generations;
and once more with all instances in one task of rank choice.
The server is a process of its own; times are from the client, memory is the server's peak.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from olmeval.files import write_json
from olmeval.results.answers import Answers, Sample, write_answers

TEXT = (
    "which of the following best explains why a magnet attracts iron nails when plants grow toward "
    "light during photosynthesis energy moves from sun into leaves water rocks heat friction force"
)
WORDS = TEXT.split()
CHOICES = 4
BITS, SUMS = "quiz_0:bpb:5shot", "sums:cot"
METRICS = ("acc_raw", "acc_per_token", "acc_per_char", "bits_per_byte")


def sentence(random: np.random.Generator, words: int) -> str:
    return " ".join(WORDS[k] for k in random.integers(0, len(WORDS), words))


def make_keys(random: np.random.Generator, n: int) -> np.ndarray:
    return np.frombuffer(random.bytes(16 * n), "V16")


def request_chunks(
    tasks: list[str], docs: int, keys: np.ndarray, random: np.random.Generator
) -> Iterator[pa.Table]:
    """The requests of a run, task by task, 1,024 documents and so one row group at a time."""
    text = pa.dictionary(pa.int32(), pa.string())
    use = pa.struct(
        [("task", pa.string()), ("doc_id", pa.int64()), ("choice", pa.int32()),
         ("role", pa.string())]
    )  # fmt: skip
    at = 0
    for number, task in enumerate(tasks):
        if task == BITS:
            continue  # it asks nothing of its own
        generates = task == SUMS
        shots = "".join(
            f"Question: {sentence(random, 60)}?\nAnswer: {sentence(random, 6)}\n\n"
            for _ in range(5)
        )
        per_doc = 1 if generates else CHOICES
        for first in range(0, docs, 1024):
            ids = range(first, min(first + 1024, docs))
            contexts = [f"{shots}Question: {sentence(random, 25)}, {k}?\nAnswer:" for k in ids]
            rows = len(ids) * per_doc
            uses: list[list[tuple[str, int, int, str]]] = []
            for k in ids:
                for choice in range(per_doc):
                    uses.append([(task, k, choice, "conditioned")])
                    if number == 0 and choice == k % CHOICES:
                        uses[-1].append((BITS, k, 0, "conditioned"))
            sampling = json.dumps(
                {"stop": ["\n\n"], "max_tokens": 64, "temperature": 0.0, "top_p": 1.0, "n": 1}
            )
            yield pa.table(
                {
                    "key": pa.array(keys[at : at + rows].tolist(), pa.binary(16)),
                    "kind": ["generate" if generates else "loglikelihood"] * rows,
                    "context": pa.DictionaryArray.from_arrays(
                        np.repeat(np.arange(len(ids), dtype=np.int32), per_doc), contexts
                    ).cast(text),
                    "continuation": [
                        "" if generates else f" {sentence(random, 4)}" for _ in range(rows)
                    ],
                    "sampling": pa.array([sampling if generates else None] * rows, pa.string()),
                    "context_tokens": np.full(rows, 480),
                    "continuation_tokens": np.full(rows, 0 if generates else 5),
                    "truncated": np.zeros(rows, bool),
                    "seam": np.zeros(rows, bool),
                    "uses": pa.array(
                        [[dict(zip(use.names, u, strict=True)) for u in us] for us in uses],
                        pa.list_(use),
                    ),
                }
            )
            at += rows


def make_requests(path: Path, tasks: list[str], docs: int, keys: np.ndarray) -> None:
    writer = None
    for chunk in request_chunks(tasks, docs, keys, np.random.default_rng(1)):
        writer = writer or pq.ParquetWriter(path, chunk.schema, compression="zstd")
        writer.write_table(chunk)
    assert writer is not None
    writer.close()


def make_run(folder: Path, tasks: list[str], docs: int, keys: np.ndarray, seed: int) -> None:
    """A finished run but for its requests."""
    random = np.random.default_rng(seed)
    scored = len(keys) - docs * (SUMS in tasks)
    offsets = np.arange(scored + 1, dtype=np.int64) * 5
    logprobs = -random.exponential(2.0, offsets[-1]).astype(np.float32)
    texts = (f" {sentence(random, 12)}. The answer is {k % 97}." for k in range(len(keys) - scored))
    generated = [[Sample(text, 17, -20.0, "length" if k % 50 == 0 else "stop")]
                 for k, text in enumerate(texts)]  # fmt: skip
    write_answers(
        folder / "responses.parquet",
        Answers.concat(
            [
                Answers.scored(keys[:scored], offsets, logprobs, logprobs > -1),
                Answers.generated(keys[scored:], generated),
            ]
        ),
    )
    results = {}
    doc_ids = np.arange(docs)
    status = np.where(doc_ids % 1000 == 7, "error", np.where(doc_ids % 90 == 3, "truncated", "ok"))
    schema = pa.schema(
        [("task", pa.string()), ("doc_id", pa.int64()), ("native_id", pa.string()),
         ("cluster", pa.null()), ("status", pa.string()), ("gold", pa.int32()),
         ("references", pa.string()), ("metric", pa.string()), ("value", pa.float64())]
    )  # fmt: skip
    parts = []
    for task in tasks:
        generates, bits = task == SUMS, task == BITS
        metrics = ("exact_match",) if generates else METRICS[-1:] if bits else METRICS
        scores = {}
        for metric in metrics:
            value = random.exponential(2.0, docs) if metric == "bits_per_byte" else (
                (random.random(docs) < 0.6).astype(float)
            )  # fmt: skip
            value[status == "error"] = np.nan
            scores[metric] = {"value": float(np.nanmean(value)), "stderr": 0.001, "n": docs,
                              "higher_is_better": metric != "bits_per_byte"}  # fmt: skip
            parts.append(
                pa.table(
                    {
                        "task": [task] * docs,
                        "doc_id": doc_ids,
                        "native_id": [f"Mercury_{k}" for k in range(docs)],
                        "cluster": pa.nulls(docs),
                        "status": status,
                        "gold": pa.array(doc_ids % CHOICES, pa.int32()),
                        "references": [f'["{k}"]' if generates else None for k in range(docs)],
                        "metric": [metric] * docs,
                        "value": pa.array(value, from_pandas=True),
                    },
                    schema,
                )
            )
        results[task] = {
            "primary_metric": metrics[min(2, len(metrics) - 1)], "metrics": scores,
            "instances": docs, "errors": int((status == "error").sum()), "clusters": None,
            "counters": {"truncated": int((status == "truncated").sum())}
            | ({"length_limited": docs // 50} if generates else {}),
            "hash": task,
        }  # fmt: skip
    # As pandas' to_parquet writes it.
    pq.write_table(pa.concat_tables(parts), folder / "instances.parquet", compression="zstd")
    write_json(folder / "metrics.json", {"tasks": results, "suites": {}, "errors": 0})
    model = {"name": folder.name, "path": "/nowhere", "fingerprint": folder.name, "params": 1,
             "params_total": 1, "max_length": 2048, "settings": {},
             "metadata": {"step": seed}}  # fmt: skip
    write_json(
        folder / "run.json",
        {"status": "complete", "asked": {"limit": None}, "tasks": {t: {} for t in tasks},
         "model": model, "tokenizer": "-", "versions": {}, "started": "2026-01-01T00:00:00+00:00",
         "finished": "2026-01-01T01:00:00+00:00"},
    )  # fmt: skip


def make_store(root: Path, tasks: list[str], instances: int) -> None:
    """Two runs of ``instances`` instances each, as many in each of ``tasks``."""
    docs = instances // len(tasks)
    asking = sum(1 if task == SUMS else CHOICES for task in tasks if task != BITS)
    keys = make_keys(np.random.default_rng(0), asking * docs)
    for number, name in enumerate(("first", "second")):
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        make_run(folder, tasks, docs, keys, number + 1)
        if number == 0:
            make_requests(folder / "requests.parquet", tasks, docs, keys)
        else:
            os.link(root / "first" / "requests.parquet", folder / "requests.parquet")


class Viewer:
    """A server in a process of its own, and a client of it."""

    def __init__(self, runs: Path):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "olmeval.cli.main", "view", str(runs), "--port", "0",
             "--no-browser"],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        line = ""
        while "#token=" not in line:
            line = self.process.stdout.readline()
            assert line, "the viewer ended"
        found = re.search(r"(http://\S+?)/#token=(\S+)", line)
        assert found is not None
        self.url, self.token = found.groups()

    def get(self, path: str, **query: Any) -> Any:
        url = f"{self.url}/api/{path}?{urlencode(query)}"
        with urlopen(Request(url, headers={"X-Olmeval-Token": self.token})) as answer:
            return json.load(answer)

    def status(self, name: str) -> float:
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(rf"{name}:\s+(\d+)", text)[1]) / 1024  # type: ignore[index]

    def cpu(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(10)


def measure(viewer: Viewer, tasks: list[str], docs: int) -> None:
    """What a person does, with the seconds each takes, wall and of the server's processor."""
    task, text = tasks[len(tasks) // 2], tasks[-1]
    one, two = {"run": "first", "task": task}, {"run": "first", "with": "second", "task": task}
    texts = {"run": "first", "task": text}
    limited = texts | {"filter": "length"}
    near, far = (",".join(map(str, range(0, 50 * by, by))) for by in (1, docs // 50))
    steps: list[tuple[str, str, dict[str, Any]]] = [
        ("list of runs", "runs", {}),
        ("first page of a task", "instances", one),
        ("counts of all filters", "counts", one),
        ("filter: wrong", "instances", one | {"filter": "wrong"}),
        ("filter: truncated", "instances", one | {"filter": "truncated"}),
        ("filter: errors", "instances", one | {"filter": "errors"}),
        ("sorted by value", "instances", one | {"sort": "lowest"}),
        ("a page far down", "instances", one | {"offset": docs * 3 // 4}),
        ("permalink to a document", "instances", one | {"doc": docs * 7 // 9}),
        ("beginnings of a page's prompts", "snippets", one | {"docs": near}),
        ("... of 50 far documents", "snippets", one | {"docs": far}),
        ("an instance", "instance", one | {"doc": docs // 2}),
        ("two runs: flipped first", "instances", two),
        ("two runs: counts", "counts", two),
        ("filter: flipped", "instances", two | {"filter": "flipped"}),
        ("filter: lost", "instances", two | {"filter": "lost"}),
        ("two runs: another metric", "instances", two | {"metric": "bits_per_byte"}),
        ("two runs: an instance", "instance", two | {"doc": docs // 8}),
        ("two runs: difference of a task", "difference", two),
        ("search prompts, first", "instances", one | {"q": "magnet iron heat"}),
        ("... next page", "instances", one | {"q": "magnet iron heat", "offset": 50}),
    ]
    if text == SUMS:
        steps += [
            ("filter: at token limit, first", "instances", limited),
            ("filter: at token limit, again", "instances", limited | {"offset": 50}),
            ("search generated text", "instances", texts | {"q": "answer is 13."}),
        ]
    print(f"{'':34}{'wall s':>8}{'CPU s':>8}{'peak MB':>9}")
    for name, path, query in steps:
        cpu, wall = viewer.cpu(), time.perf_counter()
        viewer.get(path, **query)
        wall, cpu = time.perf_counter() - wall, viewer.cpu() - cpu
        print(f"{name:34}{wall:8.3f}{cpu:8.2f}{viewer.status('VmHWM'):9.0f}", flush=True)


def bench(root: Path, tasks: list[str], instances: int) -> None:
    """Makes a store unless it is there, and measures a viewer of it."""
    if not (root / "second" / "requests.parquet").exists():
        make_store(root, tasks, instances)
    results = json.loads((root / "first" / "metrics.json").read_text())["tasks"]
    instances = sum(result["instances"] for result in results.values())
    size = sum(f.stat().st_size for f in root.glob("*/*")) / 1e6
    print(
        f"\ntwo runs of {instances:,} instances in tasks: {len(results)}; {size:,.0f} MB; "
        f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}"
    )
    wall = time.perf_counter()
    viewer = Viewer(root)
    print(
        f"from the command to the link {time.perf_counter() - wall:.2f} s, "
        f"{viewer.cpu():.2f} CPU s, {viewer.status('VmRSS'):.0f} MB"
    )
    try:
        measure(viewer, list(results), instances // len(results))
    finally:
        assert viewer.stop() == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--instances", type=int, default=1_000_000, help="of each of two runs")
    parser.add_argument("--tasks", choices=("ten", "one", "both"), default="both")
    parser.add_argument("--keep", type=Path, help="make the runs here, or use those that are")
    options = parser.parse_args()
    rank_choice = [f"quiz_{k}:rc:5shot" for k in range(8)]
    stores = {"ten": [*rank_choice, BITS, SUMS], "one": rank_choice[:1]}
    with tempfile.TemporaryDirectory() as tmp:
        for name, tasks in stores.items():
            if options.tasks in (name, "both"):
                bench((options.keep or Path(tmp)) / name, tasks, options.instances)


if __name__ == "__main__":
    main()
