"""Answers in columns: what goes in comes out, and a damaged file is never believed."""

import math
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from olmeval.errors import CorruptFileError, UserError
from olmeval.results.answers import Answers, Response, Sample, read_answers, write_answers

FLOATS = st.floats(width=32, allow_subnormal=True)
KEYS = st.binary(min_size=16, max_size=16)
SAMPLES = st.builds(
    Sample,
    st.text(st.characters(exclude_categories=())),
    st.integers(0, 99),
    FLOATS,
    st.just("stop"),
)
CONTENT = st.lists(FLOATS) | st.lists(SAMPLES, min_size=1)
ITEMS = st.lists(st.tuples(KEYS, CONTENT), max_size=8)


def make(items: Sequence[tuple[bytes, list[float] | list[Sample]]]) -> Answers:
    """Answers of (key, token log-probabilities or samples), one after another."""
    parts = []
    for key, content in items:
        if content and isinstance(content[0], Sample):
            parts.append(Answers.generated([key], [content]))
        else:
            scores = np.array(content, np.float32)
            parts.append(Answers.scored([key], np.array([0, len(scores)]), scores, scores > -1))
    return Answers.concat(parts)


def image(response: Response) -> tuple[object, ...]:
    """All of a response, comparable bit for bit (nan equals itself)."""
    scores = response.token_logprobs
    return (
        response.key, np.float64(response.logprob).tobytes(), response.tokens, response.greedy,
        None if scores is None else scores.tobytes(), repr(response.samples),
    )  # fmt: skip


def images(answers: Answers) -> list[tuple[object, ...]]:
    return [image(answers.response(row)) for row in range(len(answers))]


def numbered(n: int) -> Answers:
    """``n`` answers with keys 0, 1, …; some generated, some of no token."""
    return make(
        [
            (
                k.to_bytes(16, "big"),
                [Sample(f"text {k} ünï\n\x00\u2028", k, -k / 3, "length")]
                if k % 5 == 4
                else np.linspace(-k - 1, 0, k % 7).tolist(),
            )
            for k in range(n)
        ]
    )


def test_a_score_is_the_sum_of_its_tokens() -> None:
    scores = np.array([-0.5, -1.25, -2.0, -4.0, -0.125, np.nan], np.float32)
    greedy = np.array([True, True, False, True, True, True])
    answers = Answers.scored(
        [bytes([k]) * 16 for k in range(6)], np.array([0, 2, 2, 4, 5, 5, 6]), scores, greedy
    )
    assert answers.logprob[:5].tolist() == [-1.75, 0.0, -6.0, -0.125, 0.0]
    assert math.isnan(answers.logprob[5])
    assert answers.tokens.tolist() == [2, 0, 2, 1, 0, 1]
    assert answers.greedy.tolist() == [True, True, False, True, True, True]
    second = answers.response(2)
    assert second.token_logprobs is not None and second.token_logprobs.tolist() == [-2.0, -4.0]
    assert second.samples == () and second.key == b"\x02" * 16


def test_a_score_does_not_depend_on_what_it_is_computed_with() -> None:
    scores = -np.random.default_rng(0).exponential(2, 5000).astype(np.float32)
    offsets = np.array([0, 1, 300, 307, 2000, 5000])
    together = Answers.scored([bytes([k]) * 16 for k in range(5)], offsets, scores, scores > -1)
    for k in range(5):
        part = scores[offsets[k] : offsets[k + 1]]
        alone = Answers.scored([b"k" * 16], np.array([0, len(part)]), part, part > -1)
        assert alone.logprob[0] == together.logprob[k]
        assert alone.logprob[0] == pytest.approx(math.fsum(part.tolist()), rel=1e-12)


def test_a_generation_sums_its_samples() -> None:
    samples = [Sample("one", 3, -1.5, "stop"), Sample("", 0, 0.0, "length")]
    answers = Answers.generated([b"p" * 16, b"q" * 16], [samples, []])
    assert answers.logprob.tolist() == [-1.5, 0.0] and answers.tokens.tolist() == [3, 0]
    assert answers.response(0).samples == tuple(samples)
    assert answers.response(0).token_logprobs is None
    assert answers.response(1).samples == ()


@given(items=ITEMS, wanted=st.lists(KEYS, max_size=4))
def test_find_is_a_dictionary_of_the_first(items, wanted) -> None:
    items = [*items, *items[:2]]
    answers = make(items)
    first: dict[bytes, int] = {}
    for row, (key, _) in enumerate(items):
        first.setdefault(key, row)
    keys = [key for key, _ in items] + wanted + [bytes(16), b"a" * 15 + b"\0"]
    assert answers.find(keys).tolist() == [first.get(key, -1) for key in keys]
    distinct = answers.distinct()
    assert images(distinct) == [images(answers)[row] for row in first.values()]


@given(items=ITEMS.filter(bool), seed=st.integers(0, 99))
def test_take_and_concat_are_those_of_lists(items, seed) -> None:
    answers, one = make(items), [images(make([item]))[0] for item in items]
    rows = random.Random(seed).choices(range(len(items)), k=6)
    assert images(answers.take(np.array(rows))) == [one[row] for row in rows]
    mask = np.array([row % 2 == 0 for row in range(len(items))])
    assert images(answers.take(mask)) == one[::2]
    halves = [answers.take(mask), Answers.empty(), answers.take(~mask)]
    assert images(Answers.concat(halves)) == one[::2] + one[1::2]


def test_a_slice_of_a_table_is_read_from_where_it_begins() -> None:
    table = pa.Table.from_batches([numbered(10).to_batch()])
    assert images(Answers.from_table(table.slice(3, 4))) == images(numbered(10))[3:7]


def test_nothing_is_no_special_case(tmp_path: Path) -> None:
    empty = Answers.concat([])
    assert len(empty) == 0 and empty.find([b"k" * 16]).tolist() == [-1]
    assert numbered(3).find([]).tolist() == []
    write_answers(tmp_path / "r.parquet", empty.take(np.empty(0, np.int64)))
    assert len(read_answers(tmp_path / "r.parquet")) == 0


@settings(deadline=None, max_examples=50)
@given(items=ITEMS)
def test_parquet_gives_back_every_bit(tmp_path_factory, items) -> None:
    path = tmp_path_factory.mktemp("answers") / "responses.parquet"
    answers = make(items)
    write_answers(path, answers)
    first = {
        key: image for image, (key, _) in reversed(list(zip(images(answers), items, strict=True)))
    }
    assert images(read_answers(path)) == [first[key] for key in sorted(first)]


def test_equal_answers_give_equal_bytes(tmp_path: Path) -> None:
    answers = numbered(30)
    for name, rows in (("a", range(30)), ("b", range(29, -1, -1))):
        write_answers(tmp_path / name, answers.take(np.array(rows)))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def read_after(path: Path, data: bytes, true: list[tuple[object, ...]]) -> bool:
    """Whether the file, now of these bytes, is refused; anything it gives must be the truth."""
    path.write_bytes(data)
    try:
        found = read_answers(path)
    except CorruptFileError:
        return True
    assert images(found) == true
    return False


def test_no_flipped_byte_of_parquet_is_believed(tmp_path: Path) -> None:
    path = tmp_path / "responses.parquet"
    write_answers(path, numbered(12))
    data, true = path.read_bytes(), images(read_answers(path))
    random.seed(0)
    refused = 0
    for at in range(0, len(data), 3):
        flipped = bytearray(data)
        flipped[at] ^= random.randrange(1, 256)
        refused += read_after(path, bytes(flipped), true)
    assert refused > len(data) / 6
    for cut in range(0, len(data), 97):
        assert read_after(path, data[:cut], true)


def test_a_file_that_is_absent_or_of_another_form_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.parquet' does not exist"):
        read_answers(tmp_path / "nowhere.parquet")
    path = tmp_path / "r.parquet"
    pq.write_table(pa.table({"key": [b"k"], "logprob": [1.0]}), path)
    with pytest.raises(CorruptFileError, match=r"r\.parquet' is damaged \(its columns are"):
        read_answers(path)
    # All columns right, but not ours: nothing says what the values should be.
    pq.write_table(pa.Table.from_batches([numbered(3).to_batch()]), path)
    with pytest.raises(CorruptFileError, match="do not agree with their checksum"):
        read_answers(path)
