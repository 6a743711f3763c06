"""The vLLM backend against the straight-line scorer and the transformers backend."""

import os
import random
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from olmeval.backends.base import LoadOptions, Prompt
from olmeval.backends.checkpoints import find_checkpoints
from olmeval.backends.planner import Sequences, make_plan, starts
from olmeval.backends.registry import backend_class
from olmeval.backends.vllm import VllmBackend, _ways
from olmeval.backends.vllm_scorer import PROOF, Scorer
from olmeval.backends.vllm_ways import Decoded
from olmeval.errors import UserError
from olmeval.requests import Request, Sampling
from tests.backends.straight import StraightLine
from tests.backends.vllm_tiny import load_vllm, scores, vllm_checkpoint

pytestmark = pytest.mark.vllm
pytest.importorskip("vllm")

BLOCK = 32


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tokenizer_dir: Path) -> Path:
    return vllm_checkpoint(tmp_path_factory.mktemp("vllm") / "tiny", tokenizer_dir)


@pytest.fixture(scope="module")
def backend(folder: Path) -> Iterator[VllmBackend]:
    loaded = load_vllm(folder)
    yield loaded
    loaded.close()


@pytest.fixture(scope="module")
def straight(folder: Path) -> StraightLine:
    return StraightLine(folder)


def scoring_by(backend: VllmBackend, scoring: str, max_length: int = 2048) -> VllmBackend:
    """A second backend on the same, empty engine that scores in another way."""
    backend.engine.llm.reset_prefix_cache()
    backend.engine.counts.clear()
    other = object.__new__(VllmBackend)
    other.__dict__ = {**backend.__dict__}
    other.scorer = Scorer(
        backend.engine, backend.scorer.params, max_length, _ways("forced", scoring), exact=True
    )
    return other


def ll(context: str, continuation: str) -> Request:
    return Request("loglikelihood", context, continuation)


def hard_requests() -> list[Request]:
    """Shared prefixes beside every awkward shape that real requests have."""
    shots = "Question: what is a name?\nAnswer: an identifier\n\n" * 9
    words = ["yes", "no", "maybe", "a list of words", "a list of things", "don't", "self", "None"]
    requests = [
        ll(f"{shots}Question: {'why ' * (q % 7)}{q} or {w}?\nAnswer:", f" {choice}")
        for q in range(16)
        for w in words[:2]
        for choice in words
    ]
    requests += [
        ll(f"{shots}Question: {q}\nA. b\nAnswer:", f" {c}") for q in range(6) for c in "ABCD"
    ]
    requests += [
        ll("", " an empty context"),
        ll("", "a"),
        ll("ends in spaces  ", "word"),
        ll("ends in newline\n", "word"),
        ll("double", "  spaces"),
        ll("ünïcödé 日本語 🙂", " 🙂 ça"),
        ll(shots * 2, " " + "the quick brown fox " * 60),  # 300 tokens after more context
        ll("long continuation", " " + "the quick brown fox " * 80),
        ll("ends", " here<|endoftext|> and goes on"),
        ll("ends here<|endoftext|>", "<|endoftext|>"),
        ll("unlikely", " 日本語日本語"),
        ll("the whole " * 1500, " end"),  # cut to the window
        ll("the whole " * 1500, "\n" + "end of the story " * 20),
    ]
    return requests


@pytest.fixture(scope="module")
def wanted(straight: StraightLine) -> list[tuple[float, bool, int]]:
    return [straight.score(r) for r in hard_requests()]


@pytest.mark.parametrize(
    ("scoring", "ways"),
    [
        ("auto", {"one": "grouped", "several": "forced", "long": "cached"}),
        ("forced", {"one": "grouped", "several": "forced", "long": "forced"}),
        ("cached", {"one": "grouped", "several": "cached", "long": "cached"}),
        ("prompt", {"one": "prompt", "several": "prompt", "long": "prompt"}),
    ],
)
def test_every_way_equals_the_straight_line(
    backend: VllmBackend, wanted: list[tuple[float, bool, int]], scoring: str, ways: dict[str, str]
) -> None:
    requests = hard_requests()
    order = random.Random(0).sample(range(len(requests)), len(requests))
    chosen = scoring_by(backend, scoring)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got, greedy = scores(chosen, [requests[k] for k in order])
    assert np.abs(got - [wanted[k][0] for k in order]).max() < 1e-3
    assert greedy.tolist() == [wanted[k][1] for k in order]
    assert chosen.info.settings["scoring"] == ways


def test_sequences_that_fill_the_window_and_tokens_nobody_expects(
    backend: VllmBackend, straight: StraightLine
) -> None:
    """Random ids, some of one in a million, at the edges of window and block."""
    rng = np.random.default_rng(0)
    shapes = [
        (n, c) for n in (2, 31, 32, 33, 34, 64, 65, 127, 1024, 2048, 2049)
        for c in (1, n // 2, n - 33, n - 2, n - 1) if 0 < c < n
    ]  # fmt: skip
    head = rng.integers(0, 600, 2100)
    ids = [np.append(head[: n - 1], rng.integers(600)) for n, _ in shapes]
    sequences = Sequences(
        np.concatenate(ids).astype(np.int32),
        starts(np.array([len(i) for i in ids])),
        np.array([c for _, c in shapes]),
    )
    plan = make_plan(sequences, 256)
    want = []
    for row, (n, c) in zip(ids, shapes, strict=True):
        with torch.no_grad():
            logits = straight.model(torch.as_tensor(row[None, : n - 1])).logits[0].double()
        logprob = logits.log_softmax(-1)[torch.arange(n - 1), torch.tensor(row[1:])]
        want.append(logprob[c - 1 :].numpy())
    assert min(w.min() for w in want) < np.log(1e-6)
    for scoring in ("auto", "forced", "cached", "prompt"):
        chosen = scoring_by(backend, scoring)
        got = np.full(int(plan.slots[-1]), np.nan)
        for part in chosen.score(plan, plan.steps):
            got[plan.slots[part.lo] : plan.slots[part.hi]] = part.logprobs
        for k, unique in enumerate(plan.unique_of):
            mine = got[plan.slots[unique] : plan.slots[unique + 1]]
            assert np.abs(mine - want[k]).max() < 1e-3, (scoring, shapes[k])


def test_what_the_cache_swallowed_is_asked_again(
    backend: VllmBackend, straight: StraightLine
) -> None:
    chosen = scoring_by(backend, "cached")
    text = "Every one of these words is in the continuation of a sibling that came before. " * 6
    context = "Question: which of these?\nAnswer:"
    scores(chosen, [ll("a", " first request"), ll(context, " " + text)])
    # More than one block of each continuation is in the cache now.
    requests = [ll(context, " " + text[:cut]) for cut in (200, 230, 300)]
    asked = chosen.scorer.resent
    got, greedy = scores(chosen, requests)
    assert chosen.scorer.resent - asked == 3
    assert chosen.info.settings["last_session"] == {"asked_again": 3}
    scores(chosen, [])  # a part whose answers are all known adds nothing
    assert chosen.info.settings["last_session"] == {"asked_again": 0}
    want = [straight.score(r) for r in requests]
    assert np.abs(got - [w[0] for w in want]).max() < 1e-3
    assert greedy.tolist() == [w[1] for w in want]


def test_a_way_that_does_not_agree_is_not_used(
    backend: VllmBackend, wanted: list[tuple[float, bool, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forcing the wrong token gives real numbers of another question."""
    ask = Decoded.ask

    def wrong(self, members):
        prompt, how = ask(self, members)
        return prompt[:-1] or prompt, how

    monkeypatch.setattr(Decoded, "ask", wrong)
    chosen = scoring_by(backend, "auto")
    with pytest.warns(UserWarning, match=r"'forced' is .* nats a token away from plain"):
        got, _ = scores(chosen, hard_requests())
    assert chosen.info.settings["scoring"]["several"] == "cached"
    assert np.abs(got - [w[0] for w in wanted]).max() < 1e-3


def test_one_token_answers_to_one_context_are_one_request(
    backend: VllmBackend, straight: StraightLine
) -> None:
    chosen = scoring_by(backend, "auto")
    requests = [
        ll("Question: " + "which one? " * 20 + f"{q}\nAnswer:", f" {c}")
        for q in range(20)
        for c in "ABCDEFGH"
    ]
    requests = [r for r in requests if straight.score(r)[2] == 1]
    contexts = {r.context for r in requests}
    assert len(requests) >= 3 * len(contexts)
    got, greedy = scores(chosen, requests)
    asked = chosen.engine.counts["requests"]
    assert len(contexts) + PROOF < asked <= len(contexts) + 2 * PROOF < len(requests)
    want = [straight.score(r) for r in requests]
    assert np.abs(got - [w[0] for w in want]).max() < 1e-3
    assert greedy.tolist() == [w[1] for w in want]


def test_tokens_forwarded_are_what_the_blocks_allow(backend: VllmBackend) -> None:
    chosen = scoring_by(backend, "auto")
    shots = "Question: what is a name?\nAnswer: an identifier\n\n" * 12
    requests = [
        ll(f"{shots}Question: {'so ' * q} {q} or not?\nAnswer:", f" {a} word")
        for q in range(40)
        for a in ("some", "another", "no")
    ]
    scores(chosen, requests[:6])  # the proof is over
    backend.engine.llm.reset_prefix_cache()
    backend.engine.counts.clear()
    rows = chosen.tokenizer.pairs(requests, 2048)
    plan = make_plan(rows.sequences, 4096)
    list(chosen.score(plan, plan.steps))
    # Every distinct full block once, and the rest of each sequence, counted from the ids.
    s = plan.sequences
    blocks, rest = set(), 0
    for k in range(len(s)):
        fed = s.ids[s.offsets[k] : s.offsets[k + 1] - 1].tolist()
        full = len(fed) // BLOCK * BLOCK
        blocks |= {tuple(fed[:end]) for end in range(BLOCK, full + 1, BLOCK)}
        rest += len(fed) - full
    limit = len(blocks) * BLOCK + rest
    assert limit <= backend.engine.counts["forwarded"] <= 1.1 * limit
    assert plan.tokens_naive > 5 * limit


def test_the_caller_may_stop_listening(backend: VllmBackend) -> None:
    chosen = scoring_by(backend, "auto")
    rows = chosen.tokenizer.pairs(hard_requests(), 2048)
    plan = make_plan(rows.sequences, 64)
    answers = chosen.score(plan, plan.steps)
    next(answers)
    answers.close()
    assert backend.engine.idle
    assert backend.engine.llm.get_num_unfinished_requests() == 0
    done = np.zeros(len(plan.sequences), bool)
    for part in chosen.score(plan, plan.pending(done)):
        assert np.isfinite(part.logprobs).all()
        done[part.lo : part.hi] = True
    assert done.all()


def prompts(backend: VllmBackend, sampling: Sampling, count: int = 9) -> list[Prompt]:
    texts = [f"def name_{k}(self):\n" + "    # the value\n" * (k % 4) for k in range(count)]
    ids = backend.tokenizer.encode(texts)
    return [Prompt(tuple(i), sampling, seed=(1 << 64) - 1 - k) for k, i in enumerate(ids)]


def test_greedy_generation_equals_transformers(
    backend: VllmBackend, straight: StraightLine, folder: Path
) -> None:
    peer = backend_class("transformers").load(
        find_checkpoints(folder)[0], LoadOptions(device="cpu")
    )
    # Some of these stop strings come up, at once or late, some inside a token.
    sampling = Sampling(max_tokens=40, stop=("ing", "\n\n", "e"), n=2)
    for how in (sampling, Sampling(max_tokens=40)):
        items = prompts(backend, how)
        want, got = dict(peer.generate(items)), dict(backend.generate(items))
        for k in range(len(items)):
            for mine, theirs in zip(got[k], want[k], strict=True):
                assert (mine.text, mine.n_tokens, mine.finish) == (
                    theirs.text, theirs.n_tokens, theirs.finish
                )  # fmt: skip
                assert mine.logprob == pytest.approx(theirs.logprob, abs=1e-3)


def test_a_generation_ends_at_the_end_of_text(backend: VllmBackend, folder: Path) -> None:
    items = prompts(backend, Sampling(max_tokens=200, temperature=2.0, n=12))
    samples = [s for _, found in backend.generate(items) for s in found]
    ended = [s for s in samples if s.finish == "stop"]
    assert len(samples) == 108
    assert 5 < len(ended) < 60
    assert all("<|endoftext|>" not in s.text and s.n_tokens <= 200 for s in samples)
    assert all(s.n_tokens == 200 for s in samples if s.finish == "length")


def test_a_sample_depends_on_its_seed_alone(backend: VllmBackend, straight: StraightLine) -> None:
    items = prompts(backend, Sampling(max_tokens=16, temperature=0.8, top_p=0.9, n=3))
    together = dict(backend.generate(items))
    for k in (0, 5):
        alone = dict(backend.generate([items[k]]))[0]
        assert [s.text for s in alone] == [s.text for s in together[k]]
    texts = [s.text for samples in together.values() for s in samples]
    assert len(set(texts)) == len(texts)
    # The log-probability is the unmodified model's, not that of the sampled distribution.
    for k in (0, 4):
        for sample in together[k]:
            ids = straight.ids(sample.text)
            if len(ids) != sample.n_tokens:
                continue  # the text does not encode back to its tokens
            whole = [*items[k].ids, *ids]
            with torch.no_grad():
                logits = straight.model(torch.tensor([whole[:-1]])).logits[0].double()
            rows = logits.log_softmax(-1)[-len(ids) :]
            want = float(rows[torch.arange(len(ids)), torch.tensor(ids)].sum())
            assert sample.logprob == pytest.approx(want, abs=1e-3)


def test_draws_follow_the_distribution(backend: VllmBackend, straight: StraightLine) -> None:
    item = prompts(backend, Sampling(max_tokens=1, temperature=2.0, n=3000), 1)[0]
    counts = Counter(s.text for s in dict(backend.generate([item]))[0])
    with torch.no_grad():
        logits = straight.model(torch.tensor([item.ids])).logits[0, -1].double()
    # By text: some ids are bytes that are no character by themselves and read the same.
    p: Counter[str] = Counter()
    for token, value in enumerate((logits / 2.0).softmax(-1).tolist()):
        p[backend.tokenizer.decode([token])] += value
    for text, value in p.most_common(5):
        error = (value * (1 - value) / 3000) ** 0.5
        assert counts[text] / 3000 == pytest.approx(value, abs=4 * error)


def test_forced_rows_follow_their_requests_through_the_batch() -> None:
    from vllm import SamplingParams
    from vllm.v1.sample.logits_processor import BatchUpdate, MoveDirectionality

    from olmeval.backends.vllm_engine import FORCED
    from olmeval.backends.vllm_forced import ForcedTokens

    def forcing(*tokens: int) -> SamplingParams:
        return SamplingParams(extra_args={FORCED: list(tokens)})

    processor = ForcedTokens(None, torch.device("cpu"), False)
    first, second = [], [7]
    processor.update_state(
        BatchUpdate(3, [], [(0, forcing(5, 6), None, first), (1, SamplingParams(), None, []),
                            (2, forcing(7, 8), None, second)], [])
    )  # fmt: skip
    assert processor.apply(torch.zeros(3, 10)).argmax(-1).tolist() == [5, 0, 8]
    first.append(5)
    processor.update_state(BatchUpdate(3, [], [], [(0, 2, MoveDirectionality.SWAP)]))
    assert processor.apply(torch.zeros(3, 10)).argmax(-1).tolist() == [8, 0, 6]
    first.append(6)  # nothing left to force
    processor.update_state(BatchUpdate(2, [0], [], [(2, 0, MoveDirectionality.UNIDIRECTIONAL)]))
    assert processor.apply(torch.zeros(2, 10)).argmax(-1).tolist() == [0, 0]


def test_the_second_runner_has_what_trace_asks_for() -> None:
    """That runner needs a GPU; its interface is part of every build."""
    from vllm import SamplingParams
    from vllm.engine.arg_utils import EngineArgs

    from olmeval.backends.vllm_ways import Member, make_way

    prompt, how = make_way("trace", 10).ask([Member(0, [1, 2, 3, 4], 2)])
    params = SamplingParams(temperature=0.0, ignore_eos=True, detokenize=False, **how)
    assert (prompt, params.trace_decode_token_ids, params.max_tokens) == ([1, 2], [3, 4], 2)
    assert hasattr(EngineArgs, "enable_trace_replay")


def test_sliding_windows_in_half_precision_and_nothing_left_behind(
    tmp_path: Path, tokenizer_dir: Path
) -> None:
    from multiprocessing import resource_tracker

    import psutil
    from transformers import Olmo3Config, Olmo3ForCausalLM

    folder = vllm_checkpoint(tmp_path / "olmo3", tokenizer_dir)
    torch.manual_seed(0)
    rope = {"rope_type": "default", "rope_theta": 500000.0}
    config = Olmo3Config(
        vocab_size=600, hidden_size=64, intermediate_size=64, num_hidden_layers=4,
        num_attention_heads=2, num_key_value_heads=1, sliding_window=16, pad_token_id=None,
        bos_token_id=None, eos_token_id=0, initializer_range=0.2, max_position_embeddings=2048,
        rope_parameters={"full_attention": rope, "sliding_attention": rope},
    )  # fmt: skip
    Olmo3ForCausalLM(config).save_pretrained(folder)
    resource_tracker.ensure_running()  # Python's own, which stays
    before = set(psutil.Process().children(recursive=True))
    requests = hard_requests()[:60]
    straight = StraightLine(folder)
    want = np.array([straight.score(r)[0] for r in requests])
    tokens = np.array([straight.score(r)[2] for r in requests])
    backend = load_vllm(folder, dtype="bfloat16")
    started = set(psutil.Process().children(recursive=True)) - before
    got, _ = scores(backend, requests)
    assert backend.info.settings["dtype"] == "bfloat16"
    assert backend.info.settings["scoring"]["several"] == "forced"
    assert np.abs((got - want) / tokens).mean() < 0.1
    assert np.abs(got - want).max() > 1e-4  # it really is another precision
    assert started
    backend.close()
    _, alive = psutil.wait_procs(started, timeout=10)
    assert not alive


def test_bad_arguments_are_one_sentence(folder: Path) -> None:
    bad = [
        ({"max_num_seq": 3}, {}, "knows no argument 'max_num_seq'; did you mean 'max_num_seqs'"),
        ({"block_size": "16"}, {}, "block_size must be a positive integer, not '16'"),
        ({"scoring": "magic"}, {}, "scoring must be auto, trace, forced, cached, prompt"),
        ({}, {"max_length": 4096}, "max-length 4096 is more than the model's window of 2048"),
        ({}, {"device": "cuda"}, "this vLLM runs on 'cpu', not on 'cuda'"),
        ({"block_size": 7}, {}, "vLLM cannot load"),
        ({}, {"dtype": "float31"}, "vLLM cannot load"),
    ]
    for extra, options, message in bad:
        with pytest.raises(UserError, match=message):
            load_vllm(folder, extra, **options).close()
    assert "VLLM_ALLOW_LONG_MAX_MODEL_LEN" not in os.environ


def test_heads_too_small_for_the_cpu_are_refused_at_once(
    tmp_path: Path, tokenizer_dir: Path
) -> None:
    small = vllm_checkpoint(tmp_path / "small", tokenizer_dir, num_attention_heads=4)
    with pytest.raises(UserError, match=r"on a CPU takes heads of 32, .*/small' have 16; use the"):
        load_vllm(small)
