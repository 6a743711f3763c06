"""One process or many: who takes part in a run, and how a model is spread over them.

A model is written as if it ran alone; what is here wraps it from outside: recomputation first, then
compilation, then sharding. Started by ``torchrun``, weights, gradients and optimizer state are
sharded over the ranks (FSDP2, ``fully_shard``), or sharded within groups and replicated between
them (HSDP: Zhao et al. 2023, arXiv:2304.11277). Started alone, nothing is wrapped, because a tiny
model would pay for it.
"""

import atexit
import gc
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.utils.checkpoint import checkpoint

from olmeval.errors import UserError
from olmeval.trainer.model import Olmo2

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """The processes of a run, as one of them sees it. ``mesh`` is None if it runs alone."""

    device: torch.device
    rank: int = 0
    size: int = 1
    mesh: DeviceMesh | None = None
    files: dist.ProcessGroup | None = None
    """For what is written while training goes on, so that the two never mix their messages."""

    @property
    def main(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def sum(self, value: Tensor) -> Tensor:
        """The sum of a tensor over all ranks, in place; nothing waits for the device."""
        if self.size > 1:
            dist.all_reduce(value)
        return value

    def on_main(self, function: Callable[[], T]) -> T:
        """What ``function`` returns on rank 0; its :class:`UserError` is raised on every rank."""
        if self.size == 1:
            return function()
        box: list[Any] = [None, None]
        if self.main:
            try:
                box[0] = function()
            except UserError as error:
                box[1] = error
        dist.broadcast_object_list(box, src=0)
        if box[1] is not None:
            raise box[1]
        result: T = box[0]
        return result

    def any(self, flag: bool) -> bool:
        """Whether any rank says so. All wait for each other."""
        if self.size == 1:
            return flag
        said = torch.tensor(float(flag), device=self.device)
        return bool(self.sum(said).item())


def join(device: str, shard: int | None = None, replicate: int | None = None) -> World:
    """The world that ``torchrun`` (or whoever initialised torch.distributed) put this process in.

    ``shard`` ranks share one copy of the model (default: all of a copy), ``replicate`` copies are
    kept. A process stays in its world for as long as it lives: ranks that leave find no way back.
    Raises :class:`UserError` if the two do not make up the world, or the device is not there.
    """
    begun = dist.is_initialized()
    launched = begun or {"RANK", "WORLD_SIZE", "MASTER_ADDR"} <= os.environ.keys()
    size = dist.get_world_size() if begun else int(os.environ["WORLD_SIZE"]) if launched else 1
    copies = replicate or (size // shard if shard else 1)
    if copies * (shard or size // copies) != size:
        raise UserError(
            f"train.shard {shard or 'unset'} times train.replicate {replicate or 'unset'} is not "
            f"the number of processes, {size}; change them, or torchrun's --nproc-per-node"
        )
    if not launched:
        return World(open_device(device))
    place = open_device(device, int(os.environ.get("LOCAL_RANK", 0)))
    if not begun:
        # Gloo beside NCCL carries what stays on the processor.
        backend = "cpu:gloo,cuda:nccl" if place.type == "cuda" else "gloo"
        dist.init_process_group(backend, device_id=place if place.type == "cuda" else None)
        atexit.register(_leave)
    return World(place, dist.get_rank(), size, _mesh(place.type, size, copies), _files())


def _leave() -> None:
    """Ends the groups while the interpreter is whole.

    A thread of Gloo frees the tensors of the last operation after that has returned, and needs the
    interpreter for it; if that is being torn down, the process aborts, its work done. The thread is
    waited for by its group's destructor, so no reference to the group may outlive this.
    """
    _mesh.cache_clear()
    _files.cache_clear()
    dist.destroy_process_group()
    gc.collect()


@cache
def _mesh(device: str, size: int, copies: int) -> DeviceMesh:
    if copies == 1:
        return init_device_mesh(device, (size,), mesh_dim_names=("shard",))
    return init_device_mesh(device, (copies, size // copies), mesh_dim_names=("replicate", "shard"))


@cache
def _files() -> dist.ProcessGroup:
    return dist.new_group(backend="gloo")


def open_device(name: str, local_rank: int = 0) -> torch.device:
    """The device called ``name``; "auto" is CUDA where there is one. Raises :class:`UserError`."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        if device.type == "cuda":
            device = torch.device("cuda", local_rank if device.index is None else device.index)
        torch.empty(0, device=device)
        if device.type == "cuda":
            torch.cuda.set_device(device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"train.device '{name}' does not work here: {reason}") from None
    return device


def wrap_blocks(model: Olmo2, recompute: str | float | None, compiled: str | None) -> None:
    """Sets recomputation of activations and compilation, in place.

    ``recompute``: "full" keeps only the input of each block; a fraction is the share of the
    activations that the compiler may keep. ``compiled``: "block" compiles one block for all,
    "whole" the decoder. Only ``forward`` is replaced, so that hooks of sharding run outside of it.
    """
    decoder = model.model
    budget = 1.0  # the compiler's default; another model of this process may have had its own
    if recompute == "full":
        for layer in decoder.layers:
            layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)
    elif recompute is not None:
        if compiled is None:
            raise UserError(
                "train.activation_checkpointing as a fraction is up to the compiler; set "
                "train.compile to block, or train.activation_checkpointing to full"
            )
        budget = float(recompute)
    torch._functorch.config.activation_memory_budget = budget
    if compiled == "block":
        for layer in decoder.layers:
            layer.forward = torch.compile(layer.forward)
    elif compiled == "whole":
        decoder.forward = torch.compile(decoder.forward)  # type: ignore[method-assign]


def use_float8(model: Olmo2) -> None:
    """Swaps the linear layers of the blocks for torchao's float8 ones; the head keeps bfloat16."""
    try:
        from torchao.float8 import (  # type: ignore[import-not-found, unused-ignore]
            convert_to_float8_training,
        )
    except ImportError:
        raise UserError(
            "train.float8 needs torchao; install it (pip install torchao) or leave train.float8 out"
        ) from None
    convert_to_float8_training(model.model.layers)


def shard(root: nn.Module, model: Olmo2, mesh: DeviceMesh, half: bool) -> None:
    """Shards ``root`` over ``mesh``, in place: each block, the embedding, and what remains.

    ``root``'s forward must reach the head, whose weight it gathers with the final norm. With
    ``half``, ranks gather weights in bfloat16 and compute in it; gradients are summed in float32.
    Sums, not means: the loss is divided by the tokens of all ranks already.
    """
    policy = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if half else None,
        reduce_dtype=torch.float32,
        # Rotations reach the blocks in float32 and have to stay there.
        cast_forward_inputs=False,
    )
    options = {"mesh": mesh, "mp_policy": policy}
    for layer in model.model.layers:
        fully_shard(layer, **options)
    fully_shard(model.model.embed_tokens, **options)
    model.model.embed_tokens.set_unshard_in_backward(False)  # its gradient needs no weights
    fully_shard(root, **options)
    for module in root.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)  # gloo has no scaled sum
