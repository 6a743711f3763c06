"""A regression gate: has this checkpoint got worse than the baseline by more than is tolerated?

Each task gets a one-sided test of "the true drop is at most the tolerance" whose error holds the
sampling of questions (paired) and the noise of both checkpoints; the policy's false-alarm rate is
divided by the number of tests (Bonferroni), so it holds for the whole check.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf, nan, sqrt
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from olmeval.analysis.compare import averaged
from olmeval.analysis.gate_baseline import Baseline, Score, instances, unpack
from olmeval.analysis.gate_policy import Policy, Rule, rule_for
from olmeval.errors import UserError
from olmeval.results.run import Run
from olmeval.stats.mean import mean
from olmeval.stats.mixed import critical_value, upper_tail

Array = NDArray[np.float64]
Verdict = Literal["ok", "regressed", "drifting", "unknown", "skipped"]


@dataclass(frozen=True)
class Finding:
    """The verdict on one task or suite.

    ``drop`` is how much worse than the baseline it is (positive: worse, whatever the metric's
    direction); ``stderr`` its standard error; ``p`` one-sided, times the number of tests;
    ``detectable`` the smallest true drop that is found with 80 % power.
    """

    name: str
    metric: str
    verdict: Verdict
    reason: str = ""
    baseline: float = nan
    value: float = nan
    drop: float = nan
    tolerance: float = nan
    stderr: float = nan
    p: float = nan
    detectable: float = nan
    n: int = 0
    noise_known: bool = False
    higher_is_better: bool = True


@dataclass(frozen=True)
class GateReport:
    """All findings of one check, and what the command's exit code says."""

    run: str
    baseline: str
    false_alarm: float
    findings: tuple[Finding, ...]

    @property
    def exit_code(self) -> int:
        """1: something regressed or drifts; 2: something required cannot be told; 0: neither."""
        verdicts = {f.verdict for f in self.findings}
        if verdicts & {"regressed", "drifting"}:
            return 1
        return 2 if "unknown" in verdicts else 0

    @property
    def summary(self) -> str:
        """One sentence."""
        count = {v: sum(f.verdict == v for f in self.findings) for v in ("ok", "unknown")}
        bad = sum(f.verdict in ("regressed", "drifting") for f in self.findings)
        word = {0: "passed", 1: "REGRESSED", 2: "CANNOT TELL"}[self.exit_code]
        return f"{word}: {bad} worse, {count['unknown']} cannot be told, {count['ok']} ok"


def check(run: Run, baseline: Baseline, policy: Policy) -> GateReport:
    """Compares ``run`` with ``baseline`` under ``policy``.

    Raises :class:`UserError` for a rule that matches nothing in the baseline.
    """
    results, suites = run.metrics["tasks"], run.metrics.get("suites", {})
    current = instances(run)
    _check_rules(policy.tasks, list(baseline.tasks))
    _check_rules(policy.suites, list(baseline.suites))
    pending: list[_Test | Finding] = []
    differences: dict[str, Array] = {}
    for name, score in baseline.tasks.items():
        rule = rule_for(policy.tasks, name)
        if rule is not None or any(name in s.members for s in baseline.suites.values()):
            found = _task(name, score, results.get(name), current.get(name), rule, policy)
            if isinstance(found, _Test):
                differences[name] = np.array([found.drop, found.variance])
            if rule is not None:
                pending.append(found)
    for name, score in baseline.suites.items():
        of_suite = rule_for(policy.suites, name)
        if of_suite is not None:
            now = suites.get(name)
            pending.append(_suite(name, score, now, results, differences, of_suite, policy))
    tests = sum(isinstance(p, _Test) for p in pending)
    findings = tuple(
        p.finding(policy.false_alarm, tests) if isinstance(p, _Test) else p for p in pending
    )
    label = baseline.model + (f" (step {baseline.step})" if baseline.step is not None else "")
    return GateReport(run.path.name, label, policy.false_alarm, findings)


def _check_rules(rules: tuple[Rule, ...], known: list[str]) -> None:
    for rule in rules:
        if not any(rule_for((rule,), name) for name in known):
            raise UserError(
                f"the policy's '{rule.match}' matches nothing in the baseline; it holds "
                f"{', '.join(known[:4]) or 'none'}"
            )


@dataclass(frozen=True)
class _Test:
    """A comparison that can be made; ``variance`` of the drop is that of the questions alone."""

    name: str
    score: Score
    value: float
    drop: float
    variance: float
    n: int
    tolerance: float

    def finding(self, false_alarm: float, tests: int) -> Finding:
        parts: list[tuple[float, float]]
        parts = [(self.variance, max(self.n - 1, 1))]
        if self.score.noise is not None:
            # Baseline and new checkpoint carry the noise, of which there is one estimate.
            shares = 1 + 1 / self.score.averaged
            parts.append((shares * self.score.noise**2, self.score.noise_df))
        total = sum(v for v, _ in parts)
        error = sqrt(total)
        level = false_alarm / tests
        if total > 0:
            p = upper_tail((self.drop - self.tolerance) / error, parts)
            needed = critical_value(level, parts) + critical_value(0.2, parts)
            detectable = self.tolerance + error * needed
        else:
            p, detectable = float(self.drop <= self.tolerance), self.tolerance
        worse = p <= level
        return Finding(
            self.name, self.score.metric, "regressed" if worse else "ok",
            f"worse by {self.drop:.4g}, tolerated {self.tolerance:.4g}" if worse else "",
            self.score.value, self.value, self.drop, self.tolerance, error, min(1.0, tests * p),
            detectable, self.n, self.score.noise is not None, self.score.higher_is_better,
        )  # fmt: skip


def _cannot(name: str, score: Score, rule: Rule | None, reason: str) -> Finding:
    required = rule is None or rule.required
    return Finding(
        name, score.metric, "unknown" if required else "skipped", reason, baseline=score.value
    )


def _task(
    name: str, score: Score, result: Mapping[str, Any] | None, rows: Any, rule: Rule | None,
    policy: Policy,
) -> "_Test | Finding":  # fmt: skip
    if result is None or rows is None:
        return _cannot(name, score, rule, "the task was not run")
    if result["hash"] != score.hash:
        return _cannot(name, score, rule, "another version of the task (its hash differs)")
    if result["primary_metric"] != score.metric:
        return _cannot(name, score, rule, f"its metric is now {result['primary_metric']}")
    most = policy.max_errors if rule is None or rule.max_errors is None else rule.max_errors
    if result["errors"] > most:
        return _cannot(name, score, rule, f"{result['errors']} errors, {most} allowed")
    before = unpack(score.values or {})
    now = rows["value"].to_numpy(float)
    if len(now) != len(before):
        return _cannot(name, score, rule, f"{len(now)} questions, {len(before)} in the baseline")
    sign = 1 if score.higher_is_better else -1
    gap = sign * (before - now)
    kept = np.isfinite(gap)
    least = (
        policy.min_instances if rule is None or rule.min_instances is None else rule.min_instances
    )
    if kept.sum() < least:
        return _cannot(name, score, rule, f"{int(kept.sum())} questions, {least} needed")
    clusters = None
    if rows["cluster"].notna().any():
        clusters = rows["cluster"].fillna(rows.index.to_series())[kept].tolist()
    estimate = mean(gap[kept], clusters)
    value = float(result["metrics"][score.metric]["value"])
    # The packed answers are rounded; the scores themselves are not. Where instances are weighted
    # or missing, scores and answers differ by more than rounding, and the answers are what pairs.
    whole = bool(kept.all()) and np.isclose(float(now.mean()), value, rtol=1e-9, atol=1e-12)
    drop = sign * (score.value - value) if whole else estimate.value
    return _toleranced(name, score, rule, policy, value, drop, estimate.stderr**2, estimate.n)


def _suite(
    name: str, score: Score, now: Mapping[str, Any] | None, results: Mapping[str, Any],
    differences: Mapping[str, Array], rule: Rule, policy: Policy,
) -> "_Test | Finding":  # fmt: skip
    if now is None or now["status"] != "complete":
        missing = ", ".join(now["missing"][:3]) if now else "the suite was not run"
        return _cannot(name, score, rule, f"incomplete: {missing}")
    sign = 1 if score.higher_is_better else -1
    drop = sign * (score.value - now["value"])
    members = score.members
    if members and members == averaged(now, results) and all(m in differences for m in members):
        variance = sum(float(differences[m][1]) for m in members) / len(members) ** 2
    elif score.members and any(m not in differences for m in members):
        lacking = next(m for m in members if m not in differences)
        return _cannot(name, score, rule, f"its task {lacking} cannot be compared")
    else:
        # Not a plain average: as if the two runs had answered different questions, which is safe.
        errors = [score.stderr, now["stderr"]]
        variance = sum(inf if e is None else e**2 for e in errors)
        if not np.isfinite(variance):
            return _cannot(name, score, rule, "it has no standard error")
    return _toleranced(name, score, rule, policy, now["value"], drop, variance, int(now["n"]))


def _toleranced(
    name: str, score: Score, rule: Rule | None, policy: Policy, value: float, drop: float,
    variance: float, n: int,
) -> "_Test | Finding":  # fmt: skip
    tolerance = policy.tolerance if rule is None or rule.tolerance is None else rule.tolerance
    amount = tolerance.amount(score.value, score.noise)
    if amount is None:
        return _cannot(
            name, score, rule,
            "the baseline has no checkpoint noise for 'noise_units'; record it with --checkpoints",
        )  # fmt: skip
    return _Test(name, score, value, drop, variance, n, amount)
