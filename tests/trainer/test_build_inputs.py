"""How inputs are found, cut and packed; templates; data sets of the hub."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from olmeval.config import parse_config
from olmeval.errors import UserError
from olmeval.trainer import build_inputs
from olmeval.trainer.build_inputs import Inputs, find_inputs
from olmeval.trainer.build_read import read
from olmeval.trainer.build_spec import BuildSpec, fill_template, parse_template, template_fields
from tests.trainer.data_builds import build_spec, write_jsonl

TOKENIZER = Path("unused")


def texts(inputs: Inputs) -> list[list[str]]:
    """What each piece reads."""
    return [
        [document.values[0] for part in piece.parts for document in read(part, ["text"])]
        for piece in inputs.pieces
    ]


@pytest.mark.parametrize("target", [1, 7, 50, 333, 10**6])
def test_cut_lines_are_read_once_and_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: int
) -> None:
    monkeypatch.setattr(build_inputs, "PIECE_BYTES", target)
    rows = [{"text": f"{i} " + "x" * (i * 7 % 60)} for i in range(40)]
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    path.write_bytes(path.read_bytes().rstrip(b"\n"))  # the last line has no end
    inputs = find_inputs(build_spec(TOKENIZER, str(path)))
    assert [text for piece in texts(inputs) for text in piece] == [row["text"] for row in rows]
    size = path.stat().st_size
    assert len(inputs.pieces) == -(-size // target)
    assert sum(piece.size for piece in inputs.pieces) == size


def test_cut_tables_are_read_once_and_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datasets import Dataset

    monkeypatch.setattr(build_inputs, "PIECE_BYTES", 2000)
    rows = [f"{i} " + "x" * (i % 60) for i in range(1000)]
    pq.write_table(pa.table({"text": rows}), tmp_path / "a.parquet", row_group_size=30)
    Dataset.from_dict({"text": rows}).save_to_disk(tmp_path / "b", num_shards=3)
    for name in ("a.parquet", "b"):
        inputs = find_inputs(build_spec(TOKENIZER, str(tmp_path / name)))
        assert len(inputs.pieces) > 2
        assert [text for piece in texts(inputs) for text in piece] == rows


def test_the_number_of_pieces_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_inputs, "PIECE_BYTES", 1)
    monkeypatch.setattr(build_inputs, "MOST_PIECES", 10)
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": "x" * 20}] * 200)
    assert 10 <= len(find_inputs(build_spec(TOKENIZER, str(path))).pieces) <= 11


def test_small_files_share_a_piece_and_token_files_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_inputs, "PIECE_BYTES", 100)
    for i in range(10):
        (tmp_path / f"{i}.txt").write_text("x" * 30)
    for i in range(3):
        (tmp_path / f"9{i}.npy").write_bytes(b"1234")
    (tmp_path / "99.txt").write_text("last")
    pieces = find_inputs(build_spec(TOKENIZER, str(tmp_path))).pieces
    assert [len(piece.parts) for piece in pieces] == [3, 3, 3, 1, 1, 1, 1, 1]


def test_a_saved_data_set_that_is_cached_elsewhere_is_not_mistaken(tmp_path: Path) -> None:
    """Only the files that the data set lists count, not those that ``map`` left beside them."""
    from datasets import Dataset, load_from_disk

    Dataset.from_dict({"text": ["a", "b"]}).save_to_disk(tmp_path / "d")
    load_from_disk(tmp_path / "d").map(lambda row: {"text": row["text"] * 2})
    assert len(list((tmp_path / "d").glob("*.arrow"))) == 2
    assert texts(find_inputs(build_spec(TOKENIZER, str(tmp_path / "d")))) == [["a", "b"]]


def test_splits_of_saved_data_sets(tmp_path: Path) -> None:
    from datasets import Dataset, DatasetDict

    DatasetDict({"train": Dataset.from_dict({"text": ["a"]})}).save_to_disk(tmp_path / "d")
    source = {"path": str(tmp_path / "d"), "split": "trian"}
    with pytest.raises(UserError, match="has no split 'trian'; did you mean 'train'"):
        find_inputs(build_spec(TOKENIZER, source))


def test_data_sets_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    datasets.Dataset.from_dict({"text": ["a", "b", "c"]}).save_to_disk(tmp_path / "d")
    local = datasets.load_from_disk(tmp_path / "d")
    asked: list[Any] = []

    def load(*args: Any, **options: Any) -> Any:
        asked.append((args, options))
        if options["split"] == "broken":
            raise ConnectionError("no network\nat all")
        return local.select([0, 2]) if options["split"] == "train[:2]" else local

    monkeypatch.setattr(datasets, "load_dataset", load)
    source = {"path": "hf://org/some-data@v2", "subset": "en"}
    inputs = find_inputs(build_spec(TOKENIZER, source))
    assert texts(inputs) == [["a", "b", "c"]]
    assert inputs.pieces[0].parts[0].domain == "some-data"
    assert asked == [(("org/some-data", "en"), {"split": "train", "revision": "v2"})]
    with pytest.raises(UserError, match="is a selection of 2 of 3 rows; save it with save_to_disk"):
        find_inputs(build_spec(TOKENIZER, {**source, "split": "train[:2]"}))
    with pytest.raises(UserError, match=r"cannot load 'hf://org/some-data@v2' .*: no network$"):
        find_inputs(build_spec(TOKENIZER, {**source, "split": "broken"}))


def test_templates() -> None:
    assert template_fields("web/{meta.topic}-{year}") == ("meta.topic", "year")
    assert fill_template(parse_template("web/{meta.topic}-{year}"), ["a", 3]) == "web/a-3"
    assert fill_template(parse_template("a{{b}}"), []) == "a{b}"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"path": "x", "domain": "{"}, "sources.0.domain: '{' is not a name such as"),
        ({"path": "x", "domain": "{}"}, "sources.0.domain: '{}' is not a name such as"),
        ({"path": "x", "domain": "{a:3}"}, "sources.0.domain: '{a:3}' is not a name"),
        ({"path": "x", "domain": ""}, "sources.0.domain: '' is not a name"),
        ({"path": "x", "fromat": "jsonl"}, "unknown key 'sources.0.fromat'; did you mean 'format'"),
        ({"domain": "x"}, "the key 'sources.0.path' is required"),
        ({"path": "x", "format": "csv"}, "sources.0.format: Input should be 'jsonl', 'parquet'"),
    ],
)
def test_wrong_specifications(source: dict[str, str], message: str) -> None:
    text = json.dumps({"tokenizer": "t", "sources": [source]})
    with pytest.raises(UserError, match=r"build\.yaml:1: ") as caught:
        parse_config(text, BuildSpec, "build.yaml")
    assert message in str(caught.value)
