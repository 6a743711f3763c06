"""Schedules against tables worked out by hand."""

import pytest

from olmeval.errors import UserError
from olmeval.trainer.schedules import Schedule

# At tokens 0, 50, 100 (end of warm-up), 500, 800, 900, 1000 of 1000.
TABLE = {
    "constant": [0, 0.5, 1, 1, 1, 1, 1],
    "wsd": [0, 0.5, 1, 1, 1, 0.55, 0.1],
    "linear": [0, 0.5, 1, 0.6, 0.3, 0.2, 0.1],
    "cosine": [0, 0.5, 1, 0.6281416799501187, 0.2052801, 0.12713792, 0.1],
}


@pytest.mark.parametrize("kind", TABLE)
def test_table(kind: str) -> None:
    schedule = Schedule(kind, total=1000, warmup=100, decay=200, final=0.1)
    found = [schedule.factor(t) for t in (0, 50, 100, 500, 800, 900, 1000)]
    assert found == pytest.approx(TABLE[kind], abs=1e-6)


def test_no_warmup_and_no_decay() -> None:
    assert Schedule("wsd", total=10).factor(0) == 1
    assert Schedule("wsd", total=10).factor(10) == 1
    assert Schedule("linear", total=10).factor(10) == 0


def test_a_step_gets_the_mean_over_its_tokens() -> None:
    schedule = Schedule("linear", total=100, warmup=0)
    assert [schedule.at_step(i, 25) for i in range(4)] == pytest.approx(
        [0.875, 0.625, 0.375, 0.125]
    )


def test_the_batch_size_does_not_change_the_area() -> None:
    schedule = Schedule("wsd", total=1200, warmup=120, decay=240)
    areas = [
        sum(schedule.at_step(i, b) * b for i in range(1200 // b)) for b in (1, 10, 20, 40, 120)
    ]
    assert areas == pytest.approx([1200 - 60 - 120] * 5)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(UserError, match="do not fit into 100 tokens"):
        Schedule("wsd", total=100, warmup=60, decay=50)
