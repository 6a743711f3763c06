"""Sources of builds: token files that are linked, and what is refused, by its place."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from olmeval.errors import UserError
from olmeval.trainer import build_inputs
from olmeval.trainer.shards import load_manifest
from tests.trainer.data_builds import (
    CODE,
    EOS_ID,
    WEB,
    build_spec,
    contents,
    documents,
    expected,
    run,
    write_jsonl,
)


def write_tokens(path: Path, tokens: list[int], dtype: str = "<u2", header: bool = False) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.array(tokens, dtype)
    np.save(path, array) if header else array.tofile(path)
    return path


def test_token_files_are_linked(tmp_path: Path, tokenizer: Path, here: None) -> None:
    one = write_tokens(tmp_path / "dolma/wiki/part-0.npy", expected(WEB))
    write_tokens(tmp_path / "dolma/wiki/part-1.npy", expected(CODE), header=True)
    (tmp_path / "dolma/wiki/part-0.csv.gz").write_bytes(b"")
    wide = write_tokens(tmp_path / "wide.npy", expected(CODE), "<u4")
    text = write_jsonl(tmp_path / "text.jsonl", documents(CODE))
    spec = build_spec(
        tokenizer, str(tmp_path / "dolma"), {"path": str(wide), "dtype": "uint32"}, str(text)
    )
    result = run(spec, tmp_path / "out")
    assert contents(tmp_path / "out") == {
        "wiki": expected([*WEB, *CODE]), "wide": expected(CODE), "text": expected(CODE),
    }  # fmt: skip
    wiki = result.domains[2]
    assert (wiki.domain, wiki.documents, wiki.bytes, wiki.bytes_per_token) == (
        "wiki",
        5,
        None,
        None,
    )
    link = tmp_path / "out" / load_manifest(tmp_path / "out").domains["wiki"][0].file
    assert link.is_symlink() and link.resolve() == one.resolve()
    assert run(spec, tmp_path / "out").kept == result.pieces == 4
    one.unlink()
    with pytest.raises(UserError, match=r"00000-00000\.npy' is missing, though the manifest"):
        load_manifest(tmp_path / "out")


@pytest.mark.parametrize(
    ("tokens", "dtype", "header", "message"),
    [
        (
            [1, 2, 300, EOS_ID],
            "<u2",
            False,
            r"holds token id 300, beyond the vocabulary of 257; it",
        ),
        ([1, 2, EOS_ID, 3], "<u2", False, r"does not end with the EOS token 256 but with 3"),
        ([1, 2, 3, EOS_ID], "<u4", False, r"every other token of .* is 0.*give 'dtype: uint32'"),
        ([1, 2, 3, EOS_ID], "<i8", True, r"holds int64 of shape \(4,\), where flat uint16"),
        ([1, 2, 3, EOS_ID], ">u2", True, r"holds >u2 of shape"),
        ([], "<u2", False, r"cannot map '.*t\.npy': cannot mmap an empty file"),
        ([], "<u2", True, r"t\.npy' holds no token"),
        ([1], "|u1", False, r"cannot map '.*t\.npy'"),
    ],
)
def test_wrong_token_files_are_refused(
    tmp_path: Path, tokenizer: Path, here: None, tokens: list[int], dtype: str, header: bool,
    message: str,
) -> None:  # fmt: skip
    path = write_tokens(tmp_path / "t.npy", tokens, dtype, header)
    with pytest.raises(UserError, match=message):
        run(build_spec(tokenizer, str(path)), tmp_path / "out")
    assert not (tmp_path / "out/manifest.json").exists()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"path": "in/a.jsonl", "text": "txt"}, r"'in/a\.jsonl', line 1 has no field 'txt'; did"),
        ({"path": "in/a.jsonl", "text": "id"}, r"line 1: the field 'id' is not text but int"),
        ({"path": "in/a.jsonl", "domain": "{topic}"}, r"line 1 has no field 'topic'; it has text"),
        ({"path": "in/a.jsonl", "domain": "{none}"}, r"line 1: the domain '{none}' needs text or"),
        ({"path": "in/a.jsonl", "domain": "../{id}"}, r"line 1: domain '\.\./0' must be"),
        ({"path": "in/a.jsonl", "domain": "{text.x}"}, r"line 1 has no field 'text\.x'"),
        ({"path": "in/b.parquet", "text": "txt"}, r"'in/b\.parquet' has no field 'txt'; did you m"),
        ({"path": "in/b.parquet", "domain": "{o.p}"}, r"'in/b\.parquet' has no field 'o\.p'; it"),
        ({"path": "in/c.txt", "domain": "{id}"}, r"'in/c\.txt' is a text file, without any"),
        ({"path": "in/bad.jsonl"}, r"'in/bad\.jsonl', line 3 is not JSON: Expecting"),
        ({"path": "in/list.jsonl"}, r"'in/list\.jsonl', line 1 is not an object with fields"),
        ({"path": "in/latin.txt"}, r"'in/latin\.txt' is not UTF-8 text"),
        ({"path": "in/cut.jsonl.gz"}, r"cannot read 'in/cut\.jsonl\.gz': Truncated"),
        ({"path": "in/cut.parquet"}, r"cannot read 'in/cut\.parquet': "),
        ({"path": "in/empty.jsonl"}, r"'in/empty\.jsonl' holds no document with text; take it out"),
        ({"path": "in/nothing"}, r"'in/nothing' does not exist"),
        ({"path": "in/*.json"}, r"'in/\*\.json' holds no file that a build reads"),
        ({"path": "in/x.bin"}, r"'in/x\.bin' is none of \.jsonl, .*; give 'format' to say what"),
        ({"path": "in", "format": "dataset"}, r"'in' is not a data set that save_to_disk wrote"),
        ({"path": "in/many.jsonl", "domain": "{id}"}, r"'{id}' gives more than 1,000 domains in"),
    ],
)  # fmt: skip
def test_wrong_sources_are_refused(
    tmp_path: Path, tokenizer: Path, here: None, monkeypatch: pytest.MonkeyPatch,
    source: dict[str, Any], message: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    rows = [{"text": text, "id": i, "none": None} for i, text in enumerate(WEB)]
    lines = write_jsonl(Path("in/a.jsonl"), rows).read_bytes()
    write_jsonl(Path("in/many.jsonl"), [{"text": "x", "id": i} for i in range(1001)])
    pq.write_table(pa.table({"text": WEB}), "in/b.parquet")
    Path("in/c.txt").write_text("text")
    Path("in/bad.jsonl").write_bytes(lines.replace(b'{"text": "a third', b"{text"))
    Path("in/list.jsonl").write_text("[1]\n")
    Path("in/latin.txt").write_bytes("é".encode("latin-1"))
    Path("in/cut.jsonl.gz").write_bytes(gzip.compress(lines)[:-9])
    Path("in/cut.parquet").write_bytes(Path("in/b.parquet").read_bytes()[:-9])
    Path("in/empty.jsonl").write_text("")
    Path("in/x.bin").write_text("")
    with pytest.raises(UserError, match=message) as caught:
        run(build_spec(tokenizer, source), tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out/manifest.json").exists()
    assert not list((tmp_path / "out").rglob("*.tmp"))


def test_lines_are_named_in_later_cuts(
    tmp_path: Path, tokenizer: Path, here: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_inputs, "PIECE_BYTES", 100)
    path = write_jsonl(tmp_path / "a.jsonl", documents(["x" * 10] * 50))
    lines = path.read_bytes().splitlines(keepends=True)
    lines[41] = b"{broken\n"
    path.write_bytes(b"".join(lines))
    with pytest.raises(UserError, match=r"a\.jsonl', line 42 is not JSON"):
        run(build_spec(tokenizer, str(path)), tmp_path / "out")


@pytest.mark.parametrize(("row", "message"), [(0, "row 1"), (33, "row 34")])
def test_rows_of_tables_are_named(
    tmp_path: Path, tokenizer: Path, here: None, row: int, message: str
) -> None:
    topics = [None if i == row else "t" for i in range(50)]
    table = pa.table({"text": ["x"] * 50, "topic": topics})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=20)
    source = {"path": str(tmp_path / "a.parquet"), "domain": "{topic}"}
    with pytest.raises(UserError, match=rf"a\.parquet', {message}: the domain '{{topic}}' needs"):
        run(build_spec(tokenizer, source), tmp_path / "out")


def test_a_domain_without_text_is_refused(tmp_path: Path, tokenizer: Path, here: None) -> None:
    write_jsonl(tmp_path / "in/web/a.jsonl", documents(WEB))
    write_jsonl(tmp_path / "in/code/a.jsonl", documents([""]))
    with pytest.raises(UserError, match=r"domain 'code' is empty: '.*code/a\.jsonl' holds no docu"):
        run(build_spec(tokenizer, str(tmp_path / "in")), tmp_path / "out")
