"""Plans against the published sizes, and a tiny ladder trained, resumed and predicted."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from olmeval.errors import UserError
from olmeval.executors.registry import make_executor
from olmeval.files import sha256_file
from olmeval.ladders.rungs import plan, predict_target, run, rung_recipes
from olmeval.ladders.spec import LadderFile, load_ladder, shipped
from olmeval.trainer.presets import preset
from olmeval.trainer.recipe import resolve
from olmeval.trainer.shard_writer import write_domain
from olmeval.trainer.shards import Manifest, TokenizerInfo, write_manifest

VOCAB = 128


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Documents whose tokens are skewed, so that there is something to learn at once."""
    root = tmp_path_factory.mktemp("corpus")
    tokenizer = Tokenizer(models.WordLevel({f"w{i}": i for i in range(VOCAB)}, unk_token="w1"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    (root / "tokenizer").mkdir()
    tokenizer.save(str(root / "tokenizer/tokenizer.json"))
    random = np.random.default_rng(0)
    documents = [1 + random.geometric(0.1, size=200).clip(max=VOCAB - 2) for _ in range(200)]
    domain = write_domain(root, "all", documents, vocab_size=VOCAB, eos_id=0, shard_tokens=20_000)
    info = TokenizerInfo(
        id="words", sha256=sha256_file(root / "tokenizer/tokenizer.json"), path="tokenizer"
    )
    manifest = Manifest(tokenizer=info, vocab_size=VOCAB, eos_id=0, domains={"all": domain})
    write_manifest(root, manifest)
    return root


def tiny() -> LadderFile:
    def model(width: int) -> dict[str, object]:
        return {"model": {"hidden_size": width, "intermediate_size": 2 * width,
                          "num_hidden_layers": 1, "num_attention_heads": 1}}  # fmt: skip

    return LadderFile.model_validate({
        "name": "tiny",
        "sizes": {f"d{width}": model(width) for width in (4, 8, 12, 16)},
        "features": {"nats": {"metric": "nats_per_token", "window": 1, "skip": 0}},
        "tasks": {"train": {"accuracy": None}},
        "training": {
            "recipe": "ladder",
            "overrides": {"train.seq_len": 16, "train.batch_size": 16, "train.precision": "float32",
                          "train.compile": None, "log_every": 1, "train.device": "cpu",
                          "optimizer.lr": 3e-2},
            "sizes": ["d4", "d8", "d12"], "multiples": [0.1, 0.2], "target": ["d16", 0.2],
        },
    })  # fmt: skip


def test_a_ladder_is_trained_taken_up_and_predicts_its_target(corpus: Path, tmp_path: Path) -> None:
    file = tiny()
    with make_executor("process") as executor:
        table = run(file, corpus, tmp_path, executor, progress=False)
        first = pd.read_parquet(table)
        again = pd.read_parquet(run(file, corpus, tmp_path, executor, progress=False))
    pd.testing.assert_frame_equal(first, again)
    assert set(first["run"]) == {"d4-0.1xC", "d4-0.2xC", "d8-0.1xC", "d8-0.2xC", "d12-0.1xC",
                                 "d12-0.2xC", "d16-0.2xC"}  # fmt: skip
    plans = {r.name: resolve(r) for r in rung_recipes(file, corpus)}
    for name, rows in first.groupby("run"):
        made = plans[str(name)]
        assert rows["tokens"].max() == made.tokens
        assert rows["flops"].max() == pytest.approx(made.flops(made.tokens))
        assert rows["params"].unique().tolist() == [made.model.params]
        assert len(rows) <= 20
    scale, (row,), made_forecast = predict_target(file, table)
    assert scale.target == "d16-0.2xC"
    last = first[first["run"] == "d16-0.2xC"].sort_values("step").iloc[-1]
    assert row.actual == pytest.approx(last["value"])
    assert row.prediction.low < row.prediction.value < row.prediction.high
    assert made_forecast.calibration_["loss:nats"].tests == 1


def test_a_target_that_was_not_trained_is_said(tmp_path: Path) -> None:
    table = tmp_path / "ladder.csv"
    pd.DataFrame([{"run": "d4-0.1xC", "model": "d4", "task": "train", "metric": "nats_per_token",
                   "value": 3.0, "higher_is_better": False, "step": 1}]).to_csv(table)  # fmt: skip
    with pytest.raises(UserError, match="train the target, too"):
        predict_target(tiny(), table)


@pytest.mark.parametrize("name", shipped())
def test_shipped_ladders_are_planned(name: str) -> None:
    file, _ = load_ladder(name)
    assert file.training is not None
    rungs = plan(file, flops_per_second=1e15)
    assert len(rungs) == len(file.training.sizes) * len(file.training.multiples) + 1
    assert [r.flops for r in rungs[:-1]] == sorted(r.flops for r in rungs[:-1])
    assert rungs[-1].held_out
    for rung in rungs:
        assert rung.tokens == pytest.approx(20 * rung.multiple * rung.params)
        assert rung.hours == pytest.approx(rung.flops / 1e15 / 3600)
    assert len(rung_recipes(file, Path("corpus"))) == len(rungs)


@pytest.mark.parametrize("size", ["190M", "370M", "760M", "1B", "3B", "7B", "13B"])
def test_presets_have_the_published_weights_and_flops(size: str) -> None:
    file, _ = load_ladder("olmo2-2024")
    published = file.sizes[size]
    assert published.preset is not None
    config = preset(published.preset)
    assert config.params == published.params
    # The published counts have 4 V d on top, for the head's products with the vocabulary.
    extra = 4 * config.vocab_size * config.hidden_size
    assert config.flops_per_token(4096) + extra == published.flops_per_token


def test_a_budget_buys_the_cheapest_rungs_first() -> None:
    file, _ = load_ladder("olmo2-2024")
    rungs = plan(file, budget=1e20)
    kept = [r for r in rungs if r.within and not r.held_out]
    assert [r.name for r in kept] == ["190M-1xC", "190M-2xC", "370M-1xC", "190M-5xC"]
    assert sum(r.flops for r in kept) <= 1e20


def test_a_size_without_weights_is_said() -> None:
    with pytest.raises(UserError, match="'d4' has neither a preset nor 'params'"):
        plan(tiny())
    with pytest.raises(UserError, match="has no 'training'"):
        plan(LadderFile(name="empty"))
