"""The shard format: an independent reading of the bytes, and every way a folder can be wrong."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from olmeval.errors import UserError
from olmeval.files import sha256_file
from olmeval.trainer import shard_writer, shards
from olmeval.trainer.shards import Manifest, Shard, TokenizerInfo

DOCS = [[5, 6, 7], [8], [9, 10, 0], [11, 12, 13, 14]]
FLAT = [5, 6, 7, 0, 8, 0, 9, 10, 0, 11, 12, 13, 14, 0]


def build(
    root: Path, vocab_size: int = 100, documents: list[list[int]] = DOCS, **options: int
) -> Manifest:
    (root / "tokenizer").mkdir(parents=True)
    (root / "tokenizer" / "tokenizer.json").write_text("{}")
    written = shard_writer.write_domain(
        root,
        "web/art",
        documents,
        vocab_size=vocab_size,
        eos_id=0,
        doc_bytes=[sum(token > 0 for token in d) for d in documents],
        **options,
    )
    manifest = Manifest(
        tokenizer=TokenizerInfo(
            id="toy", sha256=sha256_file(root / "tokenizer/tokenizer.json"), path="tokenizer"
        ),
        vocab_size=vocab_size,
        eos_id=0,
        domains={"web/art": written},
    )
    shards.write_manifest(root, manifest)
    return manifest


def edit(root: Path, **changes: object) -> None:
    """Changes keys of the first shard in the manifest, or of the manifest itself."""
    value = json.loads((root / "manifest.json").read_text())
    for key, change in changes.items():
        (value if key in value else value["domains"]["web/art"][0])[key] = change
    (root / "manifest.json").write_text(json.dumps(value))


@pytest.mark.parametrize(("vocab_size", "code"), [(100, "<u2"), (65_536, "<u2"), (65_537, "<u4")])
def test_bytes_on_disk(tmp_path: Path, vocab_size: int, code: str) -> None:
    manifest = build(tmp_path, vocab_size)
    assert (tmp_path / "web/art/00000.bin").read_bytes() == np.array(FLAT, code).tobytes()
    assert (tmp_path / "web/art/00000.idx").read_bytes() == np.array([4, 6, 9, 14], "<u8").tobytes()
    (shard,) = manifest.domains["web/art"]
    assert (shard.tokens, shard.docs, shard.bytes) == (14, 4, 10)
    assert shards.load_manifest(tmp_path, "hash") == manifest
    (tokens,) = shards.open_domain(tmp_path, manifest, "web/art")
    assert tokens.tolist() == FLAT
    assert manifest.tokens("web/art") == 14


@pytest.mark.parametrize("block", [1, 5, 1 << 20])
def test_shards_are_cut_at_document_ends(
    tmp_path: Path, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "BLOCK", block)
    monkeypatch.setattr(shard_writer, "BLOCK", block)
    manifest = build(tmp_path, shard_tokens=5)
    assert [(s.file, s.tokens, s.docs, s.bytes) for s in manifest.domains["web/art"]] == [
        ("web/art/00000.bin", 6, 2, 4),
        ("web/art/00001.bin", 8, 2, 6),
    ]
    maps = shards.open_domain(tmp_path, shards.load_manifest(tmp_path, "hash"), "web/art")
    assert np.concatenate(maps).tolist() == FLAT


def test_a_lost_index_is_found_by_a_scan(tmp_path: Path) -> None:
    manifest = build(tmp_path)
    (shard,) = manifest.domains["web/art"]
    with_index = shards.document_ends(tmp_path, shard, 0).tolist()
    (tmp_path / "web/art/00000.idx").unlink()
    assert shards.document_ends(tmp_path, shard, 0).tolist() == with_index == [4, 6, 9, 14]
    shards.load_manifest(tmp_path, "hash")


@pytest.mark.parametrize("header", [True, False])
def test_npy_files_with_and_without_a_header(tmp_path: Path, header: bool) -> None:
    build(tmp_path)
    path = tmp_path / "web/art/tokens.npy"
    array = np.array(FLAT, dtype="<u2")
    if header:
        np.save(path, array)
    else:
        array.tofile(path)
    edit(tmp_path, file="web/art/tokens.npy", sha256=sha256_file(path))
    manifest = shards.load_manifest(tmp_path, "hash")
    assert shards.open_domain(tmp_path, manifest, "web/art")[0].tolist() == FLAT


@pytest.mark.parametrize(
    ("documents", "message"),
    [
        ([], "domain 'd' is empty"),
        ([[1], []], "document 1 of domain 'd' is empty"),
        ([[1], [0]], "document 1 of domain 'd' is empty"),
        ([[1], [2, 3], [4, 100]], "document 2 of domain 'd' holds token id 100, beyond"),
        ([[1, -1]], "document 0 of domain 'd' holds token id -1, beyond"),
        ([[1], [2, 0, 3]], "document 1 of domain 'd' holds the EOS token 0 before its end"),
    ],
)
def test_bad_documents(tmp_path: Path, documents: list[list[int]], message: str) -> None:
    with pytest.raises(UserError, match=message):
        shard_writer.write_domain(tmp_path, "d", documents, vocab_size=100, eos_id=0)
    assert not list(tmp_path.rglob("*.bin")) and not list(tmp_path.rglob("*.tmp"))


def test_domains_stay_inside_the_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="must be a relative path inside"):
        shard_writer.write_domain(tmp_path, "../out", DOCS, vocab_size=100, eos_id=0)


def test_unknown_domain_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"unknown domain 'web/arts'; did you mean 'web/art'\?"):
        build(tmp_path).shards("web/arts")


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"manifest\.json' does not exist"):
        shards.load_manifest(tmp_path)
    build(tmp_path)
    (tmp_path / "web/art/00000.bin").rename(tmp_path / "kept")
    with pytest.raises(UserError, match=r"00000\.bin' is missing"):
        shards.load_manifest(tmp_path)
    (tmp_path / "kept").rename(tmp_path / "web/art/00000.bin")
    (tmp_path / "tokenizer/tokenizer.json").unlink()
    with pytest.raises(UserError, match=r"tokenizer\.json' is missing"):
        shards.load_manifest(tmp_path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.array(FLAT[:-3], "<u2").tobytes(), r"00000\.bin' is truncated: 22 bytes.*14 tokens"),
        (np.array(FLAT, "<u2").tobytes()[:-1], r"00000\.bin' is truncated: 27 bytes"),
        (np.array([*FLAT, 1, 0], "<u2").tobytes(), r"00000\.bin' is too long"),
        (np.array(FLAT, "<u4").tobytes(), r"00000\.bin' is uint32, though the manifest says uint1"),
        (np.array([*FLAT[:-1], 3], "<u2").tobytes(), r"00000\.bin' does not end with the EOS"),
        (b"", r"00000\.bin' is truncated: 0 bytes"),
    ],
)
def test_damage_that_sizes_show(tmp_path: Path, data: bytes, message: str) -> None:
    build(tmp_path)
    (tmp_path / "web/art/00000.bin").write_bytes(data)
    with pytest.raises(UserError, match=message):
        shards.load_manifest(tmp_path)


@pytest.mark.parametrize("position", [0, 4900, 9998])
def test_a_sample_of_the_tokens_is_checked_at_every_start(tmp_path: Path, position: int) -> None:
    build(tmp_path, documents=[[7] * 9999])
    path = tmp_path / "web/art/00000.bin"
    tokens = np.fromfile(path, "<u2")
    tokens[position] = 100
    tokens.tofile(path)
    with pytest.raises(UserError, match=r"00000\.bin' holds token id 100, beyond the vocab.* 100"):
        shards.load_manifest(tmp_path, "size")


def test_damage_that_only_contents_show(tmp_path: Path) -> None:
    build(tmp_path, documents=[[7] * 4999, [8] * 4999])
    path = tmp_path / "web/art/00000.bin"
    whole = np.fromfile(path, "<u2")

    def damage(position: int, token: int) -> None:
        tokens = whole.copy()
        tokens[position] = token
        tokens.tofile(path)
        shards.load_manifest(tmp_path, "size")

    damage(2000, 99)
    with pytest.raises(UserError, match=r"00000\.bin' is corrupt: its SHA-256"):
        shards.load_manifest(tmp_path, "hash")
    damage(2000, 101)
    edit(tmp_path, sha256=sha256_file(path))
    with pytest.raises(UserError, match=r"00000\.bin' holds token id 101, beyond the vocab.* 100"):
        shards.load_manifest(tmp_path, "hash")
    damage(2000, 0)
    edit(tmp_path, sha256=sha256_file(path))
    with pytest.raises(UserError, match=r"00000\.idx' does not match the ends"):
        shards.load_manifest(tmp_path, "hash")
    path.with_suffix(".idx").unlink()
    with pytest.raises(UserError, match="holds 3 documents, though the manifest says 2"):
        shards.load_manifest(tmp_path, "hash")


def test_what_was_found_whole_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(tmp_path, documents=[[7] * 4999, [8] * 4999])
    path, read = tmp_path / "web/art/00000.bin", []
    real = shards._verify_contents
    monkeypatch.setattr(
        shards, "_verify_contents", lambda *args: (read.append(args[0]), real(*args))
    )
    for _ in range(2):
        shards.load_manifest(tmp_path, "once")
        assert read == [path]
    shards.load_manifest(tmp_path, "hash")
    assert read == [path] * 2

    tokens = np.fromfile(path, "<u2")
    tokens[2000] = 101  # not where the sample is
    tokens.tofile(path)
    shards.load_manifest(tmp_path, "size")
    for _ in range(2):
        with pytest.raises(UserError, match=r"00000\.bin' is corrupt"):
            shards.load_manifest(tmp_path, "once")
    edit(tmp_path, sha256=sha256_file(path))
    for _ in range(2):
        with pytest.raises(UserError, match=r"00000\.bin' holds token id 101, beyond"):
            shards.load_manifest(tmp_path, "once")
    tokens[2000] = 7
    tokens.tofile(path)
    edit(tmp_path, sha256=sha256_file(path))
    (tmp_path / ".verified.json").write_text("{")
    read.clear()
    for _ in range(2):
        shards.load_manifest(tmp_path, "once")
        assert read == [path]


def test_all_shards_are_verified_and_counted(tmp_path: Path) -> None:
    manifest = build(tmp_path, shard_tokens=2)
    seen: list[Shard] = []
    shards.load_manifest(tmp_path, "hash", seen.append)
    assert tuple(seen) == manifest.domains["web/art"] and len(seen) == 4
    last = tmp_path / "web/art/00003.bin"
    last.write_bytes(np.array([11, 12, 13, 15, 0], "<u2").tobytes())
    shards.load_manifest(tmp_path, "size")
    with pytest.raises(UserError, match=r"00003\.bin' is corrupt"):
        shards.load_manifest(tmp_path, "hash")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_shard(tmp_path: Path) -> None:
    build(tmp_path)
    (tmp_path / "web/art/00000.bin").chmod(0)
    with pytest.raises(UserError, match=r"00000\.bin': Permission denied"):
        shards.load_manifest(tmp_path)


def test_writing_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def documents() -> Iterator[list[int]]:
        yield [1] * 70_000  # more than a block: the file is begun
        raise KeyError("the source broke")

    with pytest.raises(KeyError):
        shard_writer.write_domain(tmp_path, "d", documents(), vocab_size=100, eos_id=0)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        shard_writer.write_domain(tmp_path, "file", DOCS, vocab_size=100, eos_id=0)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["file"]


def test_index_of_another_size(tmp_path: Path) -> None:
    build(tmp_path)
    (tmp_path / "web/art/00000.idx").write_bytes(b"\0" * 8)
    with pytest.raises(UserError, match=r"00000\.idx' has 8 bytes.*4 documents"):
        shards.load_manifest(tmp_path)


def test_another_tokenizer(tmp_path: Path) -> None:
    build(tmp_path)
    (tmp_path / "tokenizer/tokenizer.json").write_text("{ }")
    shards.load_manifest(tmp_path, "size")
    with pytest.raises(UserError, match="is not the tokenizer that"):
        shards.load_manifest(tmp_path, "hash")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dtype": "float32"}, "domains.web/art.0.dtype"),
        ({"tokens": 0}, "domains.web/art.0.tokens"),
        ({"file": "/etc/passwd"}, "must be a relative path inside"),
        ({"domains": {"web/art": []}}, "domain 'web/art' has no shards"),
        ({"domains": {}}, "domains: "),
        ({"eos_id": 100}, "eos_id 100 is beyond the vocabulary of 100"),
        ({"vocab_size": 70_000}, "is uint16, too narrow for 70000 tokens"),
        ({"version": 2}, "version: "),
    ],
)
def test_bad_manifests(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    build(tmp_path)
    edit(tmp_path, **changes)
    with pytest.raises(UserError, match=message) as caught:
        shards.load_manifest(tmp_path)
    assert "manifest.json" in str(caught.value) and "\n" not in str(caught.value)


def test_manifest_that_is_not_json(tmp_path: Path) -> None:
    build(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(UserError, match=r"manifest\.json' is not valid JSON"):
        shards.load_manifest(tmp_path)
