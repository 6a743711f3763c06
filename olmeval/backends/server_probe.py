"""Finding out what a completions server offers, by asking.

Servers differ in what they add to the protocol, and most ignore silently what they do not know, so
that a field counts as offered only when the answer shows its effect. What is found:

- token ids as prompts, else text, when the server's own token count agrees with ours;
- scoring by ``prompt_logprobs`` (vLLM) or ``echo`` with ``logprobs``, and by ``logprob_token_ids``
  (vLLM) for continuations of one token: these read the server's prefix cache and answer all choices
  of a question at once. Each is checked against the probabilities with which the server generates;
- for generation: several samples a request, more than four stops, log-probabilities, and the fields
  that switch off what a server adds to sampling by itself (a model's own ``generation_config``).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from olmeval.backends import server_answers as answers
from olmeval.backends.base import Generated
from olmeval.backends.server_answers import Scored
from olmeval.backends.server_http import RequestFailed, Server
from olmeval.backends.tokenization import Tokenizer
from olmeval.errors import UserError

Scoring = Literal["prompt_logprobs", "echo"]

# Letters with accents, other scripts, line breaks and indentation tell tokenizers apart.
PROBE = "The quick brown fox, naïve café 東京 🙂 12345\n\n    def f(x):\n        return x + 1\n"
# Sampling with the model's own distribution, and text as its tokens spell it.
NEUTRAL: dict[str, Any] = {
    "top_k": -1,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "skip_special_tokens": False,
    "spaces_between_special_tokens": False,
}
# OpenAI's own limit on stop strings.
FEW_STOPS, MANY_STOPS = 4, 128
# Samples of one request: few enough that its answer comes within the timeout.
SAMPLES = 16
# vLLM's own limit on log-probabilities of a position, unless it is told another.
NEXT_TOKENS = 20
# A server that answers 500 to a field that it does not know is not asked for minutes.
PROBE_RETRIES = 2
# Between two computations of one log-probability in bfloat16, of a prompt and of its continuation.
TOLERANCE = 0.25


@dataclass(frozen=True)
class Offers:
    """What a server offers.

    ``ids``: prompts may be token ids. ``scoring``: how continuations are scored, None when they
    cannot be; ``echo_tokens``: the fewest tokens that an echo must generate. ``next_tokens``: how
    many one-token continuations of a context a request may ask; 0: none. ``samples``: how many
    samples a request may ask; ``stops``: how many stops. ``logprobs``: whether samples come with
    log-probabilities. ``neutral``: fields of :data:`NEUTRAL` that it takes.
    """

    ids: bool
    scoring: Scoring | None = None
    echo_tokens: int = 0
    next_tokens: int = 0
    samples: int = 1
    stops: int = FEW_STOPS
    logprobs: bool = False
    neutral: dict[str, Any] = field(default_factory=dict)


class Completions:
    """Requests to one model of a server, in the form that it takes."""

    def __init__(
        self,
        server: Server,
        model: str,
        tokenizer: Tokenizer,
        offers: Offers,
        retries: int | None = None,
    ):
        self.server = server
        self.model = model
        self.tokenizer = tokenizer
        self.offers = offers
        self.retries = retries

    def ask(self, ids: Sequence[int], **fields: Any) -> dict[str, Any]:
        """The answer to ``ids``; by default one token, greedily."""
        body = {"model": self.model, "prompt": self.prompt(ids), "max_tokens": 1, "temperature": 0}
        return self.server.complete({**body, **fields}, self.retries)

    def prompt(self, ids: Sequence[int]) -> list[int] | str:
        """``ids`` as the server takes them.

        As text only when the text stands for exactly these ids, else :class:`RequestFailed`.
        """
        ids = list(ids)
        if self.offers.ids:
            return ids
        text = self.tokenizer.decode(ids)
        if self.tokenizer.encode([text])[0] != ids:
            raise RequestFailed("the server takes text alone, and no text stands for these tokens")
        return text

    def score(self, ids: Sequence[int], context: int, best: bool = False) -> Scored:
        """Scores ``ids[context:]``; with ``best``, the best token's log-probability as well."""
        if self.offers.scoring == "echo":
            answer = self.ask(ids, echo=True, logprobs=1, max_tokens=self.offers.echo_tokens)
            return answers.from_echo(answer, ids, context)
        answer = self.ask(ids, prompt_logprobs=int(best))
        return answers.from_prompt_logprobs(answer, ids, context)

    def score_next(self, ids: Sequence[int], tokens: Sequence[int]) -> Scored:
        """Scores each of ``tokens`` as the one that follows ``ids``."""
        answer = self.ask(
            ids,
            logprobs=len(tokens),
            logprob_token_ids=list(tokens),
            return_tokens_as_token_ids=True,
        )
        return answers.next_token(answer, ids, tokens)


def probe(server: Server, model: str, tokenizer: Tokenizer) -> Completions:
    """Asks a dozen tiny requests; :class:`UserError` when the server cannot be used."""
    ids = tokenizer.encode([PROBE])[0]
    takes_ids = _takes_ids(server, model, tokenizer, ids)

    def offering(retries: int | None = PROBE_RETRIES, **found: Any) -> Completions:
        return Completions(server, model, tokenizer, Offers(takes_ids, **found), retries)

    plain = offering()
    try:
        prompt = plain.prompt(ids)
    except RequestFailed as error:
        raise UserError(f"'{model}' at '{server.url}' cannot be used: {error}") from None
    server.canary = {"model": model, "prompt": prompt, "max_tokens": 1, "temperature": 0}
    found = _generation(plain, ids)
    forms: list[dict[str, Any]] = [
        {"scoring": "prompt_logprobs"},
        {"scoring": "echo", "echo_tokens": 0},
        {"scoring": "echo", "echo_tokens": 1},
    ]
    for form in forms:
        scored = _try(offering(**form).score, ids, 1, True)
        if scored is not None and _is_right(plain, ids, scored, form["scoring"]):
            found |= form
            if takes_ids:
                found["next_tokens"] = _next_tokens(plain, ids, scored)
            break
    return offering(None, **found)


def _takes_ids(server: Server, model: str, tokenizer: Tokenizer, ids: list[int]) -> bool:
    """Whether prompts may be ids; raises unless the server's token counts agree with ours."""

    def counted(prompt: list[int] | str) -> int:
        body = {"model": model, "prompt": prompt, "max_tokens": 1, "temperature": 0}
        return answers.prompt_tokens(server.complete(body))

    try:
        of_ids = counted(ids)
    except RequestFailed:
        of_ids = None
    try:
        of_text = counted(PROBE)
    except RequestFailed as error:
        if of_ids is None:
            raise UserError(
                f"the server at '{server.url}' does not complete prompts of '{model}' ({error}); "
                "name a model with a completions endpoint (--backend-args model=ID)"
            ) from None
        of_text = None
    # A server may add a BOS to text, never to ids.
    likely = {len(ids), len(tokenizer.hf(PROBE)["input_ids"])}
    if of_text is not None and of_text not in likely:
        raise UserError(
            f"the server at '{server.url}' counts {of_text} tokens where the tokenizer makes "
            f"{len(ids)}; pass the tokenizer of '{model}' (--tokenizer DIR_OR_ID)"
        )
    if (of_text if of_ids is None else of_ids) != len(ids):
        raise UserError(
            f"the server at '{server.url}' adds tokens of its own to a prompt, so that what it "
            "scores is not what was asked; serve the model with token ids as prompts, for one "
            "with vLLM"
        )
    return of_ids is not None


def _generation(plain: Completions, ids: list[int]) -> dict[str, Any]:
    """What of :class:`Offers` concerns generation."""
    neutral = dict(NEUTRAL)
    if _try(plain.ask, ids, **neutral) is None:
        neutral = {
            name: value
            for name, value in NEUTRAL.items()
            if _try(plain.ask, ids, **{name: value}) is not None
        }

    def sample(**fields: Any) -> list[Generated]:
        n = fields.get("n", 1)
        answer = plain.ask(ids, temperature=1.0, seed=0, logprobs=1, **fields)
        return answers.samples(answer, ids, n, ())

    one = _try(sample)
    logprobs = one is not None and bool(np.isfinite(one[0].logprob))
    several = logprobs and _try(sample, n=2) is not None
    stops = [f"\x02stop {k}\x03" for k in range(FEW_STOPS + 1)]
    many_stops = _try(plain.ask, ids, stop=stops) is not None
    return {
        "neutral": neutral,
        "logprobs": logprobs,
        "samples": SAMPLES if several else 1,
        "stops": MANY_STOPS if many_stops else FEW_STOPS,
    }


def _is_right(plain: Completions, ids: list[int], scored: Scored, way: str) -> bool:
    """Whether best tokens are as probable as when the server generates them.

    False when the server does not tell how probable these are; :class:`UserError` when it
    contradicts itself.
    """
    checked = False
    for cut in {len(ids) // 4, len(ids) // 2, len(ids) - 1}:
        # At temperature 1 every server means the model's own distribution.
        answer = _try(plain.ask, ids[:cut], temperature=1, seed=0, logprobs=1)
        generated = None if answer is None else _try(answers.next_best, answer)
        if generated is None:
            continue
        checked = True
        if abs(generated - float(scored.best[cut - 1])) > TOLERANCE:
            raise UserError(
                f"the server at '{plain.server.url}' contradicts itself: the best token after "
                f"{cut} has log-probability {generated:.3f} when it is generated and "
                f"{scored.best[cut - 1]:.3f} by {way}; update the server"
            )
    return checked


def _next_tokens(plain: Completions, ids: list[int], scored: Scored) -> int:
    """For how many tokens ``logprob_token_ids`` gives what ``scored`` says; 0 if it does not."""
    cut = len(ids) // 2
    others = [token for token in dict.fromkeys(ids) if token != ids[cut]]
    found = _try(plain.score_next, ids[:cut], [ids[cut], *others][:NEXT_TOKENS])
    same = found is not None and bool(
        abs(found.logprobs[0] - scored.logprobs[cut - 1]) <= TOLERANCE
        and abs(found.best[0] - scored.best[cut - 1]) <= TOLERANCE
    )
    return NEXT_TOKENS if same else 0


def _try(function: Any, *args: Any, **fields: Any) -> Any:
    """``function``'s result, or None when the server does not offer what it asks."""
    try:
        return function(*args, **fields)
    except RequestFailed:
        return None
