"""Spikes against numpy over a window, norms against sums of squares."""

import json
import math

import numpy as np
import pytest
import torch

from olmeval.trainer.model import ModelConfig, build_model
from olmeval.trainer.monitor import SpikeScore, gradient_norms


def series(count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    losses, norms = rng.normal(3, 0.1, count), rng.normal(1, 0.2, count)
    losses[[50, 127, 200, 260]] = 9.0
    norms[[128, 320]] = 9.0
    losses[400] = -9.0
    return losses, norms


def test_spikes_equal_the_definition() -> None:
    losses, norms = series(500)
    score, found = SpikeScore(), []
    for step, (loss, norm) in enumerate(zip(losses, norms, strict=True)):
        expected = False
        if step >= 128:
            for values in (losses, norms):
                before = values[step - 128 : step]
                expected |= values[step] > before.mean() + 6 * before.std()
        assert score.add(loss, norm) == expected
        if expected:
            found.append(step)
    # Those at 50 and 127 come before there is a window, and a low value is none.
    assert found == [128, 200, 260, 320]
    assert score.score == 4 / 500


def test_there_is_no_score_before_there_is_a_window() -> None:
    score = SpikeScore(window=4)
    for _ in range(3):
        score.add(1.0, 1.0)
    assert score.score is None
    score.add(1.0, 1.0)
    assert score.score == 0


def test_constant_values_do_not_spike_by_rounding() -> None:
    score = SpikeScore(window=4)
    assert not any(score.add(0.1 + 1e-17 * i, 0.3) for i in range(20))
    assert score.add(0.2, 0.3)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_spikes_and_is_forgotten(bad: float) -> None:
    clean, dirty = SpikeScore(window=4), SpikeScore(window=4)
    for i in range(6):
        clean.add(1.0 + i % 2, 1.0)
        dirty.add(1.0 + i % 2, 1.0)
    assert dirty.add(bad, 1.0)
    assert dirty.add(1.0, bad)
    assert dirty.recent == clean.recent
    assert (dirty.steps, dirty.spikes) == (8, 2)


def test_the_state_survives_as_json() -> None:
    losses, norms = series(500)
    whole, first, second = SpikeScore(), SpikeScore(), SpikeScore()
    second.add(7.0, 7.0)
    for step in range(300):
        whole.add(losses[step], norms[step])
        (first if step < 190 else second).add(losses[step], norms[step])
        if step == 189:
            second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert second.state_dict() == whole.state_dict()
    assert whole.spikes == 3


def test_norms_of_parts() -> None:
    model = build_model(ModelConfig(60, 16, 24, 2, 2, 2, 16), 0)
    model(torch.arange(10).unsqueeze(0)).square().sum().backward()
    norms = gradient_norms(model.named_parameters())
    grads = {name: p.grad for name, p in model.named_parameters()}
    expected = {
        "embed_tokens": ["model.embed_tokens.weight"],
        "self_attn": [n for n in grads if "self_attn" in n and "_proj" in n],
        "mlp": [n for n in grads if ".mlp." in n],
        "norm": [n for n in grads if grads[n].dim() == 1],
        "lm_head": ["lm_head.weight"],
    }
    assert sum(map(len, expected.values())) == len(grads)
    assert list(norms) == list(expected)
    for part, names in expected.items():
        square = sum(grads[name].square().sum() for name in names)
        torch.testing.assert_close(norms[part], square.sqrt(), rtol=1e-5, atol=0)
