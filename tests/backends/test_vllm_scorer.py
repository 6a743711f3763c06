"""Choosing, proving and reading ways of scoring, on an engine made of a table; no vLLM needed."""

import hashlib
import importlib.util
import warnings
from types import SimpleNamespace

import numpy as np
import pytest

from olmeval.backends import vllm_engine
from olmeval.backends.base import Prompt
from olmeval.backends.planner import Plan, Sequences, make_plan, starts
from olmeval.backends.vllm_engine import FORCED, Ask, check_extra, require_vllm
from olmeval.backends.vllm_generate import generate
from olmeval.backends.vllm_scorer import MAX_GROUP, Scorer
from olmeval.errors import UserError
from olmeval.requests import Sampling

WINDOW, VOCABULARY = 64, 300


def distribution(prefix: list[int]) -> np.ndarray:
    """Log-probabilities of the next token: anything, but the same after the same prefix."""
    seed = int.from_bytes(hashlib.blake2b(bytes(str(prefix), "ascii"), digest_size=8).digest())
    logits = np.random.default_rng(seed).normal(size=VOCABULARY) * 3
    return logits - np.log(np.exp(logits).sum())


def entry(prefix: list[int], token: int) -> SimpleNamespace:
    p = distribution(prefix)
    return SimpleNamespace(logprob=p[token], rank=int((p >= p[token]).sum()))


class Table:
    """An engine that answers as vLLM does, two requests a step, the newest and the oldest.

    ``cached``: so many tokens of every prompt come from the cache and have no rows. ``shift``: what
    forcing adds to a log-probability, when it is broken. ``dead``: prompts that it fails on.
    """

    block_size = 16

    def __init__(self, cached: int = 0, shift: float = 0.0, dead: tuple[int, ...] = ()):
        self.cached, self.shift, self.dead = cached, shift, dead
        self.waiting: list[Ask] = []
        self.asked: list[Ask] = []

    @property
    def has_room(self) -> bool:
        return len(self.waiting) < 5

    @property
    def idle(self) -> bool:
        return not self.waiting

    def submit(self, ask: Ask) -> None:
        # Only the last token of a sequence may lie beyond the window.
        assert len(ask.ids) + ask.params["max_tokens"] <= WINDOW + 1
        self.waiting.append(ask)
        self.asked.append(ask)

    def step(self):
        for place in (-1, 0)[: len(self.waiting)]:
            ask = self.waiting.pop(place)
            yield ask, self.answer(ask.ids, ask.params)

    def abort(self) -> None:
        self.waiting.clear()

    def answer(self, ids: list[int], how: dict) -> SimpleNamespace:
        if tuple(ids) == self.dead:
            sample = SimpleNamespace(token_ids=[], logprobs=None, finish_reason="abort")
            return SimpleNamespace(outputs=[sample], num_cached_tokens=0, prompt_logprobs=None)
        forced = (how.get("extra_args") or {}).get(FORCED, how.get("trace_decode_token_ids"))
        tokens, rows = [], []
        for k in range(how["max_tokens"]):
            prefix = [*ids, *tokens]
            token = int(distribution(prefix).argmax()) if forced is None else forced[k]
            row = {t: entry(prefix, t) for t in [token, *how.get("logprob_token_ids", [])]}
            if forced is not None:
                row[token].logprob += self.shift
            tokens.append(token)
            rows.append(row)
        cached = min(0 if how.get("skip_reading_prefix_cache") else self.cached, len(ids) - 1)
        prompt = None
        if how.get("prompt_logprobs") is not None:
            # Rows of cached tokens are memory that nobody wrote.
            junk = SimpleNamespace(logprob=-1e30, rank=7)
            prompt = [None] + [
                {ids[k]: junk if k <= cached else entry(ids[:k], ids[k])}
                for k in range(1, len(ids))
            ]
        sample = SimpleNamespace(token_ids=tokens, logprobs=rows, finish_reason="length")
        return SimpleNamespace(outputs=[sample], num_cached_tokens=cached, prompt_logprobs=prompt)


def plan_of(rows: list[tuple[list[int], int]]) -> Plan:
    ids = np.concatenate([np.array(ids) for ids, _ in rows]).astype(np.int32)
    lengths = np.array([len(ids) for ids, _ in rows])
    return make_plan(Sequences(ids, starts(lengths), np.array([c for _, c in rows])), 64)


def some_rows() -> list[tuple[list[int], int]]:
    rng = np.random.default_rng(0)
    shared = rng.integers(0, VOCABULARY, 40).tolist()
    rows = []
    for k in range(12):
        context = [*shared[: 20 + k], k]
        tails = [rng.integers(0, VOCABULARY, n).tolist() for n in (1, 1, 1, 3, 5, 2)]
        rows += [([*context, *tail], len(context)) for tail in tails]
    rows += [(rng.integers(0, VOCABULARY, n).tolist(), c) for n, c in [(2, 1), (65, 1), (65, 64)]]
    return rows


def scorer(table: Table, names: tuple[str, ...] = ("forced", "cached", "prompt")) -> Scorer:
    return Scorer(table, lambda **how: how, WINDOW, names, exact=True)


def check(plan: Plan, got: list) -> None:
    s = plan.sequences
    seen = []
    for part in got:
        seen += range(part.lo, part.hi)
        at = 0
        for k in range(part.lo, part.hi):
            ids = s.ids[s.offsets[k] : s.offsets[k + 1]].tolist()
            for place in range(int(s.context_len[k]), len(ids)):
                p = distribution(ids[:place])
                assert part.logprobs[at] == pytest.approx(p[ids[place]], abs=1e-4)
                assert part.greedy[at] == (p.argmax() == ids[place])
                at += 1
        assert at == len(part.logprobs)
    assert sorted(seen) == list(range(len(s)))


@pytest.mark.parametrize(
    ("names", "several", "long"),
    [
        (("forced", "cached", "prompt"), "forced", "cached"),
        (("trace", "cached", "prompt"), "trace", "cached"),
        (("trace", "prompt"), "trace", "trace"),
        (("cached", "prompt"), "cached", "cached"),
        (("prompt",), "prompt", "prompt"),
    ],
)
def test_every_way_reads_the_same_numbers(names: tuple[str, ...], several: str, long: str) -> None:
    plan = plan_of(some_rows())
    mine = scorer(Table(cached=16), names)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(plan, list(mine.score(plan, plan.steps)))
    one = "prompt" if names == ("prompt",) else "grouped"
    assert {kind: way.name for kind, way in mine.ways.items()} == {
        "one": one, "several": several, "long": long
    }  # fmt: skip


def test_the_proof_is_short_and_reads_the_cache() -> None:
    """Of each kind the shortest whose context fills a block; where none does, the longest."""
    rng = np.random.default_rng(1)
    shapes = [(60 - k, 50 - k) for k in range(30)]  # several tokens, contexts of 50 to 21
    shapes += [(9, 5)] * 9 + [(k, k - 1) for k in range(3, 16)]
    plan = plan_of([(rng.integers(0, VOCABULARY, n).tolist(), c) for n, c in shapes])
    table = Table()
    mine = scorer(table)
    mine._prove(plan)
    plain = [a for a in table.asked if a.params.get("skip_reading_prefix_cache")]
    assert sorted(len(a.ids) for a in plain) == [*range(8, 16), *range(31, 39)]
    forced = [a for a in table.asked if FORCED in (a.params.get("extra_args") or {})]
    assert sorted(len(a.ids) for a in forced) == list(range(21, 29))


@pytest.mark.parametrize("cached", [24, 25, 26, WINDOW])
def test_rows_from_the_cache_are_never_used(cached: int) -> None:
    plan = plan_of(some_rows())
    table = Table(cached=cached)
    mine = scorer(table, ("cached", "prompt"))
    check(plan, list(mine.score(plan, plan.steps)))
    assert mine.resent > 0
    assert mine.ways["several"].name == "cached"
    # A continuation of one token needs no row of the prompt, so it is not asked again.
    again = [a for a in table.asked if a.params.get("skip_reading_prefix_cache")]
    assert 0 < len(again) < len(table.asked)


@pytest.mark.parametrize("shift", [0.01, -0.01, np.nan])
def test_a_way_that_disagrees_is_dropped_with_a_warning(shift: float) -> None:
    plan = plan_of(some_rows())
    mine = scorer(Table(cached=16, shift=shift))
    with pytest.warns(UserWarning, match="'forced' is .* away from plain prompt_logprobs"):
        got = list(mine.score(plan, plan.steps))
    assert mine.ways["several"].name == "cached"
    check(plan, got)
    with warnings.catch_warnings():  # said once
        warnings.simplefilter("error")
        check(plan, list(mine.score(plan, plan.steps)))


def test_every_way_may_fail_but_the_plain_one(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of(some_rows())
    table = Table(shift=1.0)
    answer = table.answer

    def broken(ids: list[int], how: dict) -> SimpleNamespace:
        output = answer(ids, how)
        if how.get("skip_reading_prefix_cache") is not True:
            for row in [*output.outputs[0].logprobs, *(output.prompt_logprobs or [])]:
                for value in (row or {}).values():
                    value.rank = 1
                    value.logprob -= 0.5
        return output

    monkeypatch.setattr(table, "answer", broken)
    mine = scorer(table)
    with pytest.warns(UserWarning, match="plain prompt_logprobs") as said:
        check(plan, list(mine.score(plan, plan.steps)))
    assert {way.name for way in mine.ways.values()} == {"prompt"}
    assert len(said) == 3 + 2 + 1


def test_one_token_continuations_share_requests_of_limited_size() -> None:
    context = list(range(30))
    plan = plan_of([([*context, token], 30) for token in range(MAX_GROUP + 22)])
    table = Table()
    mine = scorer(table)
    check(plan, list(mine.score(plan, plan.steps)))
    grouped = [len(a.params["logprob_token_ids"]) for a in table.asked if len(a.ids) == 30]
    assert max(grouped) <= MAX_GROUP
    assert sum(grouped) == MAX_GROUP + 22 + 8
    assert len(grouped) <= 8


def test_a_request_that_the_engine_gives_up_is_nan_and_the_rest_is_not() -> None:
    rows = some_rows()
    plan = plan_of(rows)
    ids, context = rows[40]
    assert len(ids) - context > 1
    s = plan.sequences
    lost = int(plan.unique_of[40])
    mine = scorer(Table(dead=tuple(ids[:context])), ("forced", "cached", "prompt"))
    mine._prove(plan)
    got = np.zeros(int(plan.slots[-1]))
    for part in mine.score(plan, plan.steps):
        got[plan.slots[part.lo] : plan.slots[part.hi]] = part.logprobs
    same = [
        k for k in range(len(s))
        if s.ids[s.offsets[k] : s.offsets[k] + context].tolist() == ids[:context]
    ]  # fmt: skip
    bad = {k for k in range(len(s)) if np.isnan(got[plan.slots[k] : plan.slots[k + 1]]).any()}
    assert lost in bad
    assert bad == set(same)
    assert all(np.isnan(got[plan.slots[k] : plan.slots[k + 1]]).all() for k in bad)


def test_a_caller_that_leaves_leaves_no_requests_behind() -> None:
    plan = plan_of(some_rows())
    table = Table()
    answers = scorer(table).score(plan, plan.steps)
    next(answers)
    assert not table.idle
    answers.close()
    assert table.idle


class Tokenizer:
    """A letter an id."""

    def decode(self, ids: list[int]) -> str:
        return "".join(chr(ord("a") + i % 26) for i in ids)


def test_samples_come_in_order_cut_at_the_earliest_stop() -> None:
    prompts = [
        Prompt((k, k + 1), Sampling(max_tokens=9, n=3, stop=("c", "b")), k) for k in range(6)
    ]
    table = Table(dead=(4, 5))
    written = {0: [3, 0, 2, 1], 1: [3, 3, 25], 2: [7] * 9}

    def answer(ids: list[int], how: dict) -> SimpleNamespace:
        if tuple(ids) == (4, 5):
            return SimpleNamespace(outputs=[SimpleNamespace(finish_reason="abort")])
        tokens = written[ids[0] % 3]
        rows = [{t: SimpleNamespace(logprob=-0.5)} for t in tokens]
        reason = "length" if len(tokens) == 9 else "stop"
        return SimpleNamespace(
            outputs=[SimpleNamespace(token_ids=tokens, logprobs=rows, finish_reason=reason)]
        )

    table.answer = answer
    got = dict(generate(table, lambda **how: how, Tokenizer(), prompts, frozenset({25})))
    assert sorted(got) == list(range(6))
    assert got[4] == ()
    assert [(s.text, s.n_tokens, s.logprob, s.finish) for s in got[0]] == [
        ("da", 4, -2.0, "stop")
    ] * 3
    assert [(s.text, s.n_tokens, s.finish) for s in got[1]] == [("dd", 3, "stop")] * 3
    assert [(s.text, s.n_tokens, s.finish) for s in got[2]] == [("h" * 9, 9, "length")] * 3
    assert all(a.params["stop_token_ids"] == [25] for a in table.asked)


def test_every_sample_has_a_seed_of_its_own_and_greedy_ones_none() -> None:
    def seeds(temperature: float) -> list[int | None]:
        table = Table()
        sampling = Sampling(max_tokens=2, temperature=temperature, n=50)
        prompts = [Prompt((1, 2), sampling, seed) for seed in (0, 1, (1 << 64) - 1)]
        list(generate(table, lambda **how: how, Tokenizer(), prompts, frozenset()))
        return [a.params.get("seed") for a in table.asked]

    first = seeds(1.0)
    assert len(set(first)) == 150
    assert all(0 <= seed < 1 << 63 for seed in first)
    assert seeds(1.0) == first
    assert set(seeds(0.0)) == {None}


def test_sampling_that_vllm_refuses_is_one_sentence() -> None:
    def refuse(**how: object) -> None:
        raise ValueError("temperature must be in [0, 2]")

    prompts = [Prompt((1,), Sampling(temperature=5.0), 0)]
    with pytest.raises(
        UserError, match=r"cannot sample like this: temperature must be in \[0, 2\]"
    ):
        list(generate(Table(), refuse, Tokenizer(), prompts, frozenset()))


def test_without_vllm_the_backend_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm_engine, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'olmeval\[vllm\]'"):
        require_vllm()
    assert importlib.util.find_spec("olmeval.backends.vllm") is not None


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"tensor_parallel": 2}, "did you mean 'tensor_parallel_size'"),
        ({"tensor_parallel_size": 0}, "must be a positive integer, not 0"),
        ({"tensor_parallel_size": True}, "must be a positive integer, not True"),
        ({"max_num_seqs": 1.5}, "must be a positive integer, not 1.5"),
        ({"gpu_memory_utilization": "half"}, "must be a positive number, not 'half'"),
        ({"enforce_eager": 1}, "must be true or false, not 1"),
    ],
)
def test_bad_arguments(extra: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_extra(extra, ("scoring",))
    check_extra(
        {"gpu_memory_utilization": 1, "enforce_eager": True, "scoring": "auto"}, ("scoring",)
    )
