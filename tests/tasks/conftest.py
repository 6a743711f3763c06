"""Fixtures for tests of tasks."""

from pathlib import Path

import pytest


@pytest.fixture
def quiz(tmp_path: Path) -> Path:
    """A folder with one private task over a local JSONL file of four questions."""
    lines = [
        '{"id": "a", "question": "2 + 2 =", "choices": ["3", " 4 ", "5"], "gold": 1}',
        '{"id": "b", "question": "3 + 3 =", "choices": ["6", "7"], "gold": 0}',
        '{"id": "c", "question": "1 + 0 =", "choices": ["0", "1"], "gold": 1}',
        '{"id": "d", "question": "9 - 9 =", "choices": ["0", "9"], "gold": 0}',
    ]
    (tmp_path / "quiz.jsonl").write_text("\n".join(lines) + "\n")
    (tmp_path / "quiz.yaml").write_text(QUIZ)
    return tmp_path


QUIZ = """
families:
  quiz:
    summary: sums
    split: test
    splits: {test: [{file: quiz.jsonl}]}
    default: rc
    formats:
      rc:
        prompt: "Question: {question}\\nAnswer:"
        unconditional: "Answer:"
        primary: acc_per_char
        num_shots: 2
        shots: [{sample: test, exclude_self: true}]
      mc:
        prompt: "{question}\\n{lettered}\\nAnswer:"
        primary: acc_raw
        num_shots: 0
"""
