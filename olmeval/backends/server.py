"""Scoring and generation on any OpenAI-compatible completions server, vLLM's own for one.

What the server offers is found by asking (:mod:`olmeval.backends.server_probe`); how requests are
tried again and paced is :mod:`olmeval.backends.server_http`'s. Requests are sent in the plan's
order, in which those that begin alike are neighbours, so that the server's prefix cache is warm.
"""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from olmeval.backends import server_answers as answers
from olmeval.backends.base import Generated, LoadOptions, ModelInfo, Prompt, ScoredRange
from olmeval.backends.checkpoints import Checkpoint
from olmeval.backends.describe import STANDARD_MAX_LENGTH, count_parameters, load_model_config
from olmeval.backends.planner import Plan, Step
from olmeval.backends.server_http import RequestFailed, Server, ServerArguments, ServerLost
from olmeval.backends.server_models import ServedModel, choose_model, identity
from olmeval.backends.server_probe import Completions, probe
from olmeval.backends.tokenization import Tokenizer
from olmeval.errors import UserError

# Tokens of a step: how much is asked before a range of answers is complete.
STEP_TOKENS = 1024
# A scored sequence is the window and the last target, and the server generates one token after it.
SCORING_ROOM = 2
# Servers take seeds of different sizes; all of them take this many bits.
SEED_BITS = 31


@dataclass
class _Range:
    """Sequences ``lo:hi`` while their answers come; ``left`` requests are open."""

    lo: int
    hi: int
    left: int
    logprobs: NDArray[np.float32]
    greedy: NDArray[np.bool_]


class ServerBackend:
    """A model behind ``http://host:port/v1``."""

    samples_at_once = 256
    fixed_batches = False

    def __init__(self, completions: Completions, info: ModelInfo, max_row_tokens: int):
        self.completions = completions
        self.server = completions.server
        self.tokenizer = completions.tokenizer
        self.info = info
        self.max_row_tokens = max_row_tokens
        self._failures: list[str] = []

    @classmethod
    def load(cls, checkpoint: Checkpoint, options: LoadOptions) -> "ServerBackend":
        """Asks the server what it serves and offers; every failure is a :class:`UserError`."""
        if options.device is not None or options.dtype != "auto":
            raise UserError("--device and --dtype are the server's own choice; leave them out")
        server = Server(checkpoint.source, ServerArguments.parse(options.extra))
        try:
            return cls._connect(server, checkpoint, options)
        except BaseException:
            server.close()
            raise

    @classmethod
    def _connect(
        cls, server: Server, checkpoint: Checkpoint, options: LoadOptions
    ) -> "ServerBackend":
        model = choose_model(server, server.arguments.model)
        config = _config(model)
        completions = probe(server, model.id, _tokenizer(server, model, config, options))
        offers = completions.offers
        params = None if config is None else count_parameters(config)
        info = ModelInfo(
            name=checkpoint.name,
            path=server.url,
            fingerprint=identity(server, model),
            params=params and params[0],
            params_total=params and params[1],
            max_length=_window(server, model, options, offers.scoring is not None),
            settings={
                "backend": "server",
                "model": model.id,
                "root": model.root,
                "revision": server.arguments.revision,
                "prompts": "ids" if offers.ids else "text",
                "scoring": offers.scoring,
                "one_token_groups": offers.next_tokens > 0,
                "neutral_sampling": sorted(offers.neutral),
                "bos": options.bos,
            },
            metadata=checkpoint.metadata,
        )
        return cls(completions, info, options.row_tokens or STEP_TOKENS)

    def close(self) -> None:
        """See :class:`olmeval.backends.base.Backend`."""
        self.server.close()

    def score(self, plan: Plan, steps: Iterable[Step]) -> Iterator[ScoredRange]:
        """See :class:`olmeval.backends.base.Backend`.

        When the server is lost, what it answered of unfinished ranges is yielded before
        :class:`ServerLost` is raised.
        """
        ranges: dict[int, _Range] = {}

        def requests() -> Iterator[tuple[int, list[int]]]:
            for step in steps:
                if step.extend_to is not None:
                    continue
                self._check_scoring()
                groups = self._groups(plan, step)
                size = int(plan.slots[step.hi] - plan.slots[step.lo])
                ranges[step.lo] = _Range(
                    step.lo, step.hi, len(groups),
                    np.full(size, np.nan, np.float32), np.zeros(size, np.bool_),
                )  # fmt: skip
                yield from ((step.lo, group) for group in groups)

        def done(lo: int) -> ScoredRange:
            part = ranges.pop(lo)
            return ScoredRange(part.lo, part.hi, part.logprobs, part.greedy)

        try:
            for (lo, group), scored in self.server.each(
                lambda request: self._score(plan, request[1]), requests()
            ):
                part = ranges[lo]
                for k, (logprobs, greedy) in zip(group, scored, strict=False):
                    slots = plan.slots[k : k + 2] - plan.slots[lo]
                    part.logprobs[slots[0] : slots[1]] = logprobs
                    part.greedy[slots[0] : slots[1]] = greedy
                part.left -= 1
                if not part.left:
                    yield done(lo)
        except ServerLost:
            yield from [done(lo) for lo in list(ranges)]
            raise
        finally:
            self._say_failures()

    def generate(self, prompts: Sequence[Prompt]) -> Iterator[tuple[int, tuple[Generated, ...]]]:
        """See :class:`olmeval.backends.base.Backend`."""
        try:
            yield from self.server.each(lambda k: self._samples(prompts[k]), range(len(prompts)))
        finally:
            self._say_failures()

    def _check_scoring(self) -> None:
        if self.completions.offers.scoring is None:
            raise UserError(
                f"the server at '{self.server.url}' can only generate: it offers neither "
                "prompt_logprobs nor echo with log-probabilities; score the model with another "
                "backend, or serve it with vLLM"
            )

    def _groups(self, plan: Plan, step: Step) -> list[list[int]]:
        """The step's sequences by request: one each, but one-token ends of one context together."""
        s = plan.sequences
        most = self.completions.offers.next_tokens
        groups: list[list[int]] = []
        of_context: dict[bytes, list[int]] = {}
        for k in range(step.lo, step.hi):
            if most and s.lengths[k] == s.context_len[k] + 1:
                context = s.ids[s.offsets[k] : s.offsets[k + 1] - 1].tobytes()
                group = of_context.get(context, [])
                if not 0 < len(group) < most:
                    group = of_context[context] = []
                    groups.append(group)
                group.append(k)
            else:
                groups.append([k])
        return groups

    def _score(
        self, plan: Plan, group: list[int]
    ) -> list[tuple[NDArray[np.float32], NDArray[np.bool_]]]:
        """Log-probabilities and greediness of each sequence; none when the request failed."""
        s, first = plan.sequences, group[0]
        ids = s.ids[s.offsets[first] : s.offsets[first + 1]].tolist()
        context = int(s.context_len[first])
        try:
            if self.completions.offers.next_tokens and len(ids) == context + 1:
                tokens = [int(s.ids[s.offsets[k + 1] - 1]) for k in group]
                scored = self.completions.score_next(ids[:-1], tokens)
                return [
                    (scored.logprobs[k : k + 1], scored.greedy[k : k + 1])
                    for k in range(len(group))
                ]
            scored = self.completions.score(ids, context)
            return [(scored.logprobs, scored.greedy)]
        except RequestFailed as error:
            self._failures.append(str(error))
            return []

    def _samples(self, prompt: Prompt) -> tuple[Generated, ...]:
        """The prompt's samples; none when it failed."""
        offers, sampling = self.completions.offers, prompt.sampling
        # Greedy samples are all the same, and servers refuse to draw several.
        draws = sampling.n if sampling.temperature > 0 else 1
        fields: dict[str, Any] = {
            **offers.neutral,
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
        }
        if sampling.stop:
            fields["stop"] = list(sampling.stop[: offers.stops])
        if offers.logprobs:
            fields["logprobs"] = 1
        found: list[Generated] = []
        try:
            while len(found) < draws:
                n = min(draws - len(found), offers.samples)
                # vLLM seeds the k-th sample of a request with seed + k; so does this.
                seed = (prompt.seed + len(found)) % (1 << SEED_BITS)
                several = {"n": n} if n > 1 else {}
                answer = self.completions.ask(prompt.ids, **fields, **several, seed=seed)
                found += answers.samples(answer, prompt.ids, n, sampling.stop)
        except RequestFailed as error:
            self._failures.append(str(error))
            return ()
        return tuple(found) if draws == sampling.n else tuple(found * sampling.n)

    def _say_failures(self) -> None:
        if self._failures:
            warnings.warn(
                f"{len(self._failures)} requests to '{self.server.url}' failed for good (the "
                f"first: {self._failures[0]}) and {self.server.retried} attempts were repeated; "
                "the same command asks the failed ones again",
                stacklevel=2,
            )
        self._failures = []


def _config(model: ServedModel) -> Any | None:
    """The model's configuration, where it can be read."""
    if model.source is None:
        return None
    try:
        return load_model_config(Checkpoint(model.id, model.source))
    except UserError:
        return None


def _tokenizer(
    server: Server, model: ServedModel, config: Any | None, options: LoadOptions
) -> Tokenizer:
    source = options.tokenizer or model.source
    if source is None:
        raise UserError(
            f"the server at '{server.url}' does not say where '{model.id}' comes from; pass its "
            "tokenizer with --tokenizer DIR_OR_ID"
        )
    try:
        tokenizer = Tokenizer.load(source, options.bos, getattr(config, "model_type", ""))
    except UserError as error:
        if options.tokenizer:
            raise
        raise UserError(
            f"the tokenizer of '{model.id}' is needed and not found ({error}); pass it with "
            "--tokenizer DIR_OR_ID"
        ) from None
    if config is None and type(tokenizer.hf).__name__.lower().startswith("gemma"):
        return Tokenizer(tokenizer.hf, options.bos, "gemma")
    return tokenizer


def _window(server: Server, model: ServedModel, options: LoadOptions, scoring: bool) -> int:
    """Tokens of input that a request may have."""
    room = None
    if model.max_length is not None:
        room = model.max_length - (SCORING_ROOM if scoring else 0)
    asked = options.max_length
    if asked is None and room is None:
        raise UserError(
            f"the server at '{server.url}' does not say how long the window of '{model.id}' is; "
            "pass --max-length"
        )
    if asked is not None and room is not None and asked > room:
        raise UserError(
            f"--max-length {asked} does not fit the window of {model.max_length} tokens at "
            f"'{server.url}', of which {room} can be used; lower it, or serve a longer window"
        )
    if asked is not None:
        return asked
    assert room is not None
    return min(room, STANDARD_MAX_LENGTH)
