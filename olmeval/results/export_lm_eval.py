"""A run in the files of lm-evaluation-harness (``lm_eval/result_schema.py``)."""

import hashlib
from datetime import datetime
from typing import Any

from olmeval.results.run_files import Asked, Files, Instance, RunFiles, file_name, generation_kwargs

# The one name that differs where the meaning is the same. Their acc_norm divides by another length
# (without the leading space), so acc_per_char keeps its own name.
NAMES = {"acc_raw": "acc"}


def lm_eval_files(run: RunFiles) -> Files:
    """The results, then the samples of every task."""
    stamp = f"{run.time:%Y-%m-%dT%H-%M-%S}"
    tasks = list(run.tasks)
    settings, versions = run.model["settings"], run.info["versions"]
    results: dict[str, Any] = {
        "results": {name: _scores(name, result) for name, result, *_ in tasks},
        "group_subtasks": {name: list(suite["members"]) for name, suite in run.suites.items()},
        "configs": {
            name: {"task": name, "num_fewshot": about["num_shots"], "test_split": about["split"]}
            for name, _, about, _ in tasks
        },
        "versions": {},
        "n-shot": {name: about["num_shots"] for name, _, about, _ in tasks},
        "higher_is_better": {
            name: {
                NAMES.get(metric, metric): score["higher_is_better"]
                for metric, score in result["metrics"].items()
            }
            for name, result, *_ in tasks
        },
        "n-samples": {
            name: {"original": about["documents_available"], "effective": about["documents"]}
            for name, _, about, _ in tasks
        },
        "config": {
            "model": settings.get("backend"),
            "model_args": {"pretrained": run.model["path"]},
            "model_num_parameters": run.model["params_total"],
            "model_dtype": settings.get("dtype"),
            "limit": run.info["asked"]["limit"],
        },
        "date": datetime.fromisoformat(run.info["started"]).timestamp(),
        "task_hashes": {name: result["hash"] for name, result, *_ in tasks},
        "max_length": run.model["max_length"],
        "model_source": settings.get("backend"),
        "model_name": run.model["name"],
        "model_name_sanitized": run.model["name"].replace("/", "__"),
    }
    if run.suites:
        results["groups"] = {
            name: {
                "name": name,
                "alias": name,
                "sample_len": suite["n"],
                "primary_score,none": suite["value"],
                "primary_score_stderr,none": _or_na(suite["stderr"]),
            }
            for name, suite in run.suites.items()
        }
    if "transformers" in versions:
        results["transformers_version"] = versions["transformers"]
    yield f"results_{stamp}.json", results
    for name, _, _, instances in tasks:
        rows = [_sample(instance) for instance in instances]
        yield f"samples_{file_name(name)}_{stamp}.jsonl", rows


def _scores(name: str, result: dict[str, Any]) -> dict[str, Any]:
    scores: dict[str, Any] = {"name": name, "alias": name, "sample_len": result["instances"]}
    for metric, score in result["metrics"].items():
        theirs = NAMES.get(metric, metric)
        scores[f"{theirs},none"] = score["value"]
        scores[f"{theirs}_stderr,none"] = _or_na(score["stderr"])
    return scores


def _or_na(stderr: float | None) -> float | str:
    return "N/A" if stderr is None else stderr


def _sample(instance: Instance) -> dict[str, Any]:
    values = {NAMES.get(name, name): v for name, v in instance.values.items()}
    requests = instance.requests
    answers = [_answers(asked) for asked in requests]
    row: dict[str, Any] = {
        "doc_id": instance.doc_id,
        "native_id": instance.native_id,
        "arguments": {f"gen_args_{k}": _arguments(asked) for k, asked in enumerate(requests)},
        "resps": answers,
        "filtered_resps": [a[0] if len(a) == 1 else a for a in answers],
        "filter": "none",
        "metrics": list(values),
        "prompt_hash": _sha256(_prompt(requests[0])),
        **values,
    }
    if instance.gold is not None:
        target = str(instance.gold)
        row.update(target=target, target_hash=_sha256(target))
    return row


def _prompt(asked: Asked) -> str:
    return asked.continuation if asked.kind == "rolling" else asked.context


def _arguments(asked: Asked) -> dict[str, Any]:
    if asked.kind == "rolling":
        return {"arg_0": asked.continuation}
    if asked.sampling is None:
        return {"arg_0": asked.context, "arg_1": asked.continuation}
    until = {"until": asked.sampling["stop"]}
    return {"arg_0": asked.context, "arg_1": {**until, **generation_kwargs(asked.sampling)}}


def _answers(asked: Asked) -> list[Any]:
    """Numbers are strings in those files."""
    if asked.response is None:
        return []
    if asked.kind == "generate":
        return [sample.text for sample in asked.response.samples]
    if asked.kind == "rolling":
        return []
    return [[str(asked.response.logprob), str(asked.response.greedy)]]


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
