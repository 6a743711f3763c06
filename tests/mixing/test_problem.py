"""Impossible problems are named: which end, how many tokens short, what would help."""

import numpy as np
import pytest

from olmeval.errors import UserError
from olmeval.mixing.problem import Group, InfeasibleError, make_constraints
from olmeval.mixing.search import obey

ABC = ("a", "b", "c")
TOKENS = {"a": 1e9, "b": 2e9, "c": 3e9}


def test_ends_are_passes_times_tokens_over_the_run() -> None:
    c = make_constraints(ABC, tokens=TOKENS, run_tokens=8e9, max_epochs=2, maximum={"c": 0.6})
    np.testing.assert_allclose(c.upper, [0.25, 0.5, 0.6])
    np.testing.assert_allclose(c.epochs(np.array([0.25, 0.25, 0.5])), [2, 1, 4 / 3])
    c.check()


def test_too_few_tokens_for_the_run() -> None:
    """Public defect 3. 4 x 6B of 30B: 6B short; 5 passes or a run of 24B would do."""
    c = make_constraints(ABC, tokens=TOKENS, run_tokens=30e9)
    with pytest.raises(InfeasibleError) as caught:
        c.check()
    text = str(caught.value)
    for part in ("'a', 'b', 'c'", "0.8 of the run", "6,000,000,000 tokens short", "allow 5 passes"):
        assert part in text
    assert "at most 24,000,000,000 tokens" in text


def test_the_remedy_counts_maximum_shares_too() -> None:
    c = make_constraints(ABC, tokens=TOKENS, run_tokens=30e9, maximum={"c": 0.3})
    with pytest.raises(InfeasibleError, match="allow 7 passes"):
        c.check()
    make_constraints(ABC, tokens=TOKENS, run_tokens=30e9, maximum={"c": 0.3}, max_epochs=7).check()
    shut = make_constraints(ABC, tokens=TOKENS, run_tokens=30e9, maximum=dict.fromkeys(ABC, 0.3))
    with pytest.raises(InfeasibleError, match="raise the maximum shares"):
        shut.check()


def test_one_domain_asks_for_more_than_it_holds() -> None:
    c = make_constraints(ABC, tokens=TOKENS, run_tokens=8e9, minimum={"a": 0.6}, max_epochs=4)
    with pytest.raises(InfeasibleError, match=r"'a' is to have at least 0.6.*800,000,000 tokens"):
        c.check()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"minimum": {"a": 0.6, "b": 0.6}}, "smallest shares add up to 1.2"),
        ({"maximum": {"a": 0.3, "b": 0.3, "c": 0.3}}, "largest shares add up to 0.9"),
        ({"groups": [Group("g", ("a", "b"), 0.5, 1)], "maximum": {"a": 0, "b": 0.2}}, "allow 0.2"),
        ({"groups": [Group("g", ("a",), 0, 0.1)], "minimum": {"a": 0.2}}, "minima"),
        (
            {"groups": [Group("g", ("a", "b"), 0.7, 1), Group("h", ("b", "c"), 0, 0.1),
                        Group("i", ("a",), 0, 0.2)]},
            "cannot all be kept.*'[gi]' by 0",
        ),
    ],
)  # fmt: skip
def test_impossible(settings: dict, words: str) -> None:
    with pytest.raises(InfeasibleError, match=words):
        make_constraints(ABC, **settings).check()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"minimum": {"aa": 0.1}}, "no domain 'aa'"),
        ({"maximum": {"a": 1.5}}, "between 0 and 1"),
        ({"fixed": {"a": -1}}, "between 0 and 1"),
        ({"tokens": {"a": 1}, "run_tokens": 5}, "missing: b, c"),
        ({"run_tokens": 0}, "cannot be planned"),
        ({"max_epochs": 0}, "more than 0"),
        ({"groups": [Group("g", ("x",))]}, "group 'g': there is no domain 'x'"),
        ({"groups": [Group("g", ("a",), 0.5, 0.4)]}, "must rise"),
    ],
)
def test_bad_settings(settings: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        make_constraints(ABC, **settings)


def test_obey_moves_to_the_nearest_that_obeys() -> None:
    rng = np.random.default_rng(0)
    c = make_constraints(
        ABC, maximum={"a": 0.3}, minimum={"b": 0.1}, groups=[Group("g", ("a", "c"), 0.5, 0.6)]
    )
    X = obey(rng.dirichlet(np.ones(3), 200), c)
    assert len(X) == 200 and not any(c.violated(x, 1e-8) for x in X)
    free = make_constraints(ABC, maximum={"a": 0.3})
    x, y = np.array([0.5, 0.3, 0.2]), obey(np.array([[0.5, 0.3, 0.2]]), free)[0]
    # The minimum of relative entropy keeps the ratio of what is not cut off.
    assert y[0] == pytest.approx(0.3) and y[1] / y[2] == pytest.approx(x[1] / x[2])
