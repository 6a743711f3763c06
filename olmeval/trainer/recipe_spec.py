"""The keys of a recipe: what a person may say about a run, and what it means if they do not.

Strict: an unknown key is refused with its line and the nearest name. What the keys come to, given
the data, is settled in :mod:`olmeval.trainer.recipe`.
"""

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from olmeval.config import Config
from olmeval.trainer.schedules import Kind
from olmeval.trainer.shards import Verify

SUFFIXES = {"k": 10**3, "m": 10**6, "b": 10**9, "t": 10**12}


def parse_count(value: Any) -> Any:
    """``"15M"``, ``"1.5B"``, ``"2e6"`` or a number as an integer count."""
    number = value
    if isinstance(value, str):
        text = value.strip().lower().replace("_", "").replace(",", "")
        scale = SUFFIXES.get(text[-1:], 1)
        try:
            number = float(text.removesuffix(text[-1:]) if scale > 1 else text) * scale
        except ValueError:
            raise ValueError(f"'{value}' is not a count such as 2000000, 2e6 or 2M") from None
    if isinstance(number, float):
        if round(number) != number:
            raise ValueError(f"'{value}' is not a whole number")
        return int(number)
    return number


def parse_length(value: Any) -> Any:
    """A count, or a multiple of what is optimal for the model: ``"5xC"``, which stays a string."""
    if isinstance(value, str) and re.fullmatch(r"\s*\d+(\.\d+)?\s*xC\s*", value, re.IGNORECASE):
        text = value.lower().replace("xc", "").strip()
        if float(text) == 0:
            raise ValueError(f"'{value}' is nothing")
        return f"{text}xC"
    number = parse_count(value)
    if not isinstance(number, int) or number <= 0:
        raise ValueError(f"'{value}' is neither a count of tokens nor a multiple such as 5xC")
    return number


Count = Annotated[int, BeforeValidator(parse_count)]
Length = Annotated[int | str, BeforeValidator(parse_length)]
"""Tokens, or how many times 20 tokens a parameter (``xC``: Hoffmann et al. 2022,
arXiv:2203.15556), counted as :attr:`ModelConfig.params` counts."""
Rate = Annotated[float, BeforeValidator(lambda v: float(v) if isinstance(v, str) else v)]


class YarnSpec(Config):
    """YaRN, for a longer context than the model was trained on; see
    :class:`olmeval.trainer.model_config.Yarn`."""

    factor: Rate = Field(ge=1)
    original_max_position_embeddings: Count = Field(gt=0)
    beta_fast: Rate = Field(32.0, gt=0)
    beta_slow: Rate = Field(1.0, gt=0)


class ModelSpec(Config):
    """A preset, sizes, or a preset with some sizes replaced. Unset: the preset's, or the data's.

    A run that starts from a checkpoint has its sizes; the last five keys may differ.
    """

    preset: str | None = None
    vocab_size: Count | None = None
    hidden_size: Count | None = None
    intermediate_size: Count | None = None
    num_hidden_layers: Count | None = None
    num_attention_heads: Count | None = None
    num_key_value_heads: Count | None = None
    rms_norm_eps: Rate | None = None
    max_position_embeddings: Count | None = None
    rope_theta: Rate | None = None
    sliding_window: Count | None = None
    """Tokens that three of four layers see, themselves included; makes the model an OLMo-3."""
    yarn: YarnSpec | None = None


class StartSpec(Config):
    """Weights to begin with, instead of random ones."""

    checkpoint: Path
    """A folder in Hugging Face layout: a step of another run, or a released model."""
    optimizer: bool = False
    """Takes the optimizer's moments over, too; only a step of a run has them."""


class DataSpec(Config):
    """Where tokens come from and in which proportion; paths are relative to the current folder."""

    root: Path
    """Folder of token shards with its ``manifest.json``."""
    mixture: dict[str, float] | str = "natural"
    """``{domain: weight}``, a YAML file with such a ``mixture``, or "natural": by size."""
    mix_name: str | None = None
    """What tables call the mixture; default: the file's name, "natural", or a hash."""
    max_epochs: float = Field(4.0, gt=0)
    """Most passes over a domain (beyond four, repeats are worth little: arXiv:2305.16264)."""
    repeat: Literal["error", "clip"] = "error"
    """What to do with a domain that would need more."""
    seed: int = Field(0, ge=0)
    verify: Verify = "once"
    """How much of the shards to check at the start: "size" reads a sample, "hash" every byte,
    "once" every byte of what nobody has checked before."""
    instance_filter: bool = False
    """Takes no loss on sequences that repeat themselves; see :func:`instances.repetitive`."""
    document_masking: bool = False
    """Lets tokens attend only within their document."""

    @field_validator("mixture", mode="before")
    @classmethod
    def _weights_or_name(cls, value: Any) -> Any:
        """Says what is wrong itself: pydantic reports a union once for each of its members."""
        if isinstance(value, dict):
            for domain, weight in value.items():
                if isinstance(weight, bool) or not isinstance(weight, int | float):
                    raise ValueError(f"the weight of '{domain}' is '{weight}', not a number")
        elif not isinstance(value, str):
            raise ValueError("give {domain: weight}, the path of a YAML file, or 'natural'")
        return value


# How a run is carried out and told of, but not what comes of it: it may go on with other values.
EXECUTION: Any = {
    "evaluation": True,
    "trackers": True,
    "train": {"device", "micro_batch_size", "compile", "activation_checkpointing", "shard",
              "replicate"},
    "checkpoint": {"asynchronous"},
}  # fmt: skip


class TrainSpec(Config):
    """Length and shape of the run."""

    tokens: Length
    seq_len: Count = Field(gt=0)
    batch_size: Count | None = Field(None, gt=0)
    """Sequences a step; default: by the ladder's rule for the model's size."""
    micro_batch_size: Count | None = Field(None, gt=0)
    """Sequences that a process sends through the model at once; default: all of its share."""
    z_loss: Rate = Field(1e-5, ge=0)
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of matrix products; parameters, norms and the loss stay in float32."""
    float8: bool = False
    """Matrix products of the blocks in float8, by torchao."""
    compile: Literal["block", "whole"] | None = None
    """What torch.compile takes: one block for all, or the decoder as a whole."""
    activation_checkpointing: Literal["full"] | Annotated[float, Field(ge=0, le=1)] | None = None
    """What is computed again on the way back: all within blocks, or as much as it takes to keep
    only this fraction of the activations (needs ``compile``)."""
    shard: Count | None = Field(None, gt=0)
    """Processes that share one copy of weights and optimizer; default: all of a copy."""
    replicate: Count | None = Field(None, gt=0)
    """Copies; default: as many as ``shard`` makes of the processes."""
    device: str = "auto"


class OptimizerSpec(Config):
    """AdamW, or Muon for the blocks' matrices and AdamW for the rest."""

    kind: Literal["adamw", "muon"] = "adamw"
    lr: Rate | None = Field(None, gt=0)
    """The peak; default: by the ladder's rule for the model's size, or where the checkpoint that
    the run starts from stood."""
    lr_scale: Rate | None = Field(None, gt=0)
    """What that default is multiplied by; default: 0.5 for the rule, 1 for a checkpoint's rate."""
    betas: tuple[Rate, Rate] = (0.9, 0.95)
    eps: Rate = Field(1e-8, gt=0)
    weight_decay: Rate = Field(0.1, ge=0)
    clip: Rate = Field(1.0, gt=0)
    """Largest global gradient norm."""
    momentum: Rate = Field(0.95, ge=0, lt=1)
    """Muon's."""
    skip_spikes: Rate | None = Field(6.0, gt=0)
    """Skips a step whose loss or gradient norm lies more than so many standard deviations above
    those of the last 128 steps; null: never."""

    @model_validator(mode="after")
    def _one_rate(self) -> "OptimizerSpec":
        if self.lr is not None and self.lr_scale is not None:
            raise ValueError("lr_scale multiplies the rule's rate, and lr replaces it; give one")
        return self


class ScheduleSpec(Config):
    """Of the learning rate, in tokens; see :class:`olmeval.trainer.schedules.Schedule`."""

    kind: Kind = "wsd"
    warmup: Count | None = Field(None, ge=0)
    """Tokens; default: as many as the model has parameters, at most 5 % of the run
    (Porian et al. 2024, arXiv:2406.19146)."""
    decay: float = Field(0.1, ge=0, le=1)
    """Fraction of the run over which wsd falls, and of each period over which wsds does."""
    periods: tuple[Length, ...] = ()
    """Of wsds: where its periods end, the last one aside, which ends with the run. Each end is
    rounded up to a whole step and has a checkpoint."""
    final: float = Field(0.0, ge=0, le=1)
    """Last learning rate as a fraction of the peak."""

    @model_validator(mode="after")
    def _periods_of_wsds(self) -> "ScheduleSpec":
        if (self.kind == "wsds") != bool(self.periods):
            raise ValueError("periods are for kind wsds, which needs them: such as [0.5xC, 1xC]")
        return self


class CheckpointSpec(Config):
    """When to save. The last step is always saved, and the end of every period of wsds."""

    every: Count = Field(gt=0)
    """Steps."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the exported weights; what a run resumes from stays in float32."""
    asynchronous: bool = False
    """Writes while training goes on, at the price of a copy in the processor's memory."""
    ema: float | None = Field(None, gt=0, lt=1)
    """Keeps a moving average of the weights that forgets 1 - ``ema`` of itself a step, and exports
    it as ``ema`` in every checkpoint."""
    average: Count | None = Field(None, gt=1)
    """Exports the mean of this many last checkpoints as ``average`` when the run ends."""


class EvaluationSpec(Config):
    """Tasks that are scored while the model trains. Nothing of the training depends on them."""

    tasks: tuple[str, ...] = Field(min_length=1)
    every: Count = Field(200, gt=0)
    """Steps. The last one is always scored."""
    limit: Count | None = Field(100, gt=0)
    """Documents of each task; null: all."""
    task_paths: tuple[Path, ...] = ()
    """Folders with further task files."""


class Recipe(Config):
    """One training run."""

    name: str = Field(pattern=r"^[A-Za-z0-9._-]+$")
    family: str = "olmo2"
    """Models that one scaling law is fitted to."""
    seed: int = Field(0, ge=0)
    """Of the initial weights."""
    start: StartSpec | None = None
    model: ModelSpec = ModelSpec()
    data: DataSpec
    train: TrainSpec
    optimizer: OptimizerSpec = OptimizerSpec()
    schedule: ScheduleSpec = ScheduleSpec()
    checkpoint: CheckpointSpec
    evaluation: EvaluationSpec | None = None
    log_every: Count = Field(10, gt=0)
    """Steps that one line of ``metrics.jsonl`` averages."""
    trackers: tuple[Literal["tensorboard", "wandb"], ...] = ()
    """Where the lines of ``metrics.jsonl`` go besides."""


class MixFile(Config):
    """A mixture on its own, as a file."""

    name: str | None = None
    mixture: dict[str, float]
