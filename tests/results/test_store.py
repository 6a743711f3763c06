"""The response store: what is put comes back, whatever happens in between."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from olmeval.errors import CorruptFileError
from olmeval.results.store import Response, ResponseStore, Sample


def response(k: int) -> Response:
    scores = np.linspace(-k - 1, 0, k % 7, dtype=np.float32)
    return Response(k.to_bytes(16, "big"), float(scores.sum()), len(scores), k % 2 == 0, scores)


def same(a: Response, b: Response) -> bool:
    return a.row() == b.row()


def test_round_trip_through_both_files(tmp_path: Path) -> None:
    sample = Sample("two\nlines \u2028 and ünïcode \x00", 5, -1.25, "stop")
    items = [response(k) for k in range(50)]
    items.append(Response(b"x" * 16, -1.25, 5, samples=(sample,)))
    with ResponseStore(tmp_path) as store:
        store.put(items[:30])
        store.put(items[20:])
        before = store.load()
        store.compact()
        assert not (tmp_path / "responses.sqlite").exists()
        after = store.load()
    assert before.keys() == after.keys() == {i.key for i in items}
    assert all(same(after[i.key], i) and same(before[i.key], i) for i in items)


def test_the_first_response_to_a_key_stays(tmp_path: Path) -> None:
    with ResponseStore(tmp_path) as store:
        store.put([Response(b"k" * 16, -1.0, 1)])
        store.put([Response(b"k" * 16, -2.0, 1)])
        assert store.load()[b"k" * 16].logprob == -1.0


def test_compacting_twice_writes_the_same_bytes(tmp_path: Path) -> None:
    for order in (1, -1):
        folder = tmp_path / str(order)
        folder.mkdir()
        with ResponseStore(folder) as store:
            for k in range(20)[::order]:
                store.put([response(k)])
            store.compact()
    contents = [(tmp_path / d / "responses.parquet").read_bytes() for d in ("1", "-1")]
    assert contents[0] == contents[1]


WRITER = """
import sys
from pathlib import Path
from olmeval.results.store import Response, ResponseStore
store = ResponseStore(Path(sys.argv[1]))
for batch in range(100000):
    store.put([Response((batch * 8 + k).to_bytes(16, "big"), -1.0, 1) for k in range(8)])
    print(batch, flush=True)
"""


def test_kill_loses_no_acknowledged_batch(tmp_path: Path) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    seen = [writer.stdout.readline()]
    time.sleep(0.2)
    os.kill(writer.pid, signal.SIGKILL)
    seen += writer.stdout.read().splitlines()
    writer.wait()
    acknowledged = int(seen[-1]) + 1
    with ResponseStore(tmp_path) as store:
        found = store.load()
    assert len(found) >= acknowledged * 8
    assert len(found) % 8 == 0


@settings(max_examples=100, deadline=None)
@given(position=st.floats(0, 1), flip=st.integers(1, 255))
def test_a_flipped_byte_is_never_silently_wrong(tmp_path_factory, position, flip) -> None:
    folder = tmp_path_factory.mktemp("store")
    items = {r.key: r for r in map(response, range(40))}
    with ResponseStore(folder) as store:
        store.put(items.values())
        store.compact()
    path = folder / "responses.parquet"
    data = bytearray(path.read_bytes())
    data[int(position * (len(data) - 1))] ^= flip
    path.write_bytes(bytes(data))
    with ResponseStore(folder) as store:
        try:
            found = store.load()
        except CorruptFileError:
            return
    assert found.keys() == items.keys()
    assert all(same(found[key], items[key]) for key in found)


def test_a_damaged_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "responses.sqlite").write_bytes(b"not a database" * 100)
    with pytest.raises(CorruptFileError, match=r"responses\.sqlite"), ResponseStore(tmp_path) as s:
        s.load()
