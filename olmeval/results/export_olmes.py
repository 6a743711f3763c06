"""A run in the files of OLMES (github.com/allenai/olmes, ``oe_eval/run_eval.py``)."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

from olmeval.results.run_files import Asked, Files, Instance, RunFiles, file_name, generation_kwargs

# The requests behind PMI come after all others, with this added to their doc_id.
UNCONDITIONAL = 1_000_000
# The one name that differs where the meaning is the same.
NAMES = {"bits_per_byte": "bits_per_byte_corr"}


def olmes_files(run: RunFiles) -> Files:
    """Per task metrics, predictions and requests; then the summaries."""
    config = {
        "model": run.model["name"],
        "model_path": run.model["path"],
        "max_length": run.model["max_length"],
        **run.model["settings"],
    }
    common = {"model_hash": run.model["fingerprint"], "model_config": config}
    everything = []
    for index, (name, result, about, instances) in enumerate(run.tasks):
        stem = f"task-{index:03d}-{file_name(name)}"
        predictions = [_prediction(i) for i in instances]
        hashes = {"task_hash": result["hash"], "model_hash": run.model["fingerprint"]}
        metrics = {
            "task_name": name.partition(":")[0],
            "task_hash": result["hash"],
            **common,
            "task_config": {
                "task_name": name.partition(":")[0],
                "primary_metric": _name(result["primary_metric"], instances),
                "split": about["split"],
                "num_shots": about["num_shots"],
                "limit": about["limit"],
                "metadata": {"alias": name},
            },
            "current_date": f"{run.time:%Y-%m-%d %H:%M:%S} UTC",
            "num_instances": result["instances"],
            "metrics": _metrics(result, instances, predictions),
            "stderr": {
                _name(metric, instances): score["stderr"]
                for metric, score in result["metrics"].items()
            },
            "task_idx": index,
        }
        everything.append(metrics)
        yield f"{stem}-metrics.json", metrics
        yield f"{stem}-predictions.jsonl", [{**p, **hashes} for p in predictions]
        yield f"{stem}-requests.jsonl", list(_requests(name, instances))
    everything = [_suite(*suite, common) for suite in run.suites.items()] + everything
    yield "metrics-all.jsonl", everything
    aliases = [m["task_config"]["metadata"]["alias"] for m in everything]
    yield (
        "metrics.json",
        {
            "all_primary_scores": [
                f"{alias}: {m['metrics']['primary_score']:.6}"
                for alias, m in zip(aliases, everything, strict=True)
                if "primary_score" in m["metrics"]
            ],
            "tasks": [
                {
                    "alias": alias,
                    "metrics": m["metrics"],
                    "num_instances": m["num_instances"],
                    "task_config": m["task_config"],
                }
                for alias, m in zip(aliases, everything, strict=True)
            ],
            "model_config": config,
        },
    )


def _name(metric: str, instances: Sequence[Instance]) -> str:
    """Bits per byte of a right choice are called differently from those of documents."""
    documents = any(asked.kind == "rolling" for i in instances[:1] for asked in i.requests)
    return metric if documents else NAMES.get(metric, metric)


def _metrics(
    result: dict[str, Any], instances: Sequence[Instance], predictions: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """The task's metrics and the means of what the choices' log-probabilities give."""
    metrics = {_name(n, instances): s["value"] for n, s in result["metrics"].items()}
    for name in ("sum_logits_corr", "logits_per_token_corr", "logits_per_char_corr"):
        values = [p["metrics"].get(name) for p in predictions]
        known = [v for v in values if v is not None]
        if known and len(known) == result["instances"] - result["errors"]:
            metrics[name] = sum(known) / len(known)
    if (score := result["metrics"].get(result["primary_metric"])) is not None:
        metrics["primary_score"] = score["value"]
    return metrics


def _suite(name: str, suite: dict[str, Any], common: dict[str, Any]) -> dict[str, Any]:
    return {
        "task_name": name,
        **common,
        "task_config": {
            "task_name": name,
            "primary_metric": suite["aggregate"],
            "metadata": {"alias": name, "num_tasks": len(suite["members"])},
        },
        "num_instances": suite["n"],
        "metrics": {"primary_score": suite["value"]},
        "stderr": {"primary_score": suite["stderr"]},
    }


def _prediction(instance: Instance) -> dict[str, Any]:
    """Values, and per choice (or sample) what the model answered."""
    metrics: dict[str, Any] = {
        _name(name, [instance]): value for name, value in instance.values.items()
    }
    outputs = [output for k in sorted(instance.conditioned) for output in _outputs(instance, k)]
    gold = instance.gold
    if gold is not None:
        right = outputs[sorted(instance.conditioned).index(gold)]
        metrics["correct_choice"] = gold
        for name in ("sum_logits", "logits_per_token", "logits_per_char"):
            metrics[f"{name}_corr"] = right[name]
    if len(outputs) > 1 and all("sum_logits" in o and "bits_per_byte" in o for o in outputs):
        for name, key, sign in (
            ("raw", "sum_logits", 1),
            ("per_token", "logits_per_token", 1),
            ("per_char", "logits_per_char", 1),
            ("per_byte", "bits_per_byte", -1),
        ):
            values = [sign * o[key] for o in outputs]
            metrics[f"predicted_index_{name}"] = values.index(max(values))
    return {
        "doc_id": instance.doc_id,
        "native_id": instance.native_id,
        "metrics": metrics,
        "model_output": outputs,
        "label": gold,
    }


def _outputs(instance: Instance, choice: int) -> list[dict[str, Any]]:
    """The model's answers to one request in OLMES' terms; empty ones when there are none."""
    asked = instance.conditioned[choice]
    if asked.response is None:
        return [{}]
    if asked.kind == "generate":
        return [
            {"continuation": s.text, "num_tokens": s.tokens, "sum_logits": s.logprob}
            for s in asked.response.samples
        ]
    if asked.kind == "rolling":
        bits = instance.values.get("bits_per_byte")
        # The stored answer is that of the document's first window.
        total = None if bits is None else -bits * math.log(2) * asked.bytes
        return [{"sum_logits": total, "num_tokens": asked.continuation_tokens}]
    r, chars = asked.response, len(asked.continuation)
    output: dict[str, Any] = {
        "sum_logits": r.logprob,
        "num_tokens": r.tokens,
        "num_tokens_all": asked.context_tokens + asked.continuation_tokens,
        "is_greedy": r.greedy,
        "num_chars": chars,
        "logits_per_token": r.logprob / max(r.tokens, 1),
        "logits_per_char": r.logprob / max(chars, 1),
        "bits_per_byte": -r.logprob / math.log(2) / max(asked.bytes, 1),
    }
    if (alone := instance.unconditional.get(choice)) is not None:
        output["sum_logits_uncond"] = alone.logprob
    return [output]


def _requests(task: str, instances: Sequence[Instance]) -> Iterator[dict[str, Any]]:
    for offset in (0, UNCONDITIONAL):
        for instance in instances:
            requests = instance.unconditional if offset else instance.conditioned
            for choice, asked in sorted(requests.items()):
                yield {
                    "request_type": _request_type(asked),
                    "request": _request(asked),
                    "idx": choice,
                    "task_name": task.partition(":")[0],
                    "doc_id": instance.doc_id + offset,
                    "native_id": instance.native_id,
                    "label": instance.gold,
                }


def _request(asked: Asked) -> dict[str, Any]:
    if asked.sampling is None:
        return {"context": asked.context, "continuation": asked.continuation}
    return {
        "context": asked.context,
        "stop_sequences": asked.sampling["stop"],
        "generation_kwargs": {**generation_kwargs(asked.sampling), "repeats": asked.sampling["n"]},
    }


def _request_type(asked: Asked) -> str:
    names = {"generate": "generate_until", "rolling": "loglikelihood_rolling"}
    return names.get(asked.kind, asked.kind)
