"""A recipe says everything about a run: model, data, optimizer, schedule, checkpoints.

:func:`load_recipe` reads YAML strictly; :func:`resolve` meets it with the data and settles every
number that the recipe left open, so that what a run does is known before it starts.
"""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from olmeval.config import Config, load_config
from olmeval.errors import UserError, nearest
from olmeval.files import sha256_json
from olmeval.trainer import rules
from olmeval.trainer.mixture import Mixture, Windows, describe_clipping, plan_shares
from olmeval.trainer.model_config import ModelConfig, Yarn
from olmeval.trainer.presets import preset
from olmeval.trainer.recipe_spec import EXECUTION, DataSpec, EvaluationSpec, Recipe
from olmeval.trainer.schedules import Schedule
from olmeval.trainer.shards import Manifest, load_manifest, open_domain
from olmeval.trainer.start import check_tokenizer, identity, start_config, start_rate

__all__ = ["EvaluationSpec", "Plan", "Recipe", "load_recipe", "resolve", "trusting"]

RECIPES = Path(__file__).parent / "recipes"


class MixFile(Config):
    """A mixture on its own, as a file."""

    name: str | None = None
    mixture: dict[str, float]


@dataclass(frozen=True)
class Plan:
    """A recipe with every number settled. ``lr`` is the peak of the learning rate."""

    recipe: Recipe
    manifest: Manifest
    model: ModelConfig
    mixture: Mixture
    mix_name: str
    schedule: Schedule
    steps: int
    lr: float
    start: str | None
    """What identifies the weights that the run begins with; None: random ones."""

    @property
    def batch_tokens(self) -> int:
        """Tokens a step, counted as predictions."""
        return self.mixture.batch_size * self.mixture.seq_len

    @property
    def tokens(self) -> int:
        """Tokens of the run: the recipe's, rounded up to whole batches."""
        return self.steps * self.batch_tokens

    def rate(self, step: int) -> float:
        """The learning rate of step ``step`` (from 0)."""
        return self.lr * self.schedule.at_step(step, self.batch_tokens)

    def saves(self, done: int) -> bool:
        """Whether a checkpoint belongs after ``done`` steps."""
        ends = done * self.batch_tokens in self.schedule.ends
        return ends or done % self.recipe.checkpoint.every == 0 or done == self.steps

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
        recipe["train"] |= {"tokens": self.tokens, "batch_size": self.mixture.batch_size}
        recipe["optimizer"] |= {"lr": self.lr, "lr_scale": None}
        if self.recipe.start:
            recipe["start"] |= {"checkpoint": self.start}
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
            "batch_size": self.mixture.batch_size,
            "seq_len": train.seq_len,
            "flops": self.flops(self.tokens),
            "optimizer": self.recipe.optimizer.kind,
            "lr": self.lr,
            "schedule": asdict(self.schedule),
            "start": self.recipe.start and str(self.recipe.start.checkpoint),
            "checkpoints": sum(self.saves(done) for done in range(1, self.steps + 1)),
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
            "clipped": describe_clipping(self.mixture.shares),
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
    start = None
    if recipe.start:
        check_tokenizer(recipe.start, root, manifest)
        start = identity(recipe.start)
    batch_size = train.batch_size or rules.batch_size(model.params, train.seq_len)
    batch = batch_size * train.seq_len
    steps = -(-rules.length(train.tokens, model.params) // batch)
    weights, mix_name = _weights(recipe.data, manifest)
    windows = {
        domain: Windows(open_domain(root, manifest, domain), train.seq_len)
        for domain in manifest.domains
        if weights.get(domain, 0) > 0
    }
    shares = plan_shares(
        weights,
        {domain: len(windows.get(domain, ())) for domain in manifest.domains},
        steps * batch_size,
        max_epochs=recipe.data.max_epochs,
        repeat=recipe.data.repeat,
    )
    return Plan(
        recipe=recipe,
        manifest=manifest,
        model=model,
        mixture=Mixture(windows, shares, train.seq_len, batch_size, recipe.data.seed),
        mix_name=mix_name,
        schedule=_schedule(recipe, model.params, steps * batch, batch),
        steps=steps,
        lr=_peak(recipe, model.params),
        start=start,
    )


def trusting(recipe: Recipe) -> Recipe:
    """The same recipe, whose data another process has verified already."""
    data = recipe.data.model_copy(update={"verify": "size"})
    return recipe.model_copy(update={"data": data})


def _schedule(recipe: Recipe, params: int, tokens: int, batch: int) -> Schedule:
    spec = recipe.schedule
    warmup = rules.warmup(params, tokens) if spec.warmup is None else spec.warmup
    if spec.kind != "wsds":
        decay = spec.decay * tokens if spec.kind == "wsd" else 0.0
        return Schedule(spec.kind, tokens, warmup, decay, spec.final)
    ends = [-(-rules.length(end, params) // batch) * batch for end in spec.periods]
    ends.append(tokens)
    lengths = [end - begin for begin, end in zip([0, *ends], ends, strict=False)]
    if min(lengths) <= 0:
        raise UserError(
            f"schedule.periods: the periods would end at {', '.join(f'{e:,}' for e in ends)} "
            "tokens, the run last; give rising ends below train.tokens"
        )
    decays = tuple(spec.decay * length for length in lengths)
    return Schedule("wsds", tokens, warmup, 0.0, spec.final, tuple(ends), decays)


def _peak(recipe: Recipe, params: int) -> float:
    spec = recipe.optimizer
    if spec.lr is not None:
        return spec.lr
    if recipe.start is not None:
        return start_rate(recipe.start) * (spec.lr_scale or 1.0)
    return rules.learning_rate(params) * (spec.lr_scale or rules.LR_SCALE)


def _model_config(recipe: Recipe, data_vocab: int) -> ModelConfig:
    spec, seq_len = recipe.model, recipe.train.seq_len
    given = spec.model_dump(exclude={"preset"}, exclude_none=True)
    if spec.yarn is not None:
        given["yarn"] = Yarn(**given["yarn"])
    if recipe.start is not None:
        config = _started(start_config(recipe.start), spec.preset, given)
    elif spec.preset is not None:
        config = replace(preset(spec.preset), **_with_defaults(given, data_vocab))
    else:
        required = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
        missing = [f"model.{key}" for key in required if key not in given]
        if missing:
            raise UserError(f"give model.preset, or all sizes: missing {', '.join(missing)}")
        sizes = {"num_key_value_heads": given["num_attention_heads"],
                 "max_position_embeddings": seq_len}  # fmt: skip
        config = ModelConfig(**sizes | _with_defaults(given, data_vocab))
    if config.vocab_size < data_vocab:
        raise UserError(
            f"model.vocab_size {config.vocab_size} is smaller than the data's {data_vocab}; "
            "leave it out to follow the data"
        )
    if config.max_position_embeddings < seq_len:
        if recipe.start or "max_position_embeddings" in given:
            raise UserError(
                f"train.seq_len {seq_len} is longer than model.max_position_embeddings "
                f"{config.max_position_embeddings}; raise the latter"
            )
        config = replace(config, max_position_embeddings=seq_len)
    return config


def _with_defaults(given: dict[str, Any], data_vocab: int) -> dict[str, Any]:
    # Rows beyond the tokenizer's are never used; a multiple of 128 keeps the head's product fast.
    made = {"vocab_size": -(-data_vocab // 128) * 128} | given
    if "num_attention_heads" in given:
        made.setdefault("num_key_value_heads", given["num_attention_heads"])
    return made


def _started(config: ModelConfig, preset: str | None, given: dict[str, Any]) -> ModelConfig:
    """The sizes of the checkpoint that a run starts from, for the recipe's context."""
    free = {"max_position_embeddings", "rope_theta", "sliding_window", "yarn"}
    fixed = [*(["preset"] if preset else []), *sorted(given.keys() - free)]
    if fixed:
        raise UserError(
            f"model.{fixed[0]}: the run has the sizes of its start.checkpoint; leave it out"
        )
    return replace(config, **given)


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
