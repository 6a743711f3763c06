"""Scores of suites from the scores of their tasks, with standard errors.

Every suite is carried as a value, an expected excess of that value (``bias``, from taking the
better of several), a linear combination of its tasks (``weights``) and a variance of its own
(``rest``), so that errors pass through any nesting and questions that several tasks share are
counted as shared.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import erf, exp, isnan, nan, pi, sqrt
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Answered:
    """The primary metric of one task by question: ``labels`` [n] (the cluster of a question, or
    its native id) and ``values`` [n]."""

    labels: tuple[str, ...]
    values: NDArray[np.float64]

    def deviations(self) -> dict[str, float]:
        """What each label moves the task's mean by: sums of (value - mean) / n."""
        sums: dict[str, float] = {}
        if not len(self.values):
            return sums
        moves = (self.values - self.values.mean()) / len(self.values)
        for label, move in zip(self.labels, moves.tolist(), strict=True):
            sums[label] = sums.get(label, 0.0) + move
        return sums


def answered(
    instances: "pd.DataFrame", task_results: Mapping[str, Mapping[str, Any]]
) -> dict[str, Answered]:
    """Primary values by question from an instance table (``instances.parquet``)."""
    found = {}
    for task, rows in instances.groupby("task", sort=False):
        result = task_results.get(str(task))
        if result is None:
            continue
        rows = rows[(rows["metric"] == result["primary_metric"]) & rows["value"].notna()]
        labels = rows["cluster"].where(rows["cluster"].notna(), rows["native_id"])
        found[str(task)] = Answered(
            tuple(map(str, labels)), rows["value"].to_numpy(np.float64, copy=True)
        )
    return found


def score_suites(
    suites: Mapping[str, Mapping[str, Any]],
    task_results: Mapping[str, Mapping[str, Any]],
    questions: Mapping[str, Answered] | None = None,
) -> dict[str, dict[str, Any]]:
    """Scores of ``suites``, in their order.

    ``suites`` maps a name to {aggregate, members, questions}: members are tasks or other suites of
    the mapping, ``questions`` maps a member task to the set of questions that it shares with other
    tasks (default: its family). ``task_results`` are the entries of ``metrics.json["tasks"]``;
    ``questions`` the values by question (:func:`answered`).

    A result has value, stderr, n, higher_is_better, aggregate, status, missing, members (their
    values) and, where a best member was taken, selection_bias. A suite without all its tasks is
    ``incomplete``: it has no value, and ``missing`` lists what it lacks.

    *macro* is the mean of the members, *micro* their mean weighted by questions, *max* the better
    member. Tasks of different questions are independent, so a macro average of k has
    stderr = sqrt(sum of squares) / k. Tasks that share questions have a covariance, which comes
    from ``questions``; without those, tasks of different families are taken as fully correlated
    (an upper bound), formats of one family (which meet in *max*) as not correlated. The stderr is
    the root mean square distance of the reported value from the true one; for *max* see
    :func:`better_of`.
    """
    scorer = _Scorer(suites, task_results, questions or {})
    return {name: scorer.result(name) for name in suites}


def better_of(
    a: float, b: float, var_a: float, var_b: float, covariance: float
) -> tuple[float, float, float]:
    """Mean and variance of max(A, B), and P(A > B), for jointly normal A and B.

    Clark (1961), "The Greatest of a Finite Set of Random Variables", Operations Research 9(2),
    equations 2 to 4.
    """
    spread = sqrt(max(var_a + var_b - 2 * covariance, 0.0))
    if isnan(spread):
        return max(a, b), nan, float(a >= b)
    if spread == 0:
        return max(a, b), var_a if a >= b else var_b, float(a >= b)
    alpha = (a - b) / spread
    wins = (1 + erf(alpha / sqrt(2))) / 2
    density = exp(-(alpha**2) / 2) / sqrt(2 * pi)
    mean = a * wins + b * (1 - wins) + spread * density
    # Second moments about b, so that no digits are lost when the values are far above the errors.
    d, m = a - b, mean - b
    second = (d * d + var_a) * wins + var_b * (1 - wins) + d * spread * density
    return mean, max(second - m * m, 0.0), wins


@dataclass(frozen=True)
class _Node:
    value: float
    bias: float
    n: int
    weights: dict[str, float]
    rest: float


class _Scorer:
    def __init__(
        self,
        suites: Mapping[str, Mapping[str, Any]],
        results: Mapping[str, Mapping[str, Any]],
        questions: Mapping[str, Answered],
    ):
        self.suites = suites
        self.results = results
        self.sets: dict[str, str] = {
            task: name
            for suite in suites.values()
            for task, name in suite.get("questions", {}).items()
        }
        self.moves = {task: a.deviations() for task, a in questions.items()}
        self.nodes: dict[str, _Node] = {}
        self.covariances: dict[tuple[str, str], float | None] = {}

    def result(self, name: str) -> dict[str, Any]:
        suite = self.suites[name]
        tasks = list(self._tasks(name))
        missing = [task for task in tasks if self._score(task) is None]
        result: dict[str, Any] = {
            "value": None,
            "stderr": None,
            "n": 0,
            "higher_is_better": None,
            "aggregate": suite["aggregate"],
            "status": "incomplete" if missing else "complete",
            "missing": missing,
            "members": {m: self._member_value(m) for m in suite["members"]},
        }
        if missing:
            return result
        node = self._node(name)
        variance = self._variance(node, node) + node.rest
        stderr = sqrt(max(variance, 0.0) + node.bias**2)
        result.update(
            value=node.value,
            stderr=None if isnan(stderr) else stderr,
            n=node.n,
            higher_is_better=self._upward(tasks[0]),
        )
        if any(self.suites[s]["aggregate"] == "max" for s in self._inside(name)):
            result["selection_bias"] = node.bias
        return result

    def _score(self, task: str) -> Mapping[str, Any] | None:
        """The entry of a task's primary metric; None when the task has no score."""
        result = self.results.get(task)
        if result is None:
            return None
        score: Mapping[str, Any] | None = result["metrics"].get(result["primary_metric"])
        return score

    def _upward(self, task: str) -> bool:
        score = self._score(task)
        return score is not None and bool(score["higher_is_better"])

    def _inside(self, name: str) -> Iterator[str]:
        yield name
        for member in self.suites[name]["members"]:
            if member in self.suites:
                yield from self._inside(member)

    def _tasks(self, name: str) -> Iterator[str]:
        for suite in self._inside(name):
            yield from (m for m in self.suites[suite]["members"] if m not in self.suites)

    def _member_value(self, member: str) -> float | None:
        if member not in self.suites:
            score = self._score(member)
            return None if score is None else float(score["value"])
        if any(self._score(task) is None for task in self._tasks(member)):
            return None
        return self._node(member).value

    def _node(self, name: str) -> _Node:
        if name not in self.nodes:
            self.nodes[name] = self._suite(name) if name in self.suites else self._task(name)
        return self.nodes[name]

    def _task(self, task: str) -> _Node:
        score = self._score(task)
        assert score is not None  # a suite with a missing task is never computed
        return _Node(float(score["value"]), 0.0, int(score["n"]), {task: 1.0}, 0.0)

    def _suite(self, name: str) -> _Node:
        suite = self.suites[name]
        members = [self._node(m) for m in suite["members"]]
        if suite["aggregate"] == "max":
            return self._best(members, 1 if self._upward(next(self._tasks(name))) else -1)
        total = sum(m.n for m in members)
        parts = [
            m.n / total if suite["aggregate"] == "micro" else 1 / len(members) for m in members
        ]
        return _Node(
            value=sum(p * m.value for p, m in zip(parts, members, strict=True)),
            bias=sum(p * m.bias for p, m in zip(parts, members, strict=True)),
            n=total,
            weights=_mixed(parts, members),
            rest=sum(p * p * m.rest for p, m in zip(parts, members, strict=True)),
        )

    def _best(self, members: Sequence[_Node], sign: int) -> _Node:
        """The better of the members; ``sign`` is -1 where less is better.

        Its variance is that of the maximum of normal variables (:func:`better_of`), member after
        member. As a linear combination it is the members weighted by how likely each is the best
        (Clark's covariance of a maximum with a third variable); what the maximum varies beyond
        that is ``rest``. ``bias`` is how much a maximum of such noisy values exceeds the maximum
        of the true ones when the true ones are as observed. Value and error together keep their
        promise at a tie: with two equal, equally noisy members, value +- z * stderr covers the
        truth exactly as often as for one member.
        """
        winner = max(members, key=lambda m: sign * m.value)
        best, mean = members[0], sign * (members[0].value + members[0].bias)
        for other in members[1:]:
            shared = self._variance(best, other)
            own = self._variance(best, best) + best.rest
            its = self._variance(other, other) + other.rest
            mean, variance, wins = better_of(
                mean, sign * (other.value + other.bias), own, its, shared
            )
            linear = _Node(0.0, 0.0, 0, _mixed([wins, 1 - wins], [best, other]), 0.0)
            explained = self._variance(linear, linear)
            best = _Node(0.0, 0.0, 0, linear.weights, max(variance - explained, 0.0))
        return _Node(winner.value, sign * mean - winner.value, winner.n, best.weights, best.rest)

    def _variance(self, a: _Node, b: _Node) -> float:
        """Covariance of two linear combinations of tasks."""
        by_set: dict[str, list[str]] = {}
        for task in b.weights:
            by_set.setdefault(self._set(task), []).append(task)
        return sum(
            weight * b.weights[other] * self._covariance(task, other)
            for task, weight in a.weights.items()
            for other in by_set.get(self._set(task), ())
        )

    def _set(self, task: str) -> str:
        return self.sets.get(task, task.partition(":")[0])

    def _covariance(self, a: str, b: str) -> float:
        """Of the means of two tasks; cluster-robust as in ``olmeval.stats.mean``."""
        errors = [self._error(a), self._error(b)]
        if a == b:
            return errors[0] ** 2
        key = (a, b) if a < b else (b, a)
        if key not in self.covariances:
            self.covariances[key] = self._paired(*key)
        paired = self.covariances[key]
        if paired is not None:
            return paired
        same_family = a.partition(":")[0] == b.partition(":")[0]
        return 0.0 if same_family else errors[0] * errors[1]

    def _paired(self, a: str, b: str) -> float | None:
        if a not in self.moves or b not in self.moves:
            return None
        x, y = self.moves[a], self.moves[b]
        if min(len(x), len(y)) < 2:
            return None
        correction = sqrt(len(x) / (len(x) - 1) * len(y) / (len(y) - 1))
        return correction * sum(move * y[label] for label, move in x.items() if label in y)

    def _error(self, task: str) -> float:
        score = self._score(task)
        return nan if score is None or score["stderr"] is None else float(score["stderr"])


def _mixed(parts: Sequence[float], nodes: Sequence[_Node]) -> dict[str, float]:
    weights: dict[str, float] = {}
    for part, node in zip(parts, nodes, strict=True):
        for task, weight in node.weights.items():
            weights[task] = weights.get(task, 0.0) + part * weight
    return weights
