"""The sampler: what it draws, how often, in which order, and what it refuses."""

from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from olmeval.errors import UserError
from olmeval.trainer.mixture import (
    Mixture,
    Windows,
    check_weights,
    largest_remainder,
    plan_shares,
)

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


def drawn(mix: Mixture, domain: str) -> list[tuple[int, int]]:
    """All (epoch, window) of a domain over the run, sorted."""
    rows = []
    for step in range(mix.instances // mix.batch_size):
        share, epoch, window = mix.draws(step)
        rows += [
            (int(e), int(w))
            for s, e, w in zip(share, epoch, window, strict=True)
            if mix.shares[s].domain == domain
        ]
    return sorted(rows)


weight_lists = st.lists(st.floats(0.001, 1), min_size=3, max_size=3).map(
    lambda w: dict(zip("abc", np.array(w) / sum(w), strict=True))
)


def test_windows_cover_each_shard_without_crossing_it() -> None:
    counts = [(50 - 1) // 4, 0, (90 - 1) // 4]
    assert AVAILABLE["a"] == sum(counts)
    index = np.arange(AVAILABLE["a"])
    out = np.empty((len(index), T + 1), dtype=np.int64)
    DOMAINS["a"].read(index, out, index)
    assert (np.diff(out, axis=1) == 1).all()
    assert out[:, 0].tolist() == [4 * i for i in range(12)] + [53 + 4 * i for i in range(22)]


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
        rows = drawn(mix, share.domain)
        assert len(rows) == share.drawn == len(set(rows))
        assert abs(share.drawn - weights[share.domain] * 100) < 1 + 1e-6
        epochs = np.bincount([e for e, _ in rows], minlength=1)
        assert (epochs[:-1] == share.available).all(), "an epoch ends before the next begins"


@settings(max_examples=30)
@given(first=weight_lists, second=weight_lists)
def test_draws_are_nested_across_mixtures(
    first: dict[str, float], second: dict[str, float]
) -> None:
    one, two = mixture(first), mixture(second, steps=30)
    for domain in DOMAINS:
        small, large = sorted((drawn(one, domain), drawn(two, domain)), key=len)
        assert set(small) <= set(large)


def test_a_share_is_a_sample_and_not_a_prefix() -> None:
    mix = mixture({"a": 0.5, "b": 0.5}, steps=10)
    chosen = [w for _, w in drawn(mix, "b")]
    assert len(chosen) == 25
    assert max(chosen) > 75
    assert np.mean(chosen) == pytest.approx(50, abs=20)


def test_the_seed_changes_order_and_content() -> None:
    one, two = (mixture({"a": 0.5, "b": 0.5}, steps=10, seed=s) for s in (0, 1))
    assert drawn(one, "b") != drawn(two, "b")
    assert not np.array_equal(one.batch(0), two.batch(0))


def test_each_epoch_has_its_own_order() -> None:
    mix = mixture({"a": 1.0}, steps=28, batch=5)
    order: dict[int, list[int]] = {}
    share = mix.shares[0]
    for epoch in range(2):
        place = np.arange(share.available) + epoch * share.available
        order[epoch] = [int(w) for e, w in _by_place(mix, place) if e == epoch]
    assert sorted(order[0]) == sorted(order[1])
    assert order[0] != order[1]


def _by_place(mix: Mixture, wanted: np.ndarray) -> list[tuple[int, int]]:
    from olmeval.trainer.permutation import Permutation, keys

    slots = Permutation(mix.instances, keys("slots", mix.seed, mix.instances))(
        np.arange(mix.instances)
    )
    by_place = {}
    for step in range(mix.instances // mix.batch_size):
        _, epoch, window = mix.draws(step)
        for row in range(mix.batch_size):
            place = int(slots[step * mix.batch_size + row])
            by_place[place] = (int(epoch[row]), int(window[row]))
    return [by_place[int(p)] for p in wanted]


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


def test_domains_are_spread_over_the_run() -> None:
    mix = mixture({"a": 0.5, "b": 0.5}, steps=40)
    early = sum(int((mix.draws(step)[0] == 0).sum()) for step in range(20))
    assert 35 < early < 65


def test_realised_weights() -> None:
    assert mixture({"a": 0.25, "b": 0.75}).weights() == {"a": 0.25, "b": 0.75}
    assert mixture({"a": 0.0, "b": 1.0}).weights() == {"b": 1.0}


def test_max_epochs_is_enforced() -> None:
    with pytest.raises(UserError, match=r"'a' would be seen 2\.35 times.*max_epochs 2"):
        mixture({"a": 0.8, "b": 0.2}, max_epochs=2)


def test_max_epochs_clips_and_gives_the_rest_to_the_others() -> None:
    mix = mixture({"a": 0.8, "b": 0.15, "c": 0.05}, max_epochs=2, repeat="clip")
    by_name = {share.domain: share for share in mix.shares}
    assert by_name["a"].drawn == 68
    assert by_name["a"].epochs == 2
    assert by_name["a"].weight == 0.8
    assert by_name["b"].drawn == 24
    assert by_name["c"].drawn == 8


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
    with pytest.raises(UserError, match=r"hold 134 windows.*fewer than the 200"):
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
    with pytest.raises(UserError, match="'b' has no shard as long as one training window"):
        plan_shares({"a": 0.5, "b": 0.5}, {"a": 5, "b": 0}, 10, max_epochs=9, repeat="error")
