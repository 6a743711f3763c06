"""What is kept of an output, whatever the pieces it comes in."""

import re

from hypothesis import given
from hypothesis import strategies as st

from olmeval.sandbox.inside.watch import Capture

pieces = st.lists(st.binary(max_size=40), max_size=30)


@given(pieces, st.integers(0, 64))
def test_the_first_and_last_half_are_kept_and_the_rest_is_counted(
    pieces: list[bytes], limit: int
) -> None:
    whole = b"".join(pieces)
    capture = Capture(limit)
    for piece in pieces:
        capture.add(piece)
    kept = bytes(capture.take())
    head, tail = limit - limit // 2, limit // 2
    if len(whole) <= limit:
        assert kept == whole and capture.dropped == 0
        return
    assert capture.dropped == len(whole) - limit
    said = b"\n[%d bytes dropped]\n" % capture.dropped if tail else b""
    assert kept == whole[:head] + said + whole[len(whole) - tail :]


@given(pieces, st.integers(0, 64))
def test_a_report_keeps_its_beginning_alone(pieces: list[bytes], limit: int) -> None:
    whole = b"".join(pieces)
    capture = Capture(limit, tail=False)
    for piece in pieces:
        capture.add(piece)
    assert bytes(capture.take()) == whole[:limit]


def test_memory_is_bounded_while_output_comes() -> None:
    capture = Capture(1000)
    for _ in range(1000):
        capture.add(b"x" * 5000)
        assert len(capture._tail) <= 2 * 500 + 5000
    assert re.search(rb"\[4999000 bytes dropped\]", bytes(capture.take()))
