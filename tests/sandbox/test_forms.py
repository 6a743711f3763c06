"""BigCodeBench and DS-1000: answers put together with tests in the published form, and judged.

Problems here are our own, in the shape of the benchmarks'. They need no library, so that the
interpreter of the tests stands in for the pinned environment.
"""

from dataclasses import replace
from pathlib import Path

import pytest

from olmeval.errors import UserError
from olmeval.sandbox import environments, forms, tiers
from olmeval.sandbox.verdict import Program, Verdict, judge

PROMPT = (
    "import re\nLIMIT = 2\n\ndef task_func(text):\n"
    '    """The words of a text that are longer than LIMIT.\n    """\n'
)
CODE_PROMPT = "import re\nLIMIT = 2\ndef task_func(text):"
TESTS = """
import unittest
class TestCases(unittest.TestCase):
    def setUp(self):
        self.text = "a few words of it"
    def test_words(self):
        self.assertEqual(task_func(self.text), ["few", "words"])
    def test_none(self):
        self.assertEqual(task_func(""), [])
    def test_file(self):
        with open("notes.txt", "w") as file:
            file.write("abc")
        self.assertTrue(os.path.exists("notes.txt"))
"""
GOOD = "    return [w for w in re.findall(r'\\w+', text) if len(w) > LIMIT]\n"

CONTEXT = '''
def generate_test_case(test_case_id):
    return [[3, 1, 2], [0]][test_case_id - 1], [[1, 2, 3], [0]][test_case_id - 1]
def exec_test(result, ans):
    return 1 if result == ans else 0
exec_context = r"""
values = test_input
[insert]
result = values
"""
def test_execution(solution: str):
    code = exec_context.replace("[insert]", solution)
    for i in range(2):
        test_input, expected_result = generate_test_case(i + 1)
        test_env = {"test_input": test_input}
        exec(code, test_env)
        assert exec_test(test_env["result"], expected_result)
def test_string(solution: str):
    assert "sort" in solution
'''


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pinned environments are taken for present; :func:`judged` leaves them out again."""
    made = environments.Environment("stand-in", Path("/nowhere"), "3", {})
    monkeypatch.setattr(environments, "require", lambda name: made)


def judged(program: Program) -> Verdict:
    if tiers.probe().name == "T3":
        pytest.skip("nothing here can contain a program")
    [verdict] = judge([replace(program, environment=None)])
    return verdict


def bigcodebench(answer: str) -> Program:
    return forms.bigcodebench(answer, (PROMPT, CODE_PROMPT, "task_func", TESTS))


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (GOOD, "passed"),
        (f"{GOOD}\n\nprint(task_func('x'))\n```\nThis is it.", "passed"),
        ("    return text.split()\n", "failed"),
        ("    return [w for w in", "failed"),
        ("", "failed"),
        ("    import sys\n    sys.exit(0)\n", "failed"),
        (f"{GOOD}\nimport unittest\nunittest.TestCase.assertEqual = None\n", "passed"),
        (
            "    import unittest\n"
            "    unittest.TestCase.assertEqual = unittest.TestCase.assertTrue = print\n",
            "failed",
        ),
    ],
)
def test_bigcodebench(answer: str, status: str) -> None:
    verdict = judged(bigcodebench(answer))
    assert verdict.status == status, verdict
    assert verdict.mode == "compat"


def test_bigcodebench_programs_hold_what_the_harness_gives_and_what_is_needed() -> None:
    program = bigcodebench(f"{GOOD}\ndef unused():\n    pass\n")
    assert program.program.startswith(f"{forms.GIVEN}{CODE_PROMPT}\n    pass\nimport re\n")
    assert "unused" not in program.program
    assert program.limits.seconds == 3.0 and program.environment == "/nowhere"


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        ("values = sorted(values)", "passed"),
        ("values.sort()\n", "passed"),
        ("values = [1, 2, 3]  # sort", "failed"),  # the second test case
        ("values = [v for v in range(4) if v in values]", "failed"),  # test_string
        ("import sys; sys.exit(0)  # sort", "failed"),
        ("values = (", "failed"),
        ("", "failed"),
    ],
)
def test_ds1000(answer: str, status: str) -> None:
    verdict = judged(forms.ds1000(answer, ("", CONTEXT)))
    assert verdict.status == status, verdict
    assert verdict.mode == "compat"


def test_ds1000_without_a_test_of_the_text() -> None:
    context = CONTEXT.partition("def test_string")[0]
    program = forms.ds1000("values = [v for v in range(4) if v in values]", ("", context))
    assert "test_string" not in program.tests
    assert judged(program).status == "passed"


def test_a_reference_of_another_shape_is_refused() -> None:
    with pytest.raises(UserError, match="'code:bigcodebench' has 4 parts, not 2"):
        forms.bigcodebench("", ("", ""))
    with pytest.raises(UserError, match="'code:ds1000' has 2 parts, not 1"):
        forms.ds1000("", ("",))


def test_without_the_environment_the_way_to_get_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> environments.Environment:
        raise UserError(f"run `olmeval sandbox env create {name}`")

    monkeypatch.setattr(environments, "require", absent)
    for form, parts in (("bigcodebench", 4), ("ds1000", 2)):
        with pytest.raises(UserError, match=f"env create {form}`"):
            forms.FORMS[form]("x", ("",) * parts)
