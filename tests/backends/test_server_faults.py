"""Servers that fail, for a while or for good, and how they are asked: pace, company, order."""

import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import numpy as np
import pytest

from olmeval.backends import server_http
from olmeval.backends.base import Prompt
from olmeval.backends.server_http import ServerLost
from olmeval.errors import UserError
from olmeval.requests import Sampling
from tests.backends.completions_server import Serving
from tests.backends.server_parts import backend_of, plan_of, prompts, requests, scores

pytestmark = pytest.mark.usefixtures("quick_server")


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
