"""Run folders made by hand, with everything in them that a page has to bear."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from olmeval.files import write_json
from olmeval.results.answers import Answers, Sample, write_answers

HOSTILE = [
    "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">",
    "</textarea></pre></title></style><iframe src='javascript:parent.document.title=1'></iframe>",
    "a" * 1_000_000,
    "left \u202eright to left\u202c \u200f \u2066 isolated",
    "null \x00 bell \x07 half \ud83d of a pair, zero\u200bwidth",
    "مرحبا بالعالم and \U0001f600 é",
]
SHOTS = "Question: What is first?\nAnswer: this\n\n" * 4
CHOICES = 3


def make_run(
    folder: Path, *, seed: int = 0, docs: int = 120, status: str = "complete", **about: Any
) -> Path:
    """Three tasks: rank choice ``quiz:rc``, generation ``riddles:cot``, and ``quiz:bpb``."""
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    rows: list[dict[str, Any]] = []
    keys: list[bytes] = []
    scored: list[list[float]] = []
    samples: list[list[Sample]] = []

    def key(*parts: object) -> bytes:
        from hashlib import blake2b

        return blake2b(json.dumps(parts).encode(), digest_size=16).digest()

    quiz = []
    for doc in range(docs):
        gold = doc % CHOICES
        context = (
            f"{SHOTS}Question: number {doc}, {'magnet' if doc % 10 == 3 else 'iron'}?\nAnswer:"
        )
        logprobs = []
        for choice in range(CHOICES):
            count = 1 + (doc + choice) % 4
            tokens = np.float32(-random.exponential(2.0, count))
            uses = [("quiz:rc", doc, choice, "conditioned")]
            if choice == gold:
                uses.append(("quiz:bpb", doc, 0, "conditioned"))
            text = " " + " ".join(f"w{choice}" for _ in range(count))
            rows.append(request(key("q", doc, choice), "loglikelihood", context, text, count, uses))
            keys.append(rows[-1]["key"])
            scored.append(tokens.tolist())
            logprobs.append(float(np.float64(tokens).sum()) / len(text))
        best = int(np.argmax(logprobs))
        quiz.append((doc, gold, float(best == gold), scored[-CHOICES + gold]))
    riddles = []
    for doc in range(docs // 2):
        text = HOSTILE[doc] if doc < len(HOSTILE) else f" It is {doc}. The answer is {doc % 7}."
        group = [
            Sample(text, 9, -3.5, "length" if doc % 5 == 0 else "stop"),
            Sample(" no", 2, -1.0, "stop"),
        ]
        sampling = {"stop": ["\n\n"], "max_tokens": 32, "temperature": 1.0, "top_p": 1.0, "n": 2}
        use = [("riddles:cot", doc, 0, "conditioned")]
        context = HOSTILE[0] if doc == 0 else f"Riddle {doc}?"
        rows.append(request(key("r", doc), "generate", context, "", 0, use, json.dumps(sampling)))
        samples.append(group)
        riddles.append((doc, float(random.random() < 0.5)))
    write_requests(folder / "requests.parquet", rows)
    offsets = np.concatenate([[0], np.cumsum([len(s) for s in scored])])
    flat = np.array([x for s in scored for x in s], np.float32)
    write_answers(
        folder / "responses.parquet",
        Answers.concat(
            [
                Answers.scored(keys, offsets, flat, flat > -1),
                Answers.generated([key("r", doc) for doc, _ in riddles], samples),
            ]
        ),
    )
    instances = []
    for doc, gold, right, logprobs in quiz:
        state = "error" if doc % 40 == 7 else "truncated" if doc % 25 == 4 else "ok"
        size = len(rows[doc * CHOICES + gold]["continuation"].encode())
        bits = -sum(logprobs) / np.log(2) / size
        for task, metric, value in (
            ("quiz:rc", "acc_per_char", right),
            ("quiz:rc", "bits_per_byte", bits),
            ("quiz:bpb", "bits_per_byte", bits),
        ):
            instances.append(
                instance(
                    task, doc, f"Q{doc}", state, metric, value, 0 if task == "quiz:bpb" else gold
                )
            )
    for doc, right in riddles:
        name = HOSTILE[1] if doc == 1 else f"R{doc}"
        instances.append(
            instance(
                "riddles:cot", doc, name, "ok", "exact_match", right, None, [str(doc), HOSTILE[0]]
            )
        )
    table = pd.DataFrame(instances).sort_values(["task", "metric", "doc_id"], ignore_index=True)
    table["gold"] = table["gold"].astype("Int32")
    table.to_parquet(folder / "instances.parquet", index=False)
    tasks = {
        "quiz:rc": score(table, "quiz:rc", ["acc_per_char", "bits_per_byte"]),
        "riddles:cot": score(table, "riddles:cot", ["exact_match"]),
        "quiz:bpb": score(table, "quiz:bpb", ["bits_per_byte"]),
    }
    tasks["riddles:cot"]["counters"] |= {
        "length_limited": docs // 10, "unparsed": docs // 22, "code_suspected_cheats": 1
    }  # fmt: skip
    write_grades(folder, docs // 2)
    write_json(folder / "metrics.json", {"tasks": tasks, "suites": {}, "errors": 3})
    write_status(folder, status, list(tasks), seed=seed, **about)
    return folder


def write_grades(folder: Path, docs: int) -> None:
    """Every eleventh riddle has no answer; a program of riddle 9 is a suspected cheat."""
    pd.DataFrame(
        [
            {"task": "riddles:cot", "doc_id": doc, "sample": k, "right": float(k == 0),
             "answer": "" if doc % 11 == 10 else str(doc % 7) if k == 0 else None}
            for doc in range(docs) for k in range(2)
        ]
    ).to_parquet(folder / "grades.parquet")  # fmt: skip
    verdict = {
        "task": "riddles:cot", "doc_id": 9, "native_id": "R9", "sample": 0, "status": "failed",
        "mode": "strict", "strict": "failed", "compat": "passed", "detail": "AssertionError: 1",
        "seconds": 0.25, "asserts": 3, "stdout": HOSTILE[0], "stderr": "", "tier": "T1",
        "suspected_cheat": True, "program": "import os; os._exit(0)",
    }  # fmt: skip
    passed = {"doc_id": 12, "status": "passed", "strict": "passed", "suspected_cheat": False}
    pd.DataFrame([verdict, verdict | passed]).to_parquet(folder / "verdicts.parquet")


def write_status(folder: Path, status: str, tasks: list[str], seed: int = 0, **about: Any) -> None:
    """``run.json``, as a run under way has it alone."""
    folder.mkdir(parents=True, exist_ok=True)
    model = {
        "name": folder.name, "path": "/nowhere", "fingerprint": str(seed), "params": 1,
        "params_total": 2, "max_length": 128, "settings": {},
        "metadata": {"run": "made", "step": seed},
    }  # fmt: skip
    write_json(
        folder / "run.json",
        {
            "status": status, "asked": {"limit": None}, "tasks": {t: {} for t in tasks},
            "model": model, "tokenizer": "-", "versions": {},
            "started": "2026-01-01T00:00:00+00:00", **about,
        },
    )  # fmt: skip


def request(
    key: bytes, kind: str, context: str, continuation: str, tokens: int, uses: list[Any],
    sampling: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    names = ("task", "doc_id", "choice", "role")
    return {
        "key": key, "kind": kind, "context": context, "continuation": continuation,
        "sampling": sampling, "context_tokens": 30, "continuation_tokens": tokens,
        "truncated": False, "seam": False,
        "uses": [dict(zip(names, use, strict=True)) for use in uses],
    }  # fmt: skip


def write_requests(path: Path, rows: list[dict[str, Any]]) -> None:
    """In small row groups, as the engine writes them."""
    use = pa.struct(
        [("task", pa.string()), ("doc_id", pa.int64()), ("choice", pa.int32()),
         ("role", pa.string())]
    )  # fmt: skip
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    table = pa.table(
        {
            **columns,
            "key": pa.array(columns["key"], pa.binary(16)),
            "sampling": pa.array(columns["sampling"], pa.string()),
            "uses": pa.array(columns["uses"], pa.list_(use)),
        }
    )
    pq.write_table(table, path, row_group_size=64)


def instance(
    task: str, doc: int, name: str, state: str, metric: str, value: float, gold: int | None,
    references: list[str] | None = None,
) -> dict[str, Any]:  # fmt: skip
    return {
        "task": task, "doc_id": doc, "native_id": name, "cluster": None, "status": state,
        "gold": gold, "references": json.dumps(references) if references else None,
        "metric": metric, "value": np.nan if state == "error" else value,
    }  # fmt: skip


def score(table: pd.DataFrame, task: str, metrics: list[str]) -> dict[str, Any]:
    of_task = table[table["task"] == task]
    found = {}
    for metric in metrics:
        values = of_task[of_task["metric"] == metric]["value"].dropna()
        found[metric] = {
            "value": float(values.mean()), "stderr": float(values.sem()), "n": len(values),
            "higher_is_better": metric != "bits_per_byte",
        }  # fmt: skip
    first = of_task[of_task["metric"] == metrics[0]]
    return {
        "primary_metric": metrics[0], "metrics": found, "instances": len(first),
        "errors": int((first["status"] == "error").sum()), "clusters": None,
        "counters": {"truncated": int((first["status"] == "truncated").sum())}, "hash": task,
    }  # fmt: skip
