"""The torch backend: scoring and generation with a model of ours or transformers', CPU or GPU.

A plan's steps run one by one on one path of cached keys and values; the model computes the logits
of scored positions only. A model whose attention does not honour a tree mask (found by a probe
when it is loaded) is scored in plain padded batches instead, and says so. What memory has no room
for is computed in halves.
"""

import gc
import warnings
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch

from olmeval.backends.base import (
    Generated,
    LoadOptions,
    ModelInfo,
    Prompt,
    ScoredRange,
    default_device,
)
from olmeval.backends.planner import Plan, Sequences, Step, make_plan, starts
from olmeval.backends.tokenization import Tokenizer
from olmeval.backends.torch_generate import Generator
from olmeval.backends.torch_model import EXACT, ROUNDED, TorchModel
from olmeval.backends.torch_score import PlainScorer, Scored, TreeScorer
from olmeval.errors import UserError

# What models raise that do not take a mask, positions or a cache of this kind.
REFUSALS = (TypeError, ValueError, RuntimeError, AttributeError, LookupError)


def pick_device(options: LoadOptions) -> torch.device:
    """The device to load on. Raises :class:`UserError` for one that does not work."""
    name = default_device(options)
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"device '{name}' does not work here: {reason}") from None
    return device


class TorchBackend:
    """A :class:`TorchModel` as a backend; see :class:`olmeval.backends.base.Backend`."""

    samples_at_once = 32
    fixed_batches = True

    def __init__(
        self, model: TorchModel, tokenizer: Tokenizer, info: ModelInfo, max_row_tokens: int
    ):
        if len(tokenizer.hf) > model.vocab_size:
            raise UserError(
                f"the tokenizer of '{info.path}' has {len(tokenizer.hf)} ids but the model only "
                f"{model.vocab_size}; pass the tokenizer it was trained with (--tokenizer)"
            )
        self.model = model
        self.tokenizer = tokenizer
        self.info = info
        self.max_row_tokens = max_row_tokens
        self.generator = Generator(model, tokenizer, info.name)
        self.scorer: TreeScorer | PlainScorer = TreeScorer(model)
        if problem := self._problem_with_trees():
            warnings.warn(
                f"'{info.name}' does not attend through a tree mask ({problem}); it is scored in "
                "plain batches, which is slower",
                stacklevel=2,
            )
            self.scorer = PlainScorer(model)
        self.info.settings["attention"] = "plain" if problem else "tree"

    def close(self) -> None:
        """See :class:`olmeval.backends.base.Backend`."""
        del self.model, self.scorer, self.generator
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def score(self, plan: Plan, steps: Iterable[Step]) -> Iterator[ScoredRange]:
        """See :class:`olmeval.backends.base.Backend`."""
        scored = Scored.nothing(plan)
        for step in self.scorer.run(plan, steps, scored):
            span = slice(int(plan.slots[step.lo]), int(plan.slots[step.hi]))
            yield ScoredRange(step.lo, step.hi, scored.logprobs[span], scored.greedy[span])

    def generate(self, prompts: Sequence[Prompt]) -> Iterator[tuple[int, tuple[Generated, ...]]]:
        """See :class:`olmeval.backends.base.Backend`."""
        yield from self.generator.generate(prompts, self.samples_at_once)

    def _problem_with_trees(self) -> str:
        """Scores a small tree and its sequences one at a time; how they disagree, or nothing."""
        plan = self._probe()
        alone, tree = Scored.nothing(plan), Scored.nothing(plan)
        plain = PlainScorer(self.model)
        try:
            fits = all(plain.fit(plan, [(k, k + 1)], alone) for k in range(len(plan.sequences)))
        except REFUSALS as error:
            raise UserError(
                f"'{self.info.name}' fails on a plain sequence: {_first(error)}"
            ) from error
        if not fits:
            raise UserError(
                f"'{self.info.name}' leaves no memory on {self.model.device} for a sequence of "
                f"{int(plan.sequences.lengths.max())} tokens"
            )
        try:
            list(self.scorer.run(plan, plan.steps, tree))
        except REFUSALS as error:
            return _first(error)
        # A broken model gives nan either way.
        both = np.isnan(tree.logprobs) & np.isnan(alone.logprobs)
        apart = np.abs(np.where(both, 0, tree.logprobs - alone.logprobs))
        exact = self.model.dtype == torch.float32
        off, most = (apart.max(), EXACT) if exact else (apart.mean(), ROUNDED)
        return "" if off <= most else f"its scores are off by {off:.2g}"

    def _probe(self) -> Plan:
        """Four sequences on one path, two a row, in which every mistake moves many scores."""
        rng = np.random.default_rng(0)
        # A row's later branch is far from where it would be if positions or masks were ignored.
        tails = (24, 40, 17, 33)
        # The path outgrows the shortest window, so that one that is not applied shows.
        length = max(96, (self.model.window or 0) + 16)
        length = max(min(length, self.info.max_length - max(tails)), 1)
        path = rng.integers(0, len(self.tokenizer.hf), length)
        ids = [np.append(path, rng.integers(0, len(self.tokenizer.hf), n)) for n in tails]
        ids = [i[: self.info.max_length] for i in ids]
        sequences = Sequences(
            np.concatenate(ids).astype(np.int32),
            starts(np.array([len(i) for i in ids])),
            np.full(len(ids), length),
        )
        return make_plan(sequences, max_row_tokens=64)


def _first(error: BaseException) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
