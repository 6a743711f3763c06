"""From the long table to curves: order, conventions, and what is refused."""

import numpy as np
import pandas as pd
import pytest

from olmeval.errors import UserError
from olmeval.ladders.curves import make_ladder
from olmeval.ladders.spec import LadderFile


def ladder_file(**changes: object) -> LadderFile:
    return LadderFile.model_validate({
        "name": "made", "flops": "6nd", "features": {"bpb": {"metric": "bits_per_byte"}},
        "tasks": {"t": {"chance": 0.25}}, **changes,
    })  # fmt: skip


def table(runs: int = 2, steps: int = 3) -> pd.DataFrame:
    rows = []
    for r in range(runs):
        params = 1e8 * (r + 1)
        for step in reversed(range(1, steps + 1)):
            at = {"run": f"r{r}", "model": f"m{r}", "params": params, "task": "t", "step": step,
                  "tokens": 20 * params * step / steps, "flops": 1e18}  # fmt: skip
            rows.append({**at, "metric": "bits_per_byte", "value": 2 - 0.1 * step})
            rows.append({**at, "metric": "accuracy", "value": 0.3 + 0.1 * step})
    return pd.DataFrame(rows)


def test_curves_are_in_order_of_steps() -> None:
    ladder = make_ladder(ladder_file(), table())
    curves = ladder.fitted("t", "bpb")
    assert [run.run for run in curves.runs] == ["r0", "r1"]
    np.testing.assert_allclose(curves.runs[0].loss, [1.9, 1.8, 1.7])
    np.testing.assert_allclose(curves.runs[0].accuracy, [0.4, 0.5, 0.6])
    assert curves.runs[1].params == 2e8
    assert curves.runs[1].tokens == 4e9
    assert curves.runs[1].flops == pytest.approx(6 * 2e8 * 4e9)


def test_sizes_of_the_file_say_what_compute_is() -> None:
    sizes = {"m0": {"params": 90_000_000, "flops_per_token": 10**9}}
    ladder = make_ladder(ladder_file(flops="exact", sizes=sizes), table(1))
    (run,) = ladder.fitted("t", "bpb").runs
    assert (run.params, run.flops) == (9e7, 2e9 * 1e9)


def test_exact_compute_that_nobody_knows_is_asked_for() -> None:
    unknown = table(1).assign(flops=np.nan)
    with pytest.raises(UserError, match="'flops_per_token' of 'm0'"):
        make_ladder(ladder_file(flops="exact"), unknown)


def test_targets_are_no_rungs() -> None:
    targets = {"big": {"params": 200_000_000, "tokens": 4_000_000_000, "run": "r1"}}
    ladder = make_ladder(ladder_file(targets=targets), table())
    assert ladder.rungs == ("r0",)
    found = ladder.target("t", "bpb", "big")
    assert found is not None and found.run == "r1"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tasks": {"u": {"chance": 0.25}}}, "no row has the task 'u' with 'bits_per_byte'"),
        ({"features": {"bpb": {"metric": "bits_per_bite"}}}, "did you mean 'bits_per_byte'"),
        ({"fit": ["x*"]}, "no run matches 'fit'"),
    ],
)
def test_what_is_missing_is_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_ladder(ladder_file(**changes), table())


def test_a_hole_at_the_end_is_refused_and_one_before_is_counted() -> None:
    scores = table()
    loss = (scores["metric"] == "bits_per_byte") & (scores["run"] == "r0")
    with pytest.raises(UserError, match="run 'r0' has no loss at its last step 3"):
        make_ladder(ladder_file(), scores[~(loss & (scores["step"] == 3))])
    with pytest.warns(UserWarning, match="1 checkpoints have a loss or an accuracy but not both"):
        ladder = make_ladder(ladder_file(), scores[~(loss & (scores["step"] == 2))])
    assert len(ladder.fitted("t", "bpb").runs[0].loss) == 2


def test_a_misspelt_size_of_the_training_is_refused() -> None:
    with pytest.raises(ValueError, match="training names the size 'm9'"):
        ladder_file(training={"recipe": "ladder", "sizes": ["m9"], "multiples": [1]})
