"""The guide knows every key, option and recipe, and no other."""

import re
from pathlib import Path

import click
from pydantic import BaseModel

from olmeval.cli.train import train
from olmeval.config import _nested_args
from olmeval.trainer.presets import NAMES
from olmeval.trainer.recipe import RECIPES
from olmeval.trainer.recipe_spec import Recipe

GUIDE = (Path(__file__).parents[2] / "docs/trainer.md").read_text(encoding="utf-8")
CODE = set(re.findall(r"`([^`\n]+)`", GUIDE))


def keys(model: type[BaseModel], prefix: str = "") -> set[str]:
    """All dotted keys of a configuration."""
    found = set()
    for name, field in model.model_fields.items():
        kinds = [field.annotation, *_nested_args(field.annotation)]
        inner = [k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)]
        found |= keys(inner[0], f"{prefix}{name}.") if inner else {prefix + name}
    return found


def documented() -> set[str]:
    """Keys in the table's first column; ``.key`` belongs to the group named before it."""
    rows = re.findall(r"^\| (`.*?) \| .* \|.*\|$", GUIDE, re.MULTILINE)
    found, known = set(), {key.partition(".")[0] for key in keys(Recipe)}
    for row in rows:
        group = ""
        for key in re.findall(r"`([^`]+)`", row):
            if key.startswith("."):
                found.add(group + key)
            else:
                group = key.rpartition(".")[0]
                if key.partition(".")[0] in known:
                    found.add(key)
    return found


def test_every_key_has_a_row() -> None:
    assert documented() == keys(Recipe)


def test_every_option_and_recipe_is_there() -> None:
    for param in train.params:
        if isinstance(param, click.Option):
            assert any(code.startswith(param.opts[0]) for code in CODE), param.opts[0]
    for path in RECIPES.glob("*.yaml"):
        assert path.stem in CODE
    for name in NAMES:
        assert name.removeprefix("olmo3-") in CODE
