import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from olmeval.errors import CorruptFileError, UserError
from olmeval.tasks import sources
from olmeval.tasks.schema import Place
from olmeval.tasks.sources import Absent, read_file, read_first, read_place

ROWS = [{"id": "a", "n": 1, "list": ["x", " y"]}, {"id": "b", "n": 2, "list": []}]


@pytest.fixture
def no_pull(monkeypatch) -> None:
    monkeypatch.setattr(sources, "find_pulled", lambda: None)


@pytest.fixture
def fake_pull(monkeypatch, tmp_path: Path) -> Path:
    """A folder in the layout of the pulled data, with one table and one folder of requests."""
    table = tmp_path / "hf_datasets" / "set" / "test"
    table.mkdir(parents=True)
    write_arrow(table / "data-00000-of-00002.arrow", ROWS[:1])
    write_arrow(table / "data-00001-of-00002.arrow", ROWS[1:])
    folder = tmp_path / "oe_eval_tasks" / "task" / "rc"
    folder.mkdir(parents=True)
    lines = [request(0, 0), request(0, 1), request(1, 0), request(1_000_000, 0)]
    with gzip.open(folder / "requests.jsonl.gz", "wt") as file:
        file.write("".join(json.dumps(line) + "\n" for line in lines))
    monkeypatch.setattr(sources, "find_pulled", lambda: tmp_path)
    return tmp_path


def request(doc_id: int, idx: int) -> dict:
    return {
        "doc": {"query": f"q{doc_id}", "idx": 0},
        "request": {"context": f"c{doc_id}", "continuation": f" {idx}"},
        "idx": idx,
        "doc_id": doc_id,
    }


def write_arrow(path: Path, rows: list[dict], stream: bool = True) -> None:
    table = pa.Table.from_pylist(rows, schema=pa.Table.from_pylist(ROWS).schema)
    new = pa.ipc.new_stream if stream else pa.ipc.new_file
    with new(str(path), table.schema) as writer:
        writer.write_table(table)


def write(path: Path) -> None:
    text = "".join(json.dumps(row) + "\n" for row in ROWS)
    if path.name.endswith(".jsonl"):
        path.write_text(text)
    elif path.name.endswith(".gz"):
        path.write_bytes(gzip.compress(text.encode()))
    elif path.name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    else:
        write_arrow(path, ROWS, stream="stream" in path.name)


FILES = ["a.jsonl", "a.jsonl.gz", "a.parquet", "a-stream.arrow", "a-file.arrow"]


@pytest.mark.parametrize("name", FILES)
def test_local_files(tmp_path: Path, name: str) -> None:
    write(tmp_path / name)
    rows = read_place(Place(file=name), "test", tmp_path)
    assert list(rows.rows) == ROWS
    assert rows.provenance["kind"] == "file" and len(rows.provenance["sha256"]) == 64


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.parquet", "a-stream.arrow", "a-file.arrow"])
def test_a_truncated_file_is_named(tmp_path: Path, name: str) -> None:
    write(tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CorruptFileError, match=name):
        read_file(tmp_path / name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1}\n{"a": \n', "line 2 is not valid JSON"),
        ("[1]\n", "line 1: expected an object"),
        ("\n\n", "holds no documents"),
    ],
)
def test_bad_jsonl_is_named_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "bad.jsonl").write_text(text)
    with pytest.raises(UserError, match=rf"bad\.jsonl'.*{message}"):
        read_file(tmp_path / "bad.jsonl")


def test_an_unknown_kind_of_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"expected a \.jsonl"):
        read_file(tmp_path / "a.csv")


def test_a_file_that_changes_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n')
    first = read_place(Place(file="a.jsonl"), "test", tmp_path)
    path.write_text('{"a": 1}\n{"a": 2}\n')
    second = read_place(Place(file="a.jsonl"), "test", tmp_path)
    assert [len(first.rows), len(second.rows)] == [1, 2]
    assert first.provenance["sha256"] != second.provenance["sha256"]


def test_pulled_tables_are_all_files_in_order(fake_pull: Path) -> None:
    rows = read_place(Place(table="set/test"), "test", fake_pull)
    assert list(rows.rows) == ROWS and rows.provenance["kind"] == "pulled table"


def test_pulled_requests_give_one_document_each(fake_pull: Path) -> None:
    """Further choices and unconditional rows repeat the document."""
    rows = read_place(Place(requests="task/rc"), "test", fake_pull)
    assert [row["query"] for row in rows.rows] == ["q0", "q1"]
    assert len(sources.read_requests("task/rc")) == 4
    sources.first_context.cache_clear()
    assert sources.first_context("task/rc") == "c0"
    sources.first_context.cache_clear()


def test_the_first_place_at_hand_wins(tmp_path: Path, no_pull) -> None:
    write(tmp_path / "a.jsonl")
    places = [Place(table="set/test"), Place(file="gone.jsonl"), Place(file="a.jsonl")]
    rows, place = read_first(places, "test", tmp_path, "'x'")
    assert place.file == "a.jsonl" and len(rows.rows) == 2


def test_no_place_at_hand_says_what_to_run(tmp_path: Path, no_pull) -> None:
    with pytest.raises(UserError) as error:
        read_first([Place(requests="a/b"), Place(file="gone.jsonl")], "test", tmp_path, "'x'")
    message = str(error.value)
    assert "no data for 'x'" in message and "run 'olmeval data pull olmes'" in message
    assert "gone.jsonl' does not exist" in message and "\n" not in message


def test_a_folder_the_pull_lacks(fake_pull: Path) -> None:
    with pytest.raises(Absent, match="the pulled data has no 'hf_datasets/other'"):
        read_place(Place(table="other"), "test", fake_pull)


def test_a_local_folder_in_the_layout_of_datasets(tmp_path: Path) -> None:
    from datasets import Dataset, DatasetDict

    Dataset.from_list(ROWS).save_to_disk(tmp_path / "one")
    DatasetDict({"dev": Dataset.from_list(ROWS)}).save_to_disk(tmp_path / "many")
    one = read_place(Place(hub=str(tmp_path / "one")), "test", tmp_path)
    many = read_place(Place(hub=str(tmp_path / "many"), split="dev"), "test", tmp_path)
    assert list(one.rows) == list(many.rows) == ROWS
    assert many.provenance["split"] == "dev" and many.provenance["revision"] == "unpinned"
    assert many.provenance["fingerprint"]
    with pytest.raises(Absent, match="could not be loaded"):
        read_place(Place(hub=str(tmp_path / "many")), "test", tmp_path)


def test_the_hub_out_of_reach_is_one_quick_sentence(tmp_path: Path, monkeypatch) -> None:
    import time

    monkeypatch.setattr(sources, "_hub_answers", lambda: False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    started = time.monotonic()
    with pytest.raises(Absent, match="the data set 'no/such-set' could not be loaded: no connec"):
        read_place(Place(hub="no/such-set"), "test", tmp_path)
    assert time.monotonic() - started < 10


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, "exactly one of requests, table, hub, file and copy"),
        ({"file": "a", "hub": "b"}, "exactly one of"),
        ({"file": "a", "revision": "main"}, "belong to a 'hub' place"),
    ],
)
def test_a_place_is_of_one_kind(keys: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Place(**keys)
