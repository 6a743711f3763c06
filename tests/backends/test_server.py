"""The server backend against a real HTTP server that computes on its own, and against vLLM's."""

import os
import subprocess
import sys
import threading
import time
import urllib.request
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from olmeval.backends import server_http
from olmeval.backends.base import LoadOptions, Prompt
from olmeval.backends.checkpoints import find_checkpoints
from olmeval.backends.planner import Plan, make_plan
from olmeval.backends.server import ServerBackend
from olmeval.backends.server_http import ServerLost
from olmeval.errors import UserError
from olmeval.requests import Request, Sampling
from tests.backends.completions_server import Serving, serve
from tests.backends.straight import StraightLine
from tests.conftest import make_checkpoint

WINDOW = 2046  # of 2048, less the last target and the token that a server generates


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_http, "BACKOFF_SECONDS", 0.005)
    for name in server_http.KEY_VARIABLES:
        monkeypatch.delenv(name, raising=False)


@contextmanager
def backend_of(serving: Serving, options: LoadOptions | None = None, **extra: object):
    """The backend of a server that runs while the block does."""
    with serve(serving) as (url, server):
        options = replace(options or LoadOptions(), extra=extra)
        backend = ServerBackend.load(find_checkpoints(url)[0], options)
        backend.httpd = server
        try:
            yield backend
        finally:
            backend.close()


def ll(context: str, continuation: str) -> Request:
    return Request("loglikelihood", context, continuation)


def requests() -> list[Request]:
    """Shared prefixes, letters, and every awkward shape that real requests have."""
    shots = "Question: what is a name?\nAnswer: an identifier\n\n" * 3
    words = ["yes", "no", "a list of words", "don't"]
    found = [ll(f"{shots}Question: {q}?\nAnswer:", f" {w}") for q in range(5) for w in words]
    found += [ll(f"{shots}Question: {q}?\nAnswer:", f"{x}") for q in range(5) for x in "ABCD"]
    return [
        *found,
        ll("", " an empty context"),
        ll("ends in spaces  ", "word"),
        ll("double", "  spaces"),
        ll("ünïcödé 日本語 🙂", " 🙂 ça"),
        ll("long continuation", " " + "the quick brown fox " * 20),
        ll("the whole " * 900, " end"),
    ]


def plan_of(backend: ServerBackend, items: list[Request], rows: int = 256) -> Plan:
    return make_plan(backend.tokenizer.pairs(items, backend.info.max_length).sequences, rows)


def scores(backend: ServerBackend, plan: Plan, steps=None) -> tuple[np.ndarray, np.ndarray]:
    """Log-probability and greediness of each distinct sequence; nan where nothing was yielded."""
    logprob = np.full(len(plan.sequences), np.nan)
    greedy = np.zeros(len(plan.sequences), bool)
    for part in backend.score(plan, plan.steps if steps is None else steps):
        bounds = plan.slots[part.lo : part.hi + 1] - plan.slots[part.lo]
        logprob[part.lo : part.hi] = np.add.reduceat(part.logprobs.astype(float), bounds[:-1])
        greedy[part.lo : part.hi] = np.logical_and.reduceat(part.greedy, bounds[:-1])
    return logprob, greedy


@pytest.fixture(scope="module")
def want(checkpoint: Path) -> list[tuple[float, bool, int]]:
    straight = StraightLine(checkpoint, WINDOW)
    return [straight.score(r) for r in requests()]


WAYS = {
    "prompt_logprobs, one-token groups": {},
    "prompt_logprobs": {"offers": frozenset({"prompt_logprobs"})},
    "echo": {"offers": frozenset({"echo"}), "strict": True},
    "echo that generates": {"offers": frozenset({"echo"}), "smallest_echo": 1},
    "text": {"offers": frozenset({"prompt_logprobs"}), "ids": False},
}


@pytest.mark.parametrize("way", WAYS)
def test_scores_equal_the_straight_line(checkpoint: Path, want: list, way: str) -> None:
    serving = Serving(checkpoint, **WAYS[way])
    with backend_of(serving) as backend:
        assert backend.info.settings["scoring"] == ("echo" if "echo" in way else "prompt_logprobs")
        assert backend.info.settings["one_token_groups"] == ("one-token" in way)
        assert backend.info.settings["prompts"] == ("text" if way == "text" else "ids")
        assert backend.info.max_length == WINDOW
        items = requests()
        plan = plan_of(backend, items)
        probes = len(serving.asked)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore" if way == "text" else "error")
            logprob, greedy = scores(backend, plan)
        of = plan.unique_of
        known = np.isfinite(logprob[of])
        # Cut from the left, a prompt may begin inside a character or word: no text stands for it.
        assert known.sum() >= len(items) - (way == "text")
        expected = np.array([w[0] for w in want])
        assert np.abs(logprob[of] - expected)[known].max() < 1e-4
        assert greedy[of][known].tolist() == np.array([w[1] for w in want])[known].tolist()
        s = plan.sequences
        contexts = [
            s.ids[s.offsets[k] : s.offsets[k + 1] - 1].tobytes()
            for k in np.flatnonzero(s.lengths == s.context_len + 1)
        ]
        # One-token ends of one context are one request.
        saved = len(contexts) - len(set(contexts)) if "one-token" in way else 0
        assert saved >= 5 or "one-token" not in way
        assert len(serving.asked) - probes == len(s) - saved - (~known).sum()


def test_requests_that_share_a_beginning_are_neighbours(checkpoint: Path) -> None:
    serving = Serving(checkpoint)
    with backend_of(serving, concurrency=1) as backend:
        plan = plan_of(backend, requests())
        probes = len(serving.asked)
        scores(backend, plan)
        asked = [a["prompt"] for a in serving.asked[probes:]]
        firsts = [tuple(p[:40]) for p in asked]
        changes = sum(a != b for a, b in pairwise(firsts))
        assert changes == len(set(firsts)) - 1


def test_text_that_stands_for_other_tokens_is_not_scored(checkpoint: Path) -> None:
    serving = Serving(checkpoint, ids=False)
    with backend_of(serving) as backend:
        probes = len(serving.asked)
        # The second half of a two-byte letter is no text.
        half = backend.tokenizer.encode(["é"])[0][-1:]
        if backend.tokenizer.encode([backend.tokenizer.decode(half)])[0] == half:
            half = [backend.tokenizer.hf.convert_tokens_to_ids("©")]
        prompt = Prompt((*half, 300), Sampling(max_tokens=2), 1)
        with pytest.warns(UserWarning, match="no text stands for these tokens"):
            assert list(backend.generate([prompt])) == [(0, ())]
        assert len(serving.asked) == probes


def test_what_a_strict_server_refuses_is_not_sent_again(checkpoint: Path) -> None:
    with backend_of(Serving(checkpoint)) as backend:
        assert "top_k" in backend.info.settings["neutral_sampling"]
    serving = Serving(checkpoint, strict=True, offers=frozenset({"echo", "min_p"}))
    with backend_of(serving) as backend:
        assert backend.info.settings["neutral_sampling"] == ["min_p"]
        probes = len(serving.asked)
        list(backend.generate([Prompt((5, 6, 7), Sampling(max_tokens=2), 1)]))
        assert serving.asked[probes].keys() <= {
            "model", "prompt", "max_tokens", "temperature", "top_p", "min_p", "seed", "logprobs"
        }  # fmt: skip


def test_a_server_that_contradicts_itself_is_refused(checkpoint: Path) -> None:
    for offer in ("echo", "prompt_logprobs"):
        serving = Serving(checkpoint, shift=1, offers=frozenset({offer}))
        with pytest.raises(UserError, match=f"contradicts itself.*by {offer}"), backend_of(serving):
            pass


def test_a_server_that_sees_other_tokens_is_refused(
    checkpoint: Path, tmp_path: Path, tokenizer_dir: Path
) -> None:
    with (
        pytest.raises(UserError, match="counts 61 tokens where the tokenizer makes 60"),
        backend_of(Serving(checkpoint, count_offset=1, ids=False)),
    ):
        pass
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    letters = Tokenizer(models.BPE({c: k for k, c in enumerate(alphabet)}, []))
    letters.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    PreTrainedTokenizerFast(tokenizer_object=letters, eos_token="a").save_pretrained(tmp_path)
    with (
        pytest.raises(UserError, match=r"counts \d+ tokens where .* pass the tokenizer of 'tiny'"),
        backend_of(Serving(checkpoint), LoadOptions(tokenizer=str(tmp_path))),
    ):
        pass


def test_a_bos_that_a_server_adds_to_text_is_told_apart(checkpoint: Path, tmp_path: Path) -> None:
    # It takes ids, to which it adds none: fine.
    folder = make_checkpoint(tmp_path / "bos", checkpoint)
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.bos_token = "<|endoftext|>"
    tokenizer.save_pretrained(folder)
    from tokenizers.processors import TemplateProcessing

    backend = tokenizer.backend_tokenizer
    backend.post_processor = TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", tokenizer.bos_token_id)]
    )
    backend.save(str(folder / "tokenizer.json"))
    with backend_of(Serving(folder, bos=True)) as loaded:
        assert loaded.info.settings["prompts"] == "ids"
    with (
        pytest.raises(UserError, match="adds tokens of its own"),
        backend_of(Serving(folder, bos=True, ids=False)),
    ):
        pass


def test_a_server_without_scoring_still_generates(checkpoint: Path) -> None:
    with backend_of(Serving(checkpoint, offers=frozenset())) as backend:
        assert backend.info.settings["scoring"] is None
        assert backend.info.max_length == 2048
        plan = plan_of(backend, requests()[:4])
        with pytest.raises(UserError, match="can only generate"):
            list(backend.score(plan, plan.steps))
        assert list(backend.score(plan, [])) == []
        ((_, (sample,)),) = backend.generate([Prompt((5, 6), Sampling(max_tokens=3), 1)])
        assert sample.n_tokens <= 3 and sample.finish in ("stop", "length")


def prompts(backend: ServerBackend, sampling: Sampling, count: int = 6) -> list[Prompt]:
    texts = [f"def name_{k}(self):\n" + "    # the value\n" * (k % 4) for k in range(count)]
    ids = backend.tokenizer.encode(texts)
    return [Prompt(tuple(i), sampling, seed=2**63 + k) for k, i in enumerate(ids)]


def test_greedy_generation_equals_transformers(checkpoint: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(checkpoint)
    with backend_of(Serving(checkpoint)) as backend:
        items = prompts(backend, Sampling(max_tokens=24))
        got = dict(backend.generate(items))
        for k, prompt in enumerate(items):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                ids = model.generate(
                    torch.tensor([prompt.ids]), max_new_tokens=24, do_sample=False
                )[0, len(prompt.ids) :].tolist()
            (sample,) = got[k]
            assert sample.text == backend.tokenizer.decode([i for i in ids if i != 0])
            assert sample.n_tokens == len(ids)
            whole = torch.tensor([[*prompt.ids, *ids]])
            with torch.no_grad():
                rows = model(whole).logits[0].double().log_softmax(-1)[len(prompt.ids) - 1 : -1]
            total = float(rows.gather(1, torch.tensor(ids)[:, None]).sum())
            assert sample.logprob == pytest.approx(total, abs=1e-4)


def test_stops_beyond_a_servers_limit_cut_the_text(checkpoint: Path) -> None:
    for most in (None, 4):
        serving = Serving(checkpoint, stops=most)
        with backend_of(serving) as backend:
            (free,) = dict(backend.generate(prompts(backend, Sampling(max_tokens=40), 1)))[0]
            middle = len(free.text) // 2
            stop = ("\x00a", "\x00b", "\x00c", "\x00d", free.text[middle : middle + 3])
            items = prompts(backend, Sampling(max_tokens=40, stop=stop), 1)
            (cut,) = dict(backend.generate(items))[0]
            assert cut.text == free.text[: free.text.find(stop[-1])]
            assert cut.finish == "stop"
            assert len(serving.asked[-1]["stop"]) == (most or 5)
            assert cut.n_tokens == free.n_tokens or most is None


@pytest.mark.parametrize("several", [True, False])
def test_samples_are_seeded_by_the_request(checkpoint: Path, several: bool) -> None:
    serving = Serving(checkpoint, several=several)
    with backend_of(serving) as backend:
        items = prompts(backend, Sampling(max_tokens=12, temperature=1.0, top_p=0.9, n=3))
        together = dict(backend.generate(items))
        texts = {s.text for samples in together.values() for s in samples}
        assert len(texts) > len(items)
        probes = len(serving.asked)
        alone = dict(backend.generate([items[4]]))[0]
        assert alone == together[4]
        assert len(serving.asked) - probes == (1 if several else 3)
        assert serving.asked[-1]["top_p"] == 0.9 and serving.asked[-1]["temperature"] == 1.0
        assert serving.asked[probes]["seed"] == items[4].seed % 2**31
        greedy = dict(backend.generate(prompts(backend, Sampling(max_tokens=4, n=3), 1)))[0]
        assert len(greedy) == 3 and len(set(greedy)) == 1


def test_the_two_ways_to_draw_several_samples_agree(checkpoint: Path) -> None:
    drawn = []
    for several in (True, False):
        with backend_of(Serving(checkpoint, several=several)) as backend:
            items = prompts(backend, Sampling(max_tokens=4, temperature=1.0, n=18), 3)
            drawn.append([[s.text for s in v] for _, v in sorted(backend.generate(items))])
    assert drawn[0] == drawn[1]


def http_date(seconds: float) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


FAULTS = {
    "500": lambda: 500,
    "503 with a date": lambda: (503, {"Retry_After": http_date(1.1)}),
    "429": lambda: (429, {"Retry_After": "0.3"}),
    "not JSON": lambda: "garbage",
    "reset": lambda: "reset",
    "timeout": lambda: lambda: time.sleep(5.0),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_that_pass_change_nothing(checkpoint: Path, want: list, name: str) -> None:
    serving = Serving(checkpoint)
    with backend_of(serving, timeout=4.0 if name == "timeout" else 30.0) as backend:
        items = requests()[:30]
        plan = plan_of(backend, items)
        first = len(serving.asked)
        seen: set[str] = set()
        failed_at: list[float] = []

        def fault(number: int, body: dict) -> object:
            prompt = str(body["prompt"])
            # Every seventh request fails, twice each.
            if (number - first) % 7 == 3 and len(failed_at) < 6 and prompt not in seen:
                seen.add(prompt)
                failed_at.append(time.monotonic())
                return FAULTS[name]()
            return None

        serving.fault = fault
        begun = time.monotonic()
        logprob, greedy = scores(backend, plan)
        took = time.monotonic() - begun
        assert failed_at and backend.server.retried == len(failed_at)
        assert np.abs(logprob[plan.unique_of] - [w[0] for w in want[:30]]).max() < 1e-4
        assert greedy[plan.unique_of].tolist() == [w[1] for w in want[:30]]
        assert took >= {"429": 0.3, "503 with a date": 0.1, "timeout": 4.0}.get(name, 0)


def test_every_kind_of_failure_for_good_is_nan_and_said(checkpoint: Path, want: list) -> None:
    for kind in (500, 400, "garbage", "empty", "count", "silent"):
        serving = Serving(checkpoint, offers=frozenset({"prompt_logprobs"}))
        with backend_of(serving, retries=2) as backend:
            items = requests()[:12]
            plan = plan_of(backend, items)
            s = plan.sequences
            bad = s.ids[s.offsets[5] : s.offsets[6]].tolist()
            probes = len(serving.asked)
            serving.fault = lambda number, body, bad=bad, kind=kind: (
                kind if body["prompt"] == bad else None
            )
            with pytest.warns(UserWarning, match="1 requests to .* failed for good"):
                logprob, greedy = scores(backend, plan)
            assert np.flatnonzero(np.isnan(logprob)).tolist() == [5]
            assert not greedy[5]
            fine = plan.unique_of != 5
            expected = np.array([w[0] for w in want[:12]])
            assert np.abs(logprob[plan.unique_of] - expected)[fine].max() < 1e-4
            times = sum(a["prompt"] == bad for a in serving.asked[probes:])
            assert times == (3 if kind in (500, "garbage") else 1)


def test_a_generation_that_failed_for_good_has_no_samples(checkpoint: Path) -> None:
    serving = Serving(checkpoint)
    with backend_of(serving, retries=1) as backend:
        items = prompts(backend, Sampling(max_tokens=4))
        serving.fault = lambda number, body: 500 if body["prompt"] == list(items[2].ids) else None
        with pytest.warns(UserWarning, match="HTTP 500: told to fail"):
            got = dict(backend.generate(items))
        assert got[2] == () and all(len(got[k]) == 1 for k in got if k != 2)
        # Too long for the server: refused with its words.
        long = Prompt(tuple([7] * 3000), Sampling(max_tokens=4), 1)
        with pytest.warns(UserWarning, match="the context of 3000 tokens is too long"):
            assert list(backend.generate([long])) == [(0, ())]


def test_a_server_that_dies_ends_the_run_and_loses_no_answer(checkpoint: Path, want: list) -> None:
    serving = Serving(checkpoint)
    kept: dict[int, float] = {}
    items = requests()
    with backend_of(serving, concurrency=4, retries=2) as backend:
        plan = plan_of(backend, items, rows=64)
        first = len(serving.asked)
        serving.fault = lambda number, body: "reset" if number >= first + 20 else None

        def keep() -> None:
            for part in backend.score(plan, plan.steps):
                bounds = plan.slots[part.lo : part.hi + 1] - plan.slots[part.lo]
                sums = np.add.reduceat(part.logprobs.astype(float), bounds[:-1])
                kept.update({part.lo + k: v for k, v in enumerate(sums) if np.isfinite(v)})

        with pytest.raises(ServerLost, match=r"answers no more .* the same command continues"):
            keep()
        answered = len(serving.asked) - first
        # Four at work, three attempts each, and the question whether anything is answered at all.
        assert answered <= 20 + 4 * 3 + 4
        with pytest.raises(ServerLost):
            list(backend.generate(prompts(backend, Sampling(max_tokens=2))))
        # Nothing new; what was on its way may still arrive.
        assert len(serving.asked) <= first + answered + 3
    expected = {int(u): w[0] for u, w in zip(plan.unique_of, want, strict=True)}
    assert 19 <= len(kept) < len(plan.sequences)
    assert all(value == pytest.approx(expected[k], abs=1e-4) for k, value in kept.items())

    # The same command: what is missing, and no more than its ranges.
    serving = Serving(checkpoint)
    with backend_of(serving) as backend:
        done = np.isin(np.arange(len(plan.sequences)), list(kept))
        logprob, _ = scores(backend, plan, plan.pending(done))
        missing = ~done
        assert np.isfinite(logprob[missing]).all()
        assert all(
            logprob[k] == pytest.approx(expected[k], abs=1e-4) for k in np.flatnonzero(missing)
        )


def test_a_server_that_is_shut_down(checkpoint: Path) -> None:
    with backend_of(Serving(checkpoint), retries=2) as backend:
        backend.httpd.shutdown()
        backend.httpd.server_close()
        backend.server._http.close()
        backend.server._http = server_http.httpx2.Client()
        with pytest.raises(ServerLost, match="ConnectError"):
            list(backend.generate(prompts(backend, Sampling(max_tokens=2))))


def test_a_server_that_limits_the_rate_for_good(checkpoint: Path) -> None:
    serving = Serving(checkpoint)
    with backend_of(serving, retries=1) as backend:
        serving.fault = lambda number, body: 429
        with pytest.raises(UserError, match="requests_per_minute=N or concurrency=N"):
            list(backend.generate(prompts(backend, Sampling(max_tokens=2))))


def test_the_pace_and_the_company_are_as_asked(checkpoint: Path) -> None:
    serving = Serving(checkpoint)
    with backend_of(serving, concurrency=3, requests_per_minute=1200) as backend:
        begun = time.monotonic()
        serving.together, first = 0, len(serving.asked)
        list(backend.generate(prompts(backend, Sampling(max_tokens=2), 12)))
        # 1,200 a minute: twelve take eleven spaces of 50 ms.
        assert time.monotonic() - begun >= 0.55
        assert len(serving.asked) - first == 12
    serving = Serving(checkpoint, fault=lambda number, body: time.sleep(0.02))
    with backend_of(serving, concurrency=3) as backend:
        list(backend.generate(prompts(backend, Sampling(max_tokens=2), 20)))
        assert serving.together == 3


def test_answers_come_one_by_one(checkpoint: Path) -> None:
    release = threading.Event()
    serving = Serving(checkpoint)
    with backend_of(serving, concurrency=2) as backend:
        items = prompts(backend, Sampling(max_tokens=2))
        slow = list(items[0].ids)

        def fault(number: int, body: dict) -> None:
            if body["prompt"] == slow:
                assert release.wait(30)

        serving.fault = fault
        stream = backend.generate(items)
        early = [next(stream)[0] for _ in range(len(items) - 1)]
        assert 0 not in early
        release.set()
        assert [k for k, _ in stream] == [0]


def test_who_stops_reading_stops_the_asking(checkpoint: Path) -> None:
    serving = Serving(checkpoint)
    with backend_of(serving, concurrency=2) as backend:
        stream = backend.generate(prompts(backend, Sampling(max_tokens=2), 200))
        next(stream)
        stream.close()
        asked = len(serving.asked)
        time.sleep(0.3)
        assert len(serving.asked) <= asked + 4


def test_what_is_wrong_at_the_start_is_one_sentence(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(match: str, serving: Serving, options: LoadOptions | None = None, **extra) -> None:
        with pytest.raises(UserError, match=match), backend_of(serving, options, **extra):
            pass

    plain = {"id": "tiny"}
    root = {"id": "tiny", "root": str(checkpoint)}
    with pytest.raises(UserError, match=r"no completions server answers at .*ConnectError"):
        find_checkpoints("http://127.0.0.1:9/v1")
    with (
        serve(Serving(checkpoint)) as (url, _),
        pytest.raises(UserError, match=r"HTTP 404.*ends in /v1 as a rule"),
    ):
        find_checkpoints(url.removesuffix("/v1"))
    with pytest.raises(UserError, match="is written into results; put the key into OLMEVAL_API_"):
        find_checkpoints("http://user:secret@127.0.0.1:9/v1")
    fails("unknown key 'concurency'; did you mean 'concurrency'", Serving(checkpoint), concurency=3)
    fails("retries: Input should be greater", Serving(checkpoint), retries=-1)
    two = Serving(checkpoint, models=(root, {**root, "id": "other"}))
    fails(r"lists 2 models \('tiny', 'other'\); name one", two)
    fails("serves no 'tinny'; did you mean 'tiny'", two, model="tinny")
    fails("does not say where 'tiny' comes from", Serving(checkpoint, models=(plain,)))
    fails("does not say how long the window", Serving(checkpoint, models=(root,)))
    fails("--max-length 2047 does not fit", Serving(checkpoint), LoadOptions(max_length=2047))
    fails("--device and --dtype are the server's", Serving(checkpoint), LoadOptions(device="cpu"))
    fails("does not complete prompts of 'tiny'", Serving(checkpoint, fault=lambda *_: 400))
    fails("answers no more", Serving(checkpoint, fault=lambda *_: 500), retries=1)
    with pytest.raises(UserError) as error, backend_of(Serving(checkpoint, key="right")):
        pass
    assert "401" in str(error.value) and "OLMEVAL_API_KEY" in str(error.value)
    monkeypatch.setenv("OPENAI_API_KEY", "wrong-secret")
    fails(r"bad key in 'Bearer \*\*\*'", Serving(checkpoint, key="right"))
    monkeypatch.setenv("OLMEVAL_API_KEY", "right")
    with backend_of(Serving(checkpoint, key="right")) as backend:
        assert "right" not in str(backend.info)


def test_named_models_and_windows(checkpoint: Path) -> None:
    two = Serving(checkpoint, models=({"id": "org/tiny"}, {"id": "other"}))
    options = LoadOptions(tokenizer=str(checkpoint), max_length=128)
    with backend_of(two, options, model="org/tiny") as backend:
        assert backend.info.name.startswith("127.0.0.1-")
        assert backend.info.max_length == 128
        assert backend.info.params is None
        assert two.asked[-1]["model"] == "org/tiny"
        straight = StraightLine(checkpoint, 128)
        items = [ll("many words that fill the window " * 40, " end"), *requests()[:3]]
        plan = plan_of(backend, items)
        logprob, _ = scores(backend, plan)
        expected = [straight.score(r)[0] for r in items]
        assert np.abs(logprob[plan.unique_of] - expected).max() < 1e-4


def test_a_root_that_can_be_read_tells_name_step_and_size(
    tmp_path: Path, tokenizer_dir: Path
) -> None:
    from olmeval.backends.describe import count_parameters, load_model_config

    folder = make_checkpoint(tmp_path / "run" / "step30", tokenizer_dir)
    (folder / "checkpoint.json").write_text('{"run": "run", "tokens": 77}')
    with backend_of(Serving(folder)) as backend:
        assert backend.info.name == "run-step30"
        assert backend.info.metadata == {"run": "run", "tokens": 77, "step": 30}
        config = load_model_config(find_checkpoints(folder)[0])
        assert (backend.info.params, backend.info.params_total) == count_parameters(config)


def test_fingerprints_tell_models_apart(tmp_path: Path, tokenizer_dir: Path) -> None:
    def of(serving: Serving, **extra: object) -> str:
        options = LoadOptions(tokenizer=str(tokenizer_dir), max_length=64)
        with backend_of(serving, options, **extra) as backend:
            return backend.info.fingerprint

    folder = make_checkpoint(tmp_path / "model", tokenizer_dir)
    card = {"id": "tiny", "root": "/nowhere/tiny"}
    serving = Serving(folder, models=(card,))
    first = of(serving, revision=1)
    # With a revision the place does not count: every server here has another port.
    assert of(serving, revision="1", concurrency=2) == first
    assert of(serving, revision=2) != first
    assert of(replace(serving, models=({**card, "id": "other"},)), revision=1) != first
    assert of(replace(serving, models=({**card, "root": "/elsewhere"},)), revision=1) != first
    assert of(serving) != of(serving)
    with serve(serving) as (url, _):
        options = LoadOptions(tokenizer=str(tokenizer_dir), max_length=64)
        found = [ServerBackend.load(find_checkpoints(url)[0], options) for _ in range(2)]
        assert found[0].info.fingerprint == found[1].info.fingerprint
    # Other weights under the same name, in a folder that can be read: told apart by content.
    here = Serving(folder)
    before = of(here, revision=1)
    make_checkpoint(folder, tokenizer_dir, seed=1)
    assert of(here, revision=1) != before


@pytest.fixture(scope="module")
def wider(tmp_path_factory: pytest.TempPathFactory, tokenizer_dir: Path) -> Path:
    """A checkpoint with heads of a size that vLLM has kernels for."""
    return make_checkpoint(tmp_path_factory.mktemp("wider") / "tiny", tokenizer_dir, hidden_size=64)


@pytest.fixture(scope="module")
def vllm_url(wider: Path) -> Iterator[str]:
    """vLLM's own server with a tiny checkpoint."""
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(wider),
        "--served-model-name", "tiny", "--host", "127.0.0.1", "--port", str(port), "--dtype",
        "float32", "--max-model-len", "2048", "--max-num-seqs", "16",
    ]  # fmt: skip
    env = {**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_LOGGING_LEVEL": "ERROR"}
    process = subprocess.Popen(command, env=env, start_new_session=True)
    url = f"http://127.0.0.1:{port}/v1"
    try:
        for _ in range(600):
            assert process.poll() is None, "the server ended"
            try:
                urllib.request.urlopen(f"{url}/models", timeout=2).close()
                break
            except OSError:
                time.sleep(1)
        yield url
    finally:
        process.terminate()
        process.wait(60)


@pytest.mark.vllm
def test_vllms_server_equals_the_straight_line(vllm_url: str, wider: Path) -> None:
    straight = StraightLine(wider, WINDOW)
    want = [straight.score(r) for r in requests()]
    backend = ServerBackend.load(find_checkpoints(vllm_url)[0], LoadOptions())
    settings = backend.info.settings
    assert (settings["scoring"], settings["prompts"]) == ("prompt_logprobs", "ids")
    assert settings["one_token_groups"]
    assert len(settings["neutral_sampling"]) == 7
    plan = plan_of(backend, requests())
    for offers in (
        backend.completions.offers,
        replace(backend.completions.offers, next_tokens=0),
        replace(backend.completions.offers, next_tokens=0, scoring="echo"),
    ):
        backend.completions.offers = offers
        logprob, greedy = scores(backend, plan)
        assert np.abs(logprob[plan.unique_of] - [w[0] for w in want]).max() < 1e-4
        assert greedy[plan.unique_of].tolist() == [w[1] for w in want]


@pytest.mark.vllm
def test_vllms_server_generates(vllm_url: str, wider: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(wider)
    backend = ServerBackend.load(find_checkpoints(vllm_url)[0], LoadOptions())
    items = prompts(backend, Sampling(max_tokens=24))
    got = dict(backend.generate(items))
    for k, prompt in enumerate(items):
        ids = model.generate(torch.tensor([prompt.ids]), max_new_tokens=24, do_sample=False)
        ids = ids[0, len(prompt.ids) :].tolist()
        text = backend.tokenizer.decode([i for i in ids if i != 0])
        # vLLM leaves out the beginning of a character at the end of the text.
        assert got[k][0].text.rstrip("�") == text.rstrip("�")
        assert got[k][0].n_tokens == len(ids)
    text = got[0][0].text
    stop = ("\x00a", "\x00b", "\x00c", "\x00d", text[len(text) // 2 :][:3])
    (cut,) = dict(backend.generate(prompts(backend, Sampling(max_tokens=24, stop=stop), 1)))[0]
    assert cut.text == text[: text.find(stop[-1])] and cut.finish == "stop"
    drawn = prompts(backend, Sampling(max_tokens=8, temperature=1.0, n=3))
    samples = dict(backend.generate(drawn))
    assert {len(v) for v in samples.values()} == {3}
    assert len({s.text for v in samples.values() for s in v}) > len(drawn)
    assert dict(backend.generate(drawn[2:3]))[0] == samples[2]
