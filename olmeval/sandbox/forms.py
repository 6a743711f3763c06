"""How BigCodeBench and DS-1000 put an answer and its tests together.

Both run in an environment of their own with pinned libraries, and both in the form that was
published alone: their tests hold data frames, figures and patched modules, which do not cross to
another process.
"""

from collections.abc import Callable, Sequence

from olmeval.errors import UserError
from olmeval.sandbox import environments
from olmeval.sandbox.sanitize import sanitize
from olmeval.sandbox.types import MIB, Limits
from olmeval.sandbox.verdict import Program

# OLMES gives 3 s to a BigCodeBench program and 120 s to one of DS-1000 (github.com/allenai/
# olmo-eval, tasks/bigcodebench.py and ds1000.py). Address space is not limited, as native
# libraries reserve far more than they use.
BIGCODEBENCH_LIMITS = Limits(
    seconds=3.0, memory=4096 * MIB, processes=64, file_bytes=64 * MIB, inodes=4000,
    address_space=False,
)  # fmt: skip
DS1000_LIMITS = Limits(
    seconds=120.0, memory=4096 * MIB, processes=64, file_bytes=64 * MIB, inodes=4000,
    address_space=False,
)  # fmt: skip
# What BigCodeBench's harness puts into a program's module before it runs.
GIVEN = "import sys, os\nfrom os import environ\n"


def bigcodebench(answer: str, parts: Sequence[str]) -> Program:
    """``parts``: complete prompt, code prompt, entry point, tests (a ``TestCases`` class).

    What the answer completes is cut to the entry point and what that needs
    (:func:`olmeval.sandbox.sanitize.sanitize`), and stands behind the code prompt with an empty
    body, as OLMES and the benchmark's calibrated scores have it.
    """
    prompt, code_prompt, entry_point, tests = _exactly(4, "bigcodebench", parts)
    solution = sanitize(prompt + answer, entry_point) if answer else ""
    return Program(
        f"{GIVEN}{code_prompt}\n    pass\n{solution}",
        tests if tests.startswith("\n") else f"\n{tests}",
        form="unittest",
        strict=False,
        limits=BIGCODEBENCH_LIMITS,
        environment=str(environments.require("bigcodebench").path),
    )


def ds1000(answer: str, parts: Sequence[str]) -> Program:
    """``parts``: nothing, and the problem's context, which defines how an answer is tested.

    The context's ``test_execution`` puts the answer's text for ``[insert]`` in a program of its
    own, runs that for each test case and compares results; ``test_string``, where there is one,
    looks at the text (Lai et al. 2022, arXiv:2211.11501, section 2.3).
    """
    _, context = _exactly(2, "ds1000", parts)
    calls = "test_execution(code)\n"
    if "test_string(" in context:
        calls += "test_string(code)\n"
    return Program(
        f"code = {answer!r}",
        f"\n{context}\n{calls}",
        strict=False,
        limits=DS1000_LIMITS,
        environment=str(environments.require("ds1000").path),
    )


FORMS: dict[str, Callable[[str, Sequence[str]], Program]] = {
    "bigcodebench": bigcodebench,
    "ds1000": ds1000,
}


def _exactly(count: int, form: str, parts: Sequence[str]) -> Sequence[str]:
    if len(parts) != count:
        raise UserError(
            f"the reference of grader 'code:{form}' has {count} parts, not {len(parts)}"
        )
    return parts
