"""Batched generation with per-request seeds, with any torch model.

Each sample draws its own stream of uniforms from the request's seed and inverts the distribution
function, so a sample does not depend on what else is in the batch, on its order or on a restart.
"""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from olmeval.backends.base import Generated, Prompt
from olmeval.backends.tokenization import Tokenizer
from olmeval.backends.torch_memory import Budget, Task, cut_in_half
from olmeval.backends.torch_model import EXACT, ROUNDED, TorchModel
from olmeval.errors import UserError

# A stop string is looked for in the text of this many last tokens.
TAIL_TOKENS = 32


@dataclass
class Sample:
    """One sample while it grows; ``index`` is its prompt's place among the prompts."""

    index: int
    prompt: Prompt
    uniforms: NDArray[np.float64]
    ids: list[int] = field(default_factory=list)
    logprob: float = 0.0
    finish: str = ""


class Generator:
    """Continues prompts, longest batches that memory allows."""

    def __init__(self, model: TorchModel, tokenizer: Tokenizer, name: str):
        self.model, self.tokenizer, self.name = model, tokenizer, name
        eos = tokenizer.hf.eos_token_id
        self.end_ids = model.end_ids | ({eos} if eos is not None else set())
        self.budget = Budget("samples")
        self._checked = False

    def generate(
        self, prompts: Sequence[Prompt], at_once: int
    ) -> Iterator[tuple[int, tuple[Generated, ...]]]:
        """Yields (index of the prompt, its samples) in order of length; no samples: no memory."""
        if prompts and not self._checked:
            self._check()
            self._checked = True
        waiting = sorted(range(len(prompts)), key=lambda k: (len(prompts[k].ids), prompts[k].seed))
        group: list[int] = []
        for index in waiting:
            group.append(index)
            samples = sum(prompts[k].sampling.n for k in group)
            if samples >= at_once or index == waiting[-1]:
                yield from self._group(prompts, group)
                group = []

    def _group(
        self, prompts: Sequence[Prompt], group: list[int]
    ) -> Iterator[tuple[int, tuple[Generated, ...]]]:
        samples = {
            k: [
                Sample(k, prompts[k], _uniforms(prompts[k], number))
                for number in range(prompts[k].sampling.n)
            ]
            for k in group
        }
        task = Task[Sequence[Sample]](
            size=len, compute=self._decode, halves=cut_in_half, lost=_lost
        )
        self.budget.fit(task, [s for of_one in samples.values() for s in of_one])
        for k, of_one in samples.items():
            finished = all(s.finish for s in of_one)
            yield k, tuple(self._finished(s) for s in of_one) if finished else ()

    @torch.inference_mode()  # type: ignore[untyped-decorator]
    def _decode(self, samples: Sequence[Sample]) -> None:
        """Takes every sample from its prompt to its end."""
        device = self.model.device
        width = max(len(s.prompt.ids) for s in samples)
        ids = torch.zeros(len(samples), width, dtype=torch.int64)
        valid = torch.zeros(len(samples), width, dtype=torch.int64)
        for row, sample in enumerate(samples):
            # A batch that ran out of memory begins again.
            sample.ids, sample.logprob, sample.finish = [], 0.0, ""
            ids[row, width - len(sample.prompt.ids) :] = torch.tensor(sample.prompt.ids)
            valid[row, width - len(sample.prompt.ids) :] = 1
        ids, valid = ids.to(device), valid.to(device)
        live, cache = list(samples), None
        while True:
            logits, cache = self.model.decode(ids, valid, cache)
            chosen, logprob = choose(logits.float(), live)
            for sample, token, value in zip(live, chosen.tolist(), logprob.tolist(), strict=True):
                self._add(sample, token, value)
            kept = [k for k, s in enumerate(live) if not s.finish]
            if not kept:
                return
            if len(kept) < len(live):
                live = [live[k] for k in kept]
                rows = torch.tensor(kept, device=device)
                cache = self.model.select(cache, rows)
                chosen, valid = chosen[rows], valid[rows]
            ids = chosen[:, None]
            valid = torch.cat([valid, valid.new_ones(len(live), 1)], dim=1)

    @torch.inference_mode()  # type: ignore[untyped-decorator]
    def _check(self) -> None:
        """Raises :class:`UserError` if padding or cache change what the model says."""
        tokens = torch.from_numpy(
            np.random.default_rng(0).integers(0, len(self.tokenizer.hf), (2, 12))
        )
        tokens = tokens.to(self.model.device)
        valid = torch.ones_like(tokens)
        # The second sequence begins late, behind padding.
        valid[1, :5] = 0
        steps, cache = [], None
        for new, length in ((tokens[:, :10], 10), (tokens[:, 10:11], 11), (tokens[:, 11:], 12)):
            logits, cache = self.model.decode(new, valid[:, :length], cache)
            steps.append(logits)
        keep = torch.arange(9, 12, device=self.model.device)
        alone = [
            self.model.plain(tokens[:1], valid[:1], keep),
            self.model.plain(tokens[1:, 5:], valid[1:, 5:], keep - 5),
        ]
        off = torch.stack(steps, 1).float().log_softmax(-1) - torch.cat(alone).float().log_softmax(
            -1
        )
        exact = self.model.dtype == torch.float32
        if (off.abs().max() if exact else off.abs().mean()) > (EXACT if exact else ROUNDED):
            raise UserError(
                f"'{self.name}' does not go on in a padded batch with a cache as it does alone; "
                "use another backend for its generation tasks"
            )

    def _add(self, sample: Sample, token: int, logprob: float) -> None:
        sample.ids.append(token)
        sample.logprob += logprob
        sampling = sample.prompt.sampling
        if token in self.end_ids or (sampling.stop and self._at_stop(sample)):
            sample.finish = "stop"
        elif len(sample.ids) >= sampling.max_tokens:
            sample.finish = "length"

    def _at_stop(self, sample: Sample) -> bool:
        """Whether the newest tokens complete a stop string."""
        tail = self.tokenizer.decode(sample.ids[-TAIL_TOKENS:])
        return any(stop in tail for stop in sample.prompt.sampling.stop)

    def _finished(self, sample: Sample) -> Generated:
        ids = sample.ids[:-1] if sample.ids[-1] in self.end_ids else sample.ids
        text = self.tokenizer.decode(ids) if ids else ""
        cuts = [at for stop in sample.prompt.sampling.stop if (at := text.find(stop)) >= 0]
        return Generated(
            text[: min(cuts)] if cuts else text, len(sample.ids), sample.logprob, sample.finish
        )


def choose(logits: Tensor, live: Sequence[Sample]) -> tuple[Tensor, Tensor]:
    """Next token of each sample [B] and its log-probability under the unmodified model [B]."""
    chosen = logits.argmax(-1)
    drawn = [k for k, s in enumerate(live) if s.prompt.sampling.temperature > 0]
    if drawn:
        rows = torch.tensor(drawn, device=logits.device)
        chosen[rows] = draw(logits[rows], [live[k] for k in drawn])
    return chosen, logits.log_softmax(-1).gather(1, chosen[:, None])[:, 0]


def draw(logits: Tensor, samples: Sequence[Sample]) -> Tensor:
    """Inverse-CDF draws [B] with temperature and nucleus (Holtzman et al. 2020, section 3.1)."""

    def column(values: list[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float64, device=logits.device)[:, None]

    temperature = column([s.prompt.sampling.temperature for s in samples])
    p, order = (logits.double() / temperature).softmax(-1).sort(descending=True, stable=True)
    total = p.cumsum(-1)
    # The smallest set whose mass reaches top_p: every token before which less than top_p lies.
    last = (total - p < column([s.prompt.sampling.top_p for s in samples])).sum(
        -1, keepdim=True
    ) - 1
    u = column([s.uniforms[len(s.ids)] for s in samples]) * total.gather(1, last)
    rank = torch.searchsorted(total, u, right=True).minimum(last)
    return order.gather(1, rank)[:, 0]


def _lost(samples: Sequence[Sample]) -> None:
    for sample in samples:
        # It may have come some way before memory ran out.
        sample.finish = ""
        warnings.warn(
            f"no memory to continue {len(sample.prompt.ids):,} tokens by up to "
            f"{sample.prompt.sampling.max_tokens:,}: it counts as an error",
            RuntimeWarning, stacklevel=2,
        )  # fmt: skip


def _uniforms(prompt: Prompt, number: int) -> NDArray[np.float64]:
    return np.random.default_rng([prompt.seed, number]).random(prompt.sampling.max_tokens)
