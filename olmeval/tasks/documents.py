"""Raw rows into the documents that templates see."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from olmeval.errors import UserError, nearest
from olmeval.tasks.hooks import HOOKS
from olmeval.tasks.schema import Family, IndexOf, Match, Reading
from olmeval.tasks.sources import Row, Rows, read_first
from olmeval.tasks.template import compile_template

Document = dict[str, Any]
Getter = Callable[[Row], Any]


def load_split(
    name: str, family: Family, split: str, folder: Path
) -> tuple[list[Document], list[dict[str, Any]]]:
    """The documents of ``split`` and the provenance of each source read.

    ``all`` is test + validation + train, in that order (as OLMES has it, github.com/allenai/olmes).
    """
    splits = [split]
    if split == "all":
        splits = [s for s in ("test", "validation", "train") if s in family.splits]
    if split not in ("all", *family.splits):
        hint = nearest(split, family.splits)
        raise UserError(f"task '{name}': no split '{split}'{hint}")
    documents: list[Document] = []
    provenance = []
    for part in splits:
        rows, place = read_first(family.splits[part], part, folder, f"'{name}' (split {part})")
        documents += read_documents(rows, family.readings[place.reading], name)
        provenance.append({**rows.provenance, "split": part})
    return documents, provenance


def read_documents(rows: Rows, reading: Reading, name: str) -> list[Document]:
    """Applies a reading; a document without ``id`` gets its position.

    Raises :class:`UserError` that names task and row.
    """
    docs: Sequence[Row] = rows.rows
    if reading.where is not None:
        wanted = reading.where.items()
        docs = [row for row in docs if all(str(row.get(k)) == v for k, v in wanted)]
        if not docs:
            raise UserError(f"task '{name}': the data holds no row with {reading.where}")
    if reading.prepare is not None:
        docs = HOOKS[reading.prepare](docs)
    if reading.fields is None:
        return [{"id": index, "_index": index, **doc} for index, doc in enumerate(docs)]
    getters = {field: _getter(expression) for field, expression in reading.fields.items()}
    documents = []
    for index, doc in enumerate(docs):
        values = {"_index": index, **doc}
        try:
            documents.append(
                {"id": index, **{field: get(values) for field, get in getters.items()}}
            )
        except (UserError, ValueError) as error:
            raise UserError(f"task '{name}': row {index} of the data: {error}") from None
    return documents


def _getter(expression: str | list[str] | Match | IndexOf) -> Getter:
    if isinstance(expression, str):
        return compile_template(expression)
    if isinstance(expression, list):
        items = [compile_template(item) for item in expression]
        return lambda values: [item(values) for item in items]
    if isinstance(expression, Match):
        return _matcher(compile_template(expression.match), expression.pattern)
    index = compile_template(expression.index)
    of = expression.of
    options: Getter = compile_template(of) if isinstance(of, str) else lambda _: of

    def position(values: Row) -> int:
        wanted, known = str(index(values)), [str(option) for option in options(values)]
        if wanted not in known:
            raise UserError(f"'{wanted}' is not among {known}")
        return known.index(wanted)

    return position


def _matcher(text: Getter, pattern: str) -> Getter:
    compiled = re.compile(pattern, re.DOTALL)

    def group(values: Row) -> str:
        match = compiled.fullmatch(str(text(values)))
        if match is None:
            raise UserError(f"the text does not match {pattern!r}")
        return match.group(1)

    return group
