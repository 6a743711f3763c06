"""The probe on a clock of its own, where what things cost is known."""

from collections.abc import Iterable, Iterator, Sequence
from types import SimpleNamespace

import numpy as np
import pytest

from olmeval.backends.base import Generated, Prompt, ScoredRange
from olmeval.backends.planner import Plan, Step
from olmeval.backends.tokenization import Tokenizer
from olmeval.engine import probe
from olmeval.engine.prepare import prepare
from olmeval.errors import UserError
from olmeval.requests import Request, Sampling


class Clock:
    """Moves when somebody works; ``noise`` is the relative error of each piece of work."""

    def __init__(self, noise: float = 0.0):
        self.now = 0.0
        self.rng = np.random.default_rng(0)
        self.noise = noise

    def work(self, seconds: float) -> None:
        self.now += seconds * float(np.exp(self.noise * self.rng.standard_normal()))


class Simulated:
    """A backend whose work takes known time: row, path, read, step and write in seconds."""

    max_row_tokens = 64
    samples_at_once = 32

    def __init__(self, clock: Clock, row=2e-3, path=5e-4, read=1e-4, step=8e-3, write=3e-4):
        self.clock, self.row, self.path = clock, row, path
        self.read, self.step, self.write = read, step, write
        # The first forward pass of a process is slow, and must not count.
        self.cold = True

    def warm(self) -> None:
        self.clock.work(1.0 if self.cold else 0.0)
        self.cold = False

    def score(self, plan: Plan, steps: Iterable[Step]) -> Iterator[ScoredRange]:
        self.warm()
        for step in steps:
            n = len(plan.batch(step).tokens)
            self.clock.work(n * (self.row if step.extend_to is None else self.path))
            if step.extend_to is None:
                none = np.zeros(int(plan.slots[step.hi] - plan.slots[step.lo]))
                yield ScoredRange(step.lo, step.hi, none.astype(np.float32), none > 0)

    def generate(self, prompts: Sequence[Prompt]) -> Iterator[tuple[int, tuple[Generated, ...]]]:
        self.warm()
        ordered = sorted(range(len(prompts)), key=lambda k: len(prompts[k].ids))
        for lo in range(0, len(ordered), self.samples_at_once):
            batch = [prompts[k] for k in ordered[lo : lo + self.samples_at_once]]
            steps = max(p.sampling.max_tokens for p in batch)
            self.clock.work(sum(len(p.ids) for p in batch) * self.read)
            self.clock.work(steps * (self.step + len(batch) * self.write))
            for k in ordered[lo : lo + self.samples_at_once]:
                n = prompts[k].sampling.max_tokens
                yield k, (Generated("", n, 0.0, "length"),)


class Characters:
    """What :class:`Tokenizer` needs of transformers: an id a character."""

    bos_token_id, eos_token_id, backend_tokenizer = None, 0, None

    def get_vocab(self) -> dict[str, int]:
        return {}

    def __call__(self, texts: str | list[str], **_: bool) -> dict[str, list]:
        if isinstance(texts, str):
            return {"input_ids": [ord(c) for c in texts]}
        return {"input_ids": [[ord(c) for c in text] for text in texts]}


def scored(n: int = 600) -> list[Request]:
    rng = np.random.default_rng(1)
    shots = ["".join(chr(97 + c) for c in rng.integers(0, 26, 400)) for _ in range(3)]
    return [
        Request("loglikelihood", f"{shots[k % 3]}{k:04}{'x' * int(rng.integers(5, 60))}?", answer)
        for k in range(n)
        for answer in (" yes", " certainly not", " no")
    ]


def written(n: int = 200) -> list[Request]:
    return [
        Request("generate", f"{k:04}" + "x" * (20 + k % 50), sampling=Sampling(max_tokens=200))
        for k in range(n)
    ]


def prepared(requests: list[Request]):
    zeros = np.zeros(len(requests), np.int64)
    tokenizer = Tokenizer(Characters())
    return prepare(requests, zeros, 1, tokenizer, 4096, Simulated.max_row_tokens)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(probe, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    return clock


def real_time(backend: Simulated, questions) -> float:
    begun = backend.clock.now
    for _ in backend.score(questions.plan, questions.plan.steps):
        pass
    list(backend.generate(list(questions.prompts.values())))
    return backend.clock.now - begun


def estimated(speed: probe.Speed, questions) -> probe.Estimate:
    prompts = questions.prompts.values()
    read = sum(len(p.ids) for p in prompts)
    return speed.scoring(questions.plan) + speed.generating(
        read, sum(p.sampling.max_tokens for p in prompts)
    )


def test_scoring_is_told_apart_into_rows_and_paths(clock: Clock) -> None:
    questions, backend = prepared(scored()), Simulated(clock)
    speed = probe.measure(backend, questions)
    # The time is made of exactly these two, so the fit is exact.
    assert speed.row == pytest.approx(2e-3, rel=1e-6)
    assert speed.path == pytest.approx(5e-4, rel=1e-6)
    estimate = estimated(speed, questions)
    assert estimate.seconds == pytest.approx(real_time(backend, questions), rel=1e-6)
    assert estimate.low == pytest.approx(estimate.seconds / probe.STEADY)
    # The warm-up of one second is not in it.
    assert clock.now - real_time(backend, questions) > 1.0


@pytest.mark.parametrize("noise", [0.05, 0.2])
def test_the_range_holds_under_noise(monkeypatch: pytest.MonkeyPatch, noise: float) -> None:
    questions = prepared(scored())
    inside = 0
    for seed in range(20):
        clock = Clock(noise)
        clock.rng = np.random.default_rng(seed)
        monkeypatch.setattr(probe, "time", SimpleNamespace(perf_counter=lambda c=clock: c.now))
        estimate = estimated(probe.measure(Simulated(clock), questions), questions)
        truth = real_time(Simulated(Clock()), questions) - 1.0
        inside += estimate.low < truth < estimate.high
    assert inside >= 18


def test_an_engine_without_a_use_for_paths(clock: Clock) -> None:
    questions, backend = prepared(scored()), Simulated(clock, path=0.0)
    speed = probe.measure(backend, questions)
    assert speed.path == pytest.approx(0.0, abs=1e-9)
    assert estimated(speed, questions).seconds == pytest.approx(real_time(backend, questions))


def test_time_is_kept(clock: Clock) -> None:
    questions = prepared([*scored(), *written()])
    probe.measure(Simulated(clock), questions, seconds=2.0)
    assert clock.now - 1.0 < 2.5
    # A model so slow that a single block takes longer: one block, and the range says so.
    begun = clock.now
    slow = Simulated(clock, row=0.2, path=0.2)
    speed = probe.measure(slow, prepared(scored()), seconds=2.0)
    assert clock.now - begun < 1.0 + 0.2 * 600
    assert speed.scoring_range == probe.UNKNOWN
    assert speed.row == speed.path == pytest.approx(0.2)


def test_reading_and_writing(clock: Clock) -> None:
    questions, backend = prepared(written()), Simulated(clock)
    speed = probe.measure(backend, questions, seconds=20.0)
    # A batch of 32: a step costs 8 ms for all and 0.3 ms for each.
    assert speed.write == pytest.approx(8e-3 / 32 + 3e-4, rel=1e-6)
    # Reading is measured together with the one token that ends it.
    assert speed.read == pytest.approx(1e-4, rel=0.6)
    estimate = estimated(speed, questions)
    assert estimate.seconds == pytest.approx(real_time(backend, questions), rel=0.15)
    assert estimate.low < estimate.seconds / 2 < estimate.seconds * 2 == estimate.high


def test_no_prompt_goes_on_for_longer_than_it_may(clock: Clock) -> None:
    backend = Simulated(clock)
    most: list[int] = []
    generate = backend.generate
    backend.generate = lambda prompts: (  # type: ignore[method-assign]
        most.extend(p.sampling.max_tokens for p in prompts) or generate(prompts)
    )
    short = [Request("generate", f"{k:04}", sampling=Sampling(max_tokens=5)) for k in range(50)]
    probe.measure(backend, prepared(short))
    assert max(most) == 5


def test_prompts_that_nothing_answers(clock: Clock) -> None:
    backend = Simulated(clock)
    backend.generate = lambda prompts: iter([(k, ()) for k in range(len(prompts))])  # type: ignore[method-assign]
    with pytest.raises(UserError, match="continued none of the prompts"):
        probe.measure(backend, prepared(written(3)))


def test_a_single_question(clock: Clock) -> None:
    one = prepared([*scored(1)[:1], *written(1)])
    backend = Simulated(clock)
    estimate = estimated(probe.measure(backend, one), one)
    assert estimate.seconds == pytest.approx(real_time(backend, one), rel=0.5)
