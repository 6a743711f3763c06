"""The plan against brute force: every token of the tree, every score, every mask."""

import pickle
from itertools import pairwise

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
        mask = np.tri(length, dtype=bool)
        if batch.end is not None:
            mask &= np.arange(length)[:, None] < batch.end[None, :]
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


class Node(dict[int, "Node"]):
    """A node of a trie built token by token; ``ends`` are the sequences that end in it."""

    def __init__(self) -> None:
        self.ends: list[int] = []


def trie(items: list[tuple[list[int], list[int]]]) -> Node:
    root = Node()
    for number, (context, continuation) in enumerate(items):
        node = root
        for t in context + continuation:
            node = node.setdefault(t, Node())
        node.ends.append(number)
    return root


def walk(node: Node, path: tuple[int, ...] = ()) -> list[tuple[tuple[int, ...], list[int]]]:
    """(path, sequences) of every node, parents first, children by token."""
    found = [(path, node.ends)]
    for t in sorted(node):
        found += walk(node[t], (*path, t))
    return found


@settings(max_examples=200, deadline=None)
@given(items=pairs)
def test_distinct_sequences_are_the_leaves_of_the_trie_in_order(items) -> None:
    plan = make_plan(sequences(items), 8)
    s = plan.sequences
    want: list[tuple[tuple[int, ...], int]] = []
    of_request = {}
    for path, ends in walk(trie(items)):
        for context in sorted({len(items[k][0]) for k in ends}):
            of_request.update({k: len(want) for k in ends if len(items[k][0]) == context})
            want.append((path, context))
    assert plan.unique_of.tolist() == [of_request[k] for k in range(len(items))]
    got = [tuple(s.ids[a:b].tolist()) for a, b in pairwise(s.offsets.tolist())]
    assert list(zip(got, s.context_len.tolist(), strict=True)) == want
    # Brute force: how many fed tokens a sequence has in common with the one before it.
    for k in range(1, len(want)):
        a, b = want[k - 1][0][:-1], want[k][0][:-1]
        assert plan.shared[k] == sum(a[:n] == b[:n] for n in range(1, min(len(a), len(b)) + 1))


@settings(max_examples=200, deadline=None)
@given(items=pairs, max_tokens=st.integers(1, 12), parts=st.integers(1, 6), data=st.data())
def test_parts_compute_what_the_whole_computes(items, max_tokens, parts, data) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("olmeval.backends.planner.MIN_SAVING", data.draw(st.sampled_from([1, 2])))
        plan = make_plan(sequences(items), max_tokens, data.draw(st.integers(0, 4)))
    bounds = plan.bounds(parts)
    assert len(bounds) == parts + 1
    assert bounds == sorted(bounds)
    assert (bounds[0], bounds[-1]) == (0, len(plan.sequences))
    whole = interpret(plan)
    rows = [s for s in plan.steps if s.extend_to is None]
    seen_rows = 0
    for lo, hi in pairwise(bounds):
        part = pickle.loads(pickle.dumps(plan.part(lo, hi)))
        first, end = int(plan.slots[lo]), int(plan.slots[hi])
        assert interpret(part) == {k - first: v for k, v in whole.items() if first <= k < end}
        assert part.unique_of.tolist() == list(range(hi - lo))
        again = make_plan(part.sequences, max_tokens)
        assert part.sequences.ids.tolist() == again.sequences.ids.tolist()
        assert part.tokens_tree == again.tokens_tree
        assert part.tokens_naive == again.tokens_naive
        assert part.tokens_planned == sum(len(part.batch(s).tokens) for s in part.steps)
        # The same forward passes: only which of their answers are kept differs.
        mine = [s for s in plan.steps if max(s.lo, lo) < min(s.hi, hi)]
        for step, original in zip(part.steps, mine, strict=True):
            a, b = part.batch(step), plan.batch(original)
            assert step.cached == original.cached
            assert a.tokens.tolist() == b.tokens.tolist()
            assert a.depth.tolist() == b.depth.tolist()
            assert a.nodes.tolist() == b.nodes.tolist()
            assert (a.end is None) == (b.end is None)
            assert a.end is None or np.array_equal(a.end, b.end)
        seen_rows += sum(s.extend_to is None for s in part.steps)
    assert seen_rows == len(rows)


@settings(max_examples=100, deadline=None)
@given(items=pairs, parts=st.integers(1, 6))
def test_parts_are_balanced_as_far_as_rows_allow(items, parts) -> None:
    plan = make_plan(sequences(items), 6)
    # Without segments, a part misses its share by less than a row at either end.
    assert all(s.extend_to is None for s in plan.steps)
    largest = max(plan.step_tokens.tolist())
    for lo, hi in pairwise(plan.bounds(parts)):
        tokens = plan.part(lo, hi).tokens_planned
        assert abs(tokens - plan.tokens_planned / parts) < largest + 1


def test_a_part_never_cuts_a_row() -> None:
    plan = make_plan(sequences([([1, 2], [k]) for k in range(4)]), 64)
    assert [(s.lo, s.hi) for s in plan.steps] == [(0, 4)]
    assert plan.bounds(3) == [0, 4, 4, 4]
    assert plan.part(4, 4).steps == ()
    with pytest.raises(ValueError, match="0:2 would cut the row 0:4"):
        plan.part(0, 2)


def test_a_tree_deeper_than_the_stack() -> None:
    # Every prefix of one long text branches off, and every sequence wants a row of its own.
    text = list(range(1, 3001))
    items = [(text[:k], [0, 0]) for k in range(1, 3000)]
    plan = make_plan(sequences(items), 4, 1)
    assert plan.tokens_tree == 2999 + 2999
    assert len([s for s in plan.steps if s.extend_to is None]) == 2999
    # A segment pays from 64 tokens on, so no row goes back further than that.
    assert plan.tokens_planned < 2999 * (1 + 64) + 2999


def test_take_copies_what_is_asked() -> None:
    s = sequences([([1, 2], [3]), ([4], [5]), ([6, 7, 8], [9])])
    taken = s.take(np.array([2, 0, 2]))
    assert taken.ids.tolist() == [6, 7, 8, 9, 1, 2, 3, 6, 7, 8, 9]
    assert taken.offsets.tolist() == [0, 4, 7, 11]
    assert taken.context_len.tolist() == [3, 2, 3]
    assert len(s.take(np.array([], np.int64))) == 0


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
