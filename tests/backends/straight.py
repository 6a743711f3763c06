"""An independent scorer: each request alone, no cache, full logits, one position at a time."""

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from olmeval.requests import Request


class StraightLine:
    """Scores by the rule of lm-evaluation-harness' ``_encode_pair``, with no optimisation."""

    def __init__(self, folder: Path, max_length: int = 2048, bos: bool = False):
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.max_length = max_length
        self.bos = bos

    def ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def encode(self, request: Request) -> tuple[list[int], list[int]]:
        context, continuation = request.context, request.continuation
        spaces = len(context) - len(context.rstrip())
        if spaces:
            continuation = context[-spaces:] + continuation
            context = context[:-spaces]
        before = self.ids(context)
        after = self.ids(context + continuation)[len(before) :]
        if self.bos:
            before = [self.tokenizer.bos_token_id, *before]
        if not before:
            bos = self.tokenizer.bos_token_id
            before = [self.tokenizer.eos_token_id if bos is None else bos]
        return before, after

    def score(self, request: Request) -> tuple[float, bool, int]:
        """Log-probability, whether greedy, and tokens of the continuation."""
        before, after = self.encode(request)
        ids = (before + after)[-(self.max_length + 1) :]
        with torch.no_grad():
            logits = self.model(torch.tensor([ids[:-1]])).logits[0].double()
        total, greedy = 0.0, True
        for offset, token in enumerate(after):
            row = logits[len(ids) - 1 - len(after) + offset]
            total += float(row[token] - row.logsumexp(0))
            greedy &= int(row.argmax()) == token
        return total, greedy, len(after)
