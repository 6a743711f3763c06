from pathlib import Path

import pytest

from olmeval.errors import UserError
from olmeval.tasks.documents import load_split, read_documents
from olmeval.tasks.schema import Family, Reading
from olmeval.tasks.sources import Rows


def read(rows, **reading):
    return read_documents(Rows(tuple(rows), {}), Reading.model_validate(reading), "name")


def test_fields_of_every_kind() -> None:
    row = {"k": 5, "q": "Question: a\nb\nAnswer:", "c": {"text": ["x", " y"]}, "key": "B"}
    (doc,) = read(
        [row],
        fields={
            "id": "k{k}",
            "position": "{_index}",
            "question": {"match": "{q}", "pattern": "Question: (.*)\nAnswer:"},
            "choices": "{c.text}",
            "pair": ["{k}", "{key}!"],
            "gold": {"index": "{key}", "of": ["A", "B"]},
            "from_list": {"index": " y", "of": "{c.text}"},
        },
    )
    assert doc == {
        "id": "k5", "position": 0, "question": "a\nb", "choices": ["x", " y"],
        "pair": [5, "B!"], "gold": 1, "from_list": 1,
    }  # fmt: skip


def test_without_fields_the_row_is_the_document() -> None:
    rows = [{"a": 1}, {"a": 2, "id": "own"}]
    assert read(rows) == [{"id": 0, "_index": 0, "a": 1}, {"id": "own", "_index": 1, "a": 2}]


def test_a_document_without_id_has_its_position() -> None:
    assert read([{"a": 1}, {"a": 2}], fields={"x": "{a}"}) == [{"id": 0, "x": 1}, {"id": 1, "x": 2}]


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("{b}", r"no 'b' \(it has: _index, a\)"),
        ({"match": "{a}", "pattern": "(x)"}, "does not match"),
        ({"index": "{a}", "of": ["x"]}, "'bad' is not among"),
    ],
)
def test_a_bad_row_is_named(field, message: str) -> None:
    rows = [{"a": "x"}, {"a": "bad"}] if field != "{b}" else [{"a": "x"}]
    with pytest.raises(
        UserError, match=f"task 'name': row {len(rows) - 1} of the data: .*{message}"
    ):
        read(rows, fields={"f": field})


def family(tmp_path: Path) -> Family:
    for name in ("train", "test"):
        (tmp_path / f"{name}.jsonl").write_text(f'{{"id": "{name}"}}\n')
    return Family.model_validate(
        {
            "summary": "s",
            "split": "all",
            "splits": {"train": [{"file": "train.jsonl"}], "test": [{"file": "test.jsonl"}]},
            "default": "rc",
            "formats": {"rc": {"prompt": "", "primary": "acc_raw", "num_shots": 0}},
        }
    )


def test_all_is_test_validation_train_in_that_order(tmp_path: Path) -> None:
    docs, provenance = load_split("name", family(tmp_path), "all", tmp_path)
    assert [doc["id"] for doc in docs] == ["test", "train"]
    assert [p["split"] for p in provenance] == ["test", "train"]


def test_an_unknown_split_has_a_suggestion(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no split 'trian'; did you mean 'train'"):
        load_split("name", family(tmp_path), "trian", tmp_path)
