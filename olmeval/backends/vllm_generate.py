"""Generation with a vLLM engine: samples that stop as the task says.

vLLM decides when to stop; the text is decoded and cut here, as the transformers backend does it.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from olmeval.backends.base import Generated, Prompt
from olmeval.backends.tokenization import Tokenizer
from olmeval.backends.vllm_engine import Ask, Engine
from olmeval.errors import UserError


def end_ids(source: str, tokenizer: Tokenizer, config: Any) -> frozenset[int]:
    """The ids that end a generation: those of the model's generation settings and tokenizer."""
    from transformers import GenerationConfig

    try:
        ids = GenerationConfig.from_pretrained(source).eos_token_id
    except OSError:  # it has none
        ids = config.eos_token_id
    listed = ids if isinstance(ids, list) else [ids]
    return frozenset(i for i in [*listed, tokenizer.hf.eos_token_id] if i is not None)


def generate(
    engine: Engine,
    params: Callable[..., Any],
    tokenizer: Tokenizer,
    prompts: Sequence[Prompt],
    ends: frozenset[int],
) -> Iterator[tuple[int, tuple[Generated, ...]]]:
    """Yields (index of the prompt, its samples) as prompts finish; no samples: it failed."""
    waiting = (
        Ask(list(prompt.ids), _params(params, prompt, number, ends), (k, number))
        for k, prompt in enumerate(prompts)
        for number in range(prompt.sampling.n)
    )
    done: dict[int, dict[int, Generated | None]] = {}
    try:
        ask = next(waiting, None)
        while ask is not None or not engine.idle:
            while ask is not None and engine.has_room:
                engine.submit(ask)
                ask = next(waiting, None)
            for finished, output in engine.step():
                k, number = finished.owner
                samples = done.setdefault(k, {})
                samples[number] = _generated(tokenizer, output.outputs[0], prompts[k], ends)
                if len(samples) == prompts[k].sampling.n:
                    del done[k]
                    whole = tuple(s for _, s in sorted(samples.items()) if s is not None)
                    yield k, whole if len(whole) == len(samples) else ()
    finally:
        engine.abort()


def _params(params: Callable[..., Any], prompt: Prompt, number: int, ends: frozenset[int]) -> Any:
    """``SamplingParams`` for one sample of ``prompt``."""
    sampling = prompt.sampling
    how: dict[str, Any] = {}
    if sampling.stop:
        how |= {"stop": list(sampling.stop), "skip_special_tokens": False}
    if sampling.temperature > 0:
        # A stream of its own for every sample; vLLM takes 63 bits.
        seeds = np.random.SeedSequence([prompt.seed, number]).generate_state(1, np.uint64)
        how["seed"] = int(seeds[0] >> np.uint64(1))
    try:
        return params(
            max_tokens=sampling.max_tokens, temperature=sampling.temperature,
            top_p=sampling.top_p, logprobs=0, stop_token_ids=sorted(ends),
            detokenize=bool(sampling.stop), **how,
        )  # fmt: skip
    except ValueError as error:
        raise UserError(f"vLLM cannot sample like this: {error}") from None


def _generated(
    tokenizer: Tokenizer, sample: Any, prompt: Prompt, ends: frozenset[int]
) -> Generated | None:
    """One sample, its text cut before the earliest stop; None when the engine failed."""
    if sample.finish_reason not in ("stop", "length"):
        return None
    ids = list(sample.token_ids)
    kept = ids[:-1] if ids[-1] in ends else ids
    text = tokenizer.decode(kept) if kept else ""
    cuts = [at for stop in prompt.sampling.stop if (at := text.find(stop)) >= 0]
    logprob = sum(row[token].logprob for row, token in zip(sample.logprobs, ids, strict=False))
    return Generated(text[: min(cuts)] if cuts else text, len(ids), logprob, sample.finish_reason)
