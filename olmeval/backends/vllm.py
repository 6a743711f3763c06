"""Scoring and generation with vLLM (``pip install 'olmeval[vllm]'``).

One engine serves all tasks of a checkpoint. Scoring reads the prefix cache, which
``prompt_logprobs`` alone does not; :mod:`olmeval.backends.vllm_ways` says how. Tokens that are the
same up to a whole block of the cache are computed once.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from olmeval.backends.base import COUNTS, Generated, LoadOptions, ModelInfo, Prompt, ScoredRange
from olmeval.backends.checkpoints import Checkpoint
from olmeval.backends.describe import describe, load_model_config
from olmeval.backends.planner import Plan, Step
from olmeval.backends.tokenization import Tokenizer
from olmeval.backends.vllm_engine import Engine, check_extra, require_vllm, start_engine
from olmeval.backends.vllm_generate import end_ids, generate
from olmeval.backends.vllm_scorer import WAYS, Scorer
from olmeval.errors import UserError

# Answers come row by row; vLLM makes its own batches of them.
ROW_TOKENS = 4096


class VllmBackend:
    """A causal language model in a vLLM engine."""

    # Several batches, so that few of the engine's places are empty while a group ends.
    samples_at_once = 1024
    fixed_batches = False

    def __init__(
        self,
        engine: Engine,
        tokenizer: Tokenizer,
        info: ModelInfo,
        ends: frozenset[int],
        ways: Sequence[str],
        row_tokens: int | None = None,
    ):
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        self.engine = engine
        self.tokenizer = tokenizer
        self.info = info
        self.max_row_tokens = row_tokens or ROW_TOKENS
        self._params = partial(
            SamplingParams, output_kind=RequestOutputKind.FINAL_ONLY, ignore_eos=True
        )
        greedy = partial(self._params, temperature=0.0, detokenize=False)
        self.scorer = Scorer(engine, greedy, info.max_length, ways, engine.dtype == "float32")
        self._ends = ends

    @classmethod
    def load(cls, checkpoint: Checkpoint, options: LoadOptions) -> "VllmBackend":
        """Starts an engine for ``checkpoint``; every failure is a :class:`UserError`.

        ``options.extra``: ``tensor_parallel_size``, ``gpu_memory_utilization``, ``block_size``,
        ``max_num_seqs``, ``max_num_batched_tokens``, ``enforce_eager`` as vLLM knows them;
        ``scoring``: "auto" or the way to score (:data:`olmeval.backends.vllm_scorer.WAYS`).
        """
        version = require_vllm()
        check_extra(options.extra, ("scoring",))
        scoring = options.extra.get("scoring", "auto")
        if scoring not in ("auto", *WAYS):
            raise UserError(
                f"--backend-args scoring must be auto, {', '.join(WAYS)}, not {scoring!r}"
            )
        config = load_model_config(checkpoint)
        info = describe(checkpoint, options, {"backend": "vllm", "vllm": version})
        tokenizer = Tokenizer.load(
            options.tokenizer or checkpoint.source, options.bos, config.model_type
        )
        if len(tokenizer.hf) > config.vocab_size:
            raise UserError(
                f"the tokenizer of '{checkpoint.source}' has {len(tokenizer.hf)} ids but the model "
                f"only {config.vocab_size}; pass the tokenizer it was trained with (--tokenizer)"
            )
        window = getattr(config, "max_position_embeddings", None)
        if window is not None and info.max_length > window:
            raise UserError(
                f"--max-length {info.max_length} is more than the model's window of {window}"
            )
        ends = end_ids(checkpoint.source, tokenizer, config)
        engine = start_engine(checkpoint, options, _dtype(options, config), info.max_length)
        ways = _ways(engine.forcing, scoring)
        if scoring != "auto" and scoring not in _ways(engine.forcing, "auto"):
            engine.close()
            raise UserError(
                f"--backend-args scoring={scoring}: this vLLM engine cannot; it can "
                f"{', '.join(_ways(engine.forcing, 'auto'))}, or leave it at auto"
            )
        info.settings.update(
            device=engine.device, dtype=engine.dtype, block_size=engine.block_size, scoring={}
        )
        return cls(engine, tokenizer, info, ends, ways, options.row_tokens)

    def close(self) -> None:
        """See :class:`olmeval.backends.base.Backend`."""
        self.engine.close()

    def score(self, plan: Plan, steps: Iterable[Step]) -> Iterator[ScoredRange]:
        """See :class:`olmeval.backends.base.Backend`.

        ``info.settings`` then say which way each kind of sequence took (``scoring``) and how many
        answers of this call the cache had swallowed (``asked_again``).
        """
        before, told = self.scorer.resent, self.info.settings
        told[COUNTS] = {"asked_again": 0}
        for done in self.scorer.score(plan, steps):
            told["scoring"] = {kind: way.name for kind, way in self.scorer.ways.items()}
            told[COUNTS] = {"asked_again": self.scorer.resent - before}
            yield done

    def generate(self, prompts: Sequence[Prompt]) -> Iterator[tuple[int, tuple[Generated, ...]]]:
        """See :class:`olmeval.backends.base.Backend`."""
        yield from generate(self.engine, self._params, self.tokenizer, prompts, self._ends)


def _ways(forcing: str | None, scoring: str) -> list[str]:
    """The ways to score, best first, of an engine with ``forcing``; those ``scoring`` allows."""
    ways = [way for way in WAYS if way in (forcing, "cached", "prompt")]
    return ways if scoring == "auto" else list(dict.fromkeys([scoring, "prompt"]))


def _dtype(options: LoadOptions, config: Any) -> str:
    """The number format to run in: vLLM's own "auto" would make half precision of float32."""
    from vllm.platforms import current_platform

    if options.dtype != "auto":
        return options.dtype
    if current_platform.device_type == "cpu":
        return "float32"
    return str(config.dtype or "auto").removeprefix("torch.")
