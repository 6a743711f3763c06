"""The score phase: stored answers to metrics. No model; can be repeated at any time."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from olmeval.engine.collect import Scores
from olmeval.engine.grade import Graded, direction, grade, instance_values
from olmeval.engine.grade_code import Judged, Running
from olmeval.engine.prepare import Prepared
from olmeval.engine.work import TaskWork
from olmeval.metrics import HIGHER_IS_BETTER
from olmeval.metrics.choice import Choices, bits_per_byte, choice_metric
from olmeval.stats.mean import Estimate, mean, ratio

Values = dict[str, NDArray[np.float64]]
Tables = tuple[pd.DataFrame | None, pd.DataFrame | None]  # grades and programs


@dataclass(frozen=True)
class TaskScore:
    """One task's scores.

    ``summary`` is its entry in ``metrics.json``; ``values`` maps each metric to its value per
    instance [I] (nan where ``failed``); ``truncated`` [I]: a prompt lost its beginning;
    ``grades``: one row a sample, of generations: the answer that the grader took from its text
    (None: the text itself; empty: none was found) and whether it counts as right; ``programs``:
    one row a sample where samples were run, else None.
    """

    summary: dict[str, Any]
    values: Values
    failed: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    grades: pd.DataFrame | None = None
    programs: pd.DataFrame | None = None


def score_task(
    work: TaskWork, scores: Scores, prepared: Prepared, running: Running | None = None
) -> TaskScore:
    """Metrics with standard errors over the instances that could be scored, and all counters.

    ``running``: how samples that are programs are run.
    """
    n = len(scores.logprob)
    # An unscored choice would silently win or lose; its whole instance is an error instead.
    failed = _any(scores.failed[work.conditioned], work)
    if work.unconditional is not None:
        failed |= _any(scores.failed[work.unconditional], work)
    truncated = _any(prepared.truncated(n)[work.conditioned], work)
    tables: Tables = (None, None)
    if work.kind == "generate":
        values, failed, counters, tables = _samples(work, scores, failed, running)
    else:
        score = _choices if work.kind == "loglikelihood" else _documents
        values, failed, counters = score(work, scores, failed)
    clusters = work.clusters
    kept = np.flatnonzero(~failed)
    estimates = {}
    for name, value in values.items():
        value[failed] = np.nan
        if not len(kept):
            continue
        if work.kind == "rolling":
            # A corpus' bits per byte weigh documents by their bytes (Paloma, section 3).
            size = work.bytes[kept]
            estimates[name] = ratio(value[kept] * size, size, _at(clusters, kept))
        else:
            estimates[name] = mean(value[kept], _at(clusters, kept))

    def count(flags: NDArray[Any]) -> int:
        return int(prepared.per_request(flags, n)[work.conditioned].sum())

    summary: dict[str, Any] = {
        "primary_metric": work.task.primary_metric,
        "metrics": {name: _entry(name, e) for name, e in estimates.items()},
        "instances": len(work.instances),
        "errors": int(failed.sum()),
        "clusters": None if clusters is None else len(set(clusters)),
        "counters": {
            "truncated": int(truncated.sum()),
            **counters,
            "seams": count(prepared.rows.seam),
            "moved_spaces": count(prepared.rows.moved_space),
            "double_spaces": count(prepared.rows.double_space),
            "missing_bos": count(prepared.rows.missing_bos),
        },
        "hash": work.task.hash,
    }
    if work.kind == "rolling":
        summary["groups"] = _by_group(work, values["bits_per_byte"], failed)
    return TaskScore(summary, values, failed, truncated, *tables)


def _any(flags: NDArray[np.bool_], work: TaskWork) -> NDArray[np.bool_]:
    """Per instance: whether any of its requests is flagged [I]."""
    return np.logical_or.reduceat(flags, work.offsets[:-1])


def _at(clusters: list[object] | None, kept: NDArray[np.int64]) -> list[object] | None:
    return None if clusters is None else [clusters[k] for k in kept.tolist()]


def _entry(name: str, estimate: Estimate) -> dict[str, Any]:
    return {
        "value": estimate.value,
        "stderr": None if np.isnan(estimate.stderr) else estimate.stderr,
        "n": estimate.n,
        "higher_is_better": direction(name, HIGHER_IS_BETTER),
    }


def _choices(
    work: TaskWork, scores: Scores, failed: NDArray[np.bool_]
) -> tuple[Values, NDArray[np.bool_], dict[str, int]]:
    unconditional = work.unconditional
    # Whatever stands for an unscored choice is never seen: its instance is an error.
    choices = Choices(
        logprob=np.nan_to_num(scores.logprob[work.conditioned]),
        tokens=scores.tokens[work.conditioned],
        chars=work.chars,
        bytes=work.bytes,
        greedy=scores.greedy[work.conditioned],
        offsets=work.offsets,
        gold=work.gold,
        unconditional=(
            None if unconditional is None else np.nan_to_num(scores.logprob[unconditional])
        ),
    )
    values: Values = {}
    ties = 0
    for name in work.task.metrics:
        values[name], tied = choice_metric(name, choices)
        if name == work.task.primary_metric:
            ties = tied
    return values, failed, {"ties": ties}


def _samples(
    work: TaskWork, scores: Scores, failed: NDArray[np.bool_], running: Running | None
) -> tuple[Values, NDArray[np.bool_], dict[str, int], Tables]:
    """Grades the answered instances; where a grader gives no verdict, the instance is an error."""
    kept = np.flatnonzero(~failed)
    of_kept = [scores.samples[work.conditioned[k]] for k in kept.tolist()]
    counts = np.array([len(samples) for samples in of_kept], np.int64)
    texts = [sample.text for samples in of_kept for sample in samples]
    owner = np.repeat(kept, counts).tolist()
    references = [work.instances[k].references for k in owner]
    limited = sum(sample.finish == "length" for samples in of_kept for sample in samples)
    values: Values = {name: np.full(len(failed), np.nan) for name in work.task.metrics}
    if not len(kept):
        return values, failed, {"length_limited": 0}, (None, None)
    graded = grade(work.task.grader or "", texts, references, running)
    for name, value in instance_values(work.task.metrics, graded, counts).items():
        values[name][kept] = value
    no_verdict = np.zeros(len(failed), np.bool_)
    no_verdict[kept] = np.logical_or.reduceat(
        graded.no_verdict, np.concatenate([[0], np.cumsum(counts)[:-1]])
    )
    programs = None if graded.judged is None else _program_table(work, owner, graded.judged)
    counters = {"length_limited": limited, **graded.counters}
    tables = (_grade_table(work, owner, counts, texts, graded), programs)
    return values, failed | no_verdict, counters, tables


def _grade_table(
    work: TaskWork, owner: list[int], counts: NDArray[np.int64], texts: list[str], graded: Graded
) -> pd.DataFrame:
    """One row a sample: the answer that was found in it, and whether that is right."""
    # What is taken whole is not stored twice; what is empty was not found.
    answers = [
        None if answer and answer == text else answer
        for answer, text in zip(graded.answers, texts, strict=True)
    ]
    return pd.DataFrame(
        {
            "task": work.task.name,
            "doc_id": [work.instances[k].doc_id for k in owner],
            "sample": np.concatenate([np.arange(n) for n in counts.tolist()]),
            "answer": pd.array(answers, dtype="string"),
            "right": np.where(graded.no_verdict, np.nan, graded.right),
        }
    )


def _program_table(work: TaskWork, owner: list[int], judged: Judged) -> pd.DataFrame:
    """One row a sample: the document, which of its samples, and what became of the program."""
    seen: dict[int, int] = {}
    rows = []
    for k, source, verdict in zip(owner, judged.sources, judged.verdicts, strict=True):
        seen[k] = seen.get(k, -1) + 1
        instance = work.instances[k]
        rows.append(
            {
                "task": work.task.name,
                "doc_id": instance.doc_id,
                "native_id": instance.native_id,
                "sample": seen[k],
                **verdict.to_json(),
                "suspected_cheat": verdict.suspected_cheat,
                "program": source,
            }
        )
    return pd.DataFrame(rows)


def _documents(
    work: TaskWork, scores: Scores, failed: NDArray[np.bool_]
) -> tuple[Values, NDArray[np.bool_], dict[str, int]]:
    value = bits_per_byte(scores.logprob[work.conditioned], work.bytes)
    return {"bits_per_byte": value}, failed, {}


def _by_group(
    work: TaskWork, value: NDArray[np.float64], failed: NDArray[np.bool_]
) -> dict[str, Any]:
    """Byte-weighted bits per byte of every source."""
    groups: dict[str, list[int]] = {}
    for k, instance in enumerate(work.instances):
        if instance.group is not None and not failed[k]:
            groups.setdefault(instance.group, []).append(k)
    return {
        name: _entry(
            "bits_per_byte", ratio(value[members] * work.bytes[members], work.bytes[members])
        )
        for name, members in sorted(groups.items())
    }


def instance_table(works: Sequence[TaskWork], scored: Sequence[TaskScore]) -> pd.DataFrame:
    """Document by metric, with status ok, error or truncated.

    ``gold`` is the right choice's number, ``references`` the accepted answers as JSON.
    """
    frames = []
    for work, score in zip(works, scored, strict=True):
        status = np.where(score.failed, "error", np.where(score.truncated, "truncated", "ok"))
        base = {
            "task": work.task.name,
            "doc_id": [i.doc_id for i in work.instances],
            "native_id": [i.native_id for i in work.instances],
            "cluster": [i.cluster for i in work.instances],
            "status": status,
            "gold": pd.array([i.gold for i in work.instances], dtype="Int32"),
            "references": [
                json.dumps(i.references) if i.references else None for i in work.instances
            ],
        }
        frames += [
            pd.DataFrame({**base, "metric": name, "value": value})
            for name, value in score.values.items()
        ]
    return pd.concat(frames, ignore_index=True)
