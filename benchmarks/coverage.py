"""Do 95 % intervals hold the truth in 95 % of cases? Simulations with known truths, printed.

python benchmarks/coverage.py [--runs 1000]

Every interval is made by the function that the commands call. The last lines are the gate: how
often a check of an unchanged model fails, and how often a true drop of twice the detectable one is
found.
"""

import argparse
import os
from collections.abc import Callable
from math import asin, pi, sqrt

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd

from olmeval.analysis.decisions import DecisionSettings, decision_table
from olmeval.analysis.gate import _Test
from olmeval.analysis.gate_baseline import Score
from olmeval.analysis.snr import SnrSettings, snr_table
from olmeval.results.run import LONG_COLUMNS
from olmeval.results.suites import score_suites
from olmeval.stats.cusum import cusum, self_starting, threshold
from olmeval.stats.mean import mean, paired_difference
from olmeval.stats.paired import bootstrap_means, cluster_sums
from olmeval.stats.spread import spread

Interval = tuple[float, float]
SAMPLES = 500


def long_table(names: list[str], values: np.ndarray, params: float = 1.0) -> pd.DataFrame:
    """A long table of one task: ``values`` [runs, steps]."""
    runs, steps = values.shape
    return pd.DataFrame(
        {
            "run": np.repeat(names, steps), "model": np.repeat(names, steps),
            "mix": np.repeat(names, steps), "params": params, "task": "t", "metric": "m",
            "step": np.tile(np.arange(float(steps)), runs), "value": values.ravel(),
            "higher_is_better": True, "primary": True, "seed": 0.0, "stderr": np.nan,
        }
    ).reindex(columns=list(LONG_COLUMNS))  # fmt: skip


def snr_interval(
    measure: str, steps: int, one_run: bool, tails: int | None = None
) -> Callable[..., tuple[Interval, float]]:
    """25 models, normal about 0.5; noise from their own checkpoints, or from those of one run.

    ``tails``: degrees of freedom of a Student distribution instead of the normal one.
    """
    models, sd, noise = 25, 0.05, 0.01

    def drawn(random: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
        if tails is None:
            return random.standard_normal(shape)
        return random.standard_t(tails, shape) * sqrt((tails - 2) / tails)

    random = np.random.default_rng(99)
    finals = 0.5 + sd * drawn(random, (20_000, models))
    finals += noise / sqrt(steps) * random.standard_normal((20_000, models))
    truth = float(spread(measure, finals).mean()) / (noise / 0.5)
    names = [f"m{k:02}" for k in range(models)]

    def draw(random: np.random.Generator, seed: int) -> tuple[Interval, float]:
        levels = 0.5 + sd * drawn(random, (models, 1))
        # The relative noise is the same for all models.
        values = levels * (1 + noise / 0.5 * random.standard_normal((models, steps)))
        table = long_table(names, values)
        other = None
        if one_run:
            other = long_table(["r"], 0.5 + noise * random.standard_normal((1, 30)))
        settings = SnrSettings(
            last=30 if one_run else steps, measure=measure, samples=SAMPLES, seed=seed
        )
        row = snr_table(table, settings, other).iloc[0]
        return (row["snr_low"], row["snr_high"]), truth

    return draw


def noise_interval(steps: int) -> Callable[..., tuple[Interval, float]]:
    """The last checkpoints of one run."""

    def draw(random: np.random.Generator, seed: int) -> tuple[Interval, float]:
        table = long_table(["r"], 0.5 + 0.01 * random.standard_normal((1, steps)))
        settings = SnrSettings(last=steps, samples=SAMPLES, seed=seed)
        row = snr_table(table, settings).iloc[0]
        return (row["noise_low"], row["noise_high"]), 0.02

    return draw


def decision_interval(models: int, rho: float, seeds: int) -> Callable[..., tuple[Interval, float]]:
    """Bivariate normal scores: the expected accuracy is 1/2 + arcsin(rho) / pi."""
    names = [f"m{k:03}" for k in range(models)]

    def draw(random: np.random.Generator, _: int) -> tuple[Interval, float]:
        large = random.standard_normal(models)
        shared = rho * large[:, None]
        small = shared + sqrt(1 - rho**2) * random.standard_normal((models, seeds))
        tables = [long_table(names, large[:, None], 2.0)]
        tables += [
            long_table(names, small[:, [s]], 1.0).assign(seed=float(s)) for s in range(seeds)
        ]
        row = decision_table(pd.concat(tables), DecisionSettings()).iloc[0]
        return (row["low"], row["high"]), 0.5 + asin(rho) / pi

    return draw


def difference_interval(
    questions: int, clusters: int | None, bootstrap: bool
) -> Callable[..., tuple[Interval, float]]:
    """Two runs that answer questions of shared difficulty right or wrong; a is right more often."""
    rates = np.random.default_rng(98).standard_normal((2_000_000, 2))
    truth = float((rates[:, 0] < 0.4).mean() - (rates[:, 1] < 0.2).mean())

    def draw(random: np.random.Generator, _: int) -> tuple[Interval, float]:
        groups = None
        difficulty = random.standard_normal(questions)
        if clusters is not None:
            groups = (np.arange(questions) % clusters).tolist()
            passage = random.standard_normal(clusters)[groups]
            difficulty = sqrt(0.5) * (difficulty + passage)
        own = random.standard_normal((2, questions))
        a, b = (
            (sqrt(0.6) * difficulty + sqrt(0.4) * own[k] < bar).astype(float)
            for k, bar in enumerate((0.4, 0.2))
        )
        if not bootstrap:
            return paired_difference(a, b, groups).interval, truth
        means = bootstrap_means(*cluster_sums(a - b, groups), random, SAMPLES)
        low, high = np.quantile(means, [0.025, 0.975])
        return (float(low), float(high)), truth

    return draw


def suite_interval(tasks: int, questions: int) -> Callable[..., tuple[Interval, float]]:
    """The macro average of tasks of different difficulty."""
    rates = np.linspace(0.3, 0.8, tasks)
    names = [f"task{k}" for k in range(tasks)]
    suite = {"aggregate": "macro", "members": names, "questions": {}}

    def draw(random: np.random.Generator, _: int) -> tuple[Interval, float]:
        results = {}
        for name, rate in zip(names, rates, strict=True):
            score = mean(random.random(questions) < rate)
            entry = {
                "value": score.value, "stderr": score.stderr, "n": score.n,
                "higher_is_better": True,
            }  # fmt: skip
            results[name] = {"primary_metric": "acc", "metrics": {"acc": entry}}
        got = score_suites({"s": suite}, results)["s"]
        half = 1.959963984540054 * got["stderr"]
        return (got["value"] - half, got["value"] + half), float(rates.mean())

    return draw


def drift_rate(sequences: int, checks: int = 365, charts: int = 10, rate: float = 0.05) -> float:
    """Share of sequences of nightly checks without change in which any chart raises an alarm."""
    random = np.random.default_rng(1)
    height = threshold(rate / charts, checks)
    alarms = 0
    for _ in range(sequences):
        values = 0.5 + 0.01 * random.standard_normal((charts, checks))
        alarms += any(cusum(self_starting(v)).max() > height for v in values)
    return alarms / sequences


def gate_rates(runs: int, tasks: int = 10, questions: int = 500, df: int = 9) -> Interval:
    """Shares of checks that fail: of an unchanged model, and after twice the detectable drop.

    Drops are normal: questions' error 1/sqrt(questions), noise of both checkpoints, of which
    ``df`` + 1 checkpoints are known.
    """
    random = np.random.default_rng(0)
    noise, question = 0.01, 0.5 / sqrt(questions)
    alarms = caught = 0
    for _ in range(runs):
        known = noise * np.sqrt(random.chisquare(df, tasks) / df)
        error = sqrt(2 * noise**2 + question**2)

        def fails(
            true: float, known: np.ndarray = known, error: float = error
        ) -> tuple[int, float]:
            drops = true + error * random.standard_normal(tasks)
            seen = question * np.sqrt(random.chisquare(questions - 1, tasks) / (questions - 1))
            findings = [
                _Test(
                    f"t{k}", Score("m", True, 0.5, None, questions, noise=s, noise_df=df), 0.5,
                    drop, v**2, questions, 0.0,
                ).finding(0.05, tasks)
                for k, (drop, v, s) in enumerate(zip(drops, seen, known, strict=True))
            ]  # fmt: skip
            worse = any(f.verdict == "regressed" for f in findings)
            return int(worse), float(np.median([f.detectable for f in findings]))

        alarm, detectable = fails(0.0)
        alarms += alarm
        caught += fails(2 * detectable)[0]
    return alarms / runs, caught / runs


CASES: dict[str, Callable[..., tuple[Interval, float]]] = {
    "SNR, range, 25 models x 5 checkpoints": snr_interval("range", 5, False),
    "SNR, sd, 25 models x 5 checkpoints": snr_interval("sd", 5, False),
    "SNR, pairwise mean, 25 models x 5": snr_interval("pairwise_mean", 5, False),
    "SNR, range, noise of 30 checkpoints of one run": snr_interval("range", 1, True),
    "noise, 10 checkpoints of one run": noise_interval(10),
    "noise, 30 checkpoints of one run": noise_interval(30),
    "decision accuracy 0.75, 12 models": decision_interval(12, 0.7, 1),
    "decision accuracy 0.75, 25 models": decision_interval(25, 0.7, 1),
    "decision accuracy 0.90, 25 models": decision_interval(25, 0.95, 1),
    "decision accuracy 0.75, 25 models x 3 seeds": decision_interval(25, 0.7, 3),
    "decision accuracy 0.75, 100 models": decision_interval(100, 0.7, 1),
    "paired difference, 200 questions, bootstrap": difference_interval(200, None, True),
    "paired difference, 200 questions, normal": difference_interval(200, None, False),
    "paired difference, 400 in 40 passages, bootstrap": difference_interval(400, 40, True),
    "suite mean, 8 tasks x 100 questions": suite_interval(8, 100),
}


def coverage(draw: Callable[..., tuple[Interval, float]], runs: int, seed: int = 0) -> float:
    """Share of ``runs`` simulations whose interval holds the truth."""
    random = np.random.default_rng(seed)
    hits = 0
    for k in range(runs):
        (low, high), truth = draw(random, k)
        hits += low <= truth <= high
    return hits / runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000, help="simulations of each case")
    runs = parser.parse_args().runs
    print(f"coverage of 95 % intervals, {runs} simulations each (error of a share: "
          f"{sqrt(0.95 * 0.05 / runs):.3f})")  # fmt: skip
    for name, draw in CASES.items():
        share = coverage(draw, runs)
        print(f"{'ok ' if 0.92 <= share <= 0.98 else 'BAD'} {share:.3f}  {name}", flush=True)
    for tasks, questions, df in ((10, 500, 9), (20, 2000, 4), (20, 5000, 9)):
        alarms, caught = gate_rates(runs, tasks, questions, df)
        case = f"{tasks} tasks x {questions} questions, noise of {df + 1} checkpoints"
        verdict = "ok " if alarms <= 0.05 else "BAD"
        print(f"{verdict} {alarms:.3f}  gate, no change, fails (0.05 stated): {case}")
        verdict = "ok " if caught >= 0.9 else "BAD"
        print(f"{verdict} {caught:.3f}  gate, twice the detectable drop, found: {case}")
    drifting = drift_rate(runs)
    verdict = "ok " if drifting <= 0.05 + 2 * sqrt(0.05 * 0.95 / runs) else "BAD"
    print(f"{verdict} {drifting:.3f}  drift charts: quiet years with any alarm (0.05)")
    print("for information: models from a Student distribution with 5 degrees of freedom")
    for measure in ("range", "pairwise_mean", "iqr"):
        share = coverage(snr_interval(measure, 5, False, tails=5), runs)
        print(f"    {share:.3f}  SNR, {measure}, 25 models x 5 checkpoints", flush=True)


if __name__ == "__main__":
    main()
