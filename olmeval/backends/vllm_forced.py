"""Makes vLLM emit given tokens, so that their log-probabilities can be read.

A logits processor of vLLM's first model runner. It is loaded by name in the engine's own process,
so this module imports vLLM at its top. It raises the logit of the token that
is due above all others; vLLM takes the log-probabilities that it reports from the logits before
that (``logprobs_mode="raw_logprobs"``).
"""

from typing import Any

import torch
from vllm.v1.sample.logits_processor import LogitsProcessor, process_dict_updates

from olmeval.backends.vllm_engine import FORCED


class ForcedTokens(LogitsProcessor):  # type: ignore[misc]
    """Forces the tokens that a request names in ``extra_args``; leaves other requests alone."""

    def __init__(self, vllm_config: Any, device: torch.device, is_pin_memory: bool):
        del vllm_config, device, is_pin_memory
        # Row of the batch -> (tokens to force, tokens emitted so far: vLLM's own growing list).
        self.rows: dict[int, tuple[list[int], list[int]]] = {}

    def is_argmax_invariant(self) -> bool:
        """False: vLLM must not skip it for greedy requests."""
        return False

    def update_state(self, batch_update: Any) -> None:
        """Follows requests as they join, move within and leave the batch."""
        process_dict_updates(self.rows, batch_update, _new_row)

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """Raises the due token of every forced row of ``logits`` [requests, vocabulary]."""
        due = [
            (row, forced[len(emitted)])
            for row, (forced, emitted) in self.rows.items()
            if len(emitted) < len(forced)
        ]
        if due:
            index = torch.tensor(due, device=logits.device).T
            logits[index[0], index[1]] = torch.finfo(logits.dtype).max
        return logits


def _new_row(params: Any, prompt: Any, emitted: list[int]) -> tuple[list[int], list[int]] | None:
    del prompt
    forced = (params.extra_args or {}).get(FORCED)
    return None if forced is None else (forced, emitted)
