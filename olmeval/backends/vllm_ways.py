"""The ways to read the log-probabilities of given tokens out of vLLM.

``prompt_logprobs``, which every tool uses, makes vLLM ignore its prefix cache and compute the
logits of every token of every context. Better ways exist; which of them works depends on the
version and the device:

- ``trace``: the second model runner replays given tokens (``trace_decode_token_ids``) after a
  context that comes from the prefix cache.
- ``forced``: the same on the first model runner, with a logits processor of our own.
- ``cached``: ``prompt_logprobs`` that may read the cache. Rows that came out of the cache have no
  numbers: vLLM leaves them out, or hands out memory that nobody wrote
  (https://github.com/vllm-project/vllm/issues/42019). ``num_cached_tokens`` tells; such an answer
  is never used, and the request is sent again past the cache.
- ``prompt``: plain ``prompt_logprobs``.
- ``grouped``: all one-token continuations of one context in one request (``logprob_token_ids``).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from olmeval.backends.vllm_engine import FORCED


class Member(NamedTuple):
    """A sequence of a plan: its number, its ids, and where the tokens to score begin."""

    number: int
    ids: list[int]
    context: int

    @property
    def targets(self) -> list[int]:
        return self.ids[self.context :]


# A token's log-probability, and whether it was the most likely one.
Scored = list[tuple[float, bool]]
Params = dict[str, Any]


@dataclass(frozen=True)
class Way:
    """One way to score sequences; the base forces tokens after a cached context.

    ``window``: the most tokens that the model may be fed. ``several``: whether one request can
    hold several sequences that differ in their last token only.
    """

    name: str
    window: int
    several: bool = False

    def ask(self, members: Sequence[Member]) -> tuple[list[int], Params]:
        """Prompt ids, and what ``SamplingParams`` must say."""
        raise NotImplementedError

    def read(self, output: Any, members: Sequence[Member]) -> list[Scored] | None:
        """Scores of each member, empty where the engine failed; None: ask past the cache."""
        raise NotImplementedError


class Decoded(Way):
    """``trace`` and ``forced``: the continuation is emitted, token by token."""

    def ask(self, members: Sequence[Member]) -> tuple[list[int], Params]:
        (member,) = members
        targets = member.targets
        how: Params = {"trace_decode_token_ids": targets}
        if self.name == "forced":
            how = {"extra_args": {FORCED: targets}}
        return member.ids[: member.context], {"max_tokens": len(targets), "logprobs": 0, **how}

    def read(self, output: Any, members: Sequence[Member]) -> list[Scored] | None:
        (member,) = members
        sample, targets = output.outputs[0], member.targets
        if list(sample.token_ids) != targets:
            return [[]]
        rows = [row[token] for row, token in zip(sample.logprobs, targets, strict=True)]
        return [[(row.logprob, row.rank == 1) for row in rows]]


class Prompted(Way):
    """``cached`` and ``prompt``: the continuation is part of the prompt.

    The last token need not be fed: it is read from the distribution after the prompt. The plain
    way does that only for a sequence that is longer than the window.
    """

    def ask(self, members: Sequence[Member]) -> tuple[list[int], Params]:
        (member,) = members
        how: Params = {"prompt_logprobs": 0, "max_tokens": 1}
        how["skip_reading_prefix_cache"] = self.name == "prompt"
        if not self._leaves_last(member):
            return member.ids, how
        return member.ids[:-1], {**how, "logprob_token_ids": member.ids[-1:]}

    def read(self, output: Any, members: Sequence[Member]) -> list[Scored] | None:
        (member,) = members
        left = self._leaves_last(member)
        inside = member.targets[:-1] if left else member.targets
        rows = output.prompt_logprobs or []
        # Counted from the end: rows of cached tokens may be missing at the beginning.
        found = [
            row.get(token)
            for row, token in zip(rows[len(rows) - len(inside) :], inside, strict=False)
            if row
        ]
        swallowed = bool(inside) and (output.num_cached_tokens or 0) >= member.context
        if swallowed or len(found) < len(inside) or None in found:
            return None if self.name == "cached" else [[]]
        scored = [(row.logprob, row.rank == 1) for row in found if row is not None]
        return [scored + _last(output, member.ids[-1]) if left else scored]

    def _leaves_last(self, member: Member) -> bool:
        return self.name == "cached" or len(member.ids) > self.window


class Grouped(Way):
    """Sequences that differ in their last token only, which is their only target."""

    def ask(self, members: Sequence[Member]) -> tuple[list[int], Params]:
        return members[0].ids[:-1], {
            "max_tokens": 1,
            "logprob_token_ids": [member.ids[-1] for member in members],
        }

    def read(self, output: Any, members: Sequence[Member]) -> list[Scored] | None:
        return [_last(output, member.ids[-1]) for member in members]


def _last(output: Any, token: int) -> Scored:
    """The score of ``token`` after the prompt; the engine samples greedily."""
    sample = output.outputs[0]
    row = sample.logprobs[0].get(token) if sample.logprobs else None
    return [] if row is None else [(row.logprob, sample.token_ids[0] == token)]


def make_way(name: str, window: int) -> Way:
    """The way called ``name``, of those that this module's head lists."""
    if name == "grouped":
        return Grouped(name, window, several=True)
    return (Decoded if name in ("trace", "forced") else Prompted)(name, window)
