"""Averages of weights: over the steps of a run, and over its last checkpoints.

Either takes out part of the noise that a high learning rate leaves in the weights, so that a run
that has not decayed yet can be judged as if it had (Izmailov et al. 2018, arXiv:1803.05407; Li et
al. 2025, arXiv:2505.12082).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from olmeval.errors import UserError
from olmeval.files import atomic_dir, read_json, write_json
from olmeval.trainer.checkpoint import export_hf


class Ema:
    """An exponential moving average of weights: ``decay * average + (1 - decay) * weights``.

    Kept where the weights are and sharded as they are. It begins at the weights given.
    """

    def __init__(self, model: nn.Module, decay: float):
        self.decay = decay
        self.parameters = dict(model.named_parameters())
        self.average = {name: p.detach().clone() for name, p in self.parameters.items()}

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def update(self) -> None:
        """Takes the weights of one more step in."""
        average = [_local(value) for value in self.average.values()]
        weights = [_local(value) for value in self.parameters.values()]
        torch._foreach_lerp_(average, weights, 1 - self.decay)


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor.detach()


def average_checkpoints(checkpoints: Sequence[Path], output: Path) -> Path:
    """Writes the mean of the models in several folders as a model in ``output``.

    Sums in float64, one tensor at a time. ``checkpoint.json`` is that of the last one, with
    ``averaged``: the names of all. Raises :class:`UserError` if their weights differ in kind.
    """
    if len(checkpoints) < 2:
        raise UserError(f"an average takes at least 2 checkpoints; there are {len(checkpoints)}")
    last = checkpoints[-1]
    files: list[Any] = [safe_open(path / "model.safetensors", "pt") for path in checkpoints]
    shapes = [{k: tuple(f.get_slice(k).get_shape()) for k in f.keys()} for f in files]  # noqa: SIM118
    for path, found in zip(checkpoints, shapes, strict=True):
        if found != shapes[-1]:
            raise UserError(f"'{path}' is of another model than '{last}'; average one run's")
    mean: dict[str, Any] = {}
    for name in shapes[-1]:
        total = files[0].get_tensor(name).double()
        for file in files[1:]:
            total += file.get_tensor(name)
        mean[name] = (total / len(files)).to(files[-1].get_tensor(name).dtype)
    about = read_json(last / "checkpoint.json")
    with atomic_dir(output) as tmp:
        export_hf(tmp, mean, read_json(last / "config.json"), last)
        write_json(tmp / "checkpoint.json", {**about, "averaged": [p.name for p in checkpoints]})
    return output
