"""The score phase: stored answers to metrics. No model; can be repeated at any time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from olmeval.engine.infer import Scores
from olmeval.engine.work import Prepared, TaskWork
from olmeval.metrics import HIGHER_IS_BETTER
from olmeval.metrics.choice import Choices, choice_metric
from olmeval.stats.mean import mean


@dataclass(frozen=True)
class TaskScore:
    """One task's scores.

    ``summary`` is its entry in ``metrics.json``; ``values`` maps each metric to its value per
    instance [I] (nan where ``failed``); ``truncated`` [I]: a prompt lost its beginning.
    """

    summary: dict[str, Any]
    values: dict[str, NDArray[np.float64]]
    failed: NDArray[np.bool_]
    truncated: NDArray[np.bool_]


def score_task(work: TaskWork, scores: Scores, prepared: Prepared) -> TaskScore:
    """Metrics with standard errors over the instances that could be scored, and all counters."""
    groups = work.offsets[:-1]
    uncond = work.unconditional
    # An unscored choice would silently win or lose; its whole instance is an error instead.
    failed_request = scores.failed[work.conditioned]
    if uncond is not None:
        failed_request = failed_request | scores.failed[uncond]
    failed = np.logical_or.reduceat(failed_request, groups)
    cut = prepared.tokenized.truncated[work.conditioned] > 0
    truncated = np.logical_or.reduceat(cut, groups)

    choices = Choices(
        logprob=np.where(failed_request, -np.inf, scores.logprob[work.conditioned]),
        tokens=scores.tokens[work.conditioned],
        chars=work.chars,
        bytes=work.bytes,
        greedy=scores.greedy[work.conditioned],
        offsets=work.offsets,
        gold=work.gold,
        unconditional=(
            None if uncond is None else np.where(scores.failed[uncond], 0.0, scores.logprob[uncond])
        ),
    )
    clusters = work.clusters
    kept = np.flatnonzero(~failed)
    kept_clusters = None if clusters is None else [clusters[k] for k in kept.tolist()]
    metrics: dict[str, Any] = {}
    values: dict[str, NDArray[np.float64]] = {}
    ties = 0
    for name in work.task.metrics:
        value, tied = choice_metric(name, choices)
        if name == work.task.primary_metric:
            ties = tied
        values[name] = np.where(failed, np.nan, value)
        if len(kept):
            estimate = mean(value[kept], kept_clusters)
            metrics[name] = {
                "value": estimate.value,
                "stderr": None if np.isnan(estimate.stderr) else estimate.stderr,
                "n": estimate.n,
                "higher_is_better": HIGHER_IS_BETTER[name],
            }
    tokenized = prepared.tokenized
    summary = {
        "primary_metric": work.task.primary_metric,
        "metrics": metrics,
        "instances": len(work.instances),
        "errors": int(failed.sum()),
        "clusters": None if clusters is None else len(set(clusters)),
        "counters": {
            "truncated": int(truncated.sum()),
            "ties": ties,
            "seams": int(tokenized.seam[work.conditioned].sum()),
            "moved_spaces": int(tokenized.moved_space[work.conditioned].sum()),
            "double_spaces": int(tokenized.double_space[work.conditioned].sum()),
            "missing_bos": int(tokenized.missing_bos[work.conditioned].sum()),
        },
        "hash": work.task.hash,
    }
    return TaskScore(summary, values, failed, truncated)


def instance_table(works: Sequence[TaskWork], scored: Sequence[TaskScore]) -> pd.DataFrame:
    """Document by metric, with status ok, error or truncated."""
    frames = []
    for work, score in zip(works, scored, strict=True):
        status = np.where(score.failed, "error", np.where(score.truncated, "truncated", "ok"))
        base = {
            "task": work.task.name,
            "doc_id": [i.doc_id for i in work.instances],
            "native_id": [i.native_id for i in work.instances],
            "cluster": [i.cluster for i in work.instances],
            "status": status,
        }
        frames += [
            pd.DataFrame({**base, "metric": name, "value": value})
            for name, value in score.values.items()
        ]
    return pd.concat(frames, ignore_index=True)
