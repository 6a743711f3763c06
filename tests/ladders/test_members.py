"""Members of a forecast on ladders whose truth is known, and the refusals of degenerate ones."""

import numpy as np
import pytest

from olmeval.errors import UserError
from olmeval.ladders.curves import RunCurve, TaskCurves, check_units
from olmeval.ladders.laws import law
from olmeval.ladders.members import blocks, fit_members, run_weights

# The exponents are those that the prior expects, so that it pulls nowhere.
LOSS = np.array([4.9, 5.7, 0.3, 0.3, 0.6])
# Accuracy 1 at loss 0, which the fit assumes.
ACCURACY = np.array([-0.73, 0.9, 10.0, 1.0])


def run(
    n: float, multiple: float, noise: float = 0.0, seed: int = 0, checkpoints: int = 60
) -> RunCurve:
    """A run that follows the two laws; its loss falls along the way by the law of its tokens."""
    random = np.random.default_rng([seed, int(n), int(10 * multiple)])
    tokens = 20 * n * multiple
    seen = tokens * np.linspace(1 / checkpoints, 1, checkpoints)
    loss = law("loss-nd")(LOSS, np.full(checkpoints, n), seen)
    accuracy = law("sigmoid")(ACCURACY, loss) + noise * random.standard_normal(checkpoints)
    loss = loss * (1 + noise * random.standard_normal(checkpoints))
    return RunCurve(f"{n:g}-{multiple:g}", f"{n:g}", n, tokens, 6 * n * tokens, loss, accuracy)


def ladder(noise: float = 0.0, chance: float = 0.25, seed: int = 0) -> TaskCurves:
    sizes = (1.9e8, 3.7e8, 7.6e8, 1.28e9)
    runs = tuple(run(n, m, noise, seed) for n in sizes for m in (1, 2, 5, 10))
    return TaskCurves("made", "bpb", chance, runs)


def test_the_true_chain_is_found_and_extrapolates() -> None:
    (member,) = fit_members([ladder()], run_weights(16, 0), laws=("loss-nd",), window=1)
    n, d = 1.3e10, 5e12
    true_loss = float(law("loss-nd")(LOSS, np.array([n]), np.array([d]))[0])
    loss, accuracy = member.predict(n, d, 6 * n * d)
    assert loss[0, 0] == pytest.approx(true_loss, rel=1e-3)
    true = float(law("sigmoid")(ACCURACY, np.array([true_loss]))[0])
    assert accuracy[0, 0] == pytest.approx(true, rel=2e-3)
    np.testing.assert_allclose(member.loss_parameters()[0], LOSS, rtol=0.02)
    np.testing.assert_allclose(member.accuracy_parameters()[0], ACCURACY, rtol=0.02)


def test_parameters_in_units_of_the_data_give_the_same_predictions() -> None:
    for member in fit_members([ladder(0.01)], run_weights(16, 0)):
        x = {"params": 1e9, "tokens": 1e11, "flops": 6e20}
        inputs = [np.array([x[name]]) for name in law(member.loss_law).inputs]
        loss = law(member.loss_law)(member.loss_parameters()[0], *inputs)
        expected = member.predict(1e9, 1e11, 6e20)
        assert loss[0] == pytest.approx(expected[0][0, 0], rel=1e-9)
        accuracy = law("sigmoid")(member.accuracy_parameters()[0], loss)
        assert accuracy[0] == pytest.approx(expected[1][0, 0], rel=1e-9)


def test_tasks_together_are_what_they_are_alone() -> None:
    tasks = [ladder(0.01, seed=1), ladder(0.02, seed=2)]
    together = fit_members(tasks, run_weights(16, 3))
    for t, task in enumerate(tasks):
        for both, alone in zip(together, fit_members([task], run_weights(16, 3)), strict=True):
            a, b = both.predict(7e9, 4e12, 2e23)[1][t], alone.predict(7e9, 4e12, 2e23)[1][0]
            np.testing.assert_allclose(a, b, rtol=1e-4)


def test_a_run_counts_once_however_many_checkpoints_it_has() -> None:
    sparse = ladder(0.01)
    thick = TaskCurves("made", "bpb", 0.25, tuple(
        RunCurve(r.run, r.size, r.params, r.tokens, r.flops,
                 np.repeat(r.loss, 5), np.repeat(r.accuracy, 5))
        for r in sparse.runs
    ))  # fmt: skip
    a = fit_members([sparse], run_weights(16, 0), window=1)[0].predict(7e9, 4e12, 2e23)[1]
    b = fit_members([thick], run_weights(16, 0), window=5)[0].predict(7e9, 4e12, 2e23)[1]
    assert a[0, 0] == pytest.approx(b[0, 0], rel=1e-3)


def test_blocks_count_from_the_end_and_do_not_overlap() -> None:
    values = np.arange(12.0)
    made = RunCurve("r", "s", 1e8, 2e9, 1.2e18, values + 1, values)
    np.testing.assert_allclose(blocks(made, 5, 0.1)[1], [4.0, 9.0])
    np.testing.assert_allclose(blocks(made, 50, 0.0)[1], [5.5])


def test_weights_begin_with_the_data_as_they_are() -> None:
    weights = run_weights(16, 2000, seed=3)
    np.testing.assert_array_equal(weights[0], 1.0)
    assert weights[1:].min() > 0
    assert weights[1:].mean() == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda c: TaskCurves("t", "bpb", 0.25, c.runs[:4]),
            "at least 2 sizes, and the runs have 1",
        ),
        (lambda c: TaskCurves("t", "bpb", 0.25, (c.runs[0], c.runs[5])), "2 runs are too few"),
        (lambda c: flat(c, loss=1.0), "all runs end at the loss 1"),
        (lambda c: flat(c, accuracy=0.25), "no run is above chance"),
    ],
)
def test_degenerate_ladders_are_refused_in_a_sentence(change, message: str) -> None:  # type: ignore[no-untyped-def]
    made = change(ladder())
    with pytest.raises(UserError, match=message):
        fit_members([made], run_weights(len(made.runs), 0))


def flat(
    curves: TaskCurves, loss: float | None = None, accuracy: float | None = None
) -> TaskCurves:
    return TaskCurves("t", "bpb", 0.25, tuple(
        RunCurve(r.run, r.size, r.params, r.tokens, r.flops,
                 r.loss if loss is None else np.full_like(r.loss, loss),
                 r.accuracy if accuracy is None else np.full_like(r.accuracy, accuracy))
        for r in curves.runs
    ))  # fmt: skip


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("loss", np.array([1.0, np.nan]), "not a number"),
        ("loss", np.array([1.0, -0.5]), "negate: true"),
        ("accuracy", np.array([25.0, 40.0]), "percent"),
        ("tokens", 1e8, "swapped"),
        ("flops", 1.9e9, "per token"),
        ("flops", 1e11, "giga"),
    ],
)
def test_implausible_units_are_refused(field: str, value: object, message: str) -> None:
    fields = {"run": "r", "size": "s", "params": 1.9e8, "tokens": 3.8e9, "flops": 7.2e18,
              "loss": np.array([1.2, 1.1]), "accuracy": np.array([0.3, 0.4])}  # fmt: skip
    check_units(TaskCurves("t", "bpb", 0.25, (RunCurve(**fields),)))  # type: ignore[arg-type]
    with pytest.raises(UserError, match=message):
        check_units(TaskCurves("t", "bpb", 0.25, (RunCurve(**fields | {field: value}),)))  # type: ignore[arg-type]
