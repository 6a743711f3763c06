"""The sampler: what it draws, how often, in which order, and what it refuses."""

from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from olmeval.errors import UserError
from olmeval.trainer.mixture import (
    Mixture,
    Share,
    Windows,
    check_weights,
    describe_clipping,
    largest_remainder,
    plan_shares,
)
from olmeval.trainer.permutation import keys, uniform

T = 4


def windows(*shard_tokens: int, base: int = 0) -> Windows:
    """Shards whose tokens count up, so that a window says where it came from."""
    shards, start = [], base
    for n in shard_tokens:
        shards.append(np.arange(start, start + n, dtype=np.uint32))
        start += n
    return Windows(shards, T)


DOMAINS = {
    "a": windows(50, 3, 90),
    "b": windows(401, base=10_000),
    "c": windows(30, 31, 32, 33, base=20_000),
}
AVAILABLE = {name: len(w) for name, w in DOMAINS.items()}


def mixture(
    weights: dict[str, float],
    steps: int = 20,
    batch: int = 5,
    seed: int = 0,
    max_epochs: float = 100,
    repeat: Literal["error", "clip"] = "error",
) -> Mixture:
    shares = plan_shares(weights, AVAILABLE, steps * batch, max_epochs=max_epochs, repeat=repeat)
    return Mixture(DOMAINS, shares, T, batch, seed)


def in_time(mix: Mixture, domain: str) -> list[tuple[int, int]]:
    """All (epoch, window) of a domain, in the order in which the run sees them."""
    rows = []
    for step in range(mix.instances // mix.batch_size):
        share, epoch, window = mix.draws(step)
        rows += [
            (int(e), int(w))
            for s, e, w in zip(share, epoch, window, strict=True)
            if mix.shares[s].domain == domain
        ]
    return rows


weight_lists = st.lists(st.floats(0.001, 1), min_size=3, max_size=3).map(
    lambda w: dict(zip("abc", np.array(w) / sum(w), strict=True))
)


def test_windows_cover_a_domain_as_if_it_were_one_shard() -> None:
    index = np.arange(AVAILABLE["a"])
    assert len(index) == (50 + 3 + 90 - 1) // T
    out = np.empty((len(index), T + 1), dtype=np.int64)
    DOMAINS["a"].read(index, out, index)
    assert out.tolist() == [list(range(T * i, T * i + T + 1)) for i in index]


@pytest.mark.parametrize("tokens", [[2, 1, 1], [2, 1, 1, 1], [5], [4], []])
def test_shards_shorter_than_a_window(tokens: list[int]) -> None:
    domain = windows(*tokens)
    assert len(domain) == (1 if sum(tokens) > T else 0)
    if domain:
        out = np.empty((1, T + 1), dtype=np.int64)
        domain.read(np.array([0]), out, np.array([0]))
        assert out.tolist() == [[0, 1, 2, 3, 4]]


@given(
    weights=st.lists(st.floats(0, 1), min_size=1, max_size=8).filter(lambda w: sum(w) > 0.01),
    total=st.integers(0, 10_000),
)
def test_largest_remainder(weights: list[float], total: int) -> None:
    w = np.array(weights)
    counts = largest_remainder(w, total)
    assert counts.sum() == total
    assert (np.abs(counts - w / w.sum() * total) < 1 + 1e-6).all()


@settings(max_examples=30)
@given(weights=weight_lists, seed=st.integers(0, 1000))
def test_each_domain_gives_its_count_without_repeats(weights: dict[str, float], seed: int) -> None:
    mix = mixture(weights, seed=seed)
    for share in mix.shares:
        rows = in_time(mix, share.domain)
        assert len(rows) == share.drawn == len(set(rows))
        assert abs(share.drawn - weights[share.domain] * 100) < 1 + 1e-6
        assert [e for e, _ in rows] == [j // share.available for j in range(len(rows))]


@settings(max_examples=30)
@given(first=weight_lists, second=weight_lists)
def test_a_domain_is_seen_in_one_order_by_every_mixture(
    first: dict[str, float], second: dict[str, float]
) -> None:
    one, two = mixture(first), mixture(second, steps=30, batch=3)
    for domain in DOMAINS:
        short, long = sorted((in_time(one, domain), in_time(two, domain)), key=len)
        assert short == long[: len(short)]


def test_a_shorter_run_sees_the_first_part_of_a_longer_one() -> None:
    weights = {"a": 0.2, "b": 0.5, "c": 0.3}
    short, long = mixture(weights, steps=20), mixture(weights, steps=40)
    half = {
        domain: sum(int((long.draws(step)[0] == i).sum()) for step in range(20))
        for i, domain in enumerate("abc")
    }
    for share in short.shares:
        assert abs(half[share.domain] - share.drawn) <= 3  # one a domain
        both = min(half[share.domain], share.drawn)
        assert in_time(short, share.domain)[:both] == in_time(long, share.domain)[:both]


def test_a_share_is_a_sample_and_not_a_prefix() -> None:
    mix = mixture({"a": 0.5, "b": 0.5}, steps=10)
    chosen = [w for _, w in in_time(mix, "b")]
    assert len(chosen) == 25
    assert max(chosen) > 75
    assert np.mean(chosen) == pytest.approx(50, abs=20)


def test_the_seed_changes_order_and_content() -> None:
    one, two = (mixture({"a": 0.5, "b": 0.5}, steps=10, seed=s) for s in (0, 1))
    assert in_time(one, "b") != in_time(two, "b")
    assert not np.array_equal(one.batch(0), two.batch(0))


def test_each_epoch_has_its_own_order() -> None:
    mix = mixture({"a": 1.0}, steps=14, batch=5)
    windows_seen = [w for _, w in in_time(mix, "a")]
    first, second = windows_seen[:35], windows_seen[35:]
    assert sorted(first) == sorted(second) == list(range(35))
    assert first != second


def test_instances_are_all_draws_sorted_by_time() -> None:
    """The slots of many small domains against one sort of all draws of the run."""
    rng = np.random.default_rng(0)
    shares = tuple(
        Share(f"d{i}", 0.1, 10_000, int(n)) for i, n in enumerate(rng.integers(0, 60, size=50) ** 2)
    )
    total = sum(share.drawn for share in shares)
    mix = Mixture({}, shares, T, 1, seed=5)
    times = []
    for i, share in enumerate(shares):
        j = np.arange(share.drawn)
        u = uniform(j, np.uint64(keys("times", 5, share.domain)[0]))
        assert ((u >= 0) & (u < 1)).all()
        times += [(t, i, int(k)) for t, k in zip((j + u) / max(1, share.drawn), j, strict=True)]
    expected = [(i, j) for _, i, j in sorted(times)]
    for size in (1, 17, 1000):
        starts = range(0, total, size) if size > 1 else rng.integers(0, total, size=200).tolist()
        for first in starts:
            share, draw = mix._slots(first, min(first + size, total))
            assert list(zip(share, draw, strict=True)) == expected[first : first + size]


def test_every_part_of_a_run_has_the_mixture() -> None:
    weights = {"a": 0.2, "b": 0.5, "c": 0.3}
    mix = mixture(weights, steps=100, batch=5)
    seen = np.zeros(3)
    for step in range(100):
        seen += np.bincount(mix.draws(step)[0], minlength=3)
        # Each domain is within one of its share in time, and time within three of the slots.
        assert (np.abs(seen - np.array([0.2, 0.5, 0.3]) * 5 * (step + 1)) <= 3).all()


@pytest.mark.parametrize("world", [1, 2, 3, 4, 6, 12])
def test_ranks_share_the_batch_of_one(world: int) -> None:
    weights = {"a": 0.3, "b": 0.3, "c": 0.4}
    alone = mixture(weights, steps=9, batch=12)
    for step in (0, 4, 8):
        parts = [mixture(weights, steps=9, batch=12).batch(step, r, world) for r in range(world)]
        assert {len(part) for part in parts} == {12 // world}
        assert np.array_equal(np.concatenate(parts), alone.batch(step))


def test_a_batch_that_ranks_cannot_share_is_refused() -> None:
    with pytest.raises(UserError, match=r"train\.batch_size 5 cannot be split over 2 ranks"):
        mixture({"a": 0.5, "b": 0.5}).batch(0, rank=0, world=2)


@pytest.mark.parametrize("step", [-1, 20])
def test_a_step_outside_the_run_is_an_error(step: int) -> None:
    with pytest.raises(ValueError, match="outside the run of 100 instances"):
        mixture({"a": 0.5, "b": 0.5}).batch(step)


def test_batches_are_a_pure_function_of_the_step() -> None:
    mix = mixture({"a": 0.3, "b": 0.3, "c": 0.4})
    backwards = [mix.batch(step) for step in reversed(range(20))][::-1]
    fresh = mixture({"a": 0.3, "b": 0.3, "c": 0.4})
    for step in range(20):
        assert np.array_equal(fresh.batch(step), backwards[step])


@pytest.mark.parametrize("batch", [1, 2, 10, 50])
def test_the_batch_size_cuts_one_sequence(batch: int) -> None:
    whole = np.concatenate([mixture({"a": 0.3, "b": 0.7}).batch(s) for s in range(20)])
    other = mixture({"a": 0.3, "b": 0.7}, steps=100 // batch, batch=batch)
    assert np.array_equal(np.concatenate([other.batch(s) for s in range(100 // batch)]), whole)


def test_rows_come_from_the_domain_drawn() -> None:
    mix = mixture({"a": 0.3, "b": 0.3, "c": 0.4})
    for step in range(20):
        share, _, _ = mix.draws(step)
        base = np.array([{"a": 0, "b": 10_000, "c": 20_000}[mix.shares[s].domain] for s in share])
        batch = mix.batch(step)
        assert ((batch >= base[:, None]) & (batch < base[:, None] + 1000)).all()
        assert (np.diff(batch, axis=1) == 1).all()


def test_realised_weights() -> None:
    assert mixture({"a": 0.25, "b": 0.75}).weights() == {"a": 0.25, "b": 0.75}
    assert mixture({"a": 0.0, "b": 1.0}).weights() == {"b": 1.0}


def test_max_epochs_is_enforced() -> None:
    with pytest.raises(UserError, match=r"'a' would be seen 2\.29 times.*max_epochs 2"):
        mixture({"a": 0.8, "b": 0.2}, max_epochs=2)


def test_max_epochs_clips_and_gives_the_rest_to_the_others() -> None:
    mix = mixture({"a": 0.8, "b": 0.14, "c": 0.06}, max_epochs=2, repeat="clip")
    by_name = {share.domain: share for share in mix.shares}
    assert [by_name[name].drawn for name in "abc"] == [70, 21, 9]
    assert by_name["a"].epochs == 2
    assert by_name["a"].weight == 0.8
    (sentence,) = describe_clipping(mix.shares)
    assert sentence.startswith("domain 'a' is 70.00% of the run instead of 80.00%: it is seen 2 t")
    assert (
        describe_clipping(mixture({"a": 0.7, "b": 0.3}, max_epochs=2, repeat="clip").shares) == []
    )


def test_clipping_cascades() -> None:
    shares = plan_shares(
        {"a": 0.9, "b": 0.06, "c": 0.04},
        {"a": 10, "b": 10, "c": 1000},
        100,
        max_epochs=1,
        repeat="clip",
    )
    assert [share.drawn for share in shares] == [10, 10, 80]


def test_a_run_longer_than_all_data_is_refused() -> None:
    with pytest.raises(UserError, match=r"hold 135 windows.*fewer than the 200"):
        mixture({"a": 0.5, "b": 0.5}, steps=40, max_epochs=1, repeat="clip")


def test_a_run_of_exactly_all_data_is_accepted() -> None:
    shares = plan_shares({"a": 0.5, "b": 0.5}, {"a": 30, "b": 70}, 100, max_epochs=1, repeat="clip")
    assert [share.drawn for share in shares] == [30, 70]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"a": 0.5, "b": 0.4}, "sums to 0.9, not 1"),
        ({"a": 0.5, "bb": 0.5}, "'bb', which is not a domain.*did you mean 'b'"),
        ({"a": 0.5, "zzz": 0.5}, "'zzz', which is not a domain.*it has a, b, c"),
        ({"a": 1.5, "b": -0.5}, "gives 'a' 1.5"),
        ({"a": float("nan"), "b": 1.0}, "gives 'a' nan"),
        ({}, "sums to 0, not 1"),
    ],
)
def test_bad_weights_are_refused(weights: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_weights(weights, ["a", "b", "c"])


def test_a_domain_shorter_than_a_window_is_refused() -> None:
    with pytest.raises(UserError, match="'b' is shorter than one training window"):
        plan_shares({"a": 0.5, "b": 0.5}, {"a": 5, "b": 0}, 10, max_epochs=9, repeat="error")
