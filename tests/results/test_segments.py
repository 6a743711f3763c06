"""The shared store: what was put comes back, whatever happens to its files."""

import errno
import json
import os
import random
import re
import time
import warnings
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from olmeval.errors import CorruptFileError, UserError
from olmeval.results.answers import Answers
from olmeval.results.segments import HEADER, ResponseStore, encode, scan, segments, store_dir
from tests.results.segment_files import ABOUT, KEY, ends, filled, numbered, numbers, open_store


def test_what_is_put_is_loaded_once_in_order(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        assert len(store.load()) == 0
        store.put(Answers.empty())
        assert not tmp_path.joinpath(KEY).exists()
        store.put(numbered(0, 30))
        store.put(numbered(20, 40))
        assert numbers(store.load()) == list(range(40))
        with open_store(tmp_path) as other:
            other.put(numbered(35, 45))
        assert numbers(store.load()) == list(range(45))
    assert len(segments(tmp_path / KEY)) == 2
    assert numbers(open_store(tmp_path).load()) == list(range(45))


def test_the_first_answer_to_a_key_stays(tmp_path: Path) -> None:
    with open_store(tmp_path) as one, open_store(tmp_path) as two:
        for store, value in ((one, -1.0), (two, -2.0), (one, -3.0)):
            scores = np.array([value], np.float32)
            store.put(Answers.scored([b"k" * 16], np.array([0, 1]), scores, scores > -1))
        assert two.load().logprob.tolist() == [-1.0]


def test_a_segment_is_older_than_one_made_later(tmp_path: Path) -> None:
    for k in range(12):
        with open_store(tmp_path) as store:
            store.put(numbered(k, k + 1))
    assert numbers(open_store(tmp_path).load()) == list(range(12))


def test_the_root_is_in_the_cache_or_where_the_environment_says(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("OLMEVAL_CACHE", str(tmp_path))
    monkeypatch.delenv("OLMEVAL_STORE")
    assert store_dir() == tmp_path / "responses"
    monkeypatch.setenv("OLMEVAL_STORE", str(tmp_path / "else"))
    assert store_dir() == ResponseStore().root == tmp_path / "else"


# What a model's folder stands for


def test_the_model_is_described_once_and_copies_share(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.put(numbered(0, 1))
    path = tmp_path / KEY / "model.json"
    before = path.read_bytes()
    assert json.loads(before) == ABOUT
    copy = {**ABOUT, "name": "copy", "path": "/elsewhere"}
    with ResponseStore(tmp_path).model(KEY, copy) as store:
        store.put(numbered(1, 2))
        assert numbers(store.load()) == [0, 1]
    assert path.read_bytes() == before


def test_a_model_that_disagrees_is_refused(tmp_path: Path) -> None:
    filled(tmp_path)
    with pytest.raises(CorruptFileError, match=r"model\.json' is of another model \(dtype is"):
        ResponseStore(tmp_path).model(KEY, {**ABOUT, "dtype": "float16"})
    with pytest.raises(CorruptFileError, match=r"\(backend is 'transformers', not None\)"):
        ResponseStore(tmp_path).model(KEY, {k: v for k, v in ABOUT.items() if k != "backend"})
    for damage in ("{", "[]"):
        (tmp_path / KEY / "model.json").write_text(damage)
        with pytest.raises(CorruptFileError, match=r"model\.json' is damaged; delete it"):
            open_store(tmp_path)
    (tmp_path / KEY / "model.json").unlink()
    assert len(open_store(tmp_path).load()) == 12
    with pytest.raises(ValueError, match="32 hex digits"):
        ResponseStore(tmp_path).model("../elsewhere", ABOUT)


def test_use_is_noted_for_pruning(tmp_path: Path) -> None:
    filled(tmp_path)
    path = tmp_path / KEY / "model.json"
    os.utime(path, (1, 1))
    open_store(tmp_path)
    assert time.time() - path.stat().st_mtime < 60


# Damage


def test_one_flipped_byte_costs_its_frame_and_no_other(tmp_path: Path) -> None:
    data = filled(tmp_path).read_bytes()
    bounds = ends(data)
    frames = [data[a:b] for a, b in pairwise(bounds)]
    random.seed(1)
    for at in range(len(data)):
        flipped = bytearray(data)
        flipped[at] ^= random.randrange(1, 256)
        hit = sum(at >= end for end in bounds[1:])
        found = scan(bytes(flipped))
        assert [bytes(f) for f in found.frames] == frames[:hit] + frames[hit + 1 :]
        assert found.lost_bytes == len(frames[hit])
        in_payload = at >= bounds[hit] + HEADER.size
        assert found.lost_answers == (3 if in_payload else 0)


def test_a_file_cut_anywhere_keeps_its_whole_frames_and_is_no_damage(tmp_path: Path) -> None:
    data = filled(tmp_path).read_bytes()
    bounds = ends(data)
    for cut in range(len(data) + 1):
        found = scan(data[:cut])
        assert len(found.frames) == sum(end <= cut for end in bounds[1:])
        assert found.lost_bytes == 0


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10**6), hits=st.integers(1, 4))
def test_whatever_happens_to_a_segment_no_wrong_answer_is_loaded(
    tmp_path_factory, seed, hits
) -> None:
    root = tmp_path_factory.mktemp("store")
    path = filled(root)
    chance = random.Random(seed)
    data = path.read_bytes()
    for _ in range(hits):
        at, n = chance.randrange(len(data)), chance.randrange(1, 300)
        data = chance.choice(
            [
                data[:at] + bytes([data[at] ^ chance.randrange(1, 256)]) + data[at + 1 :],
                data[:at] + bytes(n) + data[at + n :],  # a hole, as after a power cut
                data[:at] + data[at + n :],
                data[:at] + chance.randbytes(n) + data[at:],
                data[: at + 1],
            ]
        )
    path.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = numbers(open_store(root).load())
    assert set(found) <= set(range(12)) and len(set(found)) == len(found)


@given(data=st.binary(max_size=400))
def test_bytes_of_any_kind_between_frames_cost_nothing_else(data) -> None:
    one, two = encode(numbered(0, 3)), encode(numbered(3, 6))
    found = scan(one + data + two + data)
    assert [bytes(f) for f in found.frames] == [one, two]


def test_a_length_that_grew_huge_does_not_hide_what_follows(tmp_path: Path) -> None:
    path = filled(tmp_path)
    data = bytearray(path.read_bytes())
    data[8:16] = b"\xff" * 7 + b"\x7f"
    path.write_bytes(bytes(data))
    with pytest.warns(UserWarning, match=f"'{path}' has .* damaged bytes"):
        assert numbers(open_store(tmp_path).load()) == list(range(3, 12))


def test_a_damaged_frame_is_told_once_and_counted(tmp_path: Path) -> None:
    path = filled(tmp_path)
    data = bytearray(path.read_bytes())
    first, second = ends(bytes(data))[1:3]
    data[first + HEADER.size + 5] ^= 1
    path.write_bytes(bytes(data))
    expected = rf"'{path}' has {second - first:,} damaged bytes \(at least 3 answers\)"
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("default")
        for _ in range(2):
            assert numbers(open_store(tmp_path).load()) == [0, 1, 2, *range(6, 12)]
    assert len(told) == 1 and re.match(expected, str(told[0].message))


def test_an_unreadable_segment_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = filled(tmp_path)
    store = open_store(tmp_path)

    def broken(_: Path) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "read_bytes", broken)
    with pytest.raises(UserError, match=f"cannot read '{path}': Input/output error"):
        store.load()
