"""Programs that want a pass without being right do not get one; what only strict sees is told."""

from dataclasses import replace

import pytest

from olmeval.sandbox import run as sandbox_run
from olmeval.sandbox import tiers
from olmeval.sandbox.verdict import Program, Verdict, judge
from tests.sandbox.cheats import CHEATS, HONEST, IN_PROCESS, KNOWING, PROMPT, TESTS

pytestmark = pytest.mark.skipif(
    tiers.probe().name == "T3",
    reason="nothing here can contain a program (see `olmeval sandbox doctor`)",
)
ALL = {**CHEATS, **KNOWING, **IN_PROCESS}


WALLS = {wall.name: wall for wall in tiers.walls()} if tiers.probe().name != "T3" else {}


@pytest.fixture(scope="module", params=["T1", "T2"])
def verdicts(request: pytest.FixtureRequest) -> dict[str, Verdict]:
    """Of every cheat, in each tier that this machine has."""
    if request.param not in WALLS or tiers.try_wall(WALLS[request.param]):
        pytest.skip(f"there is no {request.param} here")
    found = replace(tiers.probe(), name=request.param, wall=WALLS[request.param])
    programs = [Program(PROMPT + code, TESTS, PROMPT) for code in [HONEST, *ALL.values()]]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sandbox_run, "probe", lambda: found)
        return dict(zip(["honest", *ALL], judge(programs), strict=True))


def test_the_honest_program_passes_both_forms(verdicts: dict[str, Verdict]) -> None:
    honest = verdicts["honest"]
    assert (honest.strict, honest.compat, honest.mode) == ("passed", "passed", "strict")
    # Three in a row, five in the loop, one more.
    assert honest.asserts == 9


@pytest.mark.parametrize("name", ALL)
def test_no_cheat_passes(verdicts: dict[str, Verdict], name: str) -> None:
    verdict = verdicts[name]
    assert verdict.status not in ("passed", "infrastructure"), verdict
    assert verdict.strict != "passed"


@pytest.mark.parametrize("name", CHEATS)
def test_the_compatible_form_is_not_fooled_by_these(
    verdicts: dict[str, Verdict], name: str
) -> None:
    assert verdicts[name].compat not in ("passed", "infrastructure")
    assert not verdicts[name].suspected_cheat


def test_what_one_process_cannot_see_is_suspected(verdicts: dict[str, Verdict]) -> None:
    suspected = {name for name in ALL if verdicts[name].suspected_cheat}
    assert suspected == {name for name in IN_PROCESS if verdicts[name].compat == "passed"}
    # They do pass where program and tests share an interpreter: the strict form is needed.
    assert {"equal to everything", "its own classes' instance"} <= suspected


def test_there_are_enough_of_them() -> None:
    assert len(ALL) >= 45
