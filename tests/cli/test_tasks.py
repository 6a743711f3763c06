"""``olmeval tasks``: what a person sees, and JSON for a script."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from olmeval.cli import tasks as module
from olmeval.cli.tasks import tasks
from olmeval.errors import UserError

QUIZ = """
families:
  quiz:
    summary: sums
    split: test
    splits: {test: [{file: quiz.jsonl}]}
    default: rc
    formats:
      rc: {prompt: "Question: {question}\\nAnswer:", primary: acc_per_char, num_shots: 0}
"""


@pytest.fixture
def quiz(tmp_path: Path) -> Path:
    (tmp_path / "quiz.yaml").write_text(QUIZ)
    (tmp_path / "quiz.jsonl").write_text(
        '{"question": "1 + 1 =", "choices": ["2", "3"], "gold": 0}\n'
    )
    return tmp_path


def run(*words: object) -> str:
    result = CliRunner().invoke(tasks, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_list(quiz: Path) -> None:
    listed = json.loads(run("list", "--json", "--task-path", quiz))
    rows = listed["tasks"]
    assert {"olmo3:base_easy:qa_rc", "core_9mcqa::olmes"} <= {s["suite"] for s in listed["suites"]}
    names = {row["task"] for row in rows}
    assert {"quiz", "arc_easy", "mmlu", "mmlu_virology", "mt_mbpp"} <= names
    assert len(names) == len(rows)
    table = run("list", "winogr")
    assert "winogrande" in table and "bpb,mc,rc" in table and "arc_easy" not in table


def test_show(quiz: Path) -> None:
    text = run("show", "quiz", "--task-path", quiz)
    assert "quiz:rc:0shot" in text and r"Question: {question}\nAnswer:" in text
    shown = json.loads(run("show", "quiz", "--task-path", quiz, "--json"))
    assert shown["task"] == "quiz:rc:0shot" and shown["documents"] == "1 of 1"


def test_preview(quiz: Path, tokenizer_dir: Path) -> None:
    text = run("preview", "quiz", "--task-path", quiz, "--tokenizer", tokenizer_dir)
    # The small tokenizer joins no digit to a space: every digit is a token.
    assert "│·│1│·│+│·│1│·│=│↵\n│" in text
    assert "Question:·1·+·1·=↵\nAnswer:\n" in text.replace("│", "")
    assert "gold" in text.split("continuation 0")[1].splitlines()[0]
    assert "gold" not in text.split("continuation 1")[1].splitlines()[0]


def test_show_names_the_deviations_of_the_standard(pulled: Path) -> None:
    text = run("show", "drop")
    assert "('answer',)" in text and "fixed" in text and "sha256" in text


def test_an_unknown_task_is_one_sentence() -> None:
    with pytest.raises(UserError, match="unknown task 'arc_eazy'; did you mean 'arc_easy'"):
        run("show", "arc_eazy")


def test_parity_as_json(pulled: Path, monkeypatch) -> None:
    from olmeval.tasks import parity
    from olmeval.tasks.parity import FolderParity

    rows = [FolderParity("a/b", "a:b", 3, 4, "request 1: the label differs")]
    monkeypatch.setattr(parity, "compare_all", lambda on_folder: rows)
    found = json.loads(run("parity", "--json"))
    assert (found["equal"], found["total"]) == (3, 4)
    assert found["folders"][0]["reason"] == "request 1: the label differs"
    assert "a/b" in run("parity")


def test_help_shows_an_example() -> None:
    for words in ([], ["list"], ["show"], ["preview"], ["parity"]):
        assert "Example: olmeval tasks" in run(*words, "--help")


def test_heavy_imports_wait_for_the_command() -> None:
    top = Path(module.__file__).read_text().split("@click.group")[0]
    assert "rich" not in top.split("if TYPE_CHECKING:")[0]


def test_new_then_validate_then_preview(tmp_path: Path, tokenizer_dir: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"question": "1 + 1 =", "answers": ["2", "two"]}\n')
    text = run("new", "mine", "--from", tmp_path / "rows.jsonl", "--task-path", tmp_path)
    assert "olmeval tasks preview mine" in text
    assert "1 tasks are right, 0 are wrong" in run("validate", "--task-path", tmp_path)
    checks = json.loads(run("validate", "--task-path", tmp_path, "--json"))
    assert checks["ok"] == 1 and checks["checks"][0]["spec"] == "mine:genqa"
    text = run("preview", "mine", "--task-path", tmp_path, "--tokenizer", tokenizer_dir)
    assert "accepted: ('2', 'two')" in text and "max_tokens=50" in text


def test_validate_exits_with_1_when_a_task_is_wrong(quiz: Path) -> None:
    (quiz / "quiz.jsonl").write_text('{"question": "?", "choices": ["2"], "gold": 4}\n')
    result = CliRunner().invoke(tasks, ["validate", "--task-path", str(quiz)])
    assert result.exit_code == 1
    assert "quiz:rc: " in result.output and "outside its 1 choices" in result.output


def test_show_says_what_it_can_of_a_task_whose_data_is_elsewhere(pulled: Path, monkeypatch) -> None:
    from olmeval.tasks import sources

    monkeypatch.delenv("OLMEVAL_DATA", raising=False)
    monkeypatch.setattr(sources, "_hub_answers", lambda: False)
    shown = json.loads(run("show", "bbh_navigate", "--json"))
    assert shown["places"][0]["hub"] == "lukaemon/bbh" and "no connection" in shown["not here"]
    assert "the answer is B" in shown["deviations"][0] and "fixed" in shown["variants"]


def test_parity_writes_its_page(pulled: Path, monkeypatch, tmp_path: Path) -> None:
    from olmeval.tasks import parity
    from olmeval.tasks.parity import FolderParity

    rows = [FolderParity("a/b", "a:b", 4, 4, None), FolderParity("c/d", None, 0, 5, "why")]
    monkeypatch.setattr(parity, "compare_all", lambda on_folder: rows)
    run("parity", "--write", tmp_path / "p.md")
    page = (tmp_path / "p.md").read_text()
    assert "**4 of 9 requests are equal byte for byte, in 1 of 2 folders.**" in page
    assert "| `a/b` | `a:b` | 4 | 4 |  |" in page and "| `c/d` |  | 0 | 5 | why |" in page


def test_a_list_without_a_match_says_so() -> None:
    result = CliRunner().invoke(tasks, ["list", "hellaswagg"])
    assert isinstance(result.exception, UserError)
    assert "no suite has 'hellaswagg'" in str(result.exception)
    assert "'hellaswag'" in str(result.exception)


def test_validate_names_the_file_that_a_task_of_ones_own_lacks(tmp_path: Path) -> None:
    (tmp_path / "quiz.yaml").write_text(QUIZ.replace("quiz.jsonl", "absent.jsonl"))
    result = CliRunner().invoke(tasks, ["validate", "--task-path", str(tmp_path)])
    assert result.exit_code == 0 and "absent.jsonl' does not exist" in result.output
    assert "2 not checked" in result.output
