"""Documents as windows: every token once, never more than the window, scores as computed alone."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from olmeval.backends.base import LoadOptions
from olmeval.backends.checkpoints import find_checkpoints
from olmeval.backends.hf import TransformersBackend
from olmeval.backends.planner import make_plan
from olmeval.backends.tokenization import Tokenizer
from olmeval.errors import UserError


@pytest.fixture(scope="module")
def tokenizer(tokenizer_dir: Path) -> Tokenizer:
    return Tokenizer.load(tokenizer_dir)


@settings(max_examples=100, deadline=None)
@given(
    documents=st.lists(st.text("ab \n1é", max_size=60), max_size=5),
    window=st.integers(2, 20),
    overlap=st.integers(0, 19),
)
def test_every_token_is_scored_once(tokenizer, documents, window, overlap) -> None:
    if overlap >= window:
        with pytest.raises(UserError, match="overlap"):
            tokenizer.windows(documents, window, overlap)
        return
    rows, owner = tokenizer.windows(documents, window, overlap)
    s = rows.sequences
    scored: list[list[int]] = [[] for _ in documents]
    for k, of in enumerate(owner.tolist()):
        ids = s.ids[s.offsets[k] : s.offsets[k + 1]].tolist()
        context = int(s.context_len[k])
        assert len(ids) - 1 <= window
        assert context >= 1
        before = [tokenizer.prefix_id, *scored[of]]
        assert ids[:context] == before[-context:]
        if scored[of]:
            assert context == min(max(overlap, 1), len(before))
        scored[of] += ids[context:]
    assert scored == [tokenizer.encode([d])[0] for d in documents]


@pytest.mark.parametrize("overlap", [0, 5])
def test_scores_equal_the_straight_line(checkpoint: Path, overlap: int) -> None:
    backend = TransformersBackend.load(find_checkpoints(checkpoint)[0], LoadOptions(device="cpu"))
    text = "Names refer to objects. Names are introduced by name binding operations. " * 4
    rows, owner = backend.tokenizer.windows([text, "short"], 16, overlap)
    plan = make_plan(rows.sequences, 64)
    logprob = np.zeros(len(plan.sequences))
    for part in backend.score(plan, plan.steps):
        bounds = plan.slots[part.lo : part.hi + 1] - plan.slots[part.lo]
        logprob[part.lo : part.hi] = np.add.reduceat(part.logprobs.astype(float), bounds[:-1])
    got = np.bincount(owner, logprob[plan.unique_of])

    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    model = AutoModelForCausalLM.from_pretrained(checkpoint).eval()
    for document, value in zip([text, "short"], got, strict=True):
        ids = [tokenizer.eos_token_id, *tokenizer(document)["input_ids"]]
        total, done = 0.0, 1
        while done < len(ids):
            context = 1 if done == 1 else max(overlap, 1)
            end = min(done + 16 - context + 1, len(ids))
            window = ids[max(done - context, 0) : end]
            with torch.no_grad():
                log = model(torch.tensor([window[:-1]])).logits[0].log_softmax(-1)
            fresh = end - done
            total += sum(
                float(log[i - 1, window[i]]) for i in range(len(window) - fresh, len(window))
            )
            done = end
        assert value == pytest.approx(total, abs=1e-3)
