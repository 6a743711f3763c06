"""HumanEval+ from either of its copies, against EvalPlus' rule of comparison."""

import gzip
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from olmeval.errors import UserError
from olmeval.tasks.hooks_code import CLOSE, COMPARED, humaneval_plus
from olmeval.tasks.registry import load_task

NAMES: dict[str, Any] = {}
exec(CLOSE + COMPARED, NAMES)
NUMBERS = st.floats(-10, 10) | st.sampled_from([0.0, math.inf, -math.inf, math.nan, 1 + 1e-6])
ROW = {
    "task_id": "HumanEval/900",
    "prompt": 'def half(n):\n    """ Half of it. """\n',
    "canonical_solution": "    return n / 2\n",
    "entry_point": "half",
    "base_input": [[4], [7]],
    "plus_input": [[-3.5], [float("inf")]],
    "atol": 0,
}


@given(st.lists(st.tuples(NUMBERS, NUMBERS), max_size=5), st.sampled_from([1e-6, 1e-3, 0.5]))
def test_closeness_is_numpys(pairs: list[tuple[float, float]], tolerance: float) -> None:
    left, right = [a for a, _ in pairs], [b for _, b in pairs]
    close = NAMES["np"].allclose
    with np.errstate(invalid="ignore"):
        expected = bool(np.allclose(left, right, rtol=1e-07, atol=tolerance))
        assert close(left, right, rtol=1e-07, atol=tolerance) == expected
        for a, b in pairs:
            assert close(a, b, atol=tolerance) == bool(np.allclose(a, b, atol=tolerance))


@pytest.mark.parametrize(
    ("found", "expected", "tolerance", "same"),
    [
        (1.0000001, 1.0, 0, True),
        (1.001, 1.0, 0, False),
        (1.001, 1.0, 0.01, True),
        (1, 2, 0, False),
        ([1.0, 2.0000001], [1.0, 2.0], 0, True),
        ((1.0, 2.0000001), [1.0, 2.0], 0, False),
        ("a", "b", 0, False),
        (True, 1, 0, True),
        (None, 1.0, 0, False),
    ],
)
def test_values_compare_as_in_evalplus(found, expected, tolerance, same) -> None:
    assert NAMES["same"](found, expected, tolerance) is same


def passes(row: dict[str, Any], solution: str) -> bool:
    [document] = humaneval_plus([row])
    names: dict[str, Any] = {}
    try:
        exec(f"{row['prompt']}{solution}\n{document['test']}\ncheck({row['entry_point']})", names)
    except AssertionError:
        return False
    return True


def test_inputs_are_run_beside_the_reference() -> None:
    assert passes(ROW, "    return n * 0.5\n")
    assert not passes(ROW, "    return n // 2\n")
    # Right on the first tests alone.
    assert not passes(ROW, "    return n / 2 if n > 0 else 0\n")


def test_a_root_is_judged_by_the_polynomials_value() -> None:
    row = {
        **ROW,
        "prompt": "def poly(c, x):\n    return sum(a * x**k for k, a in enumerate(c))\n\n"
        "def find_zero(c):\n    ''' Any root. '''\n",
        "canonical_solution": "    return 2.0\n",
        "entry_point": "find_zero",
        "base_input": [[[-4, 0, 1]]],
        "plus_input": [],
        "atol": 1e-4,
    }
    assert passes(row, "    return -2.0\n")
    assert not passes(row, "    return 1.9\n")


def test_the_hubs_tests_run_without_numpy() -> None:
    test = (
        "import numpy as np\n\ndef is_floats(x) -> bool:\n    if isinstance(x, np.ndarray):\n"
        "        return x.dtype == np.float64 or x.dtype == np.float32\n"
        "    return isinstance(x, float)\n\ndef assertion(out, exp, atol):\n"
        "    exact_match = out == exp\n    if atol == 0 and is_floats(exp):\n        atol = 1e-6\n"
        "    if not exact_match and atol != 0:\n"
        "        assert np.allclose(out, exp, rtol=1e-07, atol=atol)\n"
        "    else:\n        assert exact_match\n\ndef check(candidate):\n"
        "    for inp, exp in zip([[4], [7]], [2.0, 3.5]):\n"
        "        assertion(candidate(*inp), exp, 0)\n"
    )
    row = {k: ROW[k] for k in ("task_id", "prompt", "canonical_solution", "entry_point")}
    [document] = humaneval_plus([{**row, "test": test}])
    assert "import numpy" not in document["test"]
    assert passes({**row, "test": test}, "    return n / 2 + 1e-9\n")
    assert not passes({**row, "test": test}, "    return n / 2 + 1e-3\n")


def test_a_row_without_tests_is_named() -> None:
    row = {k: v for k, v in ROW.items() if k != "plus_input"}
    with pytest.raises(UserError, match=r"'HumanEval/900'.*'plus_input'"):
        humaneval_plus([row])


def test_the_file_makes_the_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLMEVAL_DATA", str(tmp_path))
    rows = [{**ROW, "task_id": f"HumanEval/{k}"} for k in range(900, 905)]
    with gzip.open(tmp_path / "HumanEvalPlus.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(r) + "\n" for r in rows)
    task = load_task("humaneval_plus")
    assert task.name == "codex_humanevalplus:code:3shot" and task.grader == "code"
    [instance, *_] = task.instances()
    assert instance.requests[0].context.endswith("```python\n" + ROW["prompt"])
    [(before, tests)] = instance.references
    names: dict[str, Any] = {}
    exec(before + "    return n / 2\n" + tests, names)
