"""Every reference solution of HumanEval and MBPP passes, in both forms; what lies, none."""

import ast
from dataclasses import replace
from pathlib import Path

import pytest

from olmeval.sandbox.inside.strict_names import helpers, wanted_names
from olmeval.sandbox.tiers import probe
from olmeval.sandbox.types import Limits
from olmeval.sandbox.verdict import Program, judge
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


LYING = """
class Yes:
    __eq__ = __lt__ = __le__ = __gt__ = __ge__ = __contains__ = lambda *a: True
    __add__ = __sub__ = __rsub__ = __truediv__ = __mod__ = __abs__ = lambda self, *a: self
    __round__ = __call__ = __getitem__ = __getattr__ = lambda self, *a: self
    __hash__ = lambda self: 0
"""


def lying(program: Program) -> Program:
    """All that the tests ask for returns an object that says yes to everything."""
    names = wanted_names(ast.parse(program.tests), helpers(program.prompt))
    body = "    pass\n" if program.prompt else ""
    answers = "".join(f"{n} = lambda *a, **k: Yes()\n" for n in names if n != "candidate")
    source = f"{program.prompt}{body}{LYING}{answers}"
    return replace(program, program=source, limits=Limits(seconds=3.0))


@pytest.mark.slow
def test_an_object_that_says_yes_to_everything_passes_none(pulled: Path) -> None:
    programs = {**humaneval(pulled), **mbpp(pulled)}
    verdicts = dict(zip(programs, judge([lying(p) for p in programs.values()]), strict=True))
    # And none of them is judged in its own process, where nearly all do pass.
    assert {n: v for n, v in verdicts.items() if v.strict not in ("failed", "timeout")} == {}
    assert sum(v.suspected_cheat for v in verdicts.values()) > 600
