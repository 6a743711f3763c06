"""The model against transformers, and the counts against real modules and published digits."""

import json
import operator
from dataclasses import replace
from functools import reduce
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch._dynamo.testing import CompileCounterWithBackend
from transformers import AutoConfig, AutoModelForCausalLM, Olmo2Config, Olmo3Config

from olmeval.errors import UserError
from olmeval.trainer.attention import attention, pack_documents
from olmeval.trainer.loss import linear_cross_entropy
from olmeval.trainer.model import ModelConfig, Yarn, build_model, init_weights

SMALL = ModelConfig(
    vocab_size=97,
    hidden_size=64,
    intermediate_size=80,
    num_hidden_layers=3,
    num_attention_heads=8,
    num_key_value_heads=8,
    max_position_embeddings=64,
)


# Six layers, so that the fourth sees all by the pattern and the last by the exception to it.
OLMO3 = replace(SMALL, num_hidden_layers=6, num_key_value_heads=2, sliding_window=9)
# Heads of 32 channels, of which YaRN keeps some, mixes five and slows the rest.
YARN = Yarn(factor=4.0, original_max_position_embeddings=64)
WIDE_HEADS = replace(OLMO3, num_attention_heads=2, num_key_value_heads=1, rope_theta=1e4, yarn=YARN)


def hf_twin(config: ModelConfig, model: torch.nn.Module) -> torch.nn.Module:
    """transformers' model with our exported configuration and our weights."""
    exported = config.hf_config(eos_id=0)
    kind = Olmo2Config if config.sliding_window is None else Olmo3Config
    twin = AutoModelForCausalLM.from_config(kind(**exported)).eval()
    assert type(twin).__name__ == exported["architectures"][0]
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


VARIANTS = {
    "olmo2": SMALL,
    "olmo2-grouped": replace(SMALL, num_key_value_heads=2, rope_theta=1e4),
    "olmo2-one-key-head": replace(SMALL, num_key_value_heads=1),
    "olmo2-yarn": replace(WIDE_HEADS, sliding_window=None),
    "olmo3": OLMO3,
    "olmo3-theta": replace(OLMO3, rope_theta=1e4),
    "olmo3-yarn": WIDE_HEADS,
    "olmo3-yarn-betas": replace(WIDE_HEADS, yarn=replace(YARN, beta_fast=4, beta_slow=0.5)),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_and_gradients_equal_those_of_transformers(variant: str) -> None:
    config = VARIANTS[variant]
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


@pytest.mark.parametrize(
    ("config", "change"),
    [
        (SMALL, {"rope_theta": 1e4}),
        (OLMO3, {"sliding_window": 10}),
        (OLMO3, {"sliding_window": None}),
        (WIDE_HEADS, {"yarn": None}),
        (WIDE_HEADS, {"yarn": replace(YARN, beta_slow=2.0)}),
        (WIDE_HEADS, {"yarn": replace(YARN, beta_fast=4.0)}),
    ],
)
def test_every_setting_makes_another_model(config: ModelConfig, change: dict[str, Any]) -> None:
    """So the comparison with transformers can fail."""
    tokens = torch.arange(40).unsqueeze(0)
    model, other = perturbed(config), perturbed(replace(config, **change))
    assert (model(tokens) - other(tokens)).abs().max() > 1e-2


def test_a_window_as_long_as_the_sequence_changes_nothing() -> None:
    tokens = torch.arange(40).unsqueeze(0)
    plain = replace(OLMO3, sliding_window=None)
    windowed = replace(OLMO3, sliding_window=40)
    assert torch.equal(perturbed(windowed)(tokens), perturbed(plain)(tokens))


def test_layers_that_see_all() -> None:
    assert OLMO3.windows == (9, 9, 9, None, 9, None)
    assert replace(OLMO3, num_hidden_layers=8).windows == (9, 9, 9, None, 9, 9, 9, None)
    assert SMALL.windows == (None,) * 3


def test_what_a_hook_attends_to_replaces_the_models_own() -> None:
    model = perturbed(OLMO3)
    tokens = torch.arange(40).unsqueeze(0)
    asked = []

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, layer: int) -> torch.Tensor:
        asked.append(layer)
        return attention(q, k, v, OLMO3.windows[layer])

    positions = torch.arange(40).unsqueeze(0)
    torch.testing.assert_close(model.model(tokens, positions, attend), model.model(tokens))
    assert asked == list(range(6))


@pytest.mark.parametrize(("length", "blocks"), [(40, 2), (9, 1)])
@pytest.mark.parametrize("documents", [False, True])
def test_layers_of_a_kind_share_a_compiled_block(length: int, blocks: int, documents: bool) -> None:
    """However many layers, steps and re-initialisations; and it computes the same."""
    torch._dynamo.reset()
    model, plain, counter = perturbed(OLMO3), perturbed(OLMO3), CompileCounterWithBackend("eager")
    for layer in model.model.layers:
        layer.forward = torch.compile(layer.forward, backend=counter, fullgraph=True)
    for step in range(3):
        tokens = torch.randint(1, 97, (2, length + 1), generator=torch.manual_seed(step))
        tokens[0, 3 + step] = 0
        packed = pack_documents(tokens.numpy(), 0, torch.device("cpu")) if documents else None
        found, expected = (net.model(tokens[:, :-1], documents=packed) for net in (model, plain))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        found.square().sum().backward()
        init_weights(model, step)
        init_weights(plain, step)
    assert counter.frame_count == blocks


def test_weights_are_re_initialised_in_place() -> None:
    model, places = perturbed(OLMO3), {}
    for name, weight in model.named_parameters():
        places[name] = weight.data_ptr()
    init_weights(model, 3)
    for name, weight in build_model(OLMO3, 3).named_parameters():
        assert torch.equal(weight, model.get_parameter(name))
    assert places == {name: weight.data_ptr() for name, weight in model.named_parameters()}


def test_documents_do_not_see_each_other() -> None:
    """A row of several documents gives each the hidden states that it has alone."""
    model = perturbed(OLMO3)
    tokens = torch.randint(1, 97, (2, 41), generator=torch.Generator().manual_seed(4))
    tokens[0, [12, 13, 30]] = 0
    tokens[1, 5] = 0
    packed = pack_documents(tokens.numpy(), 0, torch.device("cpu"))
    together = model.model(tokens[:, :-1], documents=packed)
    for row, ends in enumerate([[13, 14, 31, 40], [6, 40]]):
        for start, end in pairwise([0, *ends]):
            alone = model.model(tokens[row : row + 1, start:end])
            torch.testing.assert_close(together[row, start:end], alone[0], rtol=1e-4, atol=1e-4)


def test_export_gives_transformers_the_same_logits(tmp_path: Path) -> None:
    config = replace(WIDE_HEADS, rope_theta=77_777.0)
    model = perturbed(config)
    save_file(model.state_dict(), tmp_path / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "config.json").write_text(json.dumps(config.hf_config(eos_id=3)))
    theirs, report = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values())
    tokens = torch.arange(60).unsqueeze(0)
    torch.testing.assert_close(model(tokens), theirs(tokens).logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_configuration_survives_transformers(variant: str, tmp_path: Path) -> None:
    config = VARIANTS[variant]
    (tmp_path / "config.json").write_text(json.dumps(config.hf_config(eos_id=3, bos_id=4)))
    theirs = AutoConfig.from_pretrained(tmp_path)
    assert ModelConfig.from_hf(theirs.to_dict(), "here") == config
    assert (theirs.eos_token_id, theirs.bos_token_id, theirs.pad_token_id) == (3, 4, None)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("model_type", "llama", "model_type is llama, and the trainer's model has olmo2 or olmo3"),
        ("tie_word_embeddings", True, "tie_word_embeddings is True"),
        ("layer_types", ["full_attention"] * 6, "layer_types is"),
        ("sliding_window", None, "sliding_window is None"),
        ("head_dim", 16, "head_dim is 16"),
        ("rope_parameters.full_attention.rope_theta", 1.0, "rope_theta of the sliding layers"),
        ("rope_parameters.full_attention.rope_type", "linear", "rope_type is linear"),
        ("rope_parameters.full_attention.mscale", 0.7, "mscale of YaRN is 0.7"),
        ("rope_parameters.full_attention.attention_factor", 1.5, "attention_factor of YaRN is 1.5"),
    ],
)
def test_what_the_model_does_not_do_is_refused(path: str, value: Any, message: str) -> None:
    config = replace(OLMO3, yarn=YARN).hf_config(eos_id=0)
    *folders, key = path.split(".")
    target = reduce(operator.getitem, folders, config)
    target[key] = value
    with pytest.raises(UserError, match=rf"'here/config.json': {message}.*transformers backend"):
        ModelConfig.from_hf(config, "here/config.json")


def test_positions_do_not_see_the_future() -> None:
    model = perturbed(SMALL)
    tokens = torch.randint(0, 97, (1, 30), generator=torch.Generator().manual_seed(2))
    changed = tokens.clone()
    changed[0, 20:] = (changed[0, 20:] + 1) % 97
    difference = (model(tokens) - model(changed)).abs().amax(-1)[0]
    assert difference[:20].max() == 0
    assert difference[20:].min() > 0


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
