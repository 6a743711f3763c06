"""Putting a checkpoint's weights, and its optimizer's moments, into a run that begins."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.distributed.checkpoint.state_dict import set_state_dict
from torch.optim import Optimizer

from olmeval.errors import CorruptFileError, UserError
from olmeval.trainer.checkpoint import load_state, train_state
from olmeval.trainer.model import Olmo2, put
from olmeval.trainer.parallel import World
from olmeval.trainer.recipe_spec import StartSpec
from olmeval.trainer.start import weight_files


def load_weights(model: Olmo2, spec: StartSpec) -> None:
    """Puts the checkpoint's weights into the model, in place, however it is sharded.

    Raises :class:`UserError` if they are not those of its configuration.
    """
    wanted = dict(model.named_parameters())
    for path, name, value in _tensors(spec.checkpoint):
        parameter = wanted.pop(name, None)
        if parameter is None or parameter.shape != value.shape:
            raise UserError(
                f"'{path}': '{name}' {tuple(value.shape)} is not a weight of the model that "
                "config.json beside it describes"
            )
        put(value.to(parameter.dtype), parameter)
    if wanted:
        raise UserError(f"'{spec.checkpoint}' lacks the weight '{next(iter(wanted))}'")


def load_optimizer(
    model: Olmo2, optimizers: Sequence[Optimizer], spec: StartSpec, world: World
) -> None:
    """Takes weights and moments from the checkpoint's training state; settings stay the recipe's.

    Raises :class:`UserError` if they are of another optimizer.
    """
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    settings = [{k: v for k, v in group.items() if k != "params"} for group in groups]
    state = train_state(model, optimizers)
    try:
        load_state(spec.checkpoint, state, world)
    except CorruptFileError as error:
        raise UserError(
            f"start.optimizer: the training state of '{spec.checkpoint}' is damaged or of another "
            "optimizer.kind; leave start.optimizer out"
        ) from error
    set_state_dict(
        model, optimizers, model_state_dict=state["model"], optim_state_dict=state["optimizer"]
    )
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    for group, before in zip(groups, settings, strict=True):
        group.update(before)


def _tensors(folder: Path) -> Iterator[tuple[Path, str, Tensor]]:
    for path in weight_files(folder):
        try:
            with safe_open(path, "pt") as file:
                for name in file.keys():  # noqa: SIM118
                    yield path, name, file.get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise CorruptFileError(f"cannot read '{path}': {error}") from None
