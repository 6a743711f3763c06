"""Suite scores: values, what is missing, and standard errors against a bootstrap."""

from collections.abc import Mapping
from math import sqrt
from typing import Any

import numpy as np
import pandas as pd
import pytest

from olmeval.results.suites import Answered, answered, better_of, score_suites
from olmeval.stats.mean import mean
from olmeval.tasks.registry import resolve
from olmeval.tasks.spec import parse
from olmeval.tasks.suites import higher_is_better, load_suites, suites_in

SAMPLES = 2000


def result(answers: Answered, metric: str = "acc_raw") -> dict[str, Any]:
    estimate = mean(answers.values, list(answers.labels))
    score = {
        "value": estimate.value,
        "stderr": None if np.isnan(estimate.stderr) else estimate.stderr,
        "n": estimate.n,
        "higher_is_better": higher_is_better(metric),
    }
    return {"primary_metric": metric, "metrics": {metric: score}}


def some_answers(rng: np.random.Generator, n: int, p: float, start: int = 0) -> Answered:
    return Answered(tuple(str(k + start) for k in range(n)), (rng.random(n) < p).astype(np.float64))


def suite(aggregate: str, *members: str, questions: dict[str, str] | None = None) -> dict[str, Any]:
    return {"aggregate": aggregate, "members": list(members), "questions": questions or {}}


def bootstrap(
    name: str,
    suites: Mapping[str, Mapping[str, Any]],
    answers: Mapping[str, Answered],
    sets: Mapping[str, str],
    metric_up: bool,
    seed: int = 0,
) -> np.ndarray:
    """The suite's value on resampled questions [SAMPLES]; shared questions are drawn together."""
    rng = np.random.default_rng(seed)
    tasks: dict[str, list[str]] = {}
    for task in answers:
        tasks.setdefault(sets.get(task, task.split(":")[0]), []).append(task)
    drawn: dict[str, np.ndarray] = {}
    for members in tasks.values():
        labels = sorted({label for task in members for label in answers[task].labels})
        times = rng.multinomial(len(labels), np.full(len(labels), 1 / len(labels)), SAMPLES)
        index = {label: k for k, label in enumerate(labels)}
        for task in members:
            counts = times[:, [index[label] for label in answers[task].labels]]
            drawn[task] = (counts @ answers[task].values) / counts.sum(axis=1)

    def value(member: str) -> tuple[np.ndarray, int]:
        if member not in suites:
            return drawn[member], len(answers[member].values)
        parts = [value(m) for m in suites[member]["members"]]
        values, sizes = np.stack([v for v, _ in parts]), np.array([n for _, n in parts])
        how = suites[member]["aggregate"]
        if how == "max":
            best = values.max(axis=0) if metric_up else values.min(axis=0)
            return best, int(sizes.max())
        weights = sizes / sizes.sum() if how == "micro" else np.full(len(sizes), 1 / len(sizes))
        return weights @ values, int(sizes.sum())

    return value(name)[0]


def distance(samples: np.ndarray, value: float) -> float:
    return float(np.sqrt(np.mean((samples - value) ** 2)))


def test_macro_of_independent_tasks_is_the_formula() -> None:
    rng = np.random.default_rng(0)
    answers = {f"t{k}": some_answers(rng, 50 * (k + 1), 0.4) for k in range(3)}
    results = {name: result(a) for name, a in answers.items()}
    scores = [r["metrics"]["acc_raw"] for r in results.values()]
    found = score_suites({"s": suite("macro", *answers)}, results, answers)["s"]
    assert found["value"] == pytest.approx(sum(s["value"] for s in scores) / 3)
    assert found["stderr"] == pytest.approx(sqrt(sum(s["stderr"] ** 2 for s in scores)) / 3)
    assert found["n"] == 300
    assert found["status"] == "complete"
    assert found["members"] == {n: r["metrics"]["acc_raw"]["value"] for n, r in results.items()}
    assert "selection_bias" not in found


def test_micro_is_the_mean_over_all_questions() -> None:
    rng = np.random.default_rng(1)
    answers = {"a": some_answers(rng, 30, 0.2), "b": some_answers(rng, 200, 0.8)}
    results = {name: result(a) for name, a in answers.items()}
    found = score_suites({"s": suite("micro", "a", "b")}, results)["s"]
    assert found["value"] == pytest.approx(
        np.concatenate([a.values for a in answers.values()]).mean()
    )
    errors = [r["metrics"]["acc_raw"]["stderr"] for r in results.values()]
    assert found["stderr"] == pytest.approx(
        sqrt((30 * errors[0]) ** 2 + (200 * errors[1]) ** 2) / 230
    )


def test_a_missing_task_makes_every_suite_above_it_incomplete() -> None:
    rng = np.random.default_rng(2)
    results = {name: result(some_answers(rng, 40, 0.5)) for name in ("a", "b")}
    results["c"] = {"primary_metric": "acc_raw", "metrics": {}}  # every instance failed
    suites = {
        "top": suite("macro", "inner", "b"),
        "inner": suite("max", "a", "d"),
        "failed": suite("macro", "a", "c"),
        "whole": suite("macro", "a", "b"),
    }
    found = score_suites(suites, results)
    assert found["top"]["status"] == found["inner"]["status"] == "incomplete"
    assert found["top"]["missing"] == ["d"]
    assert found["failed"]["missing"] == ["c"]
    assert found["top"]["value"] is None and found["top"]["stderr"] is None
    assert found["top"]["members"] == {
        "inner": None,
        "b": results["b"]["metrics"]["acc_raw"]["value"],
    }
    assert found["whole"]["status"] == "complete" and found["whole"]["missing"] == []


def test_one_question_has_no_error() -> None:
    results = {"a": result(Answered(("0",), np.array([1.0])))}
    assert score_suites({"s": suite("macro", "a")}, results)["s"]["stderr"] is None


def test_shared_questions_are_not_independent() -> None:
    rng = np.random.default_rng(3)
    hard = rng.normal(1, 0.5, 200)
    answers = {
        f"code_{k}:bpb": Answered(tuple(map(str, range(200))), hard + rng.normal(0, 0.2, 200))
        for k in range(6)
    }
    sets = dict.fromkeys(answers, "code")
    suites = {"s": suite("macro", *answers, questions=sets)}
    results = {name: result(a, "bits_per_byte") for name, a in answers.items()}
    joint = score_suites(suites, results, answers)["s"]["stderr"]
    per_question = np.mean([a.values for a in answers.values()], axis=0)
    assert joint == pytest.approx(mean(per_question).stderr)
    errors = [r["metrics"]["bits_per_byte"]["stderr"] for r in results.values()]
    assert score_suites(suites, results)["s"]["stderr"] == pytest.approx(np.mean(errors))
    assert joint > 1.5 * sqrt(np.sum(np.square(errors))) / 6


def test_clusters_of_shared_questions() -> None:
    rng = np.random.default_rng(4)
    labels = tuple(str(k // 5) for k in range(200))
    passage = rng.normal(0, 1, 40)[np.arange(200) // 5]
    answers = {f"x_{k}:rc": Answered(labels, passage + rng.normal(0, 1, 200)) for k in range(2)}
    suites = {"s": suite("macro", *answers, questions=dict.fromkeys(answers, "x"))}
    results = {name: result(a) for name, a in answers.items()}
    both = np.mean([a.values for a in answers.values()], axis=0)
    found = score_suites(suites, results, answers)["s"]["stderr"]
    assert found == pytest.approx(mean(both, list(labels)).stderr)


@pytest.mark.parametrize("rho", [-0.5, 0.0, 0.7])
@pytest.mark.parametrize("b", [-3.0, 0.0, 0.4])
def test_moments_of_a_maximum(rho: float, b: float) -> None:
    rng = np.random.default_rng(5)
    draws = rng.multivariate_normal([0, b], [[1, rho * 1.5], [rho * 1.5, 2.25]], 400_000)
    best = draws.max(axis=1)
    found = better_of(0.0, b, 1.0, 2.25, rho * 1.5)
    assert found[0] == pytest.approx(best.mean(), abs=0.01)
    assert found[1] == pytest.approx(best.var(), rel=0.01)
    assert found[2] == pytest.approx((draws[:, 0] > draws[:, 1]).mean(), abs=0.005)


@pytest.mark.parametrize(("p", "q"), [(0.5, 0.5), (0.5, 0.55), (0.3, 0.7)])
@pytest.mark.parametrize("linked", [0.0, 0.8])
def test_the_error_of_a_maximum_is_the_bootstraps(p: float, q: float, linked: float) -> None:
    rng = np.random.default_rng(6)
    n = 400
    same = rng.random(n)
    other = np.where(rng.random(n) < linked, same, rng.random(n))
    labels = tuple(map(str, range(n)))
    answers = {
        "x:mc": Answered(labels, (same < p).astype(np.float64)),
        "x:rc": Answered(labels, (other < q).astype(np.float64)),
    }
    results = {name: result(a) for name, a in answers.items()}
    suites = {"s": suite("max", "x:mc", "x:rc")}
    found = score_suites(suites, results, answers)["s"]
    assert found["value"] == max(r["metrics"]["acc_raw"]["value"] for r in results.values())
    samples = bootstrap("s", suites, answers, {}, True)
    assert found["stderr"] == pytest.approx(distance(samples, found["value"]), rel=0.1)
    assert found["selection_bias"] == pytest.approx(samples.mean() - found["value"], abs=0.0015)
    assert found["selection_bias"] >= 0


def test_the_interval_of_a_maximum_covers_the_truth_at_a_tie() -> None:
    rng = np.random.default_rng(7)
    covered = 0
    for _ in range(1000):
        answers = {name: some_answers(rng, 200, 0.5) for name in ("x:mc", "x:rc")}
        results = {name: result(a) for name, a in answers.items()}
        found = score_suites({"s": suite("max", *answers)}, results, answers)["s"]
        covered += abs(found["value"] - 0.5) <= 1.96 * found["stderr"]
    assert 0.92 <= covered / 1000 <= 0.975


def test_three_members_of_which_less_is_better() -> None:
    rng = np.random.default_rng(8)
    answers = {
        f"m{k}": Answered(tuple(map(str, range(300))), rng.normal(1 + 0.02 * k, 0.3, 300))
        for k in range(3)
    }
    results = {name: result(a, "bits_per_byte") for name, a in answers.items()}
    suites = {"s": suite("max", *answers)}
    found = score_suites(suites, results, answers)["s"]
    samples = bootstrap("s", suites, answers, {}, False)
    assert found["value"] == min(a.values.mean() for a in answers.values())
    assert found["higher_is_better"] is False
    assert found["selection_bias"] < 0
    assert found["stderr"] == pytest.approx(distance(samples, found["value"]), rel=0.1)


def test_answers_come_from_an_instance_table() -> None:
    table = pd.DataFrame(
        {
            "task": ["a"] * 6 + ["other"],
            "native_id": ["p", "q", "r", "p", "q", "r", "z"],
            "cluster": ["c", "c", None, "c", "c", None, None],
            "metric": ["acc_raw"] * 3 + ["bits_per_byte"] * 3 + ["acc_raw"],
            "value": [1.0, 0.0, np.nan, 3.0, 3.0, 3.0, 1.0],
        }
    )
    found = answered(table, {"a": {"primary_metric": "acc_raw"}})
    assert list(found) == ["a"]
    assert found["a"].labels == ("c", "c")
    assert found["a"].values.tolist() == [1.0, 0.0]


def synthetic(name: str) -> tuple[dict[str, Any], dict[str, Answered], dict[str, Any]]:
    """A complete run of a suite: its plain form, answers, and task results.

    Questions that tasks share are hard for all of them; the number of questions differs.
    """
    rng = np.random.default_rng(9)
    suites = suites_in([name])
    sets = {t: s for plain in suites.values() for t, s in plain["questions"].items()}
    answers, results = {}, {}
    levels: dict[str, np.ndarray] = {}
    for task in load_suites()[name].tasks:
        metric = resolve(task).primary
        shared = sets.get(task, parse(task).family)
        n = int(rng.integers(80, 160))
        level = levels.setdefault(shared, rng.normal(0, 1, 160))[:n]
        noise = level + rng.normal(0, 1, n)
        values = np.exp(noise / 3) if metric == "bits_per_byte" else (noise > 0).astype(np.float64)
        answers[task] = Answered(tuple(map(str, range(n))), values)
        results[task] = result(answers[task], metric)
    return suites, answers, results


@pytest.mark.parametrize(
    "name",
    [
        n
        for n in load_suites()
        if n.startswith(("olmo3:", "olmo_2")) or n in ("olmes_10", "core_9mcqa::olmes")
    ],
)
def test_errors_of_real_suites_equal_a_bootstrap(name: str) -> None:
    suites, answers, results = synthetic(name)
    found = score_suites(suites, results, answers)[name]
    sets = {t: s for plain in suites.values() for t, s in plain["questions"].items()}
    samples = bootstrap(name, suites, answers, sets, bool(found["higher_is_better"]))
    expected = distance(samples, found["value"])
    print(f"{name}: {found['value']:.4f} ± {found['stderr']:.4f}, bootstrap {expected:.4f}")
    assert found["status"] == "complete"
    assert found["stderr"] == pytest.approx(expected, rel=0.1)
