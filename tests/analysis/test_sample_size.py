"""The sample-size curve on answers whose signal and noise are known."""

import numpy as np
import pytest

from olmeval.analysis.sample_size import sample_size_curve
from olmeval.errors import UserError
from olmeval.stats.noise import noise
from tests.analysis.gate_runs import MadeRun


def made(
    questions: int = 400, models: int = 6, steps: int = 3, flips: float = 0.05
) -> list[MadeRun]:
    random = np.random.default_rng(0)
    difficulty = random.random(questions)
    runs = []
    for m in range(models):
        answers = difficulty < 0.3 + 0.08 * m
        for step in range(1, steps + 1):
            flipped = np.where(random.random(questions) < flips, ~answers, answers)
            runs.append(MadeRun(f"m{m}-{step}", {"t": flipped}, step=step))
    return runs


def test_all_questions_give_the_plain_ratio() -> None:
    runs = made()
    table = sample_size_curve(runs, last=3, sizes=5, draws=30)
    whole = table.iloc[-1]
    scores = np.array([r.metrics["tasks"]["t"]["metrics"]["acc"]["value"] for r in runs])
    scores = scores.reshape(6, 3)
    final = scores.mean(axis=1)
    expected = np.ptp(final) / final.mean() / noise(scores)
    assert (whole["n"], whole["snr"]) == (400, pytest.approx(expected))
    assert (whole["kept"], whole["kept_low"], whole["kept_high"]) == (1.0, 1.0, 1.0)
    assert table["n"].tolist() == [30, 57, 110, 209, 400]


def test_more_questions_help_and_enough_is_chosen() -> None:
    table = sample_size_curve(made(), last=3, sizes=5, draws=40, enough=0.5)
    assert table["snr"].is_monotonic_increasing
    agreement = table["agreement"].dropna()
    assert agreement.is_monotonic_increasing and len(agreement) == 3
    (chosen,) = table.loc[table["chosen"], "kept"]
    assert chosen >= 0.5
    assert (table.loc[table["kept"] < 0.5, "chosen"] == False).all()  # noqa: E712
    again = sample_size_curve(made()[::-1], last=3, sizes=5, draws=40, enough=0.5)
    assert again["n"].tolist() == table["n"].tolist()


def test_one_checkpoint_has_agreement_but_no_noise() -> None:
    table = sample_size_curve(made(steps=1), last=3, sizes=3, draws=5)
    assert table["snr"].isna().all() and not table["chosen"].any()
    assert table["agreement"].iloc[0] > 0.5


def test_errors_are_left_out_and_bad_runs_refused() -> None:
    runs = made(questions=100)
    runs[0].frame.loc[runs[0].frame["doc_id"] < 10, "value"] = np.nan
    assert sample_size_curve(runs, sizes=3, draws=3)["n"].max() == 90
    with pytest.raises(UserError, match="there is one model"):
        sample_size_curve(runs[:3])
    runs[4].metrics["tasks"]["t"]["hash"] = "other"
    with pytest.raises(UserError, match="different questions in 't'"):
        sample_size_curve(runs)
