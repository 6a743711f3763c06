"""A recipe says everything about a run: model, data, optimizer, schedule, checkpoints.

:func:`load_recipe` reads YAML strictly; :func:`resolve` meets it with the data and settles every
number that the recipe left open, so that what a run does is known before it starts.
"""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator

from olmeval.config import Config, load_config
from olmeval.errors import UserError, nearest
from olmeval.files import sha256_json
from olmeval.trainer.mixture import Mixture, Windows, plan_shares
from olmeval.trainer.model import ModelConfig
from olmeval.trainer.presets import preset
from olmeval.trainer.schedules import Kind, Schedule
from olmeval.trainer.shards import Manifest, load_manifest, open_domain

RECIPES = Path(__file__).parent / "recipes"
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


Count = Annotated[int, BeforeValidator(parse_count)]
Rate = Annotated[float, BeforeValidator(lambda v: float(v) if isinstance(v, str) else v)]


class ModelSpec(Config):
    """A preset, sizes, or a preset with some sizes replaced. Unset: the preset's, or the data's."""

    preset: str | None = None
    vocab_size: Count | None = None
    hidden_size: Count | None = None
    intermediate_size: Count | None = None
    num_hidden_layers: Count | None = None
    num_attention_heads: Count | None = None
    num_key_value_heads: Count | None = None
    max_position_embeddings: Count | None = None
    rope_theta: Rate | None = None
    rms_norm_eps: Rate | None = None


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
    verify: Literal["size", "hash"] = "size"
    """How much of the shards to check at the start; "hash" reads every byte once."""
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

    tokens: Count = Field(gt=0)
    seq_len: Count = Field(gt=0)
    batch_size: Count = Field(gt=0)
    """Sequences a step."""
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
    """AdamW."""

    lr: Rate = Field(gt=0)
    betas: tuple[Rate, Rate] = (0.9, 0.95)
    eps: Rate = Field(1e-8, gt=0)
    weight_decay: Rate = Field(0.1, ge=0)
    clip: Rate = Field(1.0, gt=0)
    """Largest global gradient norm."""


class ScheduleSpec(Config):
    """Of the learning rate, in tokens; see :class:`olmeval.trainer.schedules.Schedule`."""

    kind: Kind = "wsd"
    warmup: Count | None = Field(None, ge=0)
    """Tokens; default: as many as the model has parameters, at most 5 % of the run
    (Porian et al. 2024, arXiv:2406.19146)."""
    decay: float = Field(0.1, ge=0, le=1)
    """Fraction of the run over which wsd falls."""
    final: float = Field(0.0, ge=0, le=1)
    """Last learning rate as a fraction of the peak."""


class CheckpointSpec(Config):
    """When to save. The last step is always saved."""

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
    model: ModelSpec
    data: DataSpec
    train: TrainSpec
    optimizer: OptimizerSpec
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


@dataclass(frozen=True)
class Plan:
    """A recipe with every number settled."""

    recipe: Recipe
    manifest: Manifest
    model: ModelConfig
    mixture: Mixture
    mix_name: str
    schedule: Schedule
    steps: int

    @property
    def batch_tokens(self) -> int:
        """Tokens a step, counted as predictions."""
        return self.recipe.train.batch_size * self.recipe.train.seq_len

    @property
    def tokens(self) -> int:
        """Tokens of the run: the recipe's, rounded up to whole batches."""
        return self.steps * self.batch_tokens

    def flops(self, tokens: int) -> int:
        """Exact training FLOPs of ``tokens`` tokens."""
        return tokens * self.model.flops_per_token(self.recipe.train.seq_len)

    def settings(self) -> dict[str, Any]:
        """All that decides the result, as JSON: the same settings, the same weights.

        The data counts by content and not by path, so that it may be moved.
        """
        recipe = self.recipe.model_dump(mode="json", exclude=EXECUTION)
        recipe["model"] = asdict(self.model)
        recipe["schedule"] = asdict(self.schedule)
        recipe["data"] = {
            "seed": self.recipe.data.seed,
            "mix_name": self.mix_name,
            "instance_filter": self.recipe.data.instance_filter,
            "document_masking": self.recipe.data.document_masking,
            "counts": {share.domain: share.drawn for share in self.mixture.shares},
            "manifest": sha256_json(self.manifest.model_dump(mode="json")),
        }
        return recipe

    def describe(self) -> dict[str, Any]:
        """What ``--show`` prints."""
        train, evaluation = self.recipe.train, self.recipe.evaluation
        return {
            "run": self.recipe.name,
            "family": self.recipe.family,
            "model": asdict(self.model),
            "params": self.model.params,
            "params_total": self.model.params_total,
            "steps": self.steps,
            "tokens": self.tokens,
            "batch_tokens": self.batch_tokens,
            "seq_len": train.seq_len,
            "flops": self.flops(self.tokens),
            "lr": self.recipe.optimizer.lr,
            "schedule": asdict(self.schedule),
            "checkpoints": len(range(0, self.steps, self.recipe.checkpoint.every)),
            "evaluation": evaluation and evaluation.model_dump(mode="json"),
            "mix": self.mix_name,
            "domains": [
                {
                    "domain": share.domain,
                    "weight": share.weight,
                    "realised": share.drawn / self.mixture.instances,
                    "tokens": share.drawn * train.seq_len,
                    "epochs": share.epochs,
                }
                for share in self.mixture.shares
            ],
        }


def load_recipe(name: str, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """The recipe in the file ``name``, or the shipped one of that name.

    ``overrides`` maps dotted keys to values. Raises :class:`UserError`.
    """
    path = Path(name)
    if not path.is_file():
        shipped = {p.stem: p for p in sorted(RECIPES.glob("*.yaml"))}
        if name not in shipped:
            hint = nearest(name, shipped) or f"; shipped are {', '.join(shipped)}"
            raise UserError(f"there is no recipe file or shipped recipe '{name}'{hint}")
        path = shipped[name]
    return load_config(path, Recipe, overrides)


def resolve(recipe: Recipe) -> Plan:
    """Checks the recipe against its data and settles what it left open. Raises UserError."""
    train, root = recipe.train, recipe.data.root
    if not (root / "manifest.json").is_file():
        raise UserError(
            f"data.root '{root}' has no manifest.json; give a folder of token shards, "
            "such as 'olmeval data demo-corpus' makes"
        )
    manifest = load_manifest(root, verify=recipe.data.verify)
    model = _model_config(recipe, manifest.vocab_size)
    steps = -(-train.tokens // (train.batch_size * train.seq_len))
    tokens = steps * train.batch_size * train.seq_len
    weights, mix_name = _weights(recipe.data, manifest)
    windows = {
        domain: Windows(open_domain(root, manifest, domain), train.seq_len)
        for domain in manifest.domains
        if weights.get(domain, 0) > 0
    }
    shares = plan_shares(
        weights,
        {domain: len(windows.get(domain, ())) for domain in manifest.domains},
        steps * train.batch_size,
        max_epochs=recipe.data.max_epochs,
        repeat=recipe.data.repeat,
    )
    spec = recipe.schedule
    warmup = min(model.params, tokens // 20) if spec.warmup is None else spec.warmup
    decay = spec.decay * tokens if spec.kind == "wsd" else 0.0
    return Plan(
        recipe=recipe,
        manifest=manifest,
        model=model,
        mixture=Mixture(windows, shares, train.seq_len, train.batch_size, recipe.data.seed),
        mix_name=mix_name,
        schedule=Schedule(spec.kind, tokens, warmup, decay, spec.final),
        steps=steps,
    )


def _model_config(recipe: Recipe, data_vocab: int) -> ModelConfig:
    spec, seq_len = recipe.model, recipe.train.seq_len
    given = spec.model_dump(exclude={"preset"}, exclude_none=True)
    # Rows beyond the tokenizer's are never used; a multiple of 128 keeps the head's product fast.
    given.setdefault("vocab_size", -(-data_vocab // 128) * 128)
    if given["vocab_size"] < data_vocab:
        raise UserError(
            f"model.vocab_size {given['vocab_size']} is smaller than the data's {data_vocab}; "
            "leave it out to follow the data"
        )
    if spec.preset is not None:
        if "num_attention_heads" in given:
            given.setdefault("num_key_value_heads", given["num_attention_heads"])
        config = replace(preset(spec.preset), **given)
    else:
        required = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
        missing = [f"model.{key}" for key in required if key not in given]
        if missing:
            raise UserError(f"give model.preset, or all sizes: missing {', '.join(missing)}")
        given.setdefault("num_key_value_heads", given["num_attention_heads"])
        given.setdefault("max_position_embeddings", seq_len)
        config = ModelConfig(**given)
    if config.max_position_embeddings < seq_len:
        if "max_position_embeddings" in given:
            raise UserError(
                f"train.seq_len {seq_len} is longer than model.max_position_embeddings "
                f"{config.max_position_embeddings}; raise the latter"
            )
        config = replace(config, max_position_embeddings=seq_len)
    return config


def _weights(data: DataSpec, manifest: Manifest) -> tuple[dict[str, float], str]:
    """Weights by domain, and what to call them."""
    if isinstance(data.mixture, dict):
        return data.mixture, data.mix_name or f"mix-{sha256_json(data.mixture)[:8]}"
    if data.mixture == "natural":
        sizes = {domain: manifest.tokens(domain) for domain in manifest.domains}
        total = sum(sizes.values())
        return {domain: n / total for domain, n in sizes.items()}, data.mix_name or "natural"
    path = Path(os.path.expanduser(data.mixture))
    if not path.is_file():
        raise UserError(
            f"data.mixture '{data.mixture}' is neither 'natural' nor a file; "
            "give {domain: weight} or the path of a YAML file with a 'mixture'"
        )
    mix = load_config(path, MixFile)
    return mix.mixture, data.mix_name or mix.name or path.stem
