"""Schedules against tables worked out by hand."""

from dataclasses import replace
from typing import Any

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


WSDS = Schedule(
    "wsds", total=1000, warmup=20, final=0.1, ends=(100, 400, 1000), decays=(10, 60, 300)
)
# Tokens and what the factor is there: both sides of every boundary.
PERIODS = [
    (0, 0), (10, 0.5), (20, 1), (90, 1), (95, 0.55), (100, 0.1),
    (100.001, 1), (340, 1), (355, 0.775), (400, 0.1),
    (400.001, 1), (700, 1), (850, 0.55), (1000, 0.1), (1100, 0.1),
]  # fmt: skip


@pytest.mark.parametrize(("tokens", "expected"), PERIODS)
def test_every_period_falls_and_starts_again(tokens: float, expected: float) -> None:
    assert WSDS.factor(tokens) == pytest.approx(expected)


def test_a_single_period_is_wsd() -> None:
    single = Schedule("wsds", total=1000, warmup=100, final=0.1, ends=(1000,), decays=(200,))
    wsd = Schedule("wsd", total=1000, warmup=100, final=0.1, decay=200)
    assert [single.factor(t) for t in range(1001)] == [wsd.factor(t) for t in range(1001)]


def test_a_period_goes_as_if_the_run_ended_there() -> None:
    """So its checkpoint is that of a shorter run, had all before it been the same."""
    alone = Schedule("wsd", total=1000, warmup=0, final=0.1, decay=300)
    assert [WSDS.factor(t) for t in range(401, 1001)] == [alone.factor(t) for t in range(401, 1001)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ends": (100, 400)}, "the last must end with the run, at 1,000 tokens"),
        ({"ends": (), "decays": ()}, "the 0 periods"),
        ({"decays": (10,)}, "the 3 periods of wsds need as many decays, not 1"),
        ({"decays": (10, 301, 5)}, "301 tokens of decay do not fit between 100 tokens and the end"),
        ({"decays": (81, 10, 10)}, "81 tokens of decay do not fit between 20 tokens"),
        ({"ends": (400, 100, 1000)}, "do not fit between 400 tokens and the end of the period at"),
    ],
)
def test_periods_that_do_not_fit_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        replace(WSDS, **change)
