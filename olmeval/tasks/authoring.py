"""Tasks of one's own: a first task file from a file of documents, and a check of task files."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from olmeval.errors import UserError
from olmeval.files import make_dir, write_text
from olmeval.tasks.families import CATALOGUE, entry_point_paths, forms_of, load_catalogue
from olmeval.tasks.registry import load_task, resolve
from olmeval.tasks.sources import Absent, read_file

# What people call these columns, most telling name first.
_QUESTION = ("question", "query", "prompt", "problem", "input", "stem")
_CHOICES = ("choices", "options", "endings", "candidates")
_GOLD = ("gold", "label", "answer_index", "answer_idx", "answer", "answerKey", "target")
_ANSWER = ("answers", "answer", "target", "output", "gold", "solution")
_TEXT = ("text", "document", "content")
_SOURCE = ("source", "domain", "subset", "group")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class Check:
    """One task of a task file: ``status`` is ok, error or unchecked, ``message`` says why."""

    spec: str
    status: str
    message: str


def new_task(name: str, source: Path, folder: Path) -> Path:
    """Writes ``folder/<name>.yaml``, a task over the documents of ``source``, and returns its path.

    The columns are guessed from the first document: choices and the right one give the formats rc
    and mc, a question and its answer a generation, text alone bits per byte of documents. A person
    edits the rest. Raises :class:`UserError` for a name that is taken, a file that exists, or
    columns that say nothing.
    """
    if not _NAME.fullmatch(name):
        raise UserError(f"'{name}' is not a task name: use letters, digits, '_', '.' and '-'")
    known = load_catalogue()
    if name in known.names():
        raise UserError(f"the task name '{name}' is taken; choose another one")
    path = folder / f"{name}.yaml"
    if path.exists():
        raise UserError(f"'{path}' exists; delete it or choose another name")
    if not source.exists():
        raise UserError(f"'{source}' does not exist")
    row = read_file(source)[0]
    make_dir(folder)
    data = source.resolve()
    if data.is_relative_to(folder.resolve()):
        data = data.relative_to(folder.resolve())
    write_text(path, _task_file(name, data, source, row))
    load_catalogue([folder])
    return path


def _task_file(name: str, data: Path, source: Path, row: Mapping[str, Any]) -> str:
    for body in (_choice, _generation, _documents):
        found = body(row)
        if found is not None:
            return _HEAD.format(name=name, data=_quoted(str(data)), columns=", ".join(row)) + found
    raise UserError(
        f"'{source}': no task can be made of the columns {', '.join(row)}; it needs a question with"
        " choices or an answer, or text"
    )


_HEAD = """\
# The columns of the data: {columns}.
# Edit what stands here, then: olmeval tasks preview {name} --task-path FOLDER
families:
  {name}:
    summary: what {name} asks  # shown by `olmeval tasks list`
    split: test
    splits:
      test: [{{file: {data}}}]
"""


def _choice(row: Mapping[str, Any]) -> str | None:
    question, choices, gold = (_column(row, names) for names in (_QUESTION, _CHOICES, _GOLD))
    if question is None or choices is None or gold is None or not isinstance(row[choices], list):
        return None
    right = f'"{{{gold}}}"'
    if not isinstance(row[gold], int):
        # A letter, or the text of a choice.
        letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[: len(row[choices])]
        in_full = row[gold] in row[choices]
        of = f'"{{{choices}}}"' if in_full else "[" + ", ".join(letters) + "]"
        right = f'{{index: "{{{gold}}}", of: {of}}}'
    return f"""\
    readings:
      raw:
        fields:
{_id(row)}          question: "{{{question}}}"
          choices: "{{{choices}}}"
          gold: {right}
    default: rc
    formats:
      rc:  # every choice is scored as text
        prompt: "Question: {{question}}\\nAnswer:"
        unconditional: "Answer:"
        primary: acc_per_char
        num_shots: 0
      mc:  # the letter of every choice is scored
        prompt: "Question: {{question}}\\n{{lettered}}\\nAnswer:"
        primary: acc_raw
        num_shots: 0
"""


def _generation(row: Mapping[str, Any]) -> str | None:
    question, answer = _column(row, _QUESTION), _column(row, _ANSWER)
    if question is None or answer is None:
        return None
    accepted = f'"{{{answer}}}"' if isinstance(row[answer], list) else f'["{{{answer}}}"]'
    return f"""\
    readings:
      raw:
        fields:
{_id(row)}          question: "{{{question}}}"
          answers: {accepted}
    default: genqa
    formats:
      genqa:  # the model writes an answer
        prompt: "Question: {{question}}\\nAnswer:"
        references: "{{answers}}"
        grader: squad  # or drop, gsm8k, minerva, ...
        sampling: {{stop: ["\\n\\n", "Question:"], max_tokens: 50}}
        primary: f1
        num_shots: 0
"""


def _documents(row: Mapping[str, Any]) -> str | None:
    text, source = _column(row, _TEXT), _column(row, _SOURCE)
    if text is None:
        return None
    fields = f'          text: "{{{text}}}"\n'
    group = ""
    if source is not None:
        fields += f'          source: "{{{source}}}"\n'
        group = '        group: "{source}"  # reported by source, too\n'
    return f"""\
    readings:
      raw:
        fields:
{_id(row)}{fields}    default: ppl
    formats:
      ppl:  # bits per byte of whole documents
        prompt: ""
        target: "{{text}}"
{group}        primary: bits_per_byte
        num_shots: 0
"""


def _column(row: Mapping[str, Any], names: Sequence[str]) -> str | None:
    return next((name for name in names if name in row), None)


def _id(row: Mapping[str, Any]) -> str:
    return '          id: "{id}"\n' if "id" in row else ""


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def validate(
    task_paths: Sequence[Path] = (), on_check: Callable[[Check], None] | None = None
) -> list[Check]:
    """Checks every family, format and variant of the task files; of all when ``task_paths`` is ().

    Each is resolved, and its first three documents are rendered where the data is at hand.
    ``on_check`` hears of each. Raises :class:`UserError` for a file that cannot be read at all.
    """
    checks = []
    for spec in _specs(task_paths):
        check = _check(spec, task_paths)
        if check is not None:
            checks.append(check)
            if on_check is not None:
                on_check(check)
    return checks


def count_specs(task_paths: Sequence[Path] = ()) -> int:
    """At most how many checks :func:`validate` makes."""
    return len(_specs(task_paths))


def _specs(task_paths: Sequence[Path]) -> list[str]:
    folders = task_paths or (CATALOGUE, *entry_point_paths())
    own = {Path(folder).resolve() for folder in folders}
    return [
        ":".join([name, form, *variant])
        for name, entry in load_catalogue(task_paths).entries.items()
        if entry.folder.resolve() in own
        for form in forms_of(entry.family)
        for variant in ([], *([v] for v in entry.family.variants))
    ]


def _check(spec: str, task_paths: Sequence[Path]) -> Check | None:
    try:
        resolve(spec, task_paths)
    except UserError as error:
        return None if "does not apply to the format" in str(error) else _error(spec, error)
    try:
        found = load_task(spec, 3, task_paths).instances()
    except Absent as error:
        return Check(spec, "unchecked", str(error))
    except UserError as error:
        return _error(spec, error)
    return Check(spec, "ok", f"{len(found)} documents rendered")


def _error(spec: str, error: UserError) -> Check:
    return Check(spec, "error", str(error))
