"""Memory that runs out in the middle: the same numbers in smaller pieces, never a crash."""

import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from olmeval.backends.base import LoadOptions
from olmeval.backends.checkpoints import find_checkpoints
from olmeval.backends.planner import Plan, Step, make_plan
from olmeval.backends.torch_backend import TorchBackend
from olmeval.backends.torch_memory import FLOOR, attempt, out_of_memory, step_halves, tokens_of
from olmeval.backends.torch_score import PlainScorer, TreeScorer
from olmeval.engine.load import load_backend
from olmeval.requests import Sampling
from tests.backends.scoring import hard_requests, ll, prompts, scores


class Small:
    """A model without memory for more than ``most`` tokens at a time, or ``longest`` in a row.

    It fails after its work, so that everything it touched is as far along as it can be.
    """

    def __init__(self, model: Any, most: int, longest: int = 1 << 40):
        self.model, self.most, self.longest = model, most, longest
        self.failures = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def check(self, tokens: int, length: int) -> None:
        if tokens > self.most or length > self.longest:
            self.failures += 1
            raise torch.OutOfMemoryError(f"CUDA out of memory: {tokens} tokens, {length} in all")

    def extend(self, path: Any, tokens: Any, depth: Any, seen: Any, keep: Any) -> Any:
        logits = self.model.extend(path, tokens, depth, seen, keep)
        self.check(len(tokens), int(depth.max()) + 1)
        return logits

    def plain(self, tokens: Any, valid: Any, keep: Any) -> Any:
        self.check(tokens.numel(), tokens.shape[1])
        return self.model.plain(tokens, valid, keep)

    def decode(self, tokens: Any, valid: Any, cache: Any) -> Any:
        result = self.model.decode(tokens, valid, cache)
        self.check(valid.numel(), valid.shape[1])
        return result


def load(name: str, folder: Path) -> TorchBackend:
    return load_backend(name, find_checkpoints(folder)[0], LoadOptions(device="cpu"))


def shrink(backend: TorchBackend, scorer: Callable[[Any], Any], *limits: int) -> Small:
    small = Small(backend.model, *limits)
    backend.scorer = scorer(small)
    backend.generator.model = small
    return small


@pytest.mark.parametrize("name", ["native", "transformers"])
@pytest.mark.parametrize("scorer", [TreeScorer, PlainScorer])
@pytest.mark.parametrize("most", [1000, 150, 20])
def test_scores_are_those_of_a_large_memory(
    checkpoint: Path, name: str, scorer: Callable[[Any], Any], most: int
) -> None:
    backend = load(name, checkpoint)
    requests = hard_requests()
    # A plain batch cannot cut a sequence; a tree feeds the longest in pieces.
    if scorer is PlainScorer:
        longest = backend.tokenizer.pairs(requests[:-2], 2048).sequences.lengths.max()
        requests, most = requests[:-2], int(longest) + most
    want, greedy = scores(backend, requests)
    small = shrink(backend, scorer, most)
    with pytest.warns(RuntimeWarning, match="out of memory with .* in a forward pass") as said:
        got, got_greedy = scores(backend, requests)
    assert len(said) == 1
    assert np.allclose(got, want, rtol=1e-6, atol=1e-5)
    assert (got_greedy == greedy).all()
    # The smaller budget is kept: a new plan does not run into the wall again.
    seen, small.failures = small.failures, 0
    assert seen <= 12
    scores(backend, requests)
    assert small.failures == 0


def test_rows_hold_fewer_sequences_and_deep_stems_are_cut(checkpoint: Path) -> None:
    backend = load("native", checkpoint)
    stem = "the whole of a long stem that all of them share " * 12
    requests = [ll(stem + str(k), f" {word}") for k in range(9) for word in ("a", "some more", "x")]
    want, _ = scores(backend, requests, rows=4096)
    shrink(backend, TreeScorer, 30)
    with pytest.warns(RuntimeWarning, match="out of memory"):
        got, _ = scores(backend, requests, rows=4096)
    assert np.abs(got - want).max() < 1e-4


def test_a_sequence_that_never_fits_is_an_error_and_the_rest_is_scored(checkpoint: Path) -> None:
    backend = load("native", checkpoint)
    model, requests = backend.model, hard_requests()
    *_, second, longest = sorted(backend.tokenizer.pairs(requests, 2048).sequences.lengths)
    assert second < longest - 1
    want, _ = scores(backend, requests)
    for scorer, message in (
        (TreeScorer, rf"no memory for sequences of up to {longest:,} tokens: 1 count"),
        (PlainScorer, rf"no memory for a sequence of {longest:,} tokens: it counts"),
    ):
        backend.model = model
        small = shrink(backend, scorer, 1 << 30, int(longest) - 2)
        with pytest.warns(RuntimeWarning) as said:
            got, _ = scores(backend, requests)
        assert any(re.match(message, str(w.message)) for w in said)
        assert np.flatnonzero(np.isnan(got)).tolist() == [len(requests) - 1]
        assert np.nanmax(np.abs(got - want)) < 1e-4
        # It taught nothing about what fits: the others are not cut up for it.
        small.longest, small.failures = 1 << 30, 0
        assert backend.scorer.budget.most is None


def test_all_that_hangs_below_a_path_that_does_not_fit_is_an_error(checkpoint: Path) -> None:
    backend = load("native", checkpoint)
    stem = "a path of many tokens " * 60
    below = [ll(f"{stem}{k} " * 2, f" {word}") for k in range(30) for word in ("a", "b")]
    beside = hard_requests()[:30]
    want, _ = scores(backend, beside)
    plan = make_plan(backend.tokenizer.pairs(below, 2048).sequences, 256)
    assert any(step.extend_to is not None for step in plan.steps)
    shrink(backend, TreeScorer, 1 << 30, 400)
    with pytest.warns(RuntimeWarning, match="sequences of up to .*: 60 count"):
        got, _ = scores(backend, below + beside)
    assert np.isnan(got[: len(below)]).all()
    assert np.abs(got[len(below) :] - want).max() < 1e-4


@pytest.mark.parametrize("name", ["native", "transformers"])
def test_generation_goes_on_with_smaller_batches(checkpoint: Path, name: str) -> None:
    backend = load(name, checkpoint)
    items = prompts(backend, Sampling(max_tokens=20, temperature=0.7, n=4))
    want = dict(backend.generate(items))
    longest = max(len(p.ids) for p in items) + 20
    shrink(backend, TreeScorer, 5 * longest)
    with pytest.warns(RuntimeWarning, match="out of memory with 32 samples") as said:
        got = dict(backend.generate(items))
    assert len(said) == 1
    for k, samples in want.items():
        assert [s.text for s in got[k]] == [s.text for s in samples]
        assert [s.logprob for s in got[k]] == pytest.approx([s.logprob for s in samples], abs=1e-4)


def test_a_prompt_that_never_fits_has_no_samples(checkpoint: Path) -> None:
    backend = load("native", checkpoint)
    items = prompts(backend, Sampling(max_tokens=20, n=2))
    want = dict(backend.generate(items))
    lengths = [len(p.ids) for p in items]
    limit = sorted(set(lengths))[-1] + 5
    shrink(backend, TreeScorer, 1 << 30, limit)
    with pytest.warns(
        RuntimeWarning, match=rf"no memory to continue {max(lengths)} tokens by up to 20"
    ):
        got = dict(backend.generate(items))
    for k, length in enumerate(lengths):
        # The first tokens of one that ended early may have fitted.
        if length + max(s.n_tokens for s in want[k]) > limit:
            assert got[k] == ()
        else:
            assert [s.text for s in got[k]] == [s.text for s in want[k]]
    assert () in got.values()


@pytest.mark.parametrize("name", ["native", "transformers"])
def test_the_probe_does_not_take_a_full_memory_for_a_bad_mask(checkpoint: Path, name: str) -> None:
    backend = load(name, checkpoint)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "out of memory")
        again = TorchBackend(
            Small(backend.model, 150), backend.tokenizer, backend.info, backend.max_row_tokens
        )
    assert again.model.failures == 0
    small = Small(backend.model, 150)
    small.plain = backend.model.plain
    small.most = 40
    with pytest.warns(RuntimeWarning, match="out of memory"):
        again = TorchBackend(small, backend.tokenizer, backend.info, backend.max_row_tokens)
    assert small.failures > 0
    assert again.info.settings["attention"] == "tree"


def pieces(plan: Plan, step: Step) -> list[Step]:
    parts = step_halves(plan, step)
    return [piece for part in parts for piece in pieces(plan, part)] if parts else [step]


@pytest.mark.parametrize("rows", [64, 300, 5000])
def test_halves_do_what_the_whole_does(checkpoint: Path, rows: int) -> None:
    tokenizer = load("native", checkpoint).tokenizer
    plan = make_plan(tokenizer.pairs(hard_requests(), 2048).sequences, rows)
    cut = 0
    for step in plan.steps:
        slots, tokens = [], 0
        for part in pieces(plan, step):
            assert tokens_of(plan, part) <= FLOOR
            batch = plan.batch(part)
            assert len(batch.tokens) == tokens_of(plan, part)
            slots.append(batch.slot)
            tokens += len(batch.tokens)
            cut += 1
        assert sorted(np.concatenate(slots)) == sorted(plan.batch(step).slot)
        assert tokens >= tokens_of(plan, step)
    assert cut > len(plan.steps)


def test_what_counts_as_out_of_memory() -> None:
    with pytest.raises(RuntimeError) as full:
        torch.empty(1 << 55)
    assert out_of_memory(full.value)
    assert out_of_memory(torch.OutOfMemoryError("anything"))
    assert out_of_memory(RuntimeError("CUDA error: out of memory"))
    assert out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"))
    assert out_of_memory(MemoryError())
    assert not out_of_memory(RuntimeError("The size of tensor a (3) must match"))
    assert not out_of_memory(ValueError("out of memory"))
    assert not attempt(lambda: torch.empty(1 << 55))
    with pytest.raises(RuntimeError, match="must match"):
        attempt(lambda: torch.ones(3) + torch.ones(4))
