"""Scoring with any Hugging Face causal language model, on CPU or GPU.

A plan's steps run one by one on one growing and shrinking key-value cache; the model computes the
logits of scored positions only. A model whose attention does not honour a tree mask (found by a
probe when it is loaded) is scored in plain padded batches instead, and says so.
"""

import gc
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from olmeval.backends.base import Generated, LoadOptions, ModelInfo, Prompt, ScoredRange
from olmeval.backends.checkpoints import Checkpoint
from olmeval.backends.describe import describe
from olmeval.backends.hf_generate import generate
from olmeval.backends.planner import Batch, Plan, Sequences, Step, make_plan
from olmeval.backends.tokenization import Tokenizer
from olmeval.errors import UserError

# Rows this long keep the matrix products full while attention to foreign branches stays cheap.
ROW_TOKENS = {"cpu": 256, "cuda": 2048}
# Log-softmax is taken over at most this many numbers at a time.
LOGITS_AT_ONCE = 1 << 26


class TransformersBackend:
    """A causal language model from a folder or the hub."""

    samples_at_once = 32

    def __init__(
        self, model: Any, tokenizer: Tokenizer, info: ModelInfo, max_row_tokens: int | None = None
    ):
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.info = info
        self.device = next(model.parameters()).device
        self.max_row_tokens = max_row_tokens or ROW_TOKENS.get(self.device.type, 1024)
        self.window = _sliding_window(model.config)
        self.tree = self._tree_attention_works()
        self.info.settings["attention"] = "tree" if self.tree else "plain"

    @classmethod
    def load(cls, checkpoint: Checkpoint, options: LoadOptions) -> "TransformersBackend":
        """Loads weights and tokenizer; every failure is a sentence that names the path."""
        from transformers import AutoModelForCausalLM
        from transformers.utils import logging

        if options.extra:
            raise UserError(
                f"the transformers backend knows no argument '{next(iter(options.extra))}'"
            )
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        place = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
        dtype = "float32" if options.dtype == "auto" and place == "cpu" else options.dtype
        info = describe(checkpoint, options, {"backend": "transformers", "device": place})
        try:
            model = AutoModelForCausalLM.from_pretrained(checkpoint.source, dtype=dtype)
            model = model.to(place)
        except Exception as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise UserError(f"cannot load the model '{checkpoint.source}': {lines[0]}") from error
        info.settings["dtype"] = str(model.dtype).removeprefix("torch.")
        tok = Tokenizer.load(
            options.tokenizer or checkpoint.source, options.bos, model.config.model_type
        )
        if len(tok.hf) > model.config.vocab_size:
            raise UserError(
                f"the tokenizer of '{checkpoint.source}' has {len(tok.hf)} ids but the model only "
                f"{model.config.vocab_size}; pass the tokenizer it was trained with (--tokenizer)"
            )
        return cls(model, tok, info, options.row_tokens)

    def close(self) -> None:
        """See :class:`olmeval.backends.base.Backend`."""
        del self.model
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def score(self, plan: Plan, steps: Iterable[Step]) -> Iterator[ScoredRange]:
        """See :class:`olmeval.backends.base.Backend`."""
        logprobs = np.full(int(plan.slots[-1]), np.nan, np.float32)
        greedy = np.zeros(len(logprobs), np.bool_)
        run = self._run_tree if self.tree else self._run_plain
        for step in run(plan, steps, logprobs, greedy):
            span = slice(int(plan.slots[step.lo]), int(plan.slots[step.hi]))
            yield ScoredRange(step.lo, step.hi, logprobs[span], greedy[span])

    def _run_tree(
        self,
        plan: Plan,
        steps: Iterable[Step],
        logprobs: NDArray[np.float32],
        greedy: NDArray[np.bool_],
    ) -> Iterator[Step]:
        """Yields each row step once its sequences are complete."""
        from transformers import DynamicCache

        cache = DynamicCache()
        for step in steps:
            _crop(cache, step.cached)
            batch = plan.batch(step)
            if len(batch.tokens):
                logits = self._forward(batch, step.cached, cache, batch.nodes)
                if len(batch.row):
                    target = torch.from_numpy(batch.target.astype(np.int64)).to(self.device)
                    value, best = self._gather(logits, torch.from_numpy(batch.row), target)
                    logprobs[batch.slot], greedy[batch.slot] = value, best
            if step.extend_to is None:
                yield step

    def _forward(
        self, batch: Batch, cached: int, cache: Any, nodes: NDArray[np.int64]
    ) -> torch.Tensor:
        """Logits [len(nodes), vocabulary] of one step; its tokens join ``cache``."""
        length = len(batch.tokens)
        depth = torch.from_numpy(batch.depth).to(self.device)
        mask = None
        if batch.mask is not None or self.window:
            seen = np.tri(length, dtype=np.bool_) if batch.mask is None else batch.mask
            full = torch.ones(length, cached + length, dtype=torch.bool, device=self.device)
            full[:, cached:] = torch.from_numpy(seen).to(self.device)
            mask = self._additive(full)
            if self.window:
                key_depth = torch.cat([torch.arange(cached, device=self.device), depth])
                near = depth[:, None] - key_depth[None, :] < self.window
                mask = {"full_attention": mask, "sliding_attention": self._additive(full & near)}
        output = self._call(
            input_ids=torch.from_numpy(batch.tokens.astype(np.int64)).to(self.device)[None],
            position_ids=depth[None],
            attention_mask=mask,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=torch.from_numpy(nodes).to(self.device),
        )
        logits: torch.Tensor = output.logits[0]
        return logits

    def _call(self, **inputs: Any) -> Any:
        with torch.inference_mode():
            return self.model(**inputs)

    def _additive(self, seen: torch.Tensor) -> torch.Tensor:
        dtype = self.model.dtype
        mask = torch.zeros(seen.shape, dtype=dtype, device=self.device)
        return mask.masked_fill_(~seen, torch.finfo(dtype).min)[None, None]

    def _gather(
        self, logits: torch.Tensor, row: torch.Tensor, target: torch.Tensor
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Log-probability of ``target`` [S] under ``logits`` [N, V] at ``row`` [S], in fp32."""
        with torch.inference_mode():
            return self._gather_rows(logits, row.to(logits.device), target)

    @staticmethod
    def _gather_rows(
        logits: torch.Tensor, row: torch.Tensor, target: torch.Tensor
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        picked = logits[row, target].float()
        normaliser = torch.empty(len(logits), dtype=torch.float32, device=logits.device)
        best = torch.empty(len(logits), dtype=torch.int64, device=logits.device)
        chunk = max(LOGITS_AT_ONCE // logits.shape[1], 1)
        for lo in range(0, len(logits), chunk):
            part = logits[lo : lo + chunk].float()
            normaliser[lo : lo + chunk] = part.logsumexp(-1)
            best[lo : lo + chunk] = part.argmax(-1)
        value = picked - normaliser[row]
        return value.cpu().numpy(), (best[row] == target).cpu().numpy()

    def _run_plain(
        self,
        plan: Plan,
        steps: Iterable[Step],
        logprobs: NDArray[np.float32],
        greedy: NDArray[np.bool_],
    ) -> Iterator[Step]:
        """Right-padded batches without a cache, for models that do not honour a tree mask."""
        s = plan.sequences
        for step in steps:
            if step.extend_to is not None:
                continue
            for lo in range(step.lo, step.hi, 8):
                hi = min(lo + 8, step.hi)
                width = int(s.lengths[lo:hi].max()) - 1
                ids = torch.zeros(hi - lo, width, dtype=torch.int64)
                valid = torch.zeros(hi - lo, width, dtype=torch.int64)
                for k in range(lo, hi):
                    fed = s.ids[s.offsets[k] : s.offsets[k + 1] - 1].astype(np.int64)
                    ids[k - lo, : len(fed)] = torch.from_numpy(fed)
                    valid[k - lo, : len(fed)] = 1
                output = self._call(
                    input_ids=ids.to(self.device), attention_mask=valid.to(self.device)
                )
                for k in range(lo, hi):
                    first, end = int(s.context_len[k]) - 1, int(s.lengths[k]) - 1
                    target = s.ids[s.offsets[k] + first + 1 : s.offsets[k + 1]].astype(np.int64)
                    value, best = self._gather(
                        output.logits[k - lo, first:end],
                        torch.arange(end - first),
                        torch.from_numpy(target).to(self.device),
                    )
                    span = slice(int(plan.slots[k]), int(plan.slots[k + 1]))
                    logprobs[span], greedy[span] = value, best
            yield step

    def _tree_attention_works(self) -> bool:
        """Scores a small tree both ways; False when they disagree or the model refuses."""
        rng = np.random.default_rng(0)
        top = min(int(self.model.config.vocab_size), len(self.tokenizer.hf))
        length = min(96, self.info.max_length - 8)
        prefix = rng.integers(0, top, max(length, 1))
        tails = [rng.integers(0, top, n) for n in (3, 5, 2, 6)]
        ids = [np.concatenate([prefix, tail]) for tail in tails]
        sequences = Sequences(
            np.concatenate(ids).astype(np.int32),
            np.cumsum([0] + [len(i) for i in ids]),
            np.full(len(ids), len(prefix), np.int64),
        )
        # Small enough that the prefix is cached and two tails share a row.
        plan = make_plan(sequences, max_row_tokens=8)
        results = []
        for tree in (True, False):
            self.tree = tree
            try:
                done = list(self.score(plan, plan.steps))
            except (TypeError, ValueError, RuntimeError, AttributeError, NotImplementedError):
                done = []
            results.append(np.concatenate([d.logprobs for d in done]) if done else None)
        tree_scores, plain_scores = results
        if plain_scores is None:
            raise UserError(f"the model '{self.info.path}' failed on a plain forward pass")
        tolerance = 1e-3 if self.model.dtype == torch.float32 else 0.1
        works = tree_scores is not None and bool(
            np.abs(tree_scores - plain_scores).max() <= tolerance
        )
        if not works:
            warnings.warn(
                f"'{self.info.name}' does not attend through a tree mask; it is scored in plain "
                "batches, which is slower",
                stacklevel=2,
            )
        return works

    def generate(self, prompts: Sequence[Prompt]) -> Iterator[tuple[int, tuple[Generated, ...]]]:
        """See :class:`olmeval.backends.base.Backend`."""
        yield from generate(self.model, self.tokenizer, prompts, self.samples_at_once)


def _crop(cache: Any, length: int) -> None:
    """Cuts every layer's keys and values back to the first ``length`` positions."""
    for layer in cache.layers:
        if layer.keys is not None and layer.keys.shape[-2] > length:
            layer.keys = layer.keys[..., :length, :]
            layer.values = layer.values[..., :length, :]


def _sliding_window(config: Any) -> int | None:
    """The window of a model that mixes full and sliding layers, else None."""
    if "sliding_attention" in (getattr(config, "layer_types", None) or []):
        window: int | None = getattr(config, "sliding_window", None)
        return window
    return None
