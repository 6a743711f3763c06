"""Scores a plan with a vLLM engine: chooses the ways, proves them, keeps the engine busy.

The plan's sequences come sorted, which is the depth-first order of their prefix tree: whoever
shares a context follows closely, so the context is still in vLLM's cache, or is being computed in
the same step. Before that a few sequences of each kind are scored by plain ``prompt_logprobs`` as
well, and a way that does not agree is not used.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from olmeval.backends.base import ScoredRange
from olmeval.backends.planner import Plan, Step
from olmeval.backends.vllm_engine import Ask, Engine
from olmeval.backends.vllm_ways import Member, Scored, Way, make_way

# One token to score; several; more than the context has. A continuation of the last kind is a
# prompt of its own: one pass instead of many steps, and few rows of logits that nobody reads.
Kind = Literal["one", "several", "long"]
KINDS: tuple[Kind, ...] = ("one", "several", "long")
WAYS = ("trace", "forced", "cached", "prompt")
# So many sequences of a kind prove a way.
PROOF = 8
# vLLM's limit on ``logprob_token_ids``.
MAX_GROUP = 128
# How closely a way must agree with plain prompt_logprobs, in nats a token: the most in float32; on
# average in lower precisions, whose single logits are rounded to 0.1 and more.
EXACT, ROUNDED = 1e-3, 0.1


class _Owner(NamedTuple):
    way: Way
    members: Sequence[Member]


class Scorer:
    """Scores plans.

    ``window``: the most tokens that the model may be fed. ``names``: the ways that the engine has,
    best first, ``prompt`` the last. ``params`` makes vLLM's ``SamplingParams``. ``ways`` says which
    way each kind of sequence takes, once it is proven; ``resent`` counts the answers that the cache
    had swallowed.
    """

    def __init__(
        self,
        engine: Engine,
        params: Callable[..., Any],
        window: int,
        names: Sequence[str],
        exact: bool,
    ):
        self.engine = engine
        self.params = params
        self.exact = exact
        self.plain = make_way("prompt", window)
        listed = [self.plain if n == "prompt" else make_way(n, window) for n in names]
        grouped = [] if listed == [self.plain] else [make_way("grouped", window)]
        at = names.index("cached") if "cached" in names else 0
        self.candidates: dict[Kind, list[Way]] = {
            "one": [*grouped, *listed], "several": listed, "long": listed[at:]
        }  # fmt: skip
        self.ways: dict[Kind, Way] = {}
        self.resent = 0

    def score(self, plan: Plan, steps: Iterable[Step]) -> Iterator[ScoredRange]:
        """See :class:`olmeval.backends.base.Backend`."""
        try:
            self._prove(plan)
            yield from self._score(plan, steps)
        finally:
            self.engine.abort()

    def _score(self, plan: Plan, steps: Iterable[Step]) -> Iterator[ScoredRange]:
        logprobs = np.full(int(plan.slots[-1]), np.nan, np.float32)
        greedy = np.zeros(len(logprobs), np.bool_)
        row_of: dict[int, Step] = {}
        left: dict[Step, int] = {}

        def asks() -> Iterator[Ask]:
            for step in steps:
                if step.extend_to is None:
                    left[step] = step.hi - step.lo
                    row_of.update((k, step) for k in range(step.lo, step.hi))
                    members = [_member(plan, k) for k in range(step.lo, step.hi)]
                    yield from self._asks((self.ways[_kind(m)], m) for m in members)

        for member, scored in self._run(asks()):
            first = int(plan.slots[member.number])
            if len(scored) == len(member.targets):
                span = slice(first, first + len(scored))
                logprobs[span], greedy[span] = zip(*scored, strict=True)
            step = row_of.pop(member.number)
            left[step] -= 1
            if not left[step]:
                del left[step]
                span = slice(int(plan.slots[step.lo]), int(plan.slots[step.hi]))
                yield ScoredRange(step.lo, step.hi, logprobs[span], greedy[span])

    def _asks(self, members: Iterable[tuple[Way, Member]]) -> Iterator[Ask]:
        """Requests that score each member in its way."""
        groups: dict[tuple[Way, tuple[int, ...]], list[Member]] = {}
        for way, member in members:
            if way.several:
                groups.setdefault((way, tuple(member.ids[:-1])), []).append(member)
            else:
                yield self._ask(way, [member])
        for (way, _), group in groups.items():
            for at in range(0, len(group), MAX_GROUP):
                yield self._ask(way, group[at : at + MAX_GROUP])

    def _ask(self, way: Way, members: Sequence[Member]) -> Ask:
        ids, how = way.ask(members)
        return Ask(ids, self.params(**how), _Owner(way, members))

    def _run(self, asks: Iterator[Ask]) -> Iterator[tuple[Member, Scored]]:
        """Answers in the order in which the engine finishes them."""
        ask = next(asks, None)
        while ask is not None or not self.engine.idle:
            while ask is not None and self.engine.has_room:
                self.engine.submit(ask)
                ask = next(asks, None)
            for done, output in self.engine.step():
                way, members = done.owner
                scores = way.read(output, members)
                if scores is None:
                    self.resent += 1
                    self.engine.submit(self._ask(self.plain, members))
                else:
                    yield from zip(members, scores, strict=True)

    def _prove(self, plan: Plan) -> None:
        """Settles the way of every kind of sequence that ``plan`` has."""
        for kind in KINDS:
            if kind in self.ways:
                continue
            picked = _for_proof(plan, kind, self.engine.block_size)
            members = [_shortened(_member(plan, k), self.plain.window) for k in picked]
            if members:
                self.ways[kind] = self._first_that_agrees(kind, members)

    def _first_that_agrees(self, kind: Kind, members: list[Member]) -> Way:
        want = self._tried(self.plain, members)
        for way in self.candidates[kind]:
            if way is self.plain:
                break
            wrong = self._difference(want, self._tried(way, members))
            if not wrong:
                return way
            warnings.warn(
                f"vLLM's way of scoring '{way.name}' {wrong} plain prompt_logprobs; it is not "
                "used, and scoring will be slower",
                stacklevel=2,
            )
        return self.plain

    def _tried(self, way: Way, members: list[Member]) -> dict[int, Scored]:
        asks = self._asks((way, member) for member in members)
        return {member.number: scored for member, scored in self._run(asks)}

    def _difference(self, want: dict[int, Scored], got: dict[int, Scored]) -> str:
        """What is wrong with ``got``, as a phrase; empty when nothing is."""
        if any(len(got[k]) < len(want[k]) for k in want):
            return "answers less than"
        pairs = [pair for k in want for pair in zip(want[k], got[k], strict=True)]
        if not pairs:
            return "cannot be compared with"
        away = np.array([abs(a[0] - b[0]) for a, b in pairs])
        changed = np.array([a[1] != b[1] for a, b in pairs])
        distance, flips = (
            (away.max(), changed.any()) if self.exact else (away.mean(), changed.mean())
        )
        if not distance <= (EXACT if self.exact else ROUNDED):
            return f"is {distance:.2g} nats a token away from"
        return "disagrees about the most likely token with" if flips > ROUNDED else ""


def _member(plan: Plan, k: int) -> Member:
    s = plan.sequences
    ids = s.ids[s.offsets[k] : s.offsets[k + 1]].tolist()
    return Member(k, ids, int(s.context_len[k]))


def _shortened(member: Member, window: int) -> Member:
    """``member``, or so much of it as can be a prompt as a whole."""
    number, ids, context = member
    if len(ids) <= window:
        return member
    if context < window:
        return Member(number, ids[:window], context)
    return Member(number, ids[-window:], context - (len(ids) - window))


def _kind(member: Member) -> Kind:
    scored = len(member.ids) - member.context
    if scored == 1:
        return "one"
    return "long" if scored > member.context else "several"


def _for_proof(plan: Plan, kind: Kind, block_size: int) -> list[int]:
    """The sequences of this kind on which a way is proven, ascending.

    The plain way computes their contexts again and the logits of every token, so they are short;
    but the context fills a block at least, which the other way then reads out of the cache.
    """
    lengths, context = plan.sequences.lengths, plan.sequences.context_len
    scored = lengths - context
    one, long = scored == 1, (scored > 1) & (scored > context)
    of = np.flatnonzero({"one": one, "long": long, "several": ~one & ~long}[kind])
    reads = context[of] > block_size
    order = np.lexsort((np.where(reads, lengths[of], -lengths[of]), ~reads))
    found: list[int] = np.sort(of[order[:PROOF]]).tolist()
    return found
