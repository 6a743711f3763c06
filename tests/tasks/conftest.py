"""Fixtures for tests of tasks."""

from pathlib import Path

import pytest

from olmeval.tasks.families import load_catalogue


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


FIXTURES = Path(__file__).parent / "fixtures"
# One file of rows in the schema that several data sets share.
SHARED = {
    "-gen2mc": "any-gen2mc__rows.jsonl", "olmes-shots/agi": "any-agieval__rows.jsonl",
    "olmes-shots/": "any-gen2mc__rows.jsonl", "AGIEval/": "any-agieval__rows.jsonl",
    "cot-prompts/": "bbh_cot.txt", "documents.jsonl": "documents__copy.jsonl",
}  # fmt: skip


@pytest.fixture(scope="session")
def copies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as ``OLMEVAL_DATA`` may name it, with rows made for tests of every hub data set."""
    root = tmp_path_factory.mktemp("copies")
    for entry in load_catalogue().entries.values():
        for split, places in entry.family.splits.items():
            for place in places:
                if place.copy_ is not None:
                    _put(root / place.copy_, _shared(place.copy_))
                elif place.hub is not None:
                    own = FIXTURES / f"{place.hub.replace('/', '__')}__{split}.jsonl"
                    text = own.read_text() if own.exists() else _shared(place.hub)
                    _put(root / place.hub / f"{place.split or split}.jsonl", text)
    return root


def _shared(name: str) -> str:
    found = [FIXTURES / file for key, file in SHARED.items() if key in name]
    return found[0].read_text() if found else ""


def _put(path: Path, text: str) -> None:
    if not text or path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    if '"category": "*"' in text:  # MMLU-Pro: the same rows in every category
        text = "".join(text.replace('"*"', f'"{name}"') for name in CATEGORIES)
    path.write_text(text)


CATEGORIES = (
    "biology", "business", "chemistry", "computer science", "economics", "engineering", "health",
    "history", "law", "math", "other", "philosophy", "physics", "psychology",
)  # fmt: skip
