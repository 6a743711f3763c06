"""The model against transformers, and the counts against real modules and published digits."""

from dataclasses import replace

import pytest
import torch
from transformers import Olmo2Config, Olmo2ForCausalLM

from olmeval.errors import UserError
from olmeval.trainer.loss import linear_cross_entropy
from olmeval.trainer.model import ModelConfig, build_model
from olmeval.trainer.presets import CPU, LADDER, preset

SMALL = ModelConfig(
    vocab_size=97,
    hidden_size=64,
    intermediate_size=80,
    num_hidden_layers=3,
    num_attention_heads=8,
    num_key_value_heads=8,
    max_position_embeddings=64,
)


def hf_twin(config: ModelConfig, model: torch.nn.Module) -> Olmo2ForCausalLM:
    """transformers' model with our exported configuration and our weights."""
    twin = Olmo2ForCausalLM(Olmo2Config(**config.hf_config(eos_id=0))).eval()
    twin.load_state_dict(model.state_dict(), strict=True)
    return twin


def perturbed(config: ModelConfig, seed: int = 0) -> torch.nn.Module:
    """A model whose norms are not all 1, so that they take part in the comparison."""
    model = build_model(config, seed)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.1 * torch.randn(weight.shape, generator=generator)
    return model


@pytest.mark.parametrize("kv_heads", [8, 2, 1])
@pytest.mark.parametrize("theta", [500_000.0, 10_000.0])
def test_logits_and_gradients_equal_those_of_transformers(kv_heads: int, theta: float) -> None:
    config = replace(SMALL, num_key_value_heads=kv_heads, rope_theta=theta)
    ours = perturbed(config)
    theirs = hf_twin(config, ours)
    tokens = torch.randint(0, 97, (3, 41), generator=torch.Generator().manual_seed(1))

    expected = theirs(input_ids=tokens[:, :-1]).logits
    torch.testing.assert_close(ours(tokens[:, :-1]), expected, rtol=1e-5, atol=1e-5)

    targets = tokens[:, 1:].reshape(-1)
    loss, _ = linear_cross_entropy(
        ours.model(tokens[:, :-1]).flatten(0, 1),
        ours.lm_head.weight,
        targets,
        num_tokens=len(targets),
        chunk=16,
    )
    loss.backward()
    reference = torch.nn.functional.cross_entropy(expected.flatten(0, 1), targets)
    reference.backward()
    torch.testing.assert_close(loss, reference, rtol=1e-6, atol=1e-6)
    twin = dict(theirs.named_parameters())
    for name, weight in ours.named_parameters():
        torch.testing.assert_close(
            weight.grad, twin[name].grad, rtol=1e-5, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
        )
        assert weight.grad.abs().max() > 1e-4, f"{name} is not exercised"


def test_another_theta_is_another_model() -> None:
    tokens = torch.arange(40).unsqueeze(0)
    model = perturbed(SMALL)
    other = perturbed(replace(SMALL, rope_theta=1e4))
    assert (model(tokens) - other(tokens)).abs().max() > 1e-2


def test_positions_do_not_see_the_future() -> None:
    model = perturbed(SMALL)
    tokens = torch.randint(0, 97, (1, 30), generator=torch.Generator().manual_seed(2))
    changed = tokens.clone()
    changed[0, 20:] = (changed[0, 20:] + 1) % 97
    difference = (model(tokens) - model(changed)).abs().amax(-1)[0]
    assert difference[:20].max() == 0
    assert difference[20:].min() > 0


@pytest.mark.parametrize("name", [*CPU, *LADDER])
def test_counts_equal_the_module(name: str) -> None:
    config = preset(name)
    with torch.device("meta"):
        from olmeval.trainer.model import Olmo2

        model = Olmo2(config)
    total = sum(p.numel() for p in model.parameters())
    assert config.params_total == total
    assert config.params == total - model.model.embed_tokens.weight.numel()


# (name, N, total to three digits, GFLOP a token at T = 4096): OLMo-ladder's MODEL_PARAMS and
# OLMo-core's flop count.
PUBLISHED = [
    ("14m", 13_895_808, "26.7M", 0.109),
    ("30m", 29_102_336, "54.8M", 0.225),
    ("60m", 57_422_208, "96.0M", 0.496),
    ("100m", 101_736_960, "153M", 0.912),
    ("190m", 190_354_176, "267M", 1.595),
    ("370m", 371_262_464, "474M", 3.03),
    ("600m", 597_382_464, "732M", 4.64),
    ("760m", 758_220_288, "912M", 5.76),
    ("1b", 1_279_395_840, "1.485B", 9.29),
    ("3b", 3_169_537_280, "3.50B", 21.6),
    ("7b", 6_887_575_552, "7.299B", 47.8),
    ("13b", 13_202_396_160, "13.7B", 89.3),
]


@pytest.mark.parametrize(("name", "params", "total", "gflops"), PUBLISHED)
def test_counts_equal_the_published_digits(
    name: str, params: int, total: str, gflops: float
) -> None:
    config = preset(name)
    assert config.params == params
    decimals = len(total[:-1].partition(".")[2])
    unit = {"M": 1e6, "B": 1e9}[total[-1]]
    assert f"{config.params_total / unit:.{decimals}f}" == total[:-1]
    decimals = len(str(gflops).partition(".")[2])
    assert round(config.flops_per_token(4096) / 1e9, decimals) == gflops


@pytest.mark.parametrize(
    ("name", "total"), [("cpu-0.7m", 738_368), ("cpu-3m", 2_951_296), ("cpu-7m", 7_409_920)]
)
def test_cpu_presets_are_the_size_they_say(name: str, total: int) -> None:
    assert preset(name).params_total == total


def test_grouped_attention_counts() -> None:
    config = replace(SMALL, num_key_value_heads=2)
    assert config.params_total == sum(p.numel() for p in build_model(config, 0).parameters())


def test_initial_weights() -> None:
    config = replace(SMALL, vocab_size=5000)
    model = build_model(config, 3)
    for name, weight in model.named_parameters():
        if "norm" in name:
            assert (weight == 1).all()
        else:
            assert weight.abs().max() <= 0.06
    # A normal cut at three sigma has 0.98658 of its standard deviation.
    assert model.lm_head.weight.std().item() == pytest.approx(0.02 * 0.98658, rel=0.01)


def test_initial_weights_follow_the_generator_order() -> None:
    """One stream: embedding, then q k v o gate up down of each block, then the head."""
    model = build_model(SMALL, 5)
    order = ["model.embed_tokens.weight"]
    for i in range(3):
        order += [f"model.layers.{i}.self_attn.{x}_proj.weight" for x in "qkvo"]
        order += [f"model.layers.{i}.mlp.{x}_proj.weight" for x in ("gate", "up", "down")]
    order.append("lm_head.weight")
    weights = dict(model.named_parameters())
    generator = torch.Generator().manual_seed(5)
    for name in order:
        expected = torch.empty(weights[name].shape)
        torch.nn.init.trunc_normal_(expected, 0, 0.02, -0.06, 0.06, generator=generator)
        assert torch.equal(weights[name], expected), name
    assert not torch.equal(build_model(SMALL, 6).lm_head.weight, model.lm_head.weight)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_attention_heads": 7}, "num_attention_heads 7"),
        ({"num_key_value_heads": 3}, "multiple of num_key_value_heads 3"),
        ({"num_hidden_layers": 0}, "num_hidden_layers must be positive"),
        ({"num_attention_heads": 64, "num_key_value_heads": 64}, "halves"),
    ],
)
def test_impossible_sizes_are_refused(change: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        replace(SMALL, **change)


def test_an_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(UserError, match=r"no 'cpu-07m'; did you mean 'cpu-7m'|'cpu-0.7m'"):
        preset("cpu-07m")
