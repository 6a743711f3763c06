"""Every reference solution of HumanEval and MBPP passes, in both forms."""

from pathlib import Path

import pytest

from olmeval.sandbox.tiers import probe
from olmeval.sandbox.verdict import judge
from tests.sandbox.problems import humaneval, mbpp

pytestmark = pytest.mark.skipif(
    probe().name == "T3", reason="nothing here can contain a program (see `olmeval sandbox doctor`)"
)


@pytest.mark.parametrize(("load", "count"), [(humaneval, 164), (mbpp, 500)])
def test_reference_solutions_pass_in_both_forms(pulled: Path, load, count: int) -> None:
    programs = load(pulled)
    assert len(programs) == count
    verdicts = dict(zip(programs, judge(list(programs.values())), strict=True))
    other = {
        name: verdict
        for name, verdict in verdicts.items()
        if (verdict.mode, verdict.strict, verdict.compat) != ("strict", "passed", "passed")
    }
    assert other == {}
    assert all(verdict.asserts >= 1 for verdict in verdicts.values())
