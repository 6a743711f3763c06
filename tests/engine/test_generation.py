"""Generation and whole documents from end to end, on private tasks."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

import olmeval.engine.infer as infer_module
from olmeval.backends.hf import TransformersBackend
from olmeval.engine.evaluate import evaluate
from olmeval.engine.grade import grade, instance_values
from olmeval.engine.settings import Settings
from olmeval.errors import UserError
from olmeval.metrics.extraction import gsm8k_answer
from olmeval.metrics.grading import Grade
from olmeval.metrics.sampling import maj_at_k, pass_at_k
from olmeval.metrics.squad import f1
from olmeval.results.run import long_table
from olmeval.results.segments import ModelStore

CPU = Settings(device="cpu")
TASKS = """
families:
  riddles:
    summary: Short answers and sums.
    split: test
    splits: {test: [{file: riddles.jsonl}]}
    default: genqa
    formats:
      genqa:
        prompt: "Question: {question}\\nAnswer:"
        references: "{answers}"
        grader: squad
        sampling: {stop: ["\\n\\n", "Question:"], max_tokens: 12}
        primary: f1
        num_shots: 0
      cot:
        prompt: "Question: {question}\\nAnswer:"
        references: "{answers}"
        grader: gsm8k
        sampling: {stop: ["\\n\\n"], max_tokens: 12, temperature: 1.0, n: 4}
        primary: exact_match
        num_shots: 0
  pages:
    summary: Documents of two sources.
    split: test
    splits: {test: [{file: pages.jsonl}]}
    default: ppl
    formats:
      ppl: {prompt: "", target: "{text}", group: "{source}", primary: bits_per_byte, num_shots: 0}
"""


@pytest.fixture(scope="module")
def task_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tasks")
    (folder / "riddles.yaml").write_text(TASKS)
    rows = [
        {"id": str(k), "question": f"What is {k} and {k % 3}?" * (1 + k % 4),
         "answers": [str(k), f"the number {k}"]}
        for k in range(21)
    ]  # fmt: skip
    (folder / "riddles.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    pages = [
        {"id": str(k), "text": "Names refer to objects, and é too. " * (1 + 3 * k),
         "source": "even" if k % 2 == 0 else "odd"}
        for k in range(12)
    ]  # fmt: skip
    (folder / "pages.jsonl").write_text("".join(json.dumps(r) + "\n" for r in pages))
    return folder


def samples_of(run) -> dict[str, list[str]]:
    """Texts of every request's samples, by context."""
    requests = pq.read_table(run.path / "requests.parquet").to_pylist()
    stored = pq.read_table(run.path / "responses.parquet").to_pylist()
    texts = {r["key"]: [s[0] for s in json.loads(r["samples"])] for r in stored if r["samples"]}
    return {(r["context"], r["sampling"]): texts[r["key"]] for r in requests if r["sampling"]}


def test_short_answers_are_graded_as_stored(checkpoint, task_dir, tmp_path) -> None:
    run = evaluate(checkpoint, ["riddles"], output=tmp_path, settings=CPU, task_paths=[task_dir])
    result = run.metrics["tasks"]["riddles:genqa:0shot"]
    texts = [t for [t] in samples_of(run).values()]
    golds = [[str(k), f"the number {k}"] for k in range(21)]
    by_question = {c.split("What is ")[1].split(" ")[0]: t for (c, _), [t] in
                   zip(samples_of(run), [[t] for t in texts], strict=True)}  # fmt: skip
    by_hand = np.mean([f1(by_question[g[0]], g) for g in golds])
    assert result["metrics"]["f1"]["value"] == pytest.approx(by_hand)
    assert result["metrics"]["f1"]["n"] == 21
    assert result["errors"] == 0


def test_pass_and_majority_at_k(checkpoint, task_dir, tmp_path) -> None:
    run = evaluate(checkpoint, ["riddles:cot"], output=tmp_path, settings=CPU,
                   task_paths=[task_dir])  # fmt: skip
    [result] = run.metrics["tasks"].values()
    metrics = result["metrics"]
    assert {"pass_at_1", "pass_at_4", "maj_at_1", "maj_at_4"} <= metrics.keys()
    passed, voted = [], []
    for (context, _), texts in samples_of(run).items():
        k = context.split("What is ")[1].split(" ")[0]
        golds = {gsm8k_answer(k), gsm8k_answer(f"the number {k}")}
        answers = [gsm8k_answer(t) for t in texts]
        right = [float(a in golds) for a in answers]
        passed.append(pass_at_k(4, int(sum(right)), 2))
        voted.append(maj_at_k(answers, right, 4))
    assert metrics["pass_at_2"]["value"] == pytest.approx(np.mean(passed))
    assert metrics["maj_at_4"]["value"] == pytest.approx(np.mean(voted))


def test_the_grade_of_every_sample_is_kept(checkpoint, task_dir, tmp_path) -> None:
    specs = ["riddles:cot", "riddles:genqa"]
    run = evaluate(checkpoint, specs, output=tmp_path, settings=CPU, task_paths=[task_dir])
    grades = pd.read_parquet(run.path / "grades.parquet")
    by_key = samples_of(run)
    texts = {
        (use["task"], use["doc_id"], k): text
        for row in pq.read_table(run.path / "requests.parquet").to_pylist()
        for use in row["uses"]
        for k, text in enumerate(by_key[row["context"], row["sampling"]])
    }
    assert len(grades) == len(texts) == 21 * 4 + 21
    for row in grades.itertuples():
        text = texts[row.task, row.doc_id, row.sample]
        if row.task.startswith("riddles:genqa"):
            assert pd.isna(row.answer) or row.answer == text == ""  # the text itself
            continue
        found = gsm8k_answer(text)
        assert pd.isna(row.answer) if found == text != "" else row.answer == found
        golds = {gsm8k_answer(str(row.doc_id)), gsm8k_answer(f"the number {row.doc_id}")}
        assert row.right == float(found in golds)


def test_an_interrupted_generation_ends_identically(
    checkpoint, task_dir, tmp_path, monkeypatch
) -> None:
    specs = ["riddles:cot", "riddles:genqa"]
    monkeypatch.setattr(TransformersBackend, "samples_at_once", 8)
    whole = evaluate(checkpoint, specs, output=tmp_path / "w", settings=CPU, task_paths=[task_dir])
    put, calls = ModelStore.put, []

    def stop(self, answers):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        put(self, answers)

    monkeypatch.setenv("OLMEVAL_STORE", str(tmp_path / "store"))
    monkeypatch.setattr(infer_module, "FLUSH_SECONDS", 0)
    monkeypatch.setattr(ModelStore, "put", stop)
    with pytest.raises(KeyboardInterrupt):
        evaluate(checkpoint, specs, output=tmp_path / "k", settings=CPU, task_paths=[task_dir])
    monkeypatch.setattr(ModelStore, "put", put)
    again = evaluate(checkpoint, specs, output=tmp_path / "k", settings=CPU, task_paths=[task_dir])
    for name in ("metrics.json", "responses.parquet", "instances.parquet", "grades.parquet"):
        assert (whole.path / name).read_bytes() == (again.path / name).read_bytes()


def test_documents_are_weighted_by_bytes(checkpoint, task_dir, tmp_path) -> None:
    run = evaluate(checkpoint, ["pages"], output=tmp_path / "a", settings=CPU,
                   task_paths=[task_dir])  # fmt: skip
    result = run.metrics["tasks"]["pages:ppl:0shot"]
    values = run.instances()["value"].to_numpy()
    texts = [json.loads(r)["text"] for r in (task_dir / "pages.jsonl").read_text().splitlines()]
    size = np.array([len(t.encode()) for t in texts])
    weighted = (values * size).sum() / size.sum()
    assert result["metrics"]["bits_per_byte"]["value"] == pytest.approx(weighted)
    odd = (values * size)[1::2].sum() / size[1::2].sum()
    assert result["groups"]["odd"]["value"] == pytest.approx(odd)
    assert result["groups"]["even"]["n"] == 6

    windows = Settings(device="cpu", max_length=32)
    small = evaluate(checkpoint, ["pages"], output=tmp_path / "b", settings=windows,
                     task_paths=[task_dir])  # fmt: skip
    sliding = Settings(device="cpu", max_length=32, window_overlap=16)
    slid = evaluate(checkpoint, ["pages"], output=tmp_path / "c", settings=sliding,
                    task_paths=[task_dir])  # fmt: skip
    three = [long_table([r])["value"].iloc[0] for r in (run, small, slid)]
    assert len(set(three)) == 3
    assert slid.metrics["tokens"]["naive"] > small.metrics["tokens"]["naive"]


def test_a_grader_without_a_verdict_is_an_error(
    checkpoint, task_dir, tmp_path, monkeypatch
) -> None:
    import olmeval.engine.grade as module

    def broken(texts, references, _):
        graded = module._squad(texts, references, _)
        failed = np.zeros(len(texts), bool)
        failed[0] = True
        return module.Graded(graded.values, graded.right, graded.answers, failed, {})

    monkeypatch.setitem(module.GRADERS, "squad", broken)
    with pytest.raises(UserError, match="could not be scored"):
        evaluate(checkpoint, ["riddles"], output=tmp_path, settings=CPU, task_paths=[task_dir])


def test_math_verdicts_that_failed_are_not_wrong_answers(monkeypatch) -> None:
    monkeypatch.setattr(
        "olmeval.engine.grade.grade_solutions",
        lambda solutions, texts, name: [Grade("error"), Grade("equal"), Grade("timeout")],
    )
    graded = grade("minerva", ["a", "b", "c"], [(r"\boxed{1}",)] * 3)
    assert graded.no_verdict.tolist() == [True, False, False]
    values = instance_values(["exact_match"], graded, np.array([1, 1, 1]))
    assert values["exact_match"][1:].tolist() == [1.0, 0.0]
    assert np.isnan(values["exact_match"][0])
    assert graded.counters["grader_timeout"] == 3
