"""A person's own tasks: written from a file of documents, found, and checked."""

import json
from pathlib import Path

import pytest

from olmeval.errors import UserError
from olmeval.tasks import families
from olmeval.tasks.authoring import count_specs, new_task, validate
from olmeval.tasks.families import entry_point_paths, load_catalogue
from olmeval.tasks.registry import load_task


def write(path: Path, *rows: dict) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    ("row", "format", "expected"),
    [
        ({"question": "q", "choices": ["a", "b"], "gold": 1}, "rc", " b"),
        ({"stem": "q", "options": ["a", "b"], "answer": "B", "id": "z"}, "rc", " b"),
        ({"query": "q", "choices": ["no", "yes"], "label": "yes"}, "rc", " yes"),
        ({"question": "q", "answers": ["x", "y"]}, "genqa", ("x", "y")),
        ({"input": "q", "target": "x"}, "genqa", ("x",)),
        ({"text": " A whole  document.\n", "source": "web"}, "ppl", "web"),
    ],
)
def test_a_new_task_runs_as_it_is(tmp_path: Path, row: dict, format: str, expected) -> None:
    folder = tmp_path / "tasks"
    path = new_task("mine", write(tmp_path / "rows.jsonl", row), folder)
    assert path == folder / "mine.yaml"
    task = load_task("mine", None, [folder])
    (instance,) = task.instances()
    assert task.format == format
    if format == "rc":
        assert instance.requests[instance.gold or 0].continuation == expected
        assert instance.requests[0].context == "Question: q\nAnswer:"
    elif format == "genqa":
        assert instance.references == expected
    else:
        assert instance.requests[0].continuation == row["text"] and instance.group == expected
    assert {check.status for check in validate([folder])} == {"ok"}


def test_data_beside_the_task_file_is_named_without_its_folder(tmp_path: Path) -> None:
    rows = write(tmp_path / "rows.jsonl", {"text": "a"})
    assert 'file: "rows.jsonl"' in new_task("mine", rows, tmp_path).read_text()


def test_new_refuses_what_it_cannot_do(tmp_path: Path) -> None:
    rows = write(tmp_path / "rows.jsonl", {"text": "a"})
    with pytest.raises(UserError, match="the task name 'gsm8k' is taken"):
        new_task("gsm8k", rows, tmp_path)
    with pytest.raises(UserError, match="'a b' is not a task name"):
        new_task("a b", rows, tmp_path)
    with pytest.raises(UserError, match=r"no\.jsonl' does not exist"):
        new_task("mine", tmp_path / "no.jsonl", tmp_path)
    with pytest.raises(UserError, match="no task can be made of the columns n, m"):
        new_task("mine", write(tmp_path / "n.jsonl", {"n": 1, "m": 2}), tmp_path)
    new_task("mine", rows, tmp_path)
    with pytest.raises(UserError, match=r"mine\.yaml' exists"):
        new_task("mine", rows, tmp_path)


def test_validate_finds_a_document_that_does_not_fit(quiz: Path) -> None:
    assert [c.status for c in validate([quiz])] == ["ok"] * 3  # rc, mc and the bpb twin
    with (quiz / "quiz.jsonl").open("a") as file:
        file.write('{"id": "e", "question": "?", "choices": ["0", "9"], "gold": 2}\n')
    seen: list[str] = []
    checks = validate([quiz], lambda check: seen.append(check.spec))
    assert len(checks) == len(seen) == count_specs([quiz])
    wrong = [c for c in checks if c.status == "error"]
    assert wrong and "the gold index 2 is outside its 2 choices" in wrong[0].message
    (quiz / "quiz.jsonl").unlink()
    assert {c.status for c in validate([quiz])} == {"unchecked"}


class Point:
    def __init__(self, name: str, value: object) -> None:
        self.name, self.value, self._object = name, "pkg:thing", value

    def load(self) -> object:
        return self._object


def test_an_installed_package_brings_tasks(quiz: Path, monkeypatch) -> None:
    for value in (str(quiz), quiz, lambda: quiz, lambda: [quiz]):
        entry_point_paths.cache_clear()
        monkeypatch.setattr(families, "entry_points", lambda group, v=value: [Point("mine", v)])
        assert "quiz" in load_catalogue().entries
        # The same folder again on the command line is read once.
        assert "quiz" in load_catalogue([quiz]).entries
    monkeypatch.setattr(families, "entry_points", lambda group: [Point("bad", lambda: 1 / 0)])
    entry_point_paths.cache_clear()
    with pytest.raises(UserError, match=r"the entry point 'bad' .* ZeroDivisionError"):
        load_catalogue()
    monkeypatch.undo()
    entry_point_paths.cache_clear()
    assert "quiz" not in load_catalogue().entries
