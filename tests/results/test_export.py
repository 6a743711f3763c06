"""Exports: what other tools read equals what the run holds."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from olmeval.cli.export import export
from olmeval.engine.evaluate import evaluate
from olmeval.engine.settings import Settings
from olmeval.errors import UserError
from olmeval.files import read_json, write_json
from olmeval.results.answers import Answers, Sample, write_answers
from olmeval.results.export import export_runs
from olmeval.results.run import Run
from olmeval.tasks.registry import load_task

TASK = """
families:
  riddles:
    summary: Riddles made here
    split: test
    splits: {test: [{file: riddles.jsonl}]}
    default: rc
    formats:
      rc: {prompt: "Question: {question}\\nAnswer:", unconditional: "Answer:",
           primary: acc_uncond, num_shots: 0}
      mc: {prompt: "Question: {question}\\n{lettered}\\nAnswer:", primary: acc_raw, num_shots: 0}
"""
SPECS = ["riddles:rc:0shot", "riddles:mc:0shot", "riddles:bpb:0shot"]


@pytest.fixture(scope="module")
def task_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("riddles")
    rng = np.random.default_rng(0)
    rows = [
        {
            "id": f"riddle-{k}",
            "question": f"Which of these is number {k}?",
            "choices": ["the first", "ein zweiter ü", "no such thing"],
            "gold": int(rng.integers(3)),
        }
        for k in range(12)
    ]
    (folder / "riddles.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    (folder / "riddles.yaml").write_text(TASK)
    return folder


@pytest.fixture(scope="module")
def run(checkpoint: Path, task_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return evaluate(
        checkpoint,
        SPECS,
        output=tmp_path_factory.mktemp("runs"),
        settings=Settings(device="cpu"),
        task_paths=[task_dir],
    )


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def named(folder: Path, pattern: str) -> Path:
    (found,) = folder.glob(pattern)
    return found


def test_olmes_metrics_equal_the_runs(run: Run, tmp_path: Path) -> None:
    export_runs([run], "olmes", tmp_path)
    folder = tmp_path / run.path.name
    for name, result in run.metrics["tasks"].items():
        stem = f"task-[0-9][0-9][0-9]-{name.replace(':', '_')}"
        metrics = read_json(named(folder, f"{stem}-metrics.json"))
        scores = {n: s["value"] for n, s in result["metrics"].items()}
        assert metrics["metrics"]["primary_score"] == scores[result["primary_metric"]]
        assert metrics["metrics"]["bits_per_byte_corr"] == scores["bits_per_byte"]
        assert {
            k: v for k, v in metrics["metrics"].items() if k in scores
        }.items() <= scores.items()
        assert metrics["task_config"]["metadata"]["alias"] == name
        assert metrics["task_name"] == "riddles"
        assert metrics["num_instances"] == 12
        assert metrics["task_hash"] == result["hash"]
    everything = lines(folder / "metrics-all.jsonl")
    assert [m["task_idx"] for m in everything] == [0, 1, 2]
    summary = read_json(folder / "metrics.json")
    assert [t["alias"] for t in summary["tasks"]] == list(run.metrics["tasks"])
    first = everything[0]
    assert summary["all_primary_scores"][0] == (
        f"{first['task_config']['metadata']['alias']}: {first['metrics']['primary_score']:.6}"
    )


def test_scores_can_be_computed_again_from_olmes_predictions(run: Run, tmp_path: Path) -> None:
    export_runs([run], "olmes", tmp_path)
    folder = tmp_path / run.path.name
    predictions = lines(named(folder, "*riddles_rc*-predictions.jsonl"))
    scores = run.metrics["tasks"]["riddles:rc:0shot"]["metrics"]

    def accuracy(score) -> float:
        best = [max(range(3), key=lambda k: score(p["model_output"][k])) for p in predictions]
        return float(np.mean([b == p["label"] for b, p in zip(best, predictions, strict=True)]))

    assert accuracy(lambda o: o["sum_logits"]) == pytest.approx(scores["acc_raw"]["value"])
    assert accuracy(lambda o: o["sum_logits"] / o["num_chars"]) == pytest.approx(
        scores["acc_per_char"]["value"]
    )
    assert accuracy(lambda o: o["logits_per_token"]) == pytest.approx(
        scores["acc_per_token"]["value"]
    )
    assert accuracy(lambda o: -o["bits_per_byte"]) == pytest.approx(scores["acc_per_byte"]["value"])
    assert accuracy(lambda o: o["sum_logits"] - o["sum_logits_uncond"]) == pytest.approx(
        scores["acc_uncond"]["value"]
    )
    mean_bits = np.mean([p["model_output"][p["label"]]["bits_per_byte"] for p in predictions])
    assert mean_bits == pytest.approx(scores["bits_per_byte"]["value"])
    picked = [p["metrics"]["predicted_index_raw"] for p in predictions]
    right = np.mean(
        [i == p["metrics"]["correct_choice"] for i, p in zip(picked, predictions, strict=True)]
    )
    assert right == pytest.approx(scores["acc_raw"]["value"])


@pytest.mark.parametrize("spec", SPECS)
def test_olmes_requests_equal_the_tasks(run: Run, task_dir: Path, tmp_path: Path, spec) -> None:
    export_runs([run], "olmes", tmp_path)
    rows = lines(named(tmp_path / run.path.name, f"*{spec.replace(':', '_')}-requests.jsonl"))
    instances = load_task(spec, task_paths=[task_dir]).instances()
    expected = []
    for offset, which in ((0, "requests"), (1_000_000, "unconditional")):
        expected += [
            (i.doc_id + offset, i.native_id, k, r.context, r.continuation, i.gold)
            for i in instances
            for k, r in enumerate(getattr(i, which))
        ]
    found = [
        (r["doc_id"], r["native_id"], r["idx"], r["request"]["context"],
         r["request"]["continuation"], r["label"])
        for r in rows
    ]  # fmt: skip
    assert found == expected
    assert {r["request_type"] for r in rows} == {"loglikelihood"}


def test_lm_eval_results_equal_the_runs(run: Run, tmp_path: Path) -> None:
    export_runs([run], "lm-eval", tmp_path)
    folder = tmp_path / run.path.name
    results = read_json(named(folder, "results_*.json"))
    finished = run.info["finished"].replace("+00:00", "").replace(":", "-")
    assert (folder / f"results_{finished}.json").exists()
    for name, result in run.metrics["tasks"].items():
        theirs = results["results"][name]
        for metric, score in result["metrics"].items():
            key = "acc" if metric == "acc_raw" else metric
            assert theirs[f"{key},none"] == score["value"]
            assert theirs[f"{key}_stderr,none"] == score["stderr"]
            assert results["higher_is_better"][name][key] == score["higher_is_better"]
        assert results["n-shot"][name] == 0
        assert results["n-samples"][name] == {"original": 12, "effective": 12}
    assert results["config"]["model_num_parameters"] == run.info["model"]["params_total"]
    assert "groups" not in results


def test_lm_eval_samples_hold_every_answer(run: Run, tmp_path: Path) -> None:
    export_runs([run], "lm-eval", tmp_path)
    samples = lines(named(tmp_path / run.path.name, "samples_riddles_mc_0shot_*.jsonl"))
    right = []
    for sample in samples:
        choices = [float(logprob) for logprob, _ in sample["filtered_resps"]]
        right.append(choices.index(max(choices)) == int(sample["target"]))
        assert sample["acc"] == float(right[-1])
        assert [r[0] for r in sample["resps"]] == sample["filtered_resps"]
        assert [sample["arguments"][f"gen_args_{k}"]["arg_1"] for k in range(3)] == [
            " A",
            " B",
            " C",
        ]
    score = run.metrics["tasks"]["riddles:mc:0shot"]["metrics"]["acc_raw"]["value"]
    assert np.mean(right) == pytest.approx(score)


@pytest.mark.parametrize("format", ["olmes", "lm-eval"])
def test_the_same_run_gives_the_same_bytes(run: Run, tmp_path: Path, format: str) -> None:
    first = export_runs([run], format, tmp_path / "a")
    second = export_runs([run], format, tmp_path / "b")
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]
    assert [p.name for p in first] == [p.name for p in second]


@pytest.fixture
def answers_run(tmp_path: Path) -> Run:
    """A run of a generation task and of a task of documents, with a suite; written by hand."""
    folder = tmp_path / "runs" / "model-step5"
    folder.mkdir(parents=True)
    keys = [bytes([k]) * 16 for k in range(4)]
    sampling = {"stop": ["\n\n"], "max_tokens": 50, "temperature": 0.6, "top_p": 0.9, "n": 2}
    samples = [Sample(" 4", 2, -1.0, "stop"), Sample(" five", 3, -2.0, "length")]
    scores = np.array([-4.0, -3.0, -2.0], np.float32)
    answers = [
        Answers.generated([keys[0]], [samples]),
        Answers.scored([keys[1]], np.array([0, 3]), scores, np.zeros(3, np.bool_)),
    ]
    write_answers(folder / "responses.parquet", Answers.concat(answers))
    table = [
        (keys[0], "generate", "2 + 2 =", "", json.dumps(sampling), 4, 0, "sums", 0),
        (keys[2], "generate", "3 + 3 =", "", json.dumps(sampling), 4, 0, "sums", 1),
        (keys[1], "rolling", "", "Grüße", None, 0, 8, "pages", 0),
    ]
    pq.write_table(
        pa.table(
            {
                "key": pa.array([row[0] for row in table], pa.binary(16)),
                "kind": [row[1] for row in table],
                "context": [row[2] for row in table],
                "continuation": [row[3] for row in table],
                "sampling": [row[4] for row in table],
                "context_tokens": [row[5] for row in table],
                "continuation_tokens": [row[6] for row in table],
                "uses": [
                    [{"task": row[7], "doc_id": row[8], "choice": 0, "role": "conditioned"}]
                    for row in table
                ],
            }
        ),
        folder / "requests.parquet",
    )
    values = [
        ("sums", 0, "pass_at_1", 0.5, "ok"),
        ("sums", 1, "pass_at_1", np.nan, "error"),
        ("pages", 0, "bits_per_byte", 2.0, "ok"),
    ]
    pd.DataFrame(
        [
            {"task": t, "doc_id": d, "native_id": f"n{d}", "cluster": None, "status": s,
             "metric": m, "value": v}
            for t, d, m, v, s in values
        ]
    ).to_parquet(folder / "instances.parquet")  # fmt: skip

    def task(metric: str, value: float, instances: int, errors: int, up: bool) -> dict[str, Any]:
        score = {"value": value, "stderr": None, "n": 1, "higher_is_better": up}
        return {"primary_metric": metric, "metrics": {metric: score}, "instances": instances,
                "errors": errors, "hash": "abc"}  # fmt: skip

    suite = {"value": 0.5, "stderr": 0.1, "n": 1, "aggregate": "macro", "members": {"sums": 0.5}}
    unfinished = {**suite, "value": None, "stderr": None}
    write_json(
        folder / "metrics.json",
        {
            "tasks": {
                "pages": task("bits_per_byte", 2.0, 1, 0, False),
                "sums": task("pass_at_1", 0.5, 2, 1, True),
            },
            "suites": {"mathematics": suite, "half": unfinished},
        },
    )
    about = {"split": "test", "num_shots": 0, "limit": None, "documents": 2,
             "documents_available": 9}  # fmt: skip
    write_json(
        folder / "run.json",
        {
            "status": "errors",
            "asked": {"limit": None},
            "tasks": {"sums": about, "pages": about},
            "model": {"name": "org/model", "path": "/models/m", "fingerprint": "f", "params": 5,
                      "params_total": 6, "max_length": 64, "settings": {"dtype": "float32"},
                      "metadata": {}},
            "versions": {},
            "started": "2026-01-02T03:04:05+00:00",
            "finished": "2026-01-02T04:05:06+01:00",
        },
    )  # fmt: skip
    return Run(folder)


def test_olmes_generations_documents_and_suites(answers_run: Run, tmp_path: Path) -> None:
    export_runs([answers_run], "olmes", tmp_path)
    folder = tmp_path / "model-step5"
    answered, failed = lines(folder / "task-001-sums-predictions.jsonl")
    assert answered["model_output"] == [
        {"continuation": " 4", "num_tokens": 2, "sum_logits": -1.0},
        {"continuation": " five", "num_tokens": 3, "sum_logits": -2.0},
    ]
    assert failed["metrics"] == {"pass_at_1": None} and failed["model_output"] == [{}]
    request = lines(folder / "task-001-sums-requests.jsonl")[0]
    assert request["request_type"] == "generate_until"
    assert request["request"]["stop_sequences"] == ["\n\n"]
    assert request["request"]["generation_kwargs"] == {
        "max_gen_toks": 50, "do_sample": True, "temperature": 0.6, "top_p": 0.9, "repeats": 2,
    }  # fmt: skip
    (document,) = lines(folder / "task-000-pages-predictions.jsonl")
    assert document["metrics"] == {"bits_per_byte": 2.0}
    (output,) = document["model_output"]
    assert output["num_tokens"] == 8
    assert -output["sum_logits"] / math.log(2) / 7 == pytest.approx(2.0)
    everything = lines(folder / "metrics-all.jsonl")
    assert [m["task_name"] for m in everything] == ["mathematics", "pages", "sums"]
    assert everything[0]["metrics"] == {"primary_score": 0.5}
    assert read_json(folder / "metrics.json")["all_primary_scores"] == [
        "mathematics: 0.5", "pages: 2.0", "sums: 0.5",
    ]  # fmt: skip


def test_lm_eval_generations_documents_and_suites(answers_run: Run, tmp_path: Path) -> None:
    export_runs([answers_run], "lm-eval", tmp_path)
    folder = tmp_path / "model-step5"
    results = read_json(folder / "results_2026-01-02T03-05-06.json")  # in UTC
    assert results["groups"]["mathematics"]["primary_score,none"] == 0.5
    assert results["group_subtasks"] == {"mathematics": ["sums"]}
    assert results["results"]["sums"]["pass_at_1_stderr,none"] == "N/A"
    assert results["model_name_sanitized"] == "org__model"
    answered, failed = lines(folder / "samples_sums_2026-01-02T03-05-06.jsonl")
    assert answered["resps"] == [[" 4", " five"]]
    assert answered["arguments"]["gen_args_0"]["arg_1"]["until"] == ["\n\n"]
    assert "target" not in answered
    assert failed["resps"] == [[]] and failed["pass_at_1"] is None
    (document,) = lines(folder / "samples_pages_2026-01-02T03-05-06.jsonl")
    assert document["arguments"] == {"gen_args_0": {"arg_0": "Grüße"}}


def test_a_run_folder_is_never_written_into(answers_run: Run) -> None:
    before = sorted(answers_run.path.iterdir())
    with pytest.raises(UserError, match="is a run folder; choose another --output"):
        export_runs([answers_run], "olmes", answers_run.path.parent)
    assert sorted(answers_run.path.iterdir()) == before


def test_two_runs_of_one_name_are_refused(answers_run: Run, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="would both go to"):
        export_runs([answers_run, Run(answers_run.path)], "olmes", tmp_path)


def test_an_unknown_format_is_refused(answers_run: Run, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown format 'helm'; known: olmes, lm-eval"):
        export_runs([answers_run], "helm", tmp_path)


def test_an_unfinished_run_says_so(answers_run: Run, tmp_path: Path) -> None:
    (answers_run.path / "metrics.json").unlink()
    with pytest.raises(UserError, match="has no scores yet"):
        export_runs([Run(answers_run.path)], "olmes", tmp_path)


def test_the_command(answers_run: Run, tmp_path: Path) -> None:
    done = CliRunner().invoke(
        export, [str(answers_run.path.parent), "--format", "olmes", "-o", str(tmp_path / "out")]
    )
    assert done.exit_code == 0, done.output
    assert "8 files of 1 runs" in done.output
    assert len(list((tmp_path / "out" / "model-step5").iterdir())) == 8
