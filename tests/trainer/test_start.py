"""Runs that begin with a checkpoint: what they take from it, and what they refuse."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, Olmo2Config, Olmo2ForCausalLM

from olmeval.errors import UserError
from olmeval.trainer.checkpoint import load_checkpoint, train_state
from olmeval.trainer.loop import train
from olmeval.trainer.model import build_model
from olmeval.trainer.optim import build_optimizers
from olmeval.trainer.parallel import World
from olmeval.trainer.recipe import load_recipe, resolve
from olmeval.trainer.recipe_spec import StartSpec
from olmeval.trainer.start_weights import load_optimizer

WORLD = World(torch.device("cpu"))
# The sizes are the checkpoint's.
LATER = {"name": "later", "model": {}, "data.seed": 1, "optimizer.lr": None, "train.tokens": 1024,
         "schedule": {"kind": "linear", "warmup": 0}}  # fmt: skip


@pytest.fixture(scope="module")
def base(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 24 steps at a constant rate with a checkpoint every 8."""
    from olmeval.config import parse_config
    from olmeval.trainer.recipe import Recipe
    from tests.trainer.conftest import RECIPE

    output = tmp_path_factory.mktemp("base")
    given = {"data.root": str(corpus), "schedule.kind": "constant", "optimizer.betas": [0.8, 0.9]}
    train(parse_config(RECIPE, Recipe, "tiny.yaml", given), output, progress=False)
    return output


def entropy(folder: Path, tokens: torch.Tensor) -> float:
    """Cross-entropy of a checkpoint by transformers, in nats a token."""
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    with torch.no_grad():
        logits = model(input_ids=tokens[:, :-1]).logits
    return float(torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()))


def losses(output: Path) -> list[float]:
    return [
        json.loads(line)["loss"] for line in (output / "metrics.jsonl").read_text().splitlines()
    ]


def test_a_run_goes_on_from_the_weights_and_the_rate(
    make_recipe: Any, base: Path, tmp_path: Path
) -> None:
    recipe = make_recipe({**LATER, "start.checkpoint": str(base / "step16"), "log_every": 1})
    plan = resolve(recipe)
    assert (plan.steps, plan.lr, plan.model.hidden_size) == (8, 0.005, 32)
    assert [plan.rate(step) for step in (0, 7)] == pytest.approx([0.005 * 15 / 16, 0.005 / 16])
    train(recipe, tmp_path, progress=False)
    batch = torch.from_numpy(plan.mixture.batch(0))
    assert losses(tmp_path)[0] == pytest.approx(entropy(base / "step16", batch), abs=1e-5)
    about = json.loads((tmp_path / "step8/checkpoint.json").read_text())
    assert about["start"] == plan.start
    assert (about["step"], about["tokens"]) == (8, 1024)
    half = make_recipe({**LATER, "start.checkpoint": str(base / "step16"),
                        "optimizer.lr_scale": 0.5})  # fmt: skip
    assert resolve(half).lr == 0.0025


def test_moments_are_taken_over_and_settings_are_not(make_recipe: Any, base: Path) -> None:
    spec = StartSpec(checkpoint=base / "step16", optimizer=True)
    plan = resolve(make_recipe())
    ours, theirs = build_model(plan.model, 1), build_model(plan.model, 2)
    mine = build_optimizers(ours, make_recipe({"optimizer.weight_decay": 0.3}).optimizer)
    other = build_optimizers(theirs, plan.recipe.optimizer)
    load_optimizer(ours, mine, spec, WORLD)
    load_checkpoint(base / "step16", theirs, other, train_state(theirs, other), WORLD)
    stored = load_file(base / "step16/model.safetensors")
    assert all(torch.equal(p, stored[name]) for name, p in ours.named_parameters())
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        state = mine[0].state[p]
        assert state["step"] == 16
        assert state["exp_avg"].abs().sum() > 0
        torch.testing.assert_close(state, other[0].state[q], rtol=0, atol=0)
    assert [g["weight_decay"] for g in mine[0].param_groups] == [0.3, 0.0]
    assert mine[0].param_groups[0]["betas"] == (0.9, 0.95)


class Stop(Exception):
    pass


def test_a_later_run_resumes_bit_for_bit_without_what_it_started_from(
    make_recipe: Any, base: Path, tmp_path: Path
) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(base / "step16", moved)
    later = {**LATER, "checkpoint.every": 4, "start": {"checkpoint": str(moved), "optimizer": True}}
    recipe, whole, broken = make_recipe(later), tmp_path / "whole", tmp_path / "broken"
    train(recipe, whole, progress=False)

    def stop(path: Path) -> None:
        raise Stop

    with pytest.raises(Stop):
        train(recipe, broken, on_checkpoint=stop, progress=False)
    later["start"] = {"checkpoint": str(base / "step16"), "optimizer": True}
    train(make_recipe(later), broken, progress=False)
    one, two = (load_file(run / "step8/model.safetensors") for run in (whole, broken))
    assert all(torch.equal(one[name], two[name]) for name in one)

    plain = {**later, "start": {"checkpoint": str(moved)}}
    train(make_recipe(plain), tmp_path / "plain", progress=False)
    three = load_file(tmp_path / "plain/step8/model.safetensors")
    assert not torch.equal(one["lm_head.weight"], three["lm_head.weight"])

    with (moved / "model.safetensors").open("r+b") as file:
        file.seek(-4, 2)
        file.write(b"\1\2\3\4")
    later["start"] = {"checkpoint": str(moved), "optimizer": True}
    with pytest.raises(UserError, match=r"another recipe \(start\.checkpoint was"):
        train(make_recipe(later), broken, progress=False)


def test_a_released_model_in_several_files(make_recipe: Any, base: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = Olmo2Config(
        vocab_size=320, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=64,
        pad_token_id=None, bos_token_id=None, eos_token_id=0,
    )  # fmt: skip
    folder = tmp_path / "released"
    Olmo2ForCausalLM(config).save_pretrained(folder, max_shard_size="40KB")
    assert len(list(folder.glob("*.safetensors"))) > 1
    shutil.copy(base / "step16/tokenizer.json", folder)
    given = {**LATER, "start.checkpoint": str(folder), "log_every": 1, "train.tokens": 256}
    with pytest.raises(
        UserError, match=r"does not say at which learning rate .* give optimizer.lr"
    ):
        resolve(make_recipe(given))
    recipe = make_recipe({**given, "optimizer.lr": 1e-3})
    train(recipe, tmp_path / "run", progress=False)
    batch = torch.from_numpy(resolve(recipe).mixture.batch(0))
    assert losses(tmp_path / "run")[0] == pytest.approx(entropy(folder, batch), abs=1e-5)


def test_the_long_context_stage(make_recipe: Any, base: Path, corpus: Path, tmp_path: Path) -> None:
    """The shipped recipe at a tiny size: a window, YaRN, documents apart; loads in transformers."""
    recipe = load_recipe(
        "long-context",
        {"start.checkpoint": str(base / "step24"), "data.root": str(corpus),
         "model": {"max_position_embeddings": 64, "sliding_window": 8,
                   "yarn": {"factor": 4, "original_max_position_embeddings": 16}},
         "train": {"tokens": 512, "seq_len": 64, "batch_size": 4, "device": "cpu"},
         "optimizer.lr": 1e-3, "data.max_epochs": 20},
    )  # fmt: skip
    result = train(recipe, tmp_path, progress=False)
    model = build_model(resolve(recipe).model, 0)
    model.load_state_dict(load_file(result.checkpoints[-1] / "model.safetensors"))
    theirs = AutoModelForCausalLM.from_pretrained(
        result.checkpoints[-1], attn_implementation="eager"
    ).eval()
    assert theirs.config.model_type == "olmo3"
    assert theirs.config.rope_parameters["full_attention"]["rope_type"] == "yarn"
    tokens = torch.randint(0, 300, (2, 64), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(model(tokens), theirs(input_ids=tokens).logits,
                                   rtol=1e-5, atol=1e-5)  # fmt: skip


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"start.checkpoint": "nowhere"}, "start.checkpoint 'nowhere' has no config.json"),
        ({"model": {"hidden_size": 64}}, "model.hidden_size: the run has the sizes of its start"),
        ({"model": {"preset": "14m"}}, "model.preset: the run has the sizes"),
        ({"train.seq_len": 32}, "seq_len 32 is longer than model.max_position_embeddings 16"),
        ({"model": {"yarn": {"factor": 2}}}, "yarn.original_max_position_embeddings' is required"),
        ({"model": {"yarn": {"factor": 2, "original": 3}}}, "unknown key 'model.yarn.original'"),
    ],
)
def test_refusals(make_recipe: Any, base: Path, overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        resolve(make_recipe({**LATER, "start.checkpoint": str(base / "step16"), **overrides}))


def test_what_is_wrong_with_a_checkpoint_is_named(
    make_recipe: Any, base: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "start"
    shutil.copytree(base / "step16", folder)
    later = {**LATER, "start": {"checkpoint": str(folder), "optimizer": True}}

    def refused(message: str, **changes: Any) -> None:
        with pytest.raises(UserError, match=message):
            train(make_recipe({**later, **changes}), tmp_path / "run", progress=False)
        shutil.rmtree(tmp_path / "run", ignore_errors=True)

    refused("of another optimizer.kind; leave start.optimizer out", **{"optimizer.kind": "muon"})
    for file in (folder / "train_state").glob("*.distcp"):
        file.write_bytes(file.read_bytes()[:100])
    refused("the training state of '.*start' is damaged")
    shutil.rmtree(folder / "train_state")
    refused("has no train_state; leave start.optimizer out")

    later["start"] = {"checkpoint": str(folder)}
    weights = load_file(folder / "model.safetensors")
    save_file(
        {k: v for k, v in weights.items() if "lm_head" not in k}, folder / "model.safetensors"
    )
    refused("lacks the weight 'lm_head.weight'")
    save_file({**weights, "model.norm.weight": torch.ones(5)}, folder / "model.safetensors")
    refused(r"'model.norm.weight' \(5,\) is not a weight of the model")
    (folder / "model.safetensors").write_bytes(b"\0" * 100)
    refused("cannot read '.*model.safetensors'")
    (folder / "model.safetensors").unlink()
    refused("has no model.safetensors")
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    refused("has no model.safetensors")  # the same tokenizer in other bytes
    tokenizer["model"]["vocab"]["new"] = 300
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    refused("has another tokenizer than the data in")
