"""Builds: what they write, that nothing changes it, and what they refuse."""

import gzip
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from olmeval.errors import UserError
from olmeval.executors.inprocess import InProcess
from olmeval.files import read_json
from olmeval.trainer import build, build_inputs, build_work
from olmeval.trainer.build import build_data
from olmeval.trainer.shards import load_manifest, open_domain
from tests.trainer.data_builds import (
    EOS,
    EOS_ID,
    build_spec,
    contents,
    expected,
    ids,
    save_tokenizer,
    tree,
    write_jsonl,
)

WEB = ["the first page", "another", "a third one, longer than the others"]
CODE = ["x = 1", "def f(): pass"]


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    return save_tokenizer(tmp_path / "words.json")


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Does the pieces in this process, which is faster to start than another."""
    monkeypatch.setattr(build, "make_executor", lambda *_, **__: InProcess())
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")


def documents(texts: list[str], **fields: Any) -> list[dict[str, Any]]:
    return [{"text": text, **fields} for text in texts]


def run(spec: Any, root: Path, **options: Any) -> build.BuildResult:
    return build_data(spec, root, progress=False, **options)


def test_shards_hold_the_documents_and_nothing_else(
    tmp_path: Path, tokenizer: Path, here: None
) -> None:
    write_jsonl(tmp_path / "in/web/a.jsonl", documents(WEB))
    write_jsonl(tmp_path / "in/web/b.jsonl", documents(["last"]))
    write_jsonl(tmp_path / "in/code/deep/a.jsonl", documents(CODE))
    (tmp_path / "in/README").write_text("not a document")
    (tmp_path / "in/.hidden.jsonl").write_text("nor this")
    root = tmp_path / "out"
    result = run(build_spec(tokenizer, str(tmp_path / "in")), root)
    assert contents(root) == {"code/deep": expected(CODE), "web": expected([*WEB, "last"])}
    code, web = result.domains
    assert (web.domain, web.tokens, web.documents) == ("web", len(expected([*WEB, "last"])), 4)
    assert web.bytes == sum(map(len, [*WEB, "last"])) and code.shards == 1
    assert code.bytes_per_token == sum(map(len, CODE)) / (sum(map(len, CODE)) + 2)
    assert (result.pieces, result.kept, result.empty, result.ignored) == (1, 0, 0, 1)
    manifest = load_manifest(root)
    assert (manifest.vocab_size, manifest.eos_id, manifest.bos_id) == (257, EOS_ID, None)


def test_transformers_loads_the_tokenizer_and_decodes_the_shards(
    tmp_path: Path, tokenizer: Path, here: None
) -> None:
    from transformers import AutoTokenizer

    text = "naïve café\n\n  日本 🙂"
    write_jsonl(tmp_path / "web.jsonl", documents([text]))
    root = tmp_path / "out"
    run(build_spec(tokenizer, str(tmp_path / "web.jsonl")), root)
    manifest = load_manifest(root)
    loaded = AutoTokenizer.from_pretrained(root / manifest.tokenizer.path)
    (tokens,) = open_domain(root, manifest, "web")
    assert loaded.eos_token_id == tokens[-1] == EOS_ID
    assert loaded.decode(tokens[:-1]) == text
    assert manifest.domains["web"][0].bytes == len(text.encode()) == len(tokens) - 1


def test_every_format_gives_the_same_tokens(tmp_path: Path, tokenizer: Path, here: None) -> None:
    from datasets import Dataset, DatasetDict

    lines = "".join(f'{{"text": "{text}", "id": {i}}}\n' for i, text in enumerate(WEB)).encode()
    (tmp_path / "a.jsonl").write_bytes(lines)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(lines[:30]) + gzip.compress(lines[30:]))
    (tmp_path / "c.jsonl.zst").write_bytes(pa.compress(lines, "zstd", asbytes=True))
    table = pa.table({"id": [1, 2, 3], "text": WEB, "other": [None] * 3})
    pq.write_table(table, tmp_path / "d.parquet", row_group_size=2)
    Dataset.from_dict({"text": WEB}).save_to_disk(tmp_path / "e")
    splits = {
        "train": Dataset.from_dict({"text": ["no"]}),
        "test": Dataset.from_dict({"text": WEB}),
    }
    DatasetDict(splits).save_to_disk(tmp_path / "f")
    for i, text in enumerate(WEB):
        (tmp_path / "g").mkdir(exist_ok=True)
        (tmp_path / f"g/{i}.txt").write_text(text)
    (tmp_path / "h").write_bytes(lines)
    sources: list[Any] = [str(tmp_path / name) for name in ("a.jsonl", "b.jsonl.gz")]
    sources += [str(tmp_path / name) for name in ("c.jsonl.zst", "d.parquet", "e", "g")]
    sources += [{"path": str(tmp_path / "f"), "split": "test"}]
    sources += [{"path": str(tmp_path / "h"), "format": "jsonl"}]
    run(build_spec(tokenizer, *sources), tmp_path / "out")
    assert contents(tmp_path / "out") == {name: expected(WEB) for name in "abcdefgh"}


@pytest.mark.parametrize("format", ["jsonl", "parquet", "saved"])
def test_domains_from_fields(tmp_path: Path, tokenizer: Path, here: None, format: str) -> None:
    rows = [
        {"content": {"body": text}, "meta": {"topic": topic, "year": 1999 + i % 2}}
        for i, (text, topic) in enumerate(zip([*WEB, *CODE], "abacb", strict=True))
    ]
    path = tmp_path / "docs.parquet"
    if format == "jsonl":
        path = write_jsonl(tmp_path / "docs.jsonl", rows)
    elif format == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        from datasets import Dataset

        path = tmp_path / "docs"
        Dataset.from_list(rows).save_to_disk(path)
    domain = "web/{meta.topic}-{meta.year}"
    source = {"path": str(path), "domain": domain, "text": "content.body"}
    run(build_spec(tokenizer, source), tmp_path / "out")
    assert contents(tmp_path / "out") == {
        "web/a-1999": expected([WEB[0], WEB[2]]),
        "web/b-2000": expected([WEB[1]]),
        "web/b-1999": expected([CODE[1]]),
        "web/c-2000": expected([CODE[0]]),
    }


def test_domains_from_globs_and_names(
    tmp_path: Path, tokenizer: Path, here: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("x/one/a.jsonl", "x/two/a.jsonl", "x/two/skip.txt", "y/a.jsonl", "z{1}/a.jsonl"):
        write_jsonl(tmp_path / name, documents([name]))
    monkeypatch.chdir(tmp_path)
    named = {"path": "y/*.jsonl", "domain": "why"}
    run(build_spec(tokenizer, "x/**/*.jsonl", "y/*.jsonl", named, "z{1}"), tmp_path / "out")
    assert contents(tmp_path / "out") == {
        "one": ids("x/one/a.jsonl"),
        "two": ids("x/two/a.jsonl"),
        "y": ids("y/a.jsonl"),
        "why": ids("y/a.jsonl"),
        "z{1}": ids("z{1}/a.jsonl"),
    }


@pytest.fixture
def many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Inputs of two formats that are cut into about 20 pieces; three domains by a field."""
    monkeypatch.setattr(build_inputs, "PIECE_BYTES", 10_000)
    rng = np.random.default_rng(0)
    rows = [
        {
            "text": "".join(rng.choice(list("abc \n"), size=rng.integers(1, 400))),
            "topic": f"t{i % 3}",
        }
        for i in range(1000)
    ]
    write_jsonl(tmp_path / "many/a.jsonl", rows[:500])
    table = pa.Table.from_pylist(rows[500:])
    pq.write_table(table, tmp_path / "many/b.parquet", row_group_size=20, compression="none")
    return tmp_path / "many"


def spec_of(many: Path, tokenizer: Path) -> Any:
    return build_spec(tokenizer, {"path": str(many), "domain": "all/{topic}"})


def test_any_number_of_workers_gives_the_same_bytes(
    tmp_path: Path, tokenizer: Path, many: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = [run(spec_of(many, tokenizer), tmp_path / f"{n}", workers=n) for n in (1, 3)]
    assert results[0].pieces > 15
    one, three = (tree(tmp_path / f"{n}") for n in (1, 3))
    assert one == three
    # Nor do the cuts decide what a domain holds: a single piece gives the same tokens.
    monkeypatch.setattr(build_inputs, "PIECE_BYTES", 1 << 30)
    assert run(spec_of(many, tokenizer), tmp_path / "whole", workers=1).pieces == 1
    assert contents(tmp_path / "whole") == contents(tmp_path / "1")
    assert sum(row.documents for row in results[0].domains) == 1000


KILLED = """
import sys
from olmeval.trainer import build_inputs
build_inputs.PIECE_BYTES = 10_000
from pathlib import Path
from tests.trainer.data_builds import build_spec
from olmeval.trainer.build import build_data
many, tokenizer, root = map(Path, sys.argv[1:])
spec = build_spec(tokenizer, {"path": str(many), "domain": "all/{topic}"})
build_data(spec, root, workers=1, progress=False)
"""


def test_a_killed_build_goes_on_and_gives_the_same_bytes(
    tmp_path: Path, tokenizer: Path, many: Path, here: None
) -> None:
    root = tmp_path / "killed"
    command = [sys.executable, "-c", KILLED, str(many), str(tokenizer), str(root)]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[2])
    deadline = time.monotonic() + 60
    while len(list(root.glob(".build/*.json"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (root / "manifest.json").exists()
    wait_until_still(root)
    (root / "all/t0/.00007-00000.bin.123.tmp").write_text("begun by the worker")
    result = run(spec_of(many, tokenizer), root)
    assert 3 <= result.kept < result.pieces
    run(spec_of(many, tokenizer), tmp_path / "whole")
    assert tree(root) == tree(tmp_path / "whole")


def wait_until_still(root: Path) -> None:
    """The worker of a killed build ends on its own, moments later; until then it may write."""
    deadline = time.monotonic() + 30
    before: dict[str, bytes] = {}
    while (now := tree(root)) != before and time.monotonic() < deadline:
        before = now
        time.sleep(2)


def test_a_finished_build_is_verified_and_repaired(
    tmp_path: Path, tokenizer: Path, many: Path, here: None
) -> None:
    root, spec = tmp_path / "out", spec_of(many, tokenizer)
    first = run(spec, root)
    whole = tree(root)
    again = run(spec, root)
    assert again.kept == again.pieces == first.pieces and tree(root) == whole
    assert again.domains == first.domains
    shard = root / load_manifest(root).domains["all/t1"][0].file
    data = bytearray(shard.read_bytes())
    data[0] ^= 1
    shard.write_bytes(data)
    (root / ".build/00001.json").write_text("{")
    next(root.glob("all/t2/00002-*.idx")).unlink()
    third = run(spec, root)
    assert third.kept == third.pieces - 3 and tree(root) == whole


def test_shards_end_at_their_size(
    tmp_path: Path, tokenizer: Path, here: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        build_work,
        "DomainWriter",
        lambda *args, **options: build_work_writer(*args, **options, shard_tokens=20),
    )
    write_jsonl(tmp_path / "web.jsonl", documents(WEB))
    result = run(build_spec(tokenizer, str(tmp_path / "web.jsonl")), tmp_path / "out")
    assert result.domains[0].shards == 2 and contents(tmp_path / "out") == {"web": expected(WEB)}


build_work_writer = build_work.DomainWriter


def test_other_settings_are_refused(
    tmp_path: Path, tokenizer: Path, here: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_jsonl(tmp_path / "web.jsonl", documents(WEB))
    root = tmp_path / "out"
    run(build_spec(tokenizer, str(path)), root)
    other = save_tokenizer(tmp_path / "other.json", extra=1)
    with pytest.raises(UserError, match="was begun with another tokenizer; choose another --out"):
        run(build_spec(other, str(path)), root)
    with pytest.raises(UserError, match="begun with other sources"):
        run(build_spec(tokenizer, {"path": str(path), "domain": "x"}), root)
    with monkeypatch.context() as patch:
        patch.setattr("tokenizers.__version__", "0.0")
        with pytest.raises(UserError, match="begun with another version of the tokenizers library"):
            run(build_spec(tokenizer, str(path)), root)
    write_jsonl(path, documents([*WEB, "more"]))
    with pytest.raises(UserError, match="begun with input files that have changed since"):
        run(build_spec(tokenizer, str(path)), root)


def test_other_folders_are_refused(tmp_path: Path, tokenizer: Path, here: None) -> None:
    spec = build_spec(tokenizer, str(write_jsonl(tmp_path / "web.jsonl", documents(WEB))))
    with pytest.raises(UserError, match=r"'.*words\.json' is a file"):
        run(spec, tokenizer)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match=r"is not a build \('thesis\.tex'\)"):
        run(spec, tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.tex"]


def test_two_builds_in_one_folder_are_refused(tmp_path: Path, tokenizer: Path, here: None) -> None:
    from olmeval.files import locked

    spec = build_spec(tokenizer, str(write_jsonl(tmp_path / "web.jsonl", documents(WEB))))
    with (
        locked(tmp_path / "out/.build/lock"),
        pytest.raises(UserError, match="another process is building in"),
    ):
        run(spec, tmp_path / "out")
    run(spec, tmp_path / "out")


def test_text_cannot_end_a_document(tmp_path: Path, here: None) -> None:
    tokenizer = save_tokenizer(tmp_path / "t.json", special=False)
    text = f"before {EOS} after"
    path = write_jsonl(tmp_path / "web.jsonl", documents([text]))
    run(build_spec(tokenizer, str(path)), tmp_path / "out")
    assert contents(tmp_path / "out") == {"web": ids(text)}


def test_documents_without_text_and_broken_characters_are_counted(
    tmp_path: Path, tokenizer: Path, here: None
) -> None:
    lines = ['{"text": ""}', '{"text": null}', '{"text": "a \\ud83d b"}', "", '{"text": "ok"}']
    lines += ['{"text": "\\ud83d\\ude42"}']
    (tmp_path / "web.jsonl").write_text("\n".join(lines))
    result = run(build_spec(tokenizer, str(tmp_path / "web.jsonl")), tmp_path / "out")
    assert (result.empty, result.repaired, result.domains[0].documents) == (2, 1, 3)
    manifest = load_manifest(tmp_path / "out", "hash")
    (tokens,) = open_domain(tmp_path / "out", manifest, "web")
    from tokenizers import Tokenizer

    decoder = Tokenizer.from_file(str(tokenizer))
    ends = np.flatnonzero(tokens == EOS_ID)
    texts = [decoder.decode(part[part != EOS_ID].tolist()) for part in np.split(tokens, ends + 1)]
    assert texts == ["a \N{REPLACEMENT CHARACTER} b", "ok", "🙂", ""]


def test_a_large_vocabulary_takes_four_bytes(tmp_path: Path, here: None) -> None:
    tokenizer = save_tokenizer(tmp_path / "t.json", extra=70_000)
    path = write_jsonl(tmp_path / "web.jsonl", documents(WEB))
    run(build_spec(tokenizer, str(path)), tmp_path / "out")
    (shard,) = load_manifest(tmp_path / "out").domains["web"]
    assert shard.dtype == "uint32" and contents(tmp_path / "out") == {"web": expected(WEB)}
    assert (tmp_path / "out" / shard.file).stat().st_size == 4 * shard.tokens
    spec = build_spec(tokenizer, {"path": str(path), "format": "tokens", "dtype": "uint16"})
    with pytest.raises(UserError, match="cannot be uint16: the tokenizer has 70,257 ids"):
        run(spec, tmp_path / "other")


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


def test_workers_are_at_least_one(tmp_path: Path, tokenizer: Path) -> None:
    path = write_jsonl(tmp_path / "web.jsonl", documents(WEB))
    with pytest.raises(UserError, match="at least 1"):
        run(build_spec(tokenizer, str(path)), tmp_path / "out", workers=0)


def test_the_environment_of_this_process_is_left_alone(tmp_path: Path, tokenizer: Path) -> None:
    before = dict(os.environ)
    path = write_jsonl(tmp_path / "web.jsonl", documents(WEB))
    run(build_spec(tokenizer, str(path)), tmp_path / "out")
    assert dict(os.environ) == before
    assert read_json(tmp_path / "out/build.json")["eos"] == EOS
