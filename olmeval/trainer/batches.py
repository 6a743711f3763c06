"""The batches of a run on the device, read ahead, in parts that fit there."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter

import torch
from torch import Tensor

from olmeval.trainer.attention import pack_documents
from olmeval.trainer.instances import repetitive
from olmeval.trainer.parallel import World
from olmeval.trainer.recipe import Plan


@dataclass(frozen=True)
class Part:
    """Rows that go through the model at once; see :class:`olmeval.trainer.runtime.Objective`."""

    tokens: Tensor
    """[B, T + 1]"""
    masked: Tensor | None
    documents: Tensor | None


@dataclass(frozen=True)
class Batch:
    """This rank's rows of a step. ``counted``: predictions in them that the loss counts."""

    parts: tuple[Part, ...]
    counted: int
    waited: float
    """Seconds that the loop waited for it."""


class Batches:
    """Batches ``first`` to ``last`` of a plan, read ahead by one in a thread.

    A context manager: leaving it ends the thread.
    """

    def __init__(self, plan: Plan, first: int, last: int, world: World):
        self.plan, self.steps, self.world = plan, range(first, last), world
        self.pool = ThreadPoolExecutor(1, thread_name_prefix="batches")

    def __enter__(self) -> "Batches":
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.shutdown(cancel_futures=True)

    def __iter__(self) -> Iterator[Batch]:
        ahead = self.pool.submit(self._read, self.steps.start) if self.steps else None
        for step in self.steps:
            asked = perf_counter()
            assert ahead is not None
            parts, counted = ahead.result()
            waited = perf_counter() - asked
            if step + 1 < self.steps.stop:
                ahead = self.pool.submit(self._read, step + 1)
            yield Batch(parts, counted, waited)

    def first(self) -> Part:
        """The largest part of a batch of the run, to try the model on before it begins."""
        return self._read(0)[0][0]

    def _read(self, step: int) -> tuple[tuple[Part, ...], int]:
        data, world = self.plan.recipe.data, self.world
        tokens = self.plan.mixture.batch(step, world.rank, world.size)
        size = self.plan.recipe.train.micro_batch_size or len(tokens)
        parts, counted = [], 0
        for start in range(0, len(tokens), size):
            rows = tokens[start : start + size]
            masked = repetitive(rows) if data.instance_filter else None
            documents = None
            if data.document_masking:
                documents = pack_documents(rows, self.plan.manifest.eos_id, world.device)
            kept = len(rows) if masked is None else int((~masked).sum())
            counted += kept * (rows.shape[1] - 1)
            parts.append(
                Part(
                    self._send(torch.from_numpy(rows)),
                    None if masked is None else self._send(torch.from_numpy(masked)),
                    documents,
                )
            )
        return tuple(parts), counted

    def _send(self, tensor: Tensor) -> Tensor:
        if self.world.device.type != "cuda":
            return tensor
        return tensor.pin_memory().to(self.world.device, non_blocking=True)
