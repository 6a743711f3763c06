"""The table of a dry run as people read it."""

import pytest

from olmeval.cli.dry_run import count, duration, print_dry_run
from olmeval.engine.dry_run import Asked, Cautions, DryRun, Generation
from olmeval.engine.probe import Estimate, Speed


def asked(name: str, **changes) -> Asked:
    none = Cautions(0, 0, 0, 0, 0, 0)
    scored = {"tokens_naive": 91_000_000, "tokens_planned": 6_340_000, "tokens_tree": 6_310_000}
    return Asked(**{
        "name": name, "kind": "loglikelihood", "instances": 10, "requests": 1234, "distinct": 1000,
        **scored, "generation": Generation(), "cautions": none, **changes,
    })  # fmt: skip


def printed(result: DryRun, capsys: pytest.CaptureFixture[str]) -> list[str]:
    print_dry_run(result)
    return capsys.readouterr().out.splitlines()


def test_one_task_without_a_model(capsys) -> None:
    line = asked("arc_easy:rc:5shot", cautions=Cautions(2, 0, 1, 0, 0, 7))
    head, row, summary = printed(DryRun((line,), line), capsys)
    assert head.split() == ["task", "requests", "naive", "planned", "tree", "saved", "notes"]
    assert row.split(maxsplit=6) == [
        "arc_easy:rc:5shot", "1,234", "91.0M", "6.34M", "6.31M", "14.4x",
        "2 truncated, 1 seams, 7 missing bos",
    ]  # fmt: skip
    assert summary == "1,000 distinct requests"


def test_a_run_with_generations_and_a_model(capsys) -> None:
    none = {"tokens_naive": 0, "tokens_planned": 0, "tokens_tree": 0}
    some = Generation(prompts=500, samples=4000, prompt_tokens=350_000, new_tokens=2_048_000)
    tasks = (
        asked("hellaswag:rc", estimate=Estimate(75.0, 60.0, 90.0)),
        asked("gsm8k", generation=some, estimate=Estimate(7300.0, 30.0, 9000.0), **none),
    )
    total = asked("total", generation=some, estimate=Estimate(7375.0, 90.0, 9090.0))
    speed = Speed(row=1e-4, path=2e-5, scoring_range=1.2, read=1e-5, write=3e-3)
    head, first, second, last, summary = (
        line for line in printed(DryRun(tasks, total, speed), capsys) if line.strip()
    )
    assert head.split() == [
        "task", "requests", "naive", "planned", "tree", "saved", "prompts", "new", "tokens", "time",
        "notes",
    ]  # fmt: skip
    assert first.split()[5:] == ["14.4x", "1", "min", "15", "s"]
    assert second.split() == ["gsm8k", "1,234", "500", "≤", "2.05M", "≤", "2", "h", "02", "min"]
    assert last.split()[0] == "total"
    assert "1 min 30 s to 2 h 32 min by a probe of this model" in summary
    assert "10.0k/s tokens scored in rows" in summary


def test_counts_and_durations() -> None:
    numbers = [0, 512, 999, 1000, 4213, 31_700, 999_600, 2_048_000, 196_090_000, 1.2e10]
    assert [count(n) for n in numbers] == [
        "0", "512", "999", "1.00k", "4.21k", "31.7k", "1.00M", "2.05M", "196M", "12.0G",
    ]  # fmt: skip
    assert [duration(s) for s in (0.04, 4.24, 9.97, 59.4, 59.6, 65, 3599.9, 12_000)] == [
        "0.0 s", "4.2 s", "10 s", "59 s", "1 min 00 s", "1 min 05 s", "1 h 00 min", "3 h 20 min",
    ]  # fmt: skip
