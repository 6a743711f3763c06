"""The plan against brute force: every token of the tree, every score, every mask."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from olmeval.backends.planner import Plan, Sequences, make_plan, starts

# Few symbols, so that prefixes collide; a sequence is (context, continuation), both non-empty.
token = st.integers(0, 2)
pair = st.tuples(st.lists(token, min_size=1, max_size=8), st.lists(token, min_size=1, max_size=4))
pairs = st.lists(pair, min_size=1, max_size=25)


def sequences(items: list[tuple[list[int], list[int]]]) -> Sequences:
    whole = [c + a for c, a in items]
    return Sequences(
        np.array([t for w in whole for t in w], np.int32),
        starts(np.array([len(w) for w in whole])),
        np.array([len(c) for c, _ in items]),
    )


def tree_tokens(items: list[tuple[list[int], list[int]]]) -> int:
    return len({tuple((c + a)[:k]) for c, a in items for k in range(1, len(c + a))})


def interpret(plan: Plan) -> dict[int, tuple[tuple[int, ...], int]]:
    """Runs the plan symbolically: slot -> (the tokens that its prediction saw, the target)."""
    seen: dict[int, tuple[tuple[int, ...], int]] = {}
    cache: list[int] = []
    for step in plan.steps:
        batch = plan.batch(step)
        assert step.cached <= len(cache)
        del cache[step.cached :]
        length = len(batch.tokens)
        mask = np.tri(length, dtype=bool) if batch.mask is None else batch.mask
        for node, target, slot in zip(batch.node, batch.target, batch.slot, strict=True):
            visible = np.flatnonzero(mask[node])
            context = [*cache, *batch.tokens[visible].tolist()]
            assert [*range(step.cached), *batch.depth[visible].tolist()] == list(
                range(len(context))
            )
            assert int(slot) not in seen
            seen[int(slot)] = (tuple(context), int(target))
        if step.extend_to is not None:
            cache += batch.tokens.tolist()
    return seen


@settings(max_examples=300, deadline=None)
@given(items=pairs, max_tokens=st.integers(1, 12), max_sequences=st.integers(0, 4), data=st.data())
def test_every_score_sees_exactly_its_context(items, max_tokens, max_sequences, data) -> None:
    # MIN_SAVING would hide segments in sequences this short.
    saving = data.draw(st.sampled_from([1, 2, 64]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("olmeval.backends.planner.MIN_SAVING", saving)
        plan = make_plan(sequences(items), max_tokens, max_sequences)
    seen = interpret(plan)
    assert sorted(seen) == list(range(plan.slots[-1]))
    for request, (context, continuation) in enumerate(items):
        first = plan.slots[plan.unique_of[request]]
        for j, target in enumerate(continuation):
            assert seen[first + j] == (tuple(context + continuation[:j]), target)


@settings(max_examples=200, deadline=None)
@given(items=pairs, max_tokens=st.integers(1, 12), max_sequences=st.integers(0, 4))
def test_counts(items, max_tokens, max_sequences) -> None:
    plan = make_plan(sequences(items), max_tokens, max_sequences)
    assert plan.tokens_tree == tree_tokens(items)
    assert plan.tokens_naive == sum(len(c) + len(a) - 1 for c, a in items)
    assert plan.tokens_planned == sum(len(plan.batch(s).tokens) for s in plan.steps)
    assert plan.tokens_tree <= plan.tokens_planned <= plan.tokens_naive
    assert len(plan.sequences) == len({(tuple(c), tuple(a)) for c, a in items})
    rows = [s for s in plan.steps if s.extend_to is None]
    assert [s.lo for s in rows] == [0, *(s.hi for s in rows[:-1])]
    if max_sequences:
        assert all(s.hi - s.lo <= max_sequences for s in rows)


@given(items=pairs, data=st.data())
def test_the_order_of_requests_does_not_change_the_plan(items, data) -> None:
    order = data.draw(st.permutations(range(len(items))))
    one, other = make_plan(sequences(items), 8), make_plan(sequences([items[k] for k in order]), 8)
    assert one.steps == other.steps
    assert one.sequences.ids.tolist() == other.sequences.ids.tolist()


@given(items=pairs, data=st.data())
def test_only_steps_that_matter_stay_pending(items, data) -> None:
    plan = make_plan(sequences(items), 6, 3)
    done = np.array(data.draw(st.lists(st.booleans(), min_size=len(plan.sequences),
                                       max_size=len(plan.sequences))))  # fmt: skip
    pending = list(plan.pending(done))
    assert all((~done[s.lo : s.hi]).any() for s in pending)
    covered = {i for s in pending if s.extend_to is None for i in range(s.lo, s.hi)}
    assert set(np.flatnonzero(~done)) <= covered


def test_one_shared_prefix_is_computed_once() -> None:
    prefix = list(range(300))
    items = [([*prefix, 1000 + q], [2000 + q, 3000]) for q in range(400)]
    plan = make_plan(sequences(items), 128)
    assert plan.tokens_tree == 300 + 400 * 2
    assert plan.tokens_planned == plan.tokens_tree


def test_long_questions_with_letter_answers_are_computed_once() -> None:
    shots = list(range(200))
    items = [
        ([*shots, *range(1000 * q, 1000 * q + 300)], [letter])
        for q in range(1, 40)
        for letter in range(4)
    ]
    plan = make_plan(sequences(items), 128)
    assert plan.tokens_planned == plan.tokens_tree == 200 + 39 * 300


def test_long_questions_with_long_answers_are_computed_once() -> None:
    items = [
        (list(range(1000 * q, 1000 * q + 300)), [c, *range(20)])
        for q in range(1, 9)
        for c in range(4)
    ]
    plan = make_plan(sequences(items), 128)
    assert plan.tokens_planned == plan.tokens_tree


def test_no_requests_is_an_empty_plan() -> None:
    plan = make_plan(sequences([]), 128)
    assert plan.steps == ()
    assert plan.tokens_planned == 0
