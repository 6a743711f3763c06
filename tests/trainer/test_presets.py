"""Presets: counts against real modules, transformers, and the digits that peers published."""

import pytest
import torch
from transformers import AutoModelForCausalLM, Olmo2Config, Olmo3Config

from olmeval.errors import UserError
from olmeval.trainer.model import Olmo2
from olmeval.trainer.presets import NAMES, preset


@pytest.mark.parametrize("name", NAMES)
def test_counts_equal_the_module(name: str) -> None:
    config = preset(name)
    with torch.device("meta"):
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
    ("olmo3-600m", 547_964_160, "676M", 4.29),
    ("olmo3-1b", 1_279_395_840, "1.485B", 9.29),
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


@pytest.mark.parametrize("name", ["190m", "32b", "olmo3-190m", "olmo3-600m", "olmo3-32b"])
def test_transformers_counts_the_same(name: str) -> None:
    config = preset(name)
    exported = config.hf_config(eos_id=0)
    kind = Olmo3Config if name.startswith("olmo3") else Olmo2Config
    with torch.device("meta"):
        theirs = AutoModelForCausalLM.from_config(kind(**exported))
    assert config.params_total == theirs.num_parameters()
    embedding = theirs.get_input_embeddings().weight.numel()
    assert config.params == theirs.num_parameters() - embedding


@pytest.mark.parametrize(
    ("name", "total"), [("cpu-0.7m", 738_368), ("cpu-3m", 2_951_296), ("cpu-7m", 7_409_920)]
)
def test_cpu_presets_are_the_size_they_say(name: str, total: int) -> None:
    assert preset(name).params_total == total


def test_a_window_bounds_the_flops_of_its_layers() -> None:
    """OLMo-3 7B at twice its window: 24 of 32 layers see 4,096 tokens, 8 see all."""
    olmo2, olmo3 = preset("7b"), preset("olmo3-7b")
    assert olmo3.flops_per_token(4096) == olmo2.flops_per_token(4096)
    trunk = 6 * 6_887_575_552
    assert olmo3.flops_per_token(8192) == trunk + 12 * 4096 * (24 * 4096 + 8 * 8192)
    assert olmo2.flops_per_token(8192) == trunk + 12 * 4096 * 32 * 8192


def test_what_olmo3_adds() -> None:
    config = preset("olmo3-190m")
    assert (config.sliding_window, config.max_position_embeddings) == (4096, 8192)
    assert config.windows.count(None) == 3
    assert preset("190m").sliding_window is None


def test_an_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(UserError, match=r"no 'cpu-07m'; did you mean 'cpu-7m'|'cpu-0.7m'"):
        preset("cpu-07m")
    with pytest.raises(UserError, match=r"no 'olmo3-190b'; did you mean 'olmo3-190m'"):
        preset("olmo3-190b")
