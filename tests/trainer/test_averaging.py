"""Averages of weights against their definitions."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForCausalLM

from olmeval.errors import UserError
from olmeval.trainer.averaging import Ema, average_checkpoints
from olmeval.trainer.loop import train


def test_the_moving_average_is_its_formula() -> None:
    model, seen = nn.Linear(3, 2), []
    ema = Ema(model, 0.9)
    start = model.weight.detach().clone()
    for step in range(5):
        with torch.no_grad():
            model.weight.copy_(torch.full((2, 3), float(step)))
        ema.update()
        seen.append(float(step))
    expected = 0.9**5 * start + sum(0.1 * 0.9 ** (4 - k) * x for k, x in enumerate(seen))
    torch.testing.assert_close(ema.average["weight"], expected)


def test_a_run_exports_both_averages(make_recipe: Any, tmp_path: Path) -> None:
    recipe = make_recipe({"checkpoint.ema": 0.5, "checkpoint.average": 2, "checkpoint.every": 1,
                          "train.tokens": 512})  # fmt: skip
    train(recipe, tmp_path, progress=False)
    steps = [load_file(tmp_path / f"step{k}/model.safetensors") for k in (1, 2, 3, 4)]
    mean = load_file(tmp_path / "average/model.safetensors")
    moving = [load_file(tmp_path / f"step{k}/ema/model.safetensors") for k in (1, 2, 3, 4)]
    for name in mean:
        torch.testing.assert_close(mean[name], (steps[2][name] + steps[3][name]) / 2)
        for k in (1, 2, 3):
            torch.testing.assert_close(moving[k][name], (moving[k - 1][name] + steps[k][name]) / 2)
    about = json.loads((tmp_path / "average/checkpoint.json").read_text())
    assert about["averaged"] == ["step3", "step4"]
    for folder in ("average", "step4/ema"):
        AutoModelForCausalLM.from_pretrained(tmp_path / folder)

    with pytest.raises(UserError, match="an average takes at least 2 checkpoints; there are 1"):
        average_checkpoints([tmp_path / "step1"], tmp_path / "none")
    wider = make_recipe({"model.intermediate_size": 96, "train.tokens": 128})
    train(wider, tmp_path / "wider", progress=False)
    with pytest.raises(UserError, match=r"step1' is of another model than '.*step4'"):
        average_checkpoints([tmp_path / "wider/step1", tmp_path / "step4"], tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_the_moving_average_survives_a_stop(make_recipe: Any, tmp_path: Path) -> None:
    recipe = make_recipe({"checkpoint.ema": 0.5})
    train(recipe, tmp_path / "whole", progress=False)
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    for step in (16, 24):
        shutil.rmtree(tmp_path / f"cut/step{step}")
    assert train(recipe, tmp_path / "cut", progress=False).resumed_from == 8
    one, two = (load_file(tmp_path / run / "step24/ema/model.safetensors")
                for run in ("whole", "cut"))  # fmt: skip
    assert all(torch.equal(one[name], two[name]) for name in one)
