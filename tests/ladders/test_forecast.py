"""Forecasts: the bars on the real ladder, coverage on made ones, refusals, reproducibility."""

import numpy as np
import pytest

from olmeval.errors import UserError
from olmeval.ladders.curves import Ladder
from olmeval.ladders.forecast import ACCURACY, LadderForecast, Prediction
from olmeval.ladders.laws import law
from olmeval.ladders.published import end_value, fit_chained
from tests.ladders.conftest import made_ladder

SIZES = ("190M", "370M", "760M", "1B", "3B")
TRUTH = (np.array([4.9, 5.7, 0.31, 0.28, 0.55]), np.array([-0.73, 0.9, 8.0, 1.0]))


def forecast(ladder: Ladder, sizes: tuple[str, ...]) -> LadderForecast:
    names = [f"{size}-{multiple}xC" for size in sizes for multiple in (1, 2, 5, 10)]
    return LadderForecast().fit(
        {f: [ladder.of(task, f).only(names) for task in ladder.file.tasks] for f in ("bpb", "c4")}
    )


def accuracies(made: LadderForecast, *run: float) -> dict[str, Prediction]:
    return {p.task: p for p in made.predict(*run) if p.quantity == ACCURACY}


def at(ladder: Ladder, target: str) -> tuple[float, float, float]:
    t = ladder.file.targets[target]
    assert t.flops_per_token is not None
    return t.params, t.tokens, float(t.flops_per_token) * t.tokens


@pytest.fixture(scope="module")
def up_to_1b(ladder: Ladder) -> LadderForecast:
    return forecast(ladder, SIZES[:4])


def errors_and_coverage(ladder: Ladder, made: LadderForecast) -> tuple[float, float]:
    errors, inside = [], []
    for target in ladder.file.targets:
        for task, p in accuracies(made, *at(ladder, target)).items():
            run = ladder.target(task, "bpb", target)
            assert run is not None
            actual = end_value(run.accuracy, 5)
            errors.append(abs(p.value / actual - 1))
            inside.append(p.low <= actual <= p.high)
    return float(np.mean(errors)), float(np.mean(inside))


def test_no_worse_than_the_published_procedure_and_covered(
    ladder: Ladder, up_to_1b: LadderForecast
) -> None:
    published = []
    for task in ladder.file.tasks:
        chained = fit_chained(ladder.fitted(task, "bpb"), ladder.file.features["bpb"])
        for target in ladder.file.targets:
            run = ladder.target(task, "bpb", target)
            assert run is not None
            actual = end_value(run.accuracy, 5)
            published.append(abs(chained.predict(*at(ladder, target)) / actual - 1))
    error, coverage = errors_and_coverage(ladder, up_to_1b)
    assert error <= np.mean(published)
    assert coverage >= 0.8


def test_with_the_3b_rungs_at_most_4_3_percent(ladder: Ladder) -> None:
    error, coverage = errors_and_coverage(ladder, forecast(ladder, SIZES))
    assert error <= 0.043
    assert coverage >= 0.8


def test_3b_from_runs_up_to_1b_is_covered(ladder: Ladder, up_to_1b: LadderForecast) -> None:
    inside = []
    for task in ladder.file.tasks:
        run = next(r for r in ladder.of(task, "bpb").runs if r.run == "3B-10xC")
        p = accuracies(up_to_1b, run.params, run.tokens, run.flops)[task]
        inside.append(p.low <= end_value(run.accuracy, 5) <= p.high)
    assert np.mean(inside) >= 0.8


def test_back_tests_hold_every_larger_size_out(up_to_1b: LadderForecast) -> None:
    rows = {(h.fitted, h.run) for h in up_to_1b.backtests_[ACCURACY]}
    assert rows == {
        (SIZES[:2], "760M-10xC"), (SIZES[:2], "1B-10xC"), (SIZES[:3], "1B-10xC"),
    }  # fmt: skip
    calibration = up_to_1b.calibration_[ACCURACY]
    assert calibration.coverage is not None
    assert calibration.weights.sum() == pytest.approx(1.0)
    assert len(calibration.members) == 6


@pytest.mark.parametrize("noise", [0.003, 0.01])
def test_intervals_cover_made_ladders(noise: float) -> None:
    n, d = 1.3e10, 2.6e12
    true_loss = law("loss-nd")(TRUTH[0], np.array([n]), np.array([d]))
    true = float(law("sigmoid")(TRUTH[1], true_loss)[0])
    inside, widths = [], []
    for seed in range(12):
        curves = [made_ladder(*TRUTH, noise, 100 * seed + i, f"t{i}") for i in range(3)]
        made = LadderForecast(samples=50).fit({"bpb": curves})
        for p in made.predict(n, d, 6 * n * d):
            if p.quantity == ACCURACY:
                inside.append(p.low <= true <= p.high)
                widths.append(p.high - p.low)
    assert np.mean(inside) >= 0.85
    assert np.median(widths) < 0.35


def test_the_same_data_give_the_same_forecast() -> None:
    curves = {"bpb": [made_ladder(*TRUTH, 0.01, 5)]}
    a, b = (LadderForecast(samples=20, seed=1).fit(curves).predict(1e10, 1e12, 6e22) for _ in "ab")
    assert a == b


def test_intervals_grow_with_the_distance() -> None:
    made = LadderForecast(samples=20).fit({"bpb": [made_ladder(*TRUTH, 0.01, 5)]})
    widths = []
    for n in (3e9, 1e10, 1e11):
        (p,) = (p for p in made.predict(n, 100 * n, 600 * n**2) if p.quantity == "loss:bpb")
        widths.append(np.log(p.high / p.low))
    assert widths == sorted(widths)


def test_two_sizes_leave_none_to_hold_out() -> None:
    curves = made_ladder(*TRUTH, 0.01, 5, sizes=(1.9e8, 7.6e8))
    with pytest.raises(UserError, match="at least 3 sizes"):
        LadderForecast().fit({"bpb": [curves]})


def test_few_runs_leave_the_laws_with_many_parameters_out() -> None:
    sizes = (1.9e8, 3.7e8, 7.6e8, 1.3e9)
    curves = made_ladder(*TRUTH, 0.005, 5, sizes=sizes, multiples=(2.0,))
    made = LadderForecast(samples=10).fit({"bpb": [curves]})
    assert made.laws_ == ("loss-c3", "loss-c2")
    (held,) = made.backtests_[ACCURACY]
    # A single back-test can calibrate the interval, and nothing can check it.
    assert (held.inside, made.calibration_[ACCURACY].coverage) == (None, None)
    fewer = made_ladder(*TRUTH, 0.005, 5, sizes=sizes[:3], multiples=(2.0,))
    with pytest.raises(UserError, match="2 runs are left"):
        LadderForecast().fit({"bpb": [fewer]})


def test_fits_below_the_inflection_are_said_in_words(up_to_1b: LadderForecast) -> None:
    assert any(
        line.startswith(
            "arc_challenge_test: on bpb the accuracy law is fitted below its inflection"
        )
        for line in up_to_1b.warnings_
    )
