"""What a run tells: monitors in its lines, skipped spikes, trackers."""

import json
import math
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from safetensors.torch import load_file

from olmeval.errors import UserError
from olmeval.trainer.loop import train
from olmeval.trainer.runtime import Objective


def rows(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]


def test_norms_of_parts_sum_to_the_norm(make_recipe: Any, tmp_path: Path) -> None:
    train(make_recipe({"log_every": 1, "train.tokens": 512}), tmp_path, progress=False)
    for row in rows(tmp_path):
        parts = row["grad_norms"]
        assert list(parts) == ["embed_tokens", "self_attn", "mlp", "norm", "lm_head"]
        assert math.hypot(*parts.values()) == pytest.approx(row["grad_norm"], rel=1e-5)
        assert row["spike_score"] is None
        assert row["mfu"] is None and 0 < row["goodput"] <= 1


class Stop(Exception):
    pass


def test_spikes_are_skipped_and_scored_after_a_resumption_too(
    make_recipe: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Step 151 spikes; the checkpoint before it knows the history that says so."""
    real = Objective.forward
    calls = {"n": 0}

    def spiking(*args: Any, **options: Any) -> Any:
        calls["n"] += 1
        loss, entropy = real(*args, **options)
        factor = 30 if calls["n"] == 151 else 1
        return loss * factor, entropy

    monkeypatch.setattr(Objective, "forward", spiking)
    recipe = make_recipe({"train.tokens": 156 * 64, "train.batch_size": 4, "checkpoint.every": 148,
                          "log_every": 6, "optimizer.lr": 1e-4})  # fmt: skip
    result = train(recipe, tmp_path / "whole", progress=False)
    assert result.skipped == 1
    found = rows(tmp_path / "whole")
    assert {row["step"]: row["spike_score"] for row in found if row["step"] >= 120} == {
        120: None, 126: None, 132: 0, 138: 0, 144: 0, 148: 0, 150: 0, 156: 1 / 156
    }  # fmt: skip
    assert [row["skipped"] for row in found[-2:]] == [0, 1]

    def stop(path: Path) -> None:
        raise Stop

    calls["n"] = 0
    with pytest.raises(Stop):
        train(recipe, tmp_path / "broken", on_checkpoint=stop, progress=False)
    train(recipe, tmp_path / "broken", progress=False)
    assert calls["n"] == 156
    again = rows(tmp_path / "broken")
    assert [r["spike_score"] for r in again] == [r["spike_score"] for r in found]
    assert [r["skipped"] for r in again] == [r["skipped"] for r in found]

    whole, broken = (load_file(tmp_path / name / "step156/model.safetensors")["lm_head.weight"]
                     for name in ("whole", "broken"))  # fmt: skip
    assert (whole == broken).all()


def test_muon_resumes_bit_for_bit(make_recipe: Any, tmp_path: Path) -> None:
    recipe = make_recipe({"optimizer.kind": "muon", "train.tokens": 16 * 128})

    def stop(path: Path) -> None:
        raise Stop

    with pytest.raises(Stop):
        train(recipe, tmp_path / "broken", on_checkpoint=stop, progress=False)
    for name in ("whole", "broken"):
        train(recipe, tmp_path / name, progress=False)
    one, two = (load_file(tmp_path / name / "step16/model.safetensors")
                for name in ("whole", "broken"))  # fmt: skip
    assert all((one[name] == two[name]).all() for name in one)
    found = rows(tmp_path / "whole")
    assert found[-1]["loss"] < found[0]["loss"] - 0.1


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_trackers_that_are_not_installed_are_named(
    make_recipe: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match=rf"{name} is not installed; .*'olmeval\[{name}\]'"):
        train(make_recipe({"trackers": [name]}), tmp_path, progress=False)


def test_trackers_get_every_line(
    make_recipe: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against their interfaces: neither needs to be installed here."""
    board: list[tuple[str, float, int]] = []
    logged: list[tuple[dict[str, float], int]] = []
    begun: list[dict[str, Any]] = []
    ended: list[str] = []

    class Writer:
        def __init__(self, folder: str):
            assert folder == str(tmp_path / "tensorboard")

        def add_scalar(self, key: str, value: float, step: int) -> None:
            board.append((key, value, step))

        def close(self) -> None:
            ended.append("tensorboard")

    class Run:
        def log(self, values: dict[str, float], step: int) -> None:
            logged.append((values, step))

        def finish(self) -> None:
            ended.append("wandb")

    def init(**settings: Any) -> Run:
        begun.append(settings)
        return Run()

    fakes = {"torch.utils.tensorboard": {"SummaryWriter": Writer}, "wandb": {"init": init}}
    for module, attributes in fakes.items():
        fake = ModuleType(module)
        fake.__dict__.update(attributes)
        monkeypatch.setitem(sys.modules, module, fake)
    recipe = make_recipe({"trackers": ["tensorboard", "wandb"]})
    train(recipe, tmp_path, progress=False)
    found = rows(tmp_path)
    assert [step for _, step in logged] == [row["step"] for row in found]
    for (values, _), row in zip(logged, found, strict=True):
        assert values["loss"] == row["loss"]
        assert values["grad_norms/mlp"] == row["grad_norms"]["mlp"]
        assert "mfu" not in values
    assert [(v, s) for k, v, s in board if k == "loss"] == [(r["loss"], r["step"]) for r in found]
    assert sorted(ended) == ["tensorboard", "wandb"]
    train(recipe, tmp_path, progress=False)
    assert begun[0]["id"] == begun[1]["id"]
    assert begun[0]["resume"] == "allow"
