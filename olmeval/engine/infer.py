"""The infer phase: the only one that needs a model.

Answers go to the store as they come. A run that was killed goes on with the steps of its plan
whose answers are missing; the plan is the same, so the numbers are the same.
"""

import time
from collections.abc import Callable, Sequence

import numpy as np

from olmeval.backends.base import Backend, Generated, ModelInfo, ScoredRange
from olmeval.backends.planner import Ints
from olmeval.engine.prepare import Part
from olmeval.files import sha256_json
from olmeval.results.answers import Answers, Sample
from olmeval.results.segments import ModelStore

# Told how many more questions of each task are answered [tasks].
Report = Callable[[Ints], None]
# Answers wait for at most so long, and so many of them, before they are stored.
FLUSH_SECONDS, FLUSH_ANSWERS = 0.25, 4096


def ignore(_: Ints) -> None:
    """Takes progress and does nothing with it."""


def model_key(info: ModelInfo) -> str:
    """Names the answers of a model: its weights and configuration, and what can change a number."""
    relevant = [info.fingerprint, info.settings.get("backend"), info.settings.get("dtype")]
    return sha256_json(relevant)[:32]


def about(info: ModelInfo) -> dict[str, object]:
    """What the store says of a model."""
    return {
        "fingerprint": info.fingerprint,
        "name": info.name,
        "backend": info.settings.get("backend"),
        "dtype": info.settings.get("dtype"),
    }


class _Buffer:
    """Holds answers back until a write is worth it."""

    def __init__(self, store: ModelStore):
        self.store = store
        self.waiting: list[Answers] = []
        self.written = time.monotonic()

    def add(self, answers: Answers) -> None:
        self.waiting.append(answers)
        late = time.monotonic() - self.written >= FLUSH_SECONDS
        if late or sum(map(len, self.waiting)) >= FLUSH_ANSWERS:
            self.flush()

    def flush(self) -> None:
        """Stores what waits; a score that is not finite is a fault and is not kept.

        A text is an answer even where its server tells no log-probability.
        """
        if self.waiting:
            answers = Answers.concat(self.waiting)
            generated = answers.samples != None  # noqa: E711 (element by element)
            fine = np.flatnonzero(np.isfinite(answers.logprob) | generated)
            if len(fine):
                self.store.put(answers.take(fine))
        self.waiting, self.written = [], time.monotonic()


def answer(backend: Backend, part: Part, store: ModelStore, report: Report = ignore) -> None:
    """Asks ``backend`` everything of ``part`` that the store does not hold yet."""
    stored = store.load()
    done = stored.find(part.keys) >= 0
    report(part.count(part.tasks[done]))
    buffer = _Buffer(store)
    # Whatever was answered before an error, or Ctrl-C, is kept.
    try:
        for scored in backend.score(part.plan, part.plan.pending(done)):
            fresh = np.flatnonzero(~done[scored.lo : scored.hi]) + scored.lo
            buffer.add(_scored(part, scored, fresh))
            report(part.count(part.tasks[fresh]))
        for group in part.groups:
            known = stored.find(group.keys) >= 0
            report(part.count(group.tasks[known]))
            # Where a group is one batch it is asked again as a whole, so that a resumed run decodes
            # in the same company.
            ask = [k for k in range(len(known)) if backend.fixed_batches or not known[k]]
            if known.all():
                continue
            for place, samples in backend.generate([group.prompts[k] for k in ask]):
                k = ask[place]
                if known[k]:
                    continue
                # A prompt without samples failed for good: an error, not an empty answer.
                if samples:
                    buffer.add(_generated(group.keys[k], samples))
                report(part.count(group.tasks[k : k + 1]))
    finally:
        buffer.flush()


def _scored(part: Part, scored: ScoredRange, fresh: Ints) -> Answers:
    """The answers to the distinct sequences ``fresh``, which lie in ``scored``."""
    offsets = part.plan.slots[scored.lo : scored.hi + 1]
    answers = Answers.scored(
        part.keys[scored.lo : scored.hi], offsets - offsets[0], scored.logprobs, scored.greedy
    )
    return answers if len(fresh) == len(answers) else answers.take(fresh - scored.lo)


def _generated(key: bytes, samples: Sequence[Generated]) -> Answers:
    return Answers.generated(
        [key], [[Sample(s.text, s.n_tokens, s.logprob, s.finish) for s in samples]]
    )
