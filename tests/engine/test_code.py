"""Tasks whose answers are programs, from end to end."""

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib import metadata
from math import sqrt
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import olmeval.sandbox.tiers as tiers
import olmeval.sandbox.verdict as verdict_module
from olmeval.backends.base import Generated
from olmeval.backends.hf import TransformersBackend
from olmeval.cli.run import run as command_run
from olmeval.engine.evaluate import evaluate
from olmeval.engine.grade import check_grader, grade
from olmeval.engine.grade_code import Running, environment_of
from olmeval.engine.settings import Settings
from olmeval.engine.work import load_work
from olmeval.errors import UserError
from olmeval.metrics.sampling import pass_at_k
from olmeval.sandbox.types import Outcome
from tests.sandbox.cheats import HONEST, IN_PROCESS, PROMPT, TESTS, WRONG

CPU = Settings(device="cpu")
contained = pytest.mark.skipif(
    tiers.probe().name == "T3", reason="nothing here can contain a program"
)
TASKS = """
families:
  sums:
    summary: Functions that add.
    split: test
    splits: {test: [{file: sums.jsonl}]}
    default: code
    formats:
      code:
        prompt: "{prompt}"
        references: [["{prompt}", "\\n{test}"]]
        grader: code
        sampling: {stop: ["\\nclass Stop"], max_tokens: 4, temperature: 0.6, n: 4}
        primary: pass_at_1
        num_shots: 0
"""
DOCS = 6
ENDLESS = "    while True: pass\n"
CHEAT = IN_PROCESS["equal to everything"]


def text_of(number: int, sample: int) -> str:
    """What the model writes: of document ``number``, so many right answers first."""
    if sample < number % 4:
        return HONEST
    if (number, sample) == (4, 3):
        return ENDLESS  # one: it takes its time
    return [WRONG, CHEAT][(number + sample) % 2]


@pytest.fixture(scope="module")
def task_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tasks")
    (folder / "sums.yaml").write_text(TASKS)
    rows = [
        {"id": f"sums/{k}", "prompt": f"# Number {k}.\n{PROMPT}", "test": TESTS}
        for k in range(DOCS)
    ]
    (folder / "sums.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    return folder


@pytest.fixture(scope="module")
def verdict_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where verdicts are kept for the tests of this file."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch, verdict_dir: Path) -> None:
    """A model that writes :func:`text_of`."""
    monkeypatch.setenv("OLMEVAL_CACHE", str(verdict_dir))

    def generate(self, prompts: Sequence):
        for place, prompt in enumerate(prompts):
            text = self.tokenizer.decode(prompt.ids)
            number = int(text.split("# Number ")[1].partition(".")[0])
            yield (
                place,
                tuple(
                    Generated(text=text_of(number, k), n_tokens=4, logprob=-1.0, finish="stop")
                    for k in range(prompt.sampling.n)
                ),
            )

    monkeypatch.setattr(TransformersBackend, "generate", generate)


@contained
@pytest.mark.usefixtures("written")
def test_pass_at_k_of_programs_that_were_run(checkpoint, task_dir, tmp_path) -> None:
    run = evaluate(checkpoint, ["sums"], output=tmp_path / "r", settings=CPU, task_paths=[task_dir])
    [result] = run.metrics["tasks"].values()
    right = np.array([k % 4 for k in range(DOCS)])
    for k in (1, 2, 4):
        by_hand = np.array([pass_at_k(4, int(c), k) for c in right])
        score = result["metrics"][f"pass_at_{k}"]
        assert score["value"] == pytest.approx(by_hand.mean())
        assert score["stderr"] == pytest.approx(by_hand.std(ddof=1) / sqrt(DOCS))
        assert score["n"] == DOCS
    written = [text_of(d, s) for d in range(DOCS) for s in range(4)]
    assert result["errors"] == 0
    assert result["counters"]["code_suspected_cheats"] == written.count(CHEAT)
    assert result["counters"]["code_timeout"] == written.count(ENDLESS)

    # One row a sample, for whoever wants to see why.
    rows = pd.read_parquet(run.path / "verdicts.parquet")
    assert rows[["doc_id", "sample"]].to_numpy().tolist() == [
        [d, s] for d in range(DOCS) for s in range(4)
    ]
    assert set(rows["native_id"]) == {f"sums/{k}" for k in range(DOCS)}
    for row, text in zip(rows.itertuples(), written, strict=True):
        assert text in row.program and TESTS in row.program
        assert (row.status == "passed") == (text == HONEST)
        assert row.suspected_cheat == (text == CHEAT)
        assert row.mode == "strict"
    assert run.info["sandbox"] == {
        "tier": [tiers.probe().name],
        "modes": {"sums:code:0shot:n4": {"strict": 4 * DOCS}},
        "environments": {},
    }


@contained
@pytest.mark.usefixtures("written")
def test_scores_again_without_a_model_and_without_running_again(
    checkpoint, task_dir, tmp_path, monkeypatch
) -> None:
    kwargs = {"settings": CPU, "task_paths": [task_dir]}
    first = evaluate(checkpoint, ["sums"], output=tmp_path / "a", **kwargs)
    before = (first.path / "metrics.json").read_bytes()
    verdicts = (first.path / "verdicts.parquet").read_bytes()
    (first.path / "metrics.json").unlink()

    def fail(*_, **__):
        raise AssertionError("asked again")

    monkeypatch.setattr(TransformersBackend, "generate", fail)
    monkeypatch.setattr(verdict_module, "run_jobs", fail)
    again = evaluate(checkpoint, ["sums"], output=tmp_path / "a", **kwargs)
    assert (again.path / "metrics.json").read_bytes() == before
    assert (again.path / "verdicts.parquet").read_bytes() == verdicts


@contained
@pytest.mark.usefixtures("written")
def test_a_jail_that_fails_is_an_error_and_no_zero(
    checkpoint, task_dir, tmp_path, monkeypatch
) -> None:
    monkeypatch.setenv("OLMEVAL_CACHE", str(tmp_path / "cache"))
    real = verdict_module.run_jobs

    def broken(jobs, **kwargs):
        outcomes = real(jobs, **kwargs)
        # Every run of one program: an honest answer to document 1.
        return [
            Outcome(j.key, "infrastructure", detail="no room") if b"Number 1." in
            b"".join(r.payload for r in j.roles) else o
            for j, o in zip(jobs, outcomes, strict=True)
        ]  # fmt: skip

    monkeypatch.setattr(verdict_module, "run_jobs", broken)
    kwargs = {"settings": CPU, "task_paths": [task_dir]}
    with pytest.raises(UserError, match="1 in sums"):
        evaluate(checkpoint, ["sums"], output=tmp_path / "a", **kwargs)
    run = evaluate(checkpoint, ["sums"], output=tmp_path / "a", allow_errors=True, **kwargs)
    [result] = run.metrics["tasks"].values()
    right = np.array([k % 4 for k in range(DOCS) if k != 1])
    assert result["errors"] == 1 and result["metrics"]["pass_at_1"]["n"] == DOCS - 1
    assert result["metrics"]["pass_at_1"]["value"] == pytest.approx((right / 4).mean())
    assert result["counters"]["code_infrastructure"] == 4
    # Nothing of it was kept: with a jail that works the run is whole.
    monkeypatch.setattr(verdict_module, "run_jobs", real)
    mended = evaluate(checkpoint, ["sums"], output=tmp_path / "a", **kwargs)
    assert mended.metrics["tasks"]["sums:code:0shot:n4"]["errors"] == 0


def test_a_machine_that_contains_nothing_refuses_before_a_model_is_loaded(
    checkpoint, task_dir, tmp_path, monkeypatch
) -> None:
    nothing = replace(tiers.probe(), name="T3", reasons=("no Landlock",))
    monkeypatch.setattr(tiers, "probe", lambda: nothing)
    with pytest.raises(UserError, match=r"'sums:code:0shot:n4'.*no Landlock.*--unsafe-local"):
        evaluate(checkpoint, ["sums"], output=tmp_path, task_paths=[task_dir])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("references", ['["{test}"]', '[["{test}"]]', '[["a", "b"], ["c", "d"]]'])
def test_a_reference_without_tests_is_named_before_a_model_is_asked(references, tmp_path) -> None:
    text = TASKS.replace('[["{prompt}", "\\n{test}"]]', references)
    assert text != TASKS
    (tmp_path / "sums.yaml").write_text(text)
    (tmp_path / "sums.jsonl").write_text(json.dumps({"id": "7", "prompt": "p", "test": "t"}) + "\n")
    with pytest.raises(UserError, match=r"'sums:code:0shot:n4': document '7': .* the tests, as in"):
        load_work(["sums"], None, [tmp_path])


def test_a_language_that_is_not_installed_is_named(monkeypatch) -> None:
    from olmeval.sandbox import languages

    monkeypatch.setattr(languages, "missing", lambda name: f"no compiler for {name}")
    with pytest.raises(UserError, match="no compiler for cpp"):
        grade("code:cpp", ["x"], [(("int main(){", "}"),)], Running(unsafe_local=True))


def test_an_environment_that_is_not_there_is_named_with_its_command(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("OLMEVAL_CACHE", str(tmp_path))
    for name in ("bigcodebench", "ds1000"):
        with pytest.raises(UserError, match=f"olmeval sandbox env create {name}"):
            check_grader(f"code:{name}", Running(unsafe_local=True))
    # Where nothing will be graded nothing is needed.
    check_grader("code:ds1000")


@contained
def test_programs_may_import_from_an_environment_that_is_named(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("OLMEVAL_CACHE", str(tmp_path))
    if not Path(sys.prefix, "pyvenv.cfg").exists():
        pytest.skip("the tests do not run in a virtual environment")
    text, reference = "import click\ndef f(): return 1\n", ("", "\nassert f() == 1\n")
    without = grade("code", [text], [(reference,)])
    assert without.right.tolist() == [0.0] and without.counters == {"code_missing_modules": 1}
    running = Running(environment=sys.prefix)
    assert grade("code", [text], [(reference,)], running).right.tolist() == [1.0]
    told = environment_of("code", running)
    assert told is not None and told["packages"]["click"] == metadata.version("click")
    assert environment_of("squad", running) is None
    with pytest.raises(UserError, match=f"'{tmp_path}' is not a virtual environment"):
        check_grader("code", Running(environment=str(tmp_path)))


@contained
@pytest.mark.parametrize(
    ("answer", "passed"),
    [
        ("return [a, b]\n\nclass Other: pass", 1.0),
        ("return [b, a]", 0.0),
        ("I would write\n```python\nreturn [a, b]\n```\nand be done.", 1.0),
        ("return [a, b]\nprint('x')", 1.0),
    ],
)
def test_leetcode_takes_the_fence_or_what_stands_before_the_next_definition(
    answer: str, passed: float, tmp_path, monkeypatch
) -> None:
    monkeypatch.setenv("OLMEVAL_CACHE", str(tmp_path))
    prompt = (
        '"""\nReturn both.\n"""\nclass Solution:\n    def both(self, a: int, b: int):\n        '
    )
    tests = (
        "\n\nmy_solution = Solution()\n\ntest_input = {'a': 1, 'b': 2}\n"
        "assert my_solution.both(**test_input) == [1, 2]\n"
    )
    graded = grade("code:leetcode", [answer], [((prompt, tests),)])
    assert graded.right.tolist() == [passed]
    assert graded.judged is not None and graded.judged.verdicts[0].mode == "strict"


@contained
def test_infilling_runs_what_stands_behind_the_answer_too(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("OLMEVAL_CACHE", str(tmp_path))
    prompt = "def half(n):\n    if n % 2:\n"
    reference = (prompt, "    return n // 2\n", "\n\ndef check(f):\n    assert f(8) == 4\n"
                 "    assert f(3) == 'odd'\ncheck(half)")  # fmt: skip
    texts = ["        return 'odd'\n", "        return 'even'\n"]
    graded = grade("code", texts, [(reference,)] * 2)
    assert graded.right.tolist() == [1.0, 0.0]


@contained
def test_olmeval_run_of_humaneval(pulled, checkpoint, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("OLMEVAL_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / pulled.name).symlink_to(pulled)
    command = [
        "-m", str(checkpoint), "-t", "codex_humaneval:code:0shot:n2", "--limit", "5",
        "--max-new-tokens", "8", "--device", "cpu", "-o", str(tmp_path / "runs"), "--json",
    ]  # fmt: skip
    result = CliRunner().invoke(command_run, command)
    assert result.exit_code == 0, result.output
    rows = {r["metric"]: r for r in json.loads(result.stdout)}
    # A random model writes no function; that it was asked and run is what counts here.
    assert rows["pass_at_1"]["value"] == 0.0 and rows["pass_at_1"]["n"] == 5
    [folder] = (tmp_path / "runs").iterdir()
    verdicts = pd.read_parquet(folder / "verdicts.parquet")
    assert len(verdicts) == 10 and "passed" not in set(verdicts["status"])
    assert set(verdicts["tier"]) == {tiers.probe().name}
