"""A run's requests as one tokenizer sees them: ids, the plan over them, keys, and parts.

All of it is independent of the weights, so it is made once for all checkpoints whose tokenizers
agree. A *part* is a share of the plan that one worker can answer by itself, with arithmetic that
does not depend on how many parts there are.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from olmeval.backends.base import Prompt
from olmeval.backends.planner import Ints, Plan, Sequences, make_plan
from olmeval.backends.tokenization import Tokenized, Tokenizer, joined
from olmeval.requests import Request, Sampling


@dataclass(frozen=True)
class Group:
    """Prompts that are decoded in each other's company, with the key of each."""

    keys: tuple[bytes, ...]
    prompts: tuple[Prompt, ...]
    tasks: Ints


@dataclass(frozen=True)
class Part:
    """A share of a run's questions: ``plan`` with the key [U] of each distinct sequence, prompts.

    ``tasks`` [U] is the number of the first of ``n_tasks`` tasks that asks a sequence.
    """

    plan: Plan
    keys: list[bytes]
    tasks: Ints
    groups: tuple[Group, ...]
    n_tasks: int

    def count(self, tasks: Ints) -> Ints:
        """How often each task's number is in ``tasks`` [n_tasks]."""
        return np.bincount(tasks, minlength=self.n_tasks)


@dataclass(frozen=True)
class Prepared:
    """The requests of a run as one tokenizer sees them.

    A row is something to score: a log-likelihood request, or one window of a document. ``rows``
    holds all, ``request_of_row`` [W] says whose they are, ``fits`` [P] are the rows that the window
    takes; the plan's requests are these, in order. ``prompts`` are the distinct generations by
    key; ``prompt_keys``, ``request_of_prompt`` and ``prompt_cut`` [G] go together.
    ``task_of_request`` [N] is the first of ``n_tasks`` tasks that asks each request.
    """

    rows: Tokenized
    request_of_row: Ints
    fits: Ints
    plan: Plan
    prompts: dict[bytes, Prompt]
    prompt_keys: list[bytes]
    request_of_prompt: Ints
    prompt_cut: Ints
    task_of_request: Ints
    n_tasks: int

    def per_request(self, rows: NDArray[Any], n: int) -> Ints:
        """Sums a count or flag over the rows of each of ``n`` requests."""
        return np.bincount(self.request_of_row, rows, n).astype(np.int64)

    def truncated(self, n: int) -> NDArray[np.bool_]:
        """Which of ``n`` requests lost the beginning of their context."""
        cut = self.per_request(self.rows.truncated, n)
        cut[self.request_of_prompt] += self.prompt_cut
        return cut > 0

    @cached_property
    def keys(self) -> list[bytes]:
        """The key of each of the plan's distinct sequences [U]."""
        return sequence_keys(self.plan.sequences)

    @cached_property
    def task_of_sequence(self) -> Ints:
        """Number of the first task that asks each distinct sequence [U]."""
        first = np.full(len(self.plan.sequences), np.iinfo(np.int64).max)
        task = self.task_of_request[self.request_of_row[self.fits]]
        np.minimum.at(first, self.plan.unique_of, task)
        return first

    @cached_property
    def task_of_prompt(self) -> dict[bytes, int]:
        """Number of the first task that asks each distinct prompt."""
        tasks = self.task_of_request[self.request_of_prompt].tolist()
        return dict(zip(reversed(self.prompt_keys), reversed(tasks), strict=True))

    @property
    def questions(self) -> Ints:
        """How many questions each task adds to those before it [n_tasks]."""
        of_prompts = np.array(list(self.task_of_prompt.values()), np.int64)
        both = np.concatenate([self.task_of_sequence, of_prompts])
        return np.bincount(both, minlength=self.n_tasks)

    def parts(self, n: int, samples_at_once: int) -> list[Part]:
        """All questions in at most ``n`` parts of about equal work."""
        groups = tuple(self._groups(samples_at_once))
        n = max(min(n, len(self.keys) + len(groups)), 1)
        bounds = self.plan.bounds(n)
        share = np.linspace(0, len(groups), n + 1).round().astype(int).tolist()
        parts = []
        for (lo, hi), (first, last) in zip(pairwise(bounds), pairwise(share), strict=True):
            if lo == hi and first == last and n > 1:
                continue
            whole = hi - lo == len(self.plan.sequences)
            parts.append(
                Part(
                    self.plan if whole else self.plan.part(lo, hi),
                    self.keys[lo:hi],
                    self.task_of_sequence[lo:hi],
                    groups[first:last],
                    self.n_tasks,
                )
            )
        return parts

    def _groups(self, samples_at_once: int) -> Iterator[Group]:
        """Prompts of like length together, whatever the parts, so that they decode alike."""
        keys: list[bytes] = []
        samples = 0
        for key in sorted(self.prompts, key=lambda k: (len(self.prompts[k].ids), k)):
            keys.append(key)
            samples += self.prompts[key].sampling.n
            if samples >= samples_at_once:
                yield self._group(keys)
                keys, samples = [], 0
        if keys:
            yield self._group(keys)

    def _group(self, keys: list[bytes]) -> Group:
        tasks = np.array([self.task_of_prompt[k] for k in keys], np.int64)
        return Group(tuple(keys), tuple(self.prompts[k] for k in keys), tasks)


def prepare(
    requests: Sequence[Request],
    task_of_request: Ints,
    n_tasks: int,
    tokenizer: Tokenizer,
    max_length: int,
    row_tokens: int,
    row_sequences: int = 0,
    overlap: int = 0,
) -> Prepared:
    """Tokenizes and plans ``requests`` [N]; see :class:`Prepared`."""
    kinds = np.array([r.kind for r in requests])
    pairs, documents, prompts = (
        np.flatnonzero(kinds == k) for k in ("loglikelihood", "rolling", "generate")
    )
    rows = tokenizer.pairs([requests[k] for k in pairs.tolist()], max_length)
    if len(documents):
        windows, owner = tokenizer.windows(
            [requests[k].continuation for k in documents.tolist()], max_length, overlap
        )
        rows, owners = joined(rows, windows), np.concatenate([pairs, documents[owner]])
    else:
        owners = pairs
    ids, cut = tokenizer.prompts([requests[k] for k in prompts.tolist()], max_length)
    keyed: dict[bytes, Prompt] = {}
    prompt_keys = []
    for tokens, k in zip(ids, prompts.tolist(), strict=True):
        sampling = requests[k].sampling
        assert sampling is not None
        key = _prompt_key(tokens, sampling)
        prompt_keys.append(key)
        keyed[key] = Prompt(tuple(tokens), sampling, int.from_bytes(key[:8], "little"))
    fits = np.flatnonzero(~rows.too_long)
    taken = rows.sequences if len(fits) == len(owners) else rows.sequences.take(fits)
    return Prepared(
        rows=rows,
        request_of_row=owners,
        fits=fits,
        plan=make_plan(taken, row_tokens, row_sequences),
        prompts=keyed,
        prompt_keys=prompt_keys,
        request_of_prompt=prompts,
        prompt_cut=cut,
        task_of_request=task_of_request,
        n_tasks=n_tasks,
    )


def sequence_keys(sequences: Sequences) -> list[bytes]:
    """16-byte content hash of each sequence's ids and of where its continuation begins."""
    data = sequences.ids.astype("<u4", copy=False).view(np.uint8).data
    bounds, context = (sequences.offsets * 4).tolist(), sequences.context_len.tolist()
    keys = []
    for k, length in enumerate(context):
        digest = hashlib.blake2b(length.to_bytes(4, "little"), digest_size=16)
        digest.update(data[bounds[k] : bounds[k + 1]])
        keys.append(digest.digest())
    return keys


def _prompt_key(ids: Sequence[int], sampling: Sampling) -> bytes:
    text = json.dumps([list(ids), asdict(sampling)])
    return hashlib.blake2b(text.encode(), digest_size=16).digest()
