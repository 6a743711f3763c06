"""A model built for training, that one run after another can use.

Building, sharding and compiling take longer than a small proxy trains. A :class:`Runtime` holds
what does not depend on the run; :func:`~olmeval.trainer.loop.train` draws the weights anew in it.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from olmeval.errors import UserError
from olmeval.trainer.batches import Part
from olmeval.trainer.loss import IGNORE_INDEX, linear_cross_entropy
from olmeval.trainer.model import Olmo2
from olmeval.trainer.parallel import World, join, shard, use_float8, wrap_blocks
from olmeval.trainer.recipe import Plan, Recipe, resolve


class Objective(nn.Module):  # type: ignore[misc]
    """A model and its loss as one forward pass, so that sharding sees all uses of the weights.

    ``half``: matrix products in bfloat16. ``autocast``: from float32 weights.
    """

    def __init__(self, model: Olmo2, z_weight: float, *, half: bool, autocast: bool):
        super().__init__()
        self.model, self.z_weight = model, z_weight
        self.half, self.autocast = half, autocast

    def forward(
        self,
        tokens: Tensor,
        num_tokens: int | Tensor,
        masked: Tensor | None = None,
        documents: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Loss to differentiate and plain cross-entropy of ``tokens`` [B, T + 1], in nats.

        Both are sums over these tokens divided by ``num_tokens``, those of the step on all ranks.
        ``masked`` [B]: rows that do not count. ``documents``: see
        :func:`~olmeval.trainer.attention.pack_documents`.
        """
        targets = tokens[:, 1:]
        if masked is not None:
            targets = targets.masked_fill(masked[:, None], IGNORE_INDEX)
        with torch.autocast(tokens.device.type, torch.bfloat16, enabled=self.autocast):
            hidden = self.model.model(tokens[:, :-1], documents=documents).flatten(0, 1)
        return linear_cross_entropy(
            hidden.bfloat16() if self.half else hidden,
            self.model.lm_head.weight,
            targets.reshape(-1),
            num_tokens=num_tokens,
            z_weight=self.z_weight,
        )


@dataclass(frozen=True)
class Runtime:
    """A model on its devices, wrapped and compiled. Make one with :func:`runtime`."""

    world: World
    model: Olmo2
    objective: Objective
    built_for: tuple[Any, ...]
    """What two plans must have in common to share it."""

    def check(self, plan: Plan) -> None:
        """Raises :class:`UserError` if ``plan`` needs a model of another build."""
        if _build(plan) != self.built_for:
            raise UserError(
                f"recipe '{plan.recipe.name}' differs from the runtime's in model, precision or "
                "parallelism; make it a runtime of its own"
            )

    def backward(self, part: Part, num_tokens: int | Tensor, last: bool) -> Tensor:
        """Adds the gradients of a part of a step's tokens; returns its cross-entropy.

        ``last``: no further part follows, so that ranks may settle their sums.
        """
        if isinstance(self.objective, FSDPModule):
            self.objective.set_is_last_backward(last)
            self.objective.set_requires_all_reduce(last)
        loss, entropy = self.objective(part.tokens, num_tokens, part.masked, part.documents)
        loss.backward()
        return entropy

    def dry_run(self, part: Part) -> None:
        """Takes one part forward and back and forgets it: compiles, and finds out if it fits.

        Raises :class:`UserError` if it does not.
        """
        if self.world.device.type == "cpu" and not self.compiled:
            return
        try:
            self.backward(part, 1, last=True)
        except torch.OutOfMemoryError:
            raise UserError(
                f"{len(part.tokens)} sequences at once do not fit into the memory of "
                f"{self.world.device}; lower train.micro_batch_size, or set "
                "train.activation_checkpointing to full"
            ) from None
        self.objective.zero_grad()

    @property
    def compiled(self) -> bool:
        """Whether a first pass takes long."""
        return self.built_for[4] is not None


def runtime(recipe: Recipe) -> Runtime:
    """A runtime for ``recipe`` and all recipes of the same model, precision and parallelism.

    Weights are allocated, and drawn by :func:`~olmeval.trainer.loop.train`. Raises UserError.
    """
    return build_runtime(resolve(recipe), world_of(recipe))


def world_of(recipe: Recipe) -> World:
    """The world that ``recipe`` runs in."""
    return join(recipe.train.device, recipe.train.shard, recipe.train.replicate)


def build_runtime(plan: Plan, world: World) -> Runtime:
    """Builds the plan's model in ``world``; its weights are still undefined."""
    spec = plan.recipe.train
    with torch.device("meta"):
        model = Olmo2(plan.model)
    half = spec.precision == "bfloat16"
    if spec.float8:
        use_float8(model)
    wrap_blocks(model, spec.activation_checkpointing, spec.compile)
    # Sharded weights are gathered in bfloat16 already.
    objective = Objective(model, spec.z_loss, half=half, autocast=half and world.mesh is None)
    if world.mesh is not None:
        shard(objective, model, world.mesh, half)
    objective.to_empty(device=world.device)
    return Runtime(world, model, objective, _build(plan))


def _build(plan: Plan) -> tuple[Any, ...]:
    spec = plan.recipe.train
    return (plan.model, spec.precision, spec.z_loss, spec.float8, spec.compile,
            spec.activation_checkpointing, spec.device, spec.shard, spec.replicate)  # fmt: skip
