"""Builds: what they write, and that nothing changes it."""

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
from olmeval.files import read_json
from olmeval.trainer import build_inputs, build_work
from olmeval.trainer.shards import load_manifest, open_domain
from tests.trainer.data_builds import (
    CODE,
    EOS,
    EOS_ID,
    WEB,
    build_spec,
    contents,
    documents,
    expected,
    ids,
    run,
    save_tokenizer,
    tree,
    write_jsonl,
)


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
