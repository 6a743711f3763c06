"""Batched generation with per-request seeds.

Each sample draws its own stream of uniforms from the request's seed and inverts the distribution
function, so a sample does not depend on what else is in the batch, on its order or on a restart.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from olmeval.backends.base import Generated, Prompt
from olmeval.backends.tokenization import Tokenizer
from olmeval.requests import Sampling

# A stop string is looked for in the text of this many last tokens.
TAIL_TOKENS = 32


@dataclass
class _Sample:
    """One sample while it grows."""

    prompt: int
    number: int
    sampling: Sampling
    uniforms: np.ndarray[Any, np.dtype[np.float64]]
    ids: list[int] = field(default_factory=list)
    logprob: float = 0.0
    finish: str = ""


def generate(
    model: Any, tokenizer: Tokenizer, prompts: Sequence[Prompt], batch_size: int
) -> Iterator[tuple[int, tuple[Generated, ...]]]:
    """Yields (index of the prompt, its samples) in order of length."""
    waiting = sorted(range(len(prompts)), key=lambda k: (len(prompts[k].ids), prompts[k].seed))
    group: list[int] = []
    for index in waiting:
        group.append(index)
        if sum(prompts[k].sampling.n for k in group) >= batch_size:
            yield from _batch(model, tokenizer, prompts, group)
            group = []
    if group:
        yield from _batch(model, tokenizer, prompts, group)


def _batch(
    model: Any, tokenizer: Tokenizer, prompts: Sequence[Prompt], group: list[int]
) -> Iterator[tuple[int, tuple[Generated, ...]]]:
    from transformers import DynamicCache

    samples = [
        _Sample(k, number, prompts[k].sampling, _uniforms(prompts[k], number))
        for k in group
        for number in range(prompts[k].sampling.n)
    ]
    device = next(model.parameters()).device
    width = max(len(prompts[s.prompt].ids) for s in samples)
    ids = torch.zeros(len(samples), width, dtype=torch.int64)
    valid = torch.zeros(len(samples), width, dtype=torch.int64)
    for row, sample in enumerate(samples):
        prompt = prompts[sample.prompt].ids
        ids[row, width - len(prompt) :] = torch.tensor(prompt)
        valid[row, width - len(prompt) :] = 1
    ids, valid = ids.to(device), valid.to(device)
    cache = DynamicCache(config=model.config)
    live = list(samples)
    position = (valid.cumsum(1) - 1).clamp(min=0)
    eos = _end_ids(model, tokenizer)
    while live:
        with torch.inference_mode():
            logits = model(
                input_ids=ids, attention_mask=valid, position_ids=position, past_key_values=cache,
                use_cache=True, logits_to_keep=1,
            ).logits[:, -1].float()  # fmt: skip
        chosen, logprob = _choose(logits, live)
        for sample, token, value in zip(live, chosen.tolist(), logprob.tolist(), strict=True):
            sample.ids.append(token)
            sample.logprob += value
            if token in eos or _stop_at(tokenizer, sample) is not None:
                sample.finish = "stop"
            elif len(sample.ids) >= sample.sampling.max_tokens:
                sample.finish = "length"
        keep = torch.tensor([k for k, s in enumerate(live) if not s.finish], device=device)
        if len(keep) < len(live):
            live = [s for s in live if not s.finish]
            if not live:
                break
            cache.batch_select_indices(keep)
            chosen, valid, position = chosen[keep], valid[keep], position[keep]
        ids = chosen[:, None]
        valid = torch.cat([valid, valid.new_ones(len(live), 1)], dim=1)
        position = position[:, -1:] + 1
    for k in group:
        mine = sorted((s for s in samples if s.prompt == k), key=lambda s: s.number)
        yield k, tuple(_finished(tokenizer, s, eos) for s in mine)


def _choose(logits: torch.Tensor, live: list[_Sample]) -> tuple[torch.Tensor, torch.Tensor]:
    """Next token [B] and its log-probability under the unmodified model [B]."""
    raw = logits.log_softmax(-1)
    chosen = logits.argmax(-1)
    for row, sample in enumerate(live):
        if sample.sampling.temperature > 0:
            chosen[row] = _draw(logits[row], sample)
    return chosen, raw.gather(1, chosen[:, None])[:, 0]


def _draw(logits: torch.Tensor, sample: _Sample) -> int:
    """Inverse-CDF draw with temperature and nucleus (Holtzman et al. 2020, section 3.1)."""
    p, order = (logits.double() / sample.sampling.temperature).softmax(-1).sort(descending=True)
    total = p.cumsum(-1)
    # The smallest set whose mass reaches top_p: every token before which less than top_p lies.
    size = int((total - p < sample.sampling.top_p).sum())
    mass = float(total[size - 1])
    u = sample.uniforms[len(sample.ids)] * mass
    rank = int(torch.searchsorted(total[:size], torch.tensor(u, device=p.device), right=True))
    return int(order[min(rank, size - 1)])


def _uniforms(prompt: Prompt, number: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.random.default_rng([prompt.seed, number]).random(prompt.sampling.max_tokens)


def _end_ids(model: Any, tokenizer: Tokenizer) -> set[int]:
    ids = model.generation_config.eos_token_id if model.generation_config else None
    listed = ids if isinstance(ids, list) else [ids]
    return {i for i in [*listed, tokenizer.hf.eos_token_id] if i is not None}


def _stop_at(tokenizer: Tokenizer, sample: _Sample) -> str | None:
    """The stop string that the newest tokens complete, if any."""
    tail = tokenizer.decode(sample.ids[-TAIL_TOKENS:])
    return next((stop for stop in sample.sampling.stop if stop in tail), None)


def _finished(tokenizer: Tokenizer, sample: _Sample, eos: set[int]) -> Generated:
    ids = sample.ids[:-1] if sample.ids[-1] in eos else sample.ids
    text = tokenizer.decode(ids) if ids else ""
    cuts = [at for stop in sample.sampling.stop if (at := text.find(stop)) >= 0]
    return Generated(
        text[: min(cuts)] if cuts else text, len(sample.ids), sample.logprob, sample.finish
    )
