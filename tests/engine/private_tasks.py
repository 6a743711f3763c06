"""A private task with choices, clusters and short answers, made here."""

import json
from pathlib import Path

import numpy as np

BOXES = """
families:
  boxes:
    summary: Coins in boxes.
    split: test
    splits: {test: [{file: boxes.jsonl}]}
    default: rc
    formats:
      rc: {prompt: "{passage}\\nQuestion: {question}\\nAnswer:", gold: "{answer}",
           primary: acc_raw, num_shots: 0}
      mc: {prompt: "{passage}\\nQuestion: {question}\\n{lettered}\\nAnswer:", gold: "{answer}",
           primary: acc_raw, num_shots: 0}
      genqa:
        prompt: "{passage}\\nQuestion: {question}\\nAnswer:"
        references: "{choices}"
        grader: squad
        sampling: {stop: ["\\n"], max_tokens: 8, temperature: 1.0, n: 2}
        primary: f1
        num_shots: 0
"""


def write_boxes(folder: Path, documents: int) -> Path:
    """Writes the task ``boxes`` with so many documents, three to a passage."""
    rng = np.random.default_rng(0)
    rows = [
        {
            "id": f"q{k}",
            "passage": f"The box number {k // 3} holds {rng.integers(2, 90)} coins. " * 3,
            "question": f"What holds the coins, is it {rng.integers(10)}?",
            "choices": ["the box", "the table", " a tree", "nothing at all"],
            "answer": int(rng.integers(4)),
        }
        for k in range(documents)
    ]
    (folder / "boxes.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    (folder / "boxes.yaml").write_text(BOXES)
    return folder
