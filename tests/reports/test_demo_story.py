"""The whole demo, as short as it goes; and the interval of its comparison."""

from pathlib import Path

import pytest
from scipy.stats import t

from olmeval.files import read_json
from olmeval.reports import demo_story
from olmeval.reports.demo_story import tell_story, welch
from olmeval.results.run import find_runs


def test_intervals_of_a_difference() -> None:
    """Welch 1947: variances 0.01 and 0.04 of three each give 2.941 degrees of freedom."""
    a, b = (1.9, 2.0, 2.1), (1.3, 1.5, 1.7)
    gain, half = welch(a, b)
    error = (0.01 / 3 + 0.04 / 3) ** 0.5
    freedom = error**4 / ((0.01 / 3) ** 2 / 2 + (0.04 / 3) ** 2 / 2)
    assert freedom == pytest.approx(2.941, abs=1e-3)
    assert gain == pytest.approx(0.5) and half == pytest.approx(t.ppf(0.975, freedom) * error)


@pytest.mark.slow
def test_the_whole_story(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every stage leaves its files; what is said of the mixtures is what the runs measured."""
    small = {"sizes": ("d16", "d24", "d32"), "multiples": (0.05, 0.06), "target": ("d48", 0.05)}
    monkeypatch.setattr(demo_story, "LADDER", small)
    monkeypatch.setattr(demo_story, "SEEDS", (101, 102))
    monkeypatch.setattr(demo_story, "CHECKPOINTS", 2)
    monkeypatch.setattr(demo_story, "CORPUS_TOKENS", 100_000)
    monkeypatch.setattr(demo_story, "_benchmarks", lambda say: False)
    told: list[str] = []
    story = tell_story(tmp_path, tokens=10_240, runs=6, say=told.append, progress=False)
    stages = ["corpus", "swarm", "mixture", "confirmation", "ladder", "decisions", "report"]
    assert [line.split(":")[0] for line in told] == stages and list(story.seconds) == stages
    assert sum(story.proposal.mixture.weights.values()) == pytest.approx(1)
    runs = find_runs([tmp_path / "runs"])
    assert len(runs) == 2 * 2 * 2 and not story.real_tasks
    last = max(run.info["model"]["metadata"]["step"] for run in runs)
    for mix, values in story.comparison.scores.items():
        found = sorted(
            sum(r["metrics"]["bits_per_byte"]["value"] for r in run.metrics["tasks"].values()) / 3
            for run in runs
            if run.info["model"]["metadata"]["mix"] == mix
            and run.info["model"]["metadata"]["step"] == last
        )
        assert found == pytest.approx(sorted(values))
    assert all(row.actual is not None for row in story.forecast)
    assert len(story.snr) == 3 and story.gate.exit_code in (0, 1, 2)
    assert read_json(tmp_path / "gate.json")["run"].startswith("optimized-seed101")
    page = story.page.read_text(encoding="utf-8")
    for words in ("optimized", "cpu-demo", "held_out_code"):
        assert words in page
