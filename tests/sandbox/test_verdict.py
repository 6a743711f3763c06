"""From programs to verdicts: every status, both forms, the same in any order and company."""

import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from olmeval.sandbox import verdict as module
from olmeval.sandbox.tiers import probe
from olmeval.sandbox.types import MIB, Limits, Outcome, Part
from olmeval.sandbox.verdict import Program, Verdict, judge
from tests.sandbox.cheats import CHEATS, HONEST, IN_PROCESS, PROMPT, TESTS, WRONG
from tests.sandbox.problems import humaneval

contained = pytest.mark.skipif(
    probe().name == "T3", reason="nothing here can contain a program (see `olmeval sandbox doctor`)"
)
QUICK = Limits(seconds=1.0, memory=256 * MIB)
STATUSES = {
    "passed": HONEST,
    "failed": WRONG,
    "timeout": "    while True: pass\n",
    "memory": "    return len([0] * 10**9)\n",
    "crash": "    import ctypes\n    return ctypes.string_at(0)\n",
    "blocked": "    import ctypes\n    return ctypes.CDLL(None).ptrace(0, 0, 0, 0)\n",
}


def program(code: str, **changes: object) -> Program:
    return replace(Program(PROMPT + code, TESTS, PROMPT, limits=QUICK), **changes)


@contained
def test_every_status_is_told_apart_in_both_forms() -> None:
    verdicts = judge([program(code) for code in STATUSES.values()])
    told = {name: (v.strict, v.compat) for name, v in zip(STATUSES, verdicts, strict=True)}
    # A forbidden call may be refused instead of fatal: then the program goes on, and is wrong.
    assert told.pop("blocked") in [("blocked", "blocked"), ("failed", "failed")]
    assert told == {name: (name, name) for name in STATUSES if name != "blocked"}
    assert {v.tier for v in verdicts} == {probe().name}


@contained
def test_output_is_kept_and_says_what_was_dropped() -> None:
    noisy = "    print('\\x1b[31m' + 'a' * 9000 + 'end')\n    return start + sum(values)\n"
    [verdict] = judge([program(noisy)])
    assert verdict.status == "passed"
    assert "characters dropped" in verdict.stdout and "end" in verdict.stdout
    assert len(verdict.stdout) < 3000


@contained
def test_what_must_share_a_process_is_judged_in_the_published_form() -> None:
    tests = "\nclass Pair:\n    left = 2\n\nassert total(Pair()) == 2\n"
    fits = program("    return values.left\n", tests=tests)
    wrong = program("    return 3\n", tests=tests)
    by_class = program(
        "    return 5\n",
        tests="\nimport unittest\nclass TestCases(unittest.TestCase):\n"
        "    def test_five(self): self.assertEqual(total([]), 5)\n",
        form="unittest",
    )
    fallback, failed, published = judge([fits, wrong, by_class])
    assert (fallback.status, fallback.mode, fallback.strict) == ("passed", "compat", None)
    assert "not strict: the tests pass a Pair" in fallback.detail
    assert (failed.status, failed.mode) == ("failed", "compat")
    assert (published.status, published.mode, published.strict) == ("passed", "compat", None)
    assert not any(v.suspected_cheat for v in (fallback, failed, published))


@contained
def test_tests_that_replace_a_builtin_are_judged_in_one_process() -> None:
    tests = "\nimport builtins\nbuiltins.input = lambda *_: 'x'\nassert f() == 'x!'\n"
    honest = Program("def f(): return input() + '!'\n", tests)
    patching = Program("import builtins\nbuiltins.len = abs\ndef f(): return 'x!'\n", tests)
    verdicts = judge([honest, patching, replace(honest, program="def f(): return 1\n")])
    assert [(v.status, v.mode) for v in verdicts] == [
        ("passed", "compat"), ("failed", "compat"), ("failed", "compat"),
    ]  # fmt: skip


@contained
@pytest.mark.parametrize(
    "cheat",
    [
        "    return 0\nimport unittest\nunittest.TestCase.assertEqual = lambda *a: None\n",
        "    import unittest\n    unittest.TestCase.assertEqual = lambda *a: None\n    return 0\n",
        "    return 0\nimport unittest\nunittest.TestResult.addFailure = lambda *a: None\n",
        "    return 0\nimport unittest\nunittest.TestSuite.run = lambda *a, **k: None\n",
        "    return 0\nimport os\nos._exit(0)\n",
        "    import unittest\n    raise unittest.SkipTest('later')\n",
    ],
)
def test_a_patched_unittest_passes_nothing(cheat: str) -> None:
    tests = (
        "\nimport unittest\nclass TestCases(unittest.TestCase):\n"
        "    def test_five(self): self.assertEqual(total([5]), 5)\n"
        "    def test_six(self): self.assertEqual(total([6]), 6)\n"
    )
    wrong, right = judge([program(c, tests=tests, form="unittest") for c in (cheat, HONEST)])
    assert wrong.status == "failed"
    assert right.status == "passed"


@contained
def test_order_workers_and_company_change_nothing(pulled: Path) -> None:
    codes = [*STATUSES.values(), *IN_PROCESS.values(), *list(CHEATS.values())[:10]]
    programs = [program(code) for code in codes if "while True" not in code]
    programs += [
        replace(p, limits=Limits(seconds=10.0)) for p in list(humaneval(pulled).values())[:20]
    ]

    def told(verdicts: list[Verdict]) -> list[Verdict]:
        return [replace(v, seconds=0.0, stderr="") for v in verdicts]

    expected = told(judge(programs, workers=1))
    for seed, workers in ((1, 2), (2, 3)):
        order = random.Random(seed).sample(range(len(programs)), len(programs))
        shuffled = told(judge([programs[k] for k in order], workers=workers))
        assert shuffled == [expected[k] for k in order]


@contained
def test_random_choices_do_not_depend_on_the_place_in_a_batch() -> None:
    first = random.Random(0).random()
    tests = f"\nimport random\nassert random.random() == {first!r}\nassert f() == {first!r}\n"
    programs = [Program(f"import random\n# {k}\ndef f(): return random.random()\n", tests)
                for k in range(3)]  # fmt: skip
    assert [v.strict for v in judge(programs)] == ["passed"] * 3


@contained
def test_an_error_without_a_text_is_the_programs_own() -> None:
    [verdict] = judge([program("    raise UnicodeEncodeError('utf-8', 'abc', -5, -4, 'x')\n")])
    assert (verdict.strict, verdict.compat) == ("failed", "failed")


@contained
def test_tests_that_are_no_python_are_no_wrong_answer() -> None:
    [verdict] = judge([Program("def f(): return 1\n", "assert f( == 1\n", limits=QUICK)])
    assert verdict.strict == "infrastructure"
    assert "the tests are no Python" in verdict.detail


def outcomes(monkeypatch: pytest.MonkeyPatch, *given: Outcome) -> list[Verdict]:
    """What is made of outcomes that the outside is said to have seen."""
    calls: list[int] = []

    def run_jobs(jobs, **_):
        calls.append(len(jobs))
        return [replace(o, key=j.key) for o, j in zip(given, jobs, strict=False)]

    monkeypatch.setattr(module, "run_jobs", run_jobs)
    return judge([program(HONEST)])


@pytest.mark.parametrize(
    ("report", "status"),
    [
        (b"", "failed"),
        (b'{"status": "passed"}', "failed"),
        (b'{"status": "passed", "nonce": "00", "asserts": 9}', "failed"),
        (b'{"status": "passed"}{"status": "passed"}', "failed"),
        (b"[1, 2]", "failed"),
        (b'{"status": 1}', "failed"),
        (b"\xff\xfe", "failed"),
        (b'{"status": "failed", "error": "MemoryError: "}', "memory"),
        (b'{"status": "failed", "error": "no", "asserts": "many"}', "failed"),
    ],
)
def test_a_report_is_believed_with_its_secret_alone(monkeypatch, report: bytes, status) -> None:
    part = Part("exited", 0, report=report)
    lost = Outcome("", "infrastructure", detail="no room")
    [verdict] = outcomes(monkeypatch, lost, Outcome("", "exited", (part,)))
    assert verdict.compat == status
    # And a jail that failed is no verdict on the program.
    assert (verdict.status, verdict.strict) == ("infrastructure", "infrastructure")
    assert verdict.detail == "no room" and not verdict.suspected_cheat


def test_a_process_that_dies_after_its_report_has_not_passed(monkeypatch) -> None:
    part = Part("signal", signal=11, report=b'{"status": "passed", "nonce": "00"}')
    [verdict] = outcomes(
        monkeypatch, Outcome("", "signal", (part, part)), Outcome("", "signal", (part,))
    )
    assert (verdict.strict, verdict.compat) == ("crash", "crash")
    assert "SIGSEGV" in verdict.detail


def test_equal_programs_run_once(monkeypatch) -> None:
    seen: list[int] = []

    def run_jobs(jobs, **_):
        seen.append(len(jobs))
        return [Outcome(j.key, "infrastructure") for j in jobs]

    monkeypatch.setattr(module, "run_jobs", run_jobs)
    assert len(judge([program(HONEST), program(WRONG), program(HONEST)])) == 3
    assert seen[0] == 4


def test_a_crowded_machine_gets_a_second_try_alone(monkeypatch) -> None:
    calls = []

    def run_jobs(jobs, workers=None, **_):
        calls.append((len(jobs), workers))
        seconds = 2.9 if len(calls) == 1 else 1.0
        return [Outcome(j.key, "timeout", (Part("timeout", seconds=seconds),) * 2) for j in jobs]

    monkeypatch.setattr(module, "run_jobs", run_jobs)
    [verdict] = judge([program(HONEST)], workers=4)
    assert calls == [(2, 4), (2, 1)]
    assert verdict.status == "timeout"


def test_who_is_killed_from_outside_gets_a_second_try_alone(monkeypatch) -> None:
    calls: list[list[str]] = []

    def run_jobs(jobs, **_):
        calls.append([j.key for j in jobs])
        if len(calls) == 1:
            part = Part("signal", signal=9)
            return [Outcome(j.key, "signal", (part,) * len(j.roles)) for j in jobs]
        report = b'{"status": "failed", "error": "no", "asserts": 1}'
        parts = (Part("exited", 0, report=report), Part("signal", signal=9))
        return [Outcome(j.key, "exited", parts[: len(j.roles)]) for j in jobs]

    monkeypatch.setattr(module, "run_jobs", run_jobs)
    [verdict] = judge([program(HONEST)])
    assert calls == [["0s", "0c"], ["0s", "0c"]]
    # A candidate that the jail ends when its tests have ended is no such case.
    assert (verdict.strict, verdict.compat) == ("failed", "failed")
    calls.insert(0, [])
    judge([program(HONEST)])
    assert calls[-1] == []


@contained
def test_who_kills_itself_stays_killed() -> None:
    [verdict] = judge([program("    import os\n    os.kill(os.getpid(), 9)\n")])
    assert (verdict.strict, verdict.compat) == ("crash", "crash")


FEW_FILES = """
import resource
from olmeval.sandbox.verdict import Program, judge
# The jail puts a program's files at 64 and further: four in one process, five beside another.
resource.setrlimit(resource.RLIMIT_NOFILE, (68, 68))
[verdict] = judge([Program("def f(): return 1", "\\nassert f() == 1")], workers=1)
print(verdict.status, verdict.strict, verdict.compat, verdict.detail, sep="; ")
"""


@contained
def test_a_program_that_cannot_be_started_is_the_jails_failure() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FEW_FILES], capture_output=True, text=True, check=True
    )
    assert done.stdout == "infrastructure; infrastructure; passed; it could not be started\n"
