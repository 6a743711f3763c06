"""Recipes: strict reading, resolution against data, refusals in one sentence."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from olmeval.errors import UserError
from olmeval.trainer.recipe import RECIPES, load_recipe, resolve
from olmeval.trainer.recipe_spec import parse_count


@pytest.mark.parametrize(
    ("text", "count"),
    [("15M", 15_000_000), ("1.5b", 1_500_000_000), ("2e6", 2_000_000), ("1_000", 1000), (7, 7)],
)
def test_counts(text: Any, count: int) -> None:
    assert parse_count(text) == count


@pytest.mark.parametrize("text", ["many", "1.5", "M", "", 1.5])
def test_what_is_no_count(text: Any) -> None:
    with pytest.raises(ValueError, match="not a"):
        parse_count(text)


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda p: p.stem)
def test_shipped_recipes_resolve(path: Path, corpus: Path) -> None:
    overrides = {"data.root": str(corpus), "train.tokens": 16_000, "schedule.warmup": 0,
                 "train.seq_len": 64, "train.batch_size": 16, "data.max_epochs": 9}  # fmt: skip
    recipe = load_recipe(path.stem, overrides)
    if recipe.start:
        with pytest.raises(UserError, match="'checkpoint' has no config"):
            resolve(recipe)
        return
    if recipe.schedule.kind == "wsds":
        recipe = load_recipe(path.stem, {**overrides, "schedule.periods": [4000, 9000]})
    plan = resolve(recipe)
    assert plan.recipe.name == path.stem
    assert plan.steps == -(-16_000 // plan.batch_tokens)
    assert plan.model.vocab_size == 384, "the data's 300, padded to a multiple of 128"


def test_the_plan_settles_every_number(make_recipe: Any) -> None:
    plan = resolve(make_recipe())
    assert plan.steps == 24
    assert plan.tokens == 24 * 8 * 16
    assert plan.schedule.warmup == 3072 // 20
    assert plan.schedule.decay == pytest.approx(307.2)
    assert plan.model.max_position_embeddings == 16
    assert plan.mixture.instances == 24 * 8
    about = plan.describe()
    assert about["flops"] == 3072 * (6 * plan.model.params + 12 * 2 * 32 * 16)
    assert sum(row["tokens"] for row in about["domains"]) == 3072
    assert sum(row["realised"] for row in about["domains"]) == pytest.approx(1)


def test_tokens_are_rounded_up_to_whole_batches(make_recipe: Any) -> None:
    assert resolve(make_recipe({"train.tokens": 129})).steps == 2


def test_the_ladders_rules_fill_what_is_left_open(make_recipe: Any) -> None:
    open_ = {"train.tokens": "0.01xC", "train.batch_size": None, "optimizer.lr": None}
    plan = resolve(make_recipe(open_))
    n = plan.model.params
    assert plan.mixture.batch_size % 8 == 0
    assert plan.mixture.batch_size * 16 == pytest.approx(327_680 * (n / 108e6) ** (2 / 3), abs=64)
    assert plan.tokens - plan.batch_tokens < 0.2 * n <= plan.tokens
    assert plan.schedule.warmup == plan.tokens // 20
    assert plan.lr == pytest.approx(0.5 * 0.0047 * (n / 108e6) ** (-1 / 3))
    assert resolve(make_recipe({**open_, "optimizer.lr_scale": 1})).lr == 2 * plan.lr
    # The same run, whether its numbers were given or followed.
    given = {"train.tokens": plan.tokens, "train.batch_size": plan.mixture.batch_size,
             "optimizer.lr": plan.lr}  # fmt: skip
    assert resolve(make_recipe(given)).settings() == plan.settings()
    assert resolve(make_recipe({**given, "optimizer.lr": 1e-3})).settings() != plan.settings()


def test_periods_end_in_checkpoints(make_recipe: Any) -> None:
    wsds = {"schedule": {"kind": "wsds", "periods": [300, 1024], "warmup": 0, "decay": 0.25}}
    plan = resolve(make_recipe(wsds))
    assert plan.schedule.ends == (384, 1024, 3072)
    assert plan.schedule.decays == (96, 160, 512)
    assert [step for step in range(1, 25) if plan.saves(step)] == [3, 8, 16, 24]
    assert plan.describe()["checkpoints"] == 4
    # The middle of step 2 is at 320 tokens, a third into the fall from 288 to 384.
    assert [plan.rate(step) for step in (2, 3)] == pytest.approx([plan.lr * 2 / 3, plan.lr])
    n = plan.model.params
    multiples = resolve(
        make_recipe({"train.tokens": "0.02xC", "data.max_epochs": 100,
                     "schedule": {"kind": "wsds", "periods": ["0.005xC", "0.01xC"]}})
    )  # fmt: skip
    assert multiples.schedule.ends == pytest.approx([0.1 * n, 0.2 * n, 0.4 * n], abs=128)


def test_windows_and_yarn_make_an_olmo3(make_recipe: Any) -> None:
    yarn = {"factor": 2, "original_max_position_embeddings": 8}
    config = resolve(make_recipe({"model.sliding_window": 4, "model.yarn": yarn})).model
    assert (config.model_type, config.windows) == ("olmo3", (4, None))
    assert config.yarn is not None and config.yarn.factor == 2


def test_natural_is_by_size(make_recipe: Any, corpus: Path) -> None:
    manifest = json.loads((corpus / "manifest.json").read_text())
    sizes = {d: sum(s["tokens"] for s in shards) for d, shards in manifest["domains"].items()}
    for row in resolve(make_recipe()).describe()["domains"]:
        assert row["weight"] == pytest.approx(sizes[row["domain"]] / sum(sizes.values()))


def test_mixtures_inline_and_from_a_file(make_recipe: Any, tmp_path: Path) -> None:
    weights = {"low": 0.25, "high": 0.75}
    inline = resolve(make_recipe({"data.mixture": weights}))
    assert inline.mixture.weights() == weights
    assert inline.mix_name.startswith("mix-")
    named = resolve(make_recipe({"data.mixture": weights, "data.mix_name": "steep"}))
    assert named.mix_name == "steep"
    (tmp_path / "best.yaml").write_text(yaml.safe_dump({"mixture": weights}))
    from_file = resolve(make_recipe({"data.mixture": str(tmp_path / "best.yaml")}))
    assert from_file.mixture.weights() == weights
    assert from_file.mix_name == "best"


def test_presets_with_replaced_sizes(make_recipe: Any) -> None:
    model = {"preset": "cpu-0.7m", "num_attention_heads": 4}
    config = resolve(make_recipe({"model": model})).model
    assert (config.hidden_size, config.num_attention_heads, config.num_key_value_heads) == (
        64,
        4,
        4,
    )


def test_given_sizes_win_over_the_preset(make_recipe: Any) -> None:
    config = resolve(make_recipe({"model.preset": "cpu-0.7m"})).model
    assert (config.hidden_size, config.num_hidden_layers) == (32, 2)


def test_settings_depend_on_content_and_not_on_place(
    make_recipe: Any, corpus: Path, tmp_path: Path
) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(corpus, moved)
    here = resolve(make_recipe()).settings()
    assert resolve(make_recipe({"data.root": str(moved)})).settings() == here
    assert resolve(make_recipe({"data.seed": 1})).settings() != here
    assert resolve(make_recipe({"seed": 1})).settings() != here
    json.dumps(here)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"model.preset": "cpu-07m"}, "model.preset: there is no 'cpu-07m'"),
        ({"model": {"hidden_size": 8}}, "missing model.intermediate_size"),
        ({"model.vocab_size": 64}, "vocab_size 64 is smaller than the data's 300"),
        ({"model.max_position_embeddings": 8}, "seq_len 16 is longer than"),
        ({"data.mixture": {"low": 0.9}}, "sums to 0.9, not 1"),
        ({"data.mixture": {"low": 0.5, "hihg": 0.5}}, "'hihg'.*did you mean 'high'"),
        ({"data.mixture": "none.yaml"}, "neither 'natural' nor a file"),
        ({"data.root": "nowhere"}, "data.root 'nowhere' has no manifest.json"),
        ({"data.max_epochs": 0.01}, "more than data.max_epochs 0.01"),
        ({"train.seq_len": 30_000}, "shorter than one training window"),
        ({"schedule.warmup": "1M"}, "do not fit into"),
        ({"schedule": {"kind": "wsds", "periods": [1024, 4096]}}, "end at 1,024, 4,096, 3,072 tok"),
        ({"schedule": {"kind": "wsds", "periods": [2000, 2001]}}, "end at 2,048, 2,048, 3,072 tok"),
    ],
)
def test_refusals_at_resolution(make_recipe: Any, overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        resolve(make_recipe(overrides))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"optimizer.lr": 0}, "greater than 0"),
        ({"data.mixture": {"low": "lots"}}, "data.mixture: the weight of 'low' is 'lots', not a"),
        ({"data.mixture": 0.5}, "data.mixture: give {domain: weight}"),
        ({"train.tokens": "lots"}, "'lots' is not a count"),
        ({"name": "a/b"}, "name"),
        ({"train.tokens": "0xC"}, "train.tokens: '0xC' is nothing"),
        ({"train.tokens": "xC"}, "'xC' is not a count"),
        ({"train.tokens": 0}, "'0' is neither a count of tokens nor a multiple"),
        ({"optimizer.lr_scale": 2}, "lr_scale multiplies the rule's rate, and lr replaces it"),
        ({"schedule.kind": "wsds"}, "periods are for kind wsds, which needs them"),
        ({"schedule.periods": ["1xC"]}, "periods are for kind wsds"),
        ({"optimizer.skip_spikes": 0}, "optimizer.skip_spikes"),
        ({"schedule.kind": "wds"}, "'wsd'"),
        ({"train.batchsize": 4}, "unknown key 'train.batchsize'; did you mean 'batch_size'"),
    ],
)
def test_refusals_at_reading(make_recipe: Any, overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_recipe(overrides)


def test_unknown_key_names_file_line_and_nearest(tmp_path: Path) -> None:
    text = (RECIPES / "cpu-0.7m.yaml").read_text().replace("  lr: ", "  learning_rat: ")
    path = tmp_path / "mine.yaml"
    path.write_text(text.replace("weight_decay", "weight_deca"))
    with pytest.raises(UserError, match=r"mine\.yaml:\d+: "):
        load_recipe(str(path))


def test_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(UserError, match=r"'cpu-07m'; did you mean 'cpu-0\.7m'"):
        load_recipe("cpu-07m")


def test_corrupt_shards_are_named(make_recipe: Any, corpus: Path, tmp_path: Path) -> None:
    root = tmp_path / "bad"
    shutil.copytree(corpus, root)
    shard = root / "mid" / "00000.bin"
    content = bytearray(shard.read_bytes())
    content[10] ^= 1
    shard.write_bytes(content)
    resolve(make_recipe({"data.root": str(root), "data.verify": "size"}))
    with pytest.raises(UserError, match=r"mid/00000\.bin' is corrupt"):
        resolve(make_recipe({"data.root": str(root)}))
    shard.write_bytes(content[:-100])
    with pytest.raises(UserError, match=r"mid/00000\.bin' is truncated"):
        resolve(make_recipe({"data.root": str(root)}))
