"""``ladder-2024`` against the paper's own results, on the paper's own runs."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from olmeval.errors import UserError
from olmeval.ladders.curves import Ladder
from olmeval.ladders.published import (
    Chained,
    end_value,
    fit_chained,
    fit_loss,
    fit_single_step,
    trailing_mean,
)

TASKS = ("mmlu_avg_test", "arc_challenge_test", "piqa_val", "csqa_val")


@pytest.fixture(scope="module")
def chained(ladder: Ladder) -> dict[str, Chained]:
    feature = ladder.file.features["bpb"]
    names = (*TASKS, "boolq_val")
    return {name: fit_chained(ladder.fitted(name, "bpb"), feature) for name in names}


def row(shared: Path, table: str, task: str) -> "pd.Series[float]":
    frame = pd.read_csv(shared / f"paper_results/{table}.csv").set_index("Task")
    return frame.loc[task]


def actual(ladder: Ladder, task: str, target: str) -> tuple[float, float]:
    run = ladder.target(task, "bpb", target)
    assert run is not None
    return end_value(run.loss, 5), end_value(run.accuracy, 5)


def at(ladder: Ladder, target: str) -> tuple[float, float, float]:
    t = ladder.file.targets[target]
    assert t.flops_per_token is not None
    return t.params, t.tokens, float(t.flops_per_token) * t.tokens


@pytest.mark.parametrize("task", TASKS)
def test_the_13b_rows(shared: Path, ladder: Ladder, chained: dict[str, Chained], task: str) -> None:
    fit = chained[task]
    loss, accuracy = actual(ladder, task, "13B-5T")
    step1, step2, both = (
        row(shared, f"{name}_main", f"{task}_5shot") for name in ("step1", "step2", "chained")
    )
    assert loss == pytest.approx(step1["Actual"], rel=1e-9)
    assert fit.predict_loss(*at(ladder, "13B-5T")) == pytest.approx(step1["Pred"], rel=1e-3)
    assert fit.loss.error == pytest.approx(step1["Fit Error"], rel=1e-3)
    assert accuracy == pytest.approx(step2["Actual"], rel=1e-9)
    assert fit.accuracy.predict(loss)[0] == pytest.approx(step2["Pred"], rel=1e-3)
    assert fit.predict(*at(ladder, "13B-5T")) == pytest.approx(both["Pred"], rel=1e-3)


@pytest.mark.parametrize(
    ("task", "name"),
    [("boolq_val", "BoolQ"), ("csqa_val", "CommonsenseQA"), ("arc_challenge_test", "ARC-Challenge"),
     ("mmlu_avg_test", "MMLU"), ("piqa_val", "PIQA")],
)  # fmt: skip
def test_the_7b_rows(
    shared: Path, ladder: Ladder, chained: dict[str, Chained], task: str, name: str
) -> None:
    fit, published = chained[task], row(shared, "variance", name)
    loss, accuracy = actual(ladder, task, "7B-4T")
    # Errors are compared as what they say of the prediction: 1 + error.
    for ours, column in (
        (fit.predict_loss(*at(ladder, "7B-4T")) / loss, "7B Loss Rel Error"),
        (fit.accuracy.predict(loss)[0] / accuracy, "7B Accuracy Rel Error"),
    ):
        assert ours == pytest.approx(1 + published[column], rel=1e-3)
    # The paper gives this error without its sign.
    ratio = fit.predict(*at(ladder, "7B-4T")) / accuracy
    error = np.copysign(published["7B Stacked Rel Error"], ratio - 1)
    assert ratio == pytest.approx(1 + error, rel=1e-3)
    last = next(r for r in ladder.of(task, "bpb").runs if r.run == "1B-10xC")
    assert last.loss[-10:].std() == pytest.approx(published["Loss SD"], rel=1e-6)


@pytest.mark.parametrize("feature", ["bpb", "c4", "choice-ce"])
@pytest.mark.parametrize("law", ["loss-nd", "loss-c3"])
def test_every_feature_and_law_fits_every_task_of_the_paper(
    ladder: Ladder, feature: str, law: str
) -> None:
    for task in TASKS:
        fit = fit_chained(ladder.fitted(task, feature), ladder.file.features[feature], law)  # type: ignore[arg-type]
        assert fit.loss.error < 0.05
        assert ladder.file.tasks[task].chance < fit.predict(*at(ladder, "13B-5T")) < 1


def test_single_step_follows_the_rungs(ladder: Ladder) -> None:
    fit = fit_single_step(ladder.fitted("mmlu_avg_test", "bpb"))
    assert fit.error < 0.01
    assert 0.4 < fit.predict(*at(ladder, "13B-5T")[:2])[0] < 0.7


def test_accuracy_by_size_and_tokens_follows_the_rungs(ladder: Ladder) -> None:
    fit = fit_loss("accuracy-nd", ladder.fitted("hellaswag_val", "bpb"), of_accuracy=True)
    # The exponents run towards zero, which makes a law of logarithms: nothing bounds it by 1.
    assert fit.error < 0.03
    assert 0.7 < fit.predict(*at(ladder, "13B-5T")[:2])[0] < 1.2


def test_a_law_without_a_published_start_is_refused(ladder: Ladder) -> None:
    with pytest.raises(UserError, match="does not fit the law 'chained-c7'"):
        fit_loss("chained-c7", ladder.fitted("piqa_val", "bpb"), of_accuracy=True)


def test_trailing_means_grow_at_the_start() -> None:
    np.testing.assert_allclose(trailing_mean(np.arange(6.0), 3), [0, 0.5, 1, 2, 3, 4])
