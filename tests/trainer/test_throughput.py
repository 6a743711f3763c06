"""Estimates against sizes that were measured, and cards by their names."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from olmeval.errors import UserError
from olmeval.trainer.model import Olmo2
from olmeval.trainer.optim import build_optimizers
from olmeval.trainer.presets import preset
from olmeval.trainer.recipe import Plan, resolve
from olmeval.trainer.throughput import card_called, device_peak_tflops, estimate, memory


def planned(make_recipe: Any, name: str, **train: Any) -> Plan:
    """A plan with the sizes of a preset, its vocabulary included."""
    plan = resolve(make_recipe({f"train.{key}": value for key, value in train.items()}))
    return replace(plan, model=preset(name))


def test_hours_are_flops_over_the_rate(make_recipe: Any) -> None:
    plan = planned(make_recipe, "1b")
    about = estimate(plan, "h100", gpus=8)
    # 6N + 12 L d T of the 1B model, by hand.
    flops = 3072 * (6 * 1_279_395_840 + 12 * 16 * 2048 * 16)
    assert about["hours"] == pytest.approx(flops / (8 * 989.4e12 * 0.42) / 3600)
    assert about["tokens_per_second"] == pytest.approx(3072 / about["hours"] / 3600)
    assert about["mfu_assumed"]
    half = estimate(plan, "h100", gpus=8, mfu=0.21)
    assert half["hours"] == pytest.approx(2 * about["hours"])
    assert not half["mfu_assumed"]
    assert estimate(plan, peak=1978.8)["hours"] == pytest.approx(4 * about["hours"])


def test_small_models_are_not_guessed(make_recipe: Any) -> None:
    assert estimate(resolve(make_recipe()), "h100")["hours"] is None
    assert estimate(planned(make_recipe, "30m"), "h100")["mfu"] == 0.2
    if not torch.cuda.is_available():
        assert estimate(planned(make_recipe, "1b"))["hours"] is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"gpu": "h10"}, "no GPU 'h10' in the table; did you mean 'h100'"),
        ({"gpu": "abacus"}, "known are a100, .*; or give --peak-tflops"),
        ({"gpus": 0}, "--gpus 0 must be more than 0"),
        ({"mfu": 1.5}, "--mfu 1.5 must be more than 0, and at most 1"),
        ({"peak": -1.0}, "--peak-tflops -1 must be"),
    ],
)
def test_senseless_hardware_is_refused(
    make_recipe: Any, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        estimate(resolve(make_recipe()), **arguments)


@pytest.mark.parametrize(
    ("name", "card"),
    [
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA H100 PCIe", "h100-pcie"),
        ("NVIDIA H200", "h200"),
        ("NVIDIA A100-SXM4-80GB", "a100"),
        ("AMD Instinct MI300X", "mi300x"),
        ("NVIDIA GeForce RTX 4090", None),
    ],
)
def test_cards_by_name(name: str, card: str | None) -> None:
    assert card_called(name) == card


def test_a_processor_has_no_peak() -> None:
    assert device_peak_tflops(torch.device("cpu")) is None


def test_memory_of_weights_is_exact(make_recipe: Any) -> None:
    plan = planned(make_recipe, "cpu-3m")
    model = Olmo2(plan.model)
    optimizers = build_optimizers(model, plan.recipe.optimizer)
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizers[0].step()
    found = memory(plan)
    assert found.weights == sum(p.nbytes for p in model.parameters())
    assert found.gradients == sum(p.grad.nbytes for p in model.parameters())
    moments = [v for state in optimizers[0].state.values() for v in state.values() if v.dim()]
    assert found.optimizer == sum(v.nbytes for v in moments)
    quarter = memory(plan, gpus=4)
    assert quarter.weights == found.weights // 4
    assert quarter.activations == found.activations // 4
    assert found.gathered == 0 < quarter.gathered


@pytest.mark.parametrize("name", ["cpu-3m", "cpu-7m"])
def test_memory_of_activations_is_near_what_is_kept(make_recipe: Any, name: str) -> None:
    """In bfloat16 and at 1,024 tokens, as on a GPU: attention keeps no scores."""
    plan = planned(make_recipe, name, precision="bfloat16", seq_len=1024, batch_size=2, tokens=2048)
    model, kept = Olmo2(plan.model), {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        if not isinstance(tensor, torch.nn.Parameter):
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor)
    with hooks, torch.autocast("cpu", torch.bfloat16):
        output = model.model(torch.zeros(2, 1024, dtype=torch.int64))
    assert output.requires_grad
    weights = sum(p.numel() * 2 for p in model.parameters())  # their bfloat16 copies
    measured = sum(kept.values()) - weights
    estimated = memory(plan).activations
    assert 0.8 < measured / estimated < 1.25
